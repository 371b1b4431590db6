"""Laws of the log: its order, and what it says has no effect has none."""

from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.bodies import Lift, RecipeChange, Remove, Revoke
from crdtmerge.forks import Fork
from crdtmerge.policy import evaluate
from crdtmerge.record import Record
from nodes.operations.history import order
from nodes.operations.states import IN_EFFECT, States
from tests.properties.histories import History, histories


def named_by(record: Record) -> set[bytes]:
    """Return every record id that a record names."""
    named = {record.prev, record.auth}
    match record.body:
        case Remove(adds=ids) | RecipeChange(replaces=ids) | Revoke(accepted=ids):
            named |= set(ids)
        case Lift(target=target):
            named.add(target)
        case Fork(branches=branches):
            named |= {branch.id for branch in branches}
        case _:
            pass
    return named


@given(histories(), st.randoms(use_true_random=False))
def test_the_log_is_one_order_of_the_set(history: History, rng: object) -> None:
    """Each record stands after all it names, and arrival changes nothing."""
    records = dict(history.union().records)
    shuffled = list(records.items())
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    listed = order(records)
    assert order(dict(shuffled)) == listed
    assert {record.id for record in listed} == set(records)
    seen: set[bytes] = set()
    for record in listed:
        assert named_by(record) & set(records) <= seen
        seen.add(record.id)


@given(histories(), st.data())
def test_without_what_has_no_effect_the_merge_is_the_same(
    history: History, data: st.DataObject
) -> None:
    """Whatever the log calls without effect can be left out of the set.

    Two kinds it cannot be tried on: a record in the past of one that a revocation
    accepts, and a replaced recipe, which goes on replacing those before it.
    """
    opset = history.union()
    states, view = States(opset), opset.view
    revoked = {
        r.body.author for r in opset.records.values() if isinstance(r.body, Revoke)
    }
    idle = sorted(
        record.id
        for record in opset.records.values()
        if states.of(record) != IN_EFFECT
        and record.author not in revoked
        and not isinstance(record.body, RecipeChange)
    )
    if not idle:
        return
    left_out = data.draw(st.sampled_from(idle))
    records = {k: r for k, r in opset.records.items() if k != left_out}
    without = evaluate(records)
    assert without.visible_root == view.visible_root
    assert without.recipe_heads == view.recipe_heads
    assert without.nodes == view.nodes
    for mine, theirs in (
        (without.bans, view.bans),
        (without.revocations, view.revocations),
    ):
        assert mine.keys() == theirs.keys() - {left_out}
