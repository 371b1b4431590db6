"""What forks leave of their authors, where the genesis sets quarantine."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.bodies import Genesis, Lift, RecordId
from crdtmerge.identity import SigningKey
from crdtmerge.policy import Rank
from tests.properties.cast import AUTHORS, OWNERS, outcome, wire
from tests.properties.histories import FORKING, History, histories, speak
from tests.properties.test_visible import agree, last_of, meaning, say

quarantined = histories(actions=FORKING, quarantine=True)


@given(quarantined)
def test_view_equals_naive_evaluator_where_forks_have_effect(history: History) -> None:
    """Visible set, ranks, effective records, who is quarantined: as the oracle has them."""
    agree(history.opset(0))
    agree(history.union())


@given(quarantined, st.randoms(use_true_random=False))
def test_order_of_arrival_is_in_nothing(history: History, rng: Random) -> None:
    """Fork proofs that come before, between or after what they cut mean the same."""
    records = list(history.all.items())
    shuffled = rng.sample(records, len(records))
    straight, mixed = (history.set_of(dict(r)) for r in (records, shuffled))
    joined = history.opset(0).join(history.opset(1)).join(history.opset(2))
    assert outcome(straight) == outcome(mixed) == outcome(joined)


@given(quarantined)
def test_nothing_from_a_forked_number_on_has_effect(history: History) -> None:
    """Of either branch, whoever showed it and whatever rank its author has."""
    opset = history.union()
    view = opset.view
    for author, number in view.quarantined.items():
        for key in view.effective:
            record = opset.records[key]
            if record.author == author and not isinstance(record.body, Genesis):
                assert record.author_seq < number


@given(quarantined, st.sampled_from(AUTHORS))
def test_who_shows_a_fork_does_not_matter(history: History, author: SigningKey) -> None:
    """Said once more by anybody, it changes nothing; nor does a ban of who said it."""
    before = history.union()
    for fork in before.view.forks[:2]:
        body = before.records[fork.record].body
        signed = speak(history.all, author, body, 0, 0)
        if signed is None or signed.record.author in before.view.quarantined:
            continue
        after = before.insert([wire(signed)]).view
        assert meaning(after) == meaning(before.view)
        assert after.quarantined == before.view.quarantined


@given(quarantined)
def test_a_lift_from_above_gives_back_all_that_was_cut(history: History) -> None:
    """An owner that is not quarantined ends it, for what nobody else shows besides."""
    opset = history.union()
    free = [o for o in OWNERS if o.public not in opset.view.quarantined]
    cut = opset.view.quarantined
    below = sorted(a for a in cut if opset.view.ranks[a] < Rank.OWNER)
    if not free or not below:
        return
    forked = below[0]
    while forked in opset.view.quarantined:
        number = opset.view.quarantined[forked]
        shown = {fork.place: fork.record for fork in opset.view.forks}
        lift = say(opset, free[0], Lift(RecordId(shown[forked, number])))
        opset = opset.insert([lift])
        assert opset.view.quarantined.get(forked, number + 1) > number
    assert last_of(opset, free[0]) is not None


@given(histories(actions=FORKING))
def test_without_quarantine_forks_only_show(history: History) -> None:
    """The same records, but that the genesis does not set it: nothing is cut."""
    opset = history.union()
    assert not opset.view.quarantined
    plain = {k: s for k, s in history.all.items() if s.record.kind != "fork"}
    without = history.set_of(plain)
    if any(s.record.kind == "revoke" for s in plain.values()):
        return  # what it accepts may be found through a fork record
    assert meaning(opset.view) == meaning(without.view)
