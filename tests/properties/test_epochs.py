"""Laws of epochs: against the naive evaluator, and whoever dropped what, and when."""

import random
from typing import Final

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from crdtmerge.bodies import Epoch, RecordId
from crdtmerge.epochs import changed, check_unchanged, choose, epochs_of
from crdtmerge.errors import MissingAuthorityError
from crdtmerge.identity import SigningKey
from crdtmerge.orset import OpSet
from crdtmerge.policy import evaluate, living
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica
from tests.properties.cast import OWNERS, outcome, wire
from tests.properties.histories import (
    QUIET,
    REPLICAS,
    History,
    histories_compacted,
)
from tests.properties.oracle import Oracle, facts_of, trie_root
from tests.properties.test_visible import agree

compacted = histories_compacted()
quiet = histories_compacted(QUIET, thresholds=(1,))
few: Final = settings(max_examples=settings().max_examples // 5)
"""These histories are long; the more of them say the same."""
Drawn: Final = st.builds(random.Random, st.integers(0, 2**32))


def oracle_of(history: History) -> Oracle:
    """Return the naive reading of all that was ever written."""
    return Oracle(facts_of([s.record.data for s in history.all.values()]))


def test_histories_hold_what_the_laws_are_about() -> None:
    """Records die, truly listed; those listed falsely live on; epochs wait, too."""
    found: set[str] = set()

    @settings(max_examples=25, derandomize=True, phases=[Phase.generate])
    @given(compacted)
    def look(history: History) -> None:
        opset = history.union()
        listed = set(opset.listing.added_to(type(opset.listing)()))
        dead = set(history.all) - set(opset.signed)
        found.update({"dead"} if dead else ())
        found.update({"listed and alive"} if listed & set(opset.signed) else ())
        waiting = [p for p in opset.view.pending if p.record in opset.signed]
        found.update(
            "waits" for p in waiting if isinstance(opset.records[p.record].body, Epoch)
        )

    look()
    assert found == {"dead", "listed and alive", "waits"}


@few
@given(compacted)
def test_what_is_dead_is_what_the_naive_evaluator_says(history: History) -> None:
    """Which records live, and all that they mean with what is known of the dead."""
    opset = history.union()
    naive = oracle_of(history)
    assert set(opset.signed) == naive.facts.keys()
    assert opset.root == trie_root(list(naive.facts))
    agree(opset)
    shown = {v.content: (v.weight, v.evidence) for v in opset.view.visible}
    assert shown == naive.visible()
    assert opset.view.effective == {fact.id for fact in naive.effective}


@few
@given(compacted)
def test_a_view_of_dead_records_is_that_of_a_node_without_them(
    history: History,
) -> None:
    """Who still holds them and who dropped them see the same, field by field."""
    everything = {key: signed.record for key, signed in history.all.items()}
    left, _ = living(everything)
    assert evaluate(everything) == evaluate(left) == history.union().view


@few
@given(compacted, Drawn)
def test_arrival_and_dropping_in_any_order_change_nothing(
    history: History, rng: random.Random
) -> None:
    """Records come one by one or in batches, dead ones again and again: the same set."""
    waiting = list(history.all.values()) * 2
    rng.shuffle(waiting)
    opset = OpSet(history.space)
    while waiting:
        size = rng.choice((1, 1, 2, 5))
        batch, waiting = waiting[:size], waiting[size:]
        try:
            opset = opset.insert(wire(signed) for signed in batch)
        except MissingAuthorityError:
            waiting += batch
        if rng.random() < 0.2:
            assert opset.root == trie_root(list(opset.signed))
            assert not opset.signed or opset.view == evaluate(dict(opset.records))
    assert outcome(opset) == outcome(history.union())


@few
@given(compacted, Drawn)
def test_join_obeys_its_laws_where_records_die(
    history: History, rng: random.Random
) -> None:
    """Commutes, associates, is idempotent, though one side dropped what the other has."""
    sets = [history.opset(n) for n in range(REPLICAS)]
    rng.shuffle(sets)
    one, two, three = sets
    assert outcome(one.join(two)) == outcome(two.join(one))
    left, right = one.join(two).join(three), one.join(two.join(three))
    assert outcome(left) == outcome(right) == outcome(history.union())
    assert outcome(left.join(one)) == outcome(left)


@few
@given(compacted, Drawn)
def test_the_dead_stay_dead(history: History, rng: random.Random) -> None:
    """What is dead in a set is in no larger one, whatever comes."""
    small = history.opset(rng.randrange(REPLICAS))
    held = set(small.signed)
    dead: set[RecordId] = set()
    for signed in _shuffled(history, rng):
        try:
            small = small.insert([wire(signed)])
        except MissingAuthorityError:
            continue
        dead |= held - set(small.signed)
        held |= set(small.signed)
        assert not dead & set(small.signed)


def compacted_by(owner: SigningKey, opset: OpSet) -> list[SignedRecord]:
    """Return the lists that an owner makes of what it knows; it forks if it knows less."""
    lists = epochs_of(opset, choose(opset).records)
    check_unchanged(opset, lists)
    return Replica(opset, owner).compact(lists)


@few
@given(quiet, st.sampled_from(OWNERS))
def test_compaction_changes_nothing_anywhere_ever(
    history: History, owner: SigningKey
) -> None:
    """An owner lists by what it knows; with what others knew it is as without the list.

    Nothing that it had not heard of is lost, nothing that was removed is back.
    """
    known, everything = history.opset(0), history.union()
    lists = compacted_by(owner, known)
    after = everything.insert(map(wire, lists))
    assert changed(everything.view, after.view) == []
    gone = set(everything.signed) - set(after.signed)
    assert gone == choose(known).records
    assert gone <= set(known.signed)


@few
@given(compacted)
def test_what_is_chosen_never_changes_the_set_that_it_is_chosen_from(
    history: History,
) -> None:
    """Whatever was judged, forked, handed on or listed before."""
    opset = history.union()
    without = opset.as_if(epochs_of(opset, choose(opset).records))
    assert changed(opset.view, without.view) == []
    assert set(opset.signed) - set(without.signed) == choose(opset).records


@few
@given(quiet, st.sampled_from(OWNERS))
def test_a_second_look_finds_nothing_more(history: History, owner: SigningKey) -> None:
    """All that may be listed is listed at once, but what the lists themselves free."""
    opset = history.union()
    again = opset.insert(map(wire, compacted_by(owner, opset)))
    assert not choose(again).removed
    assert not choose(again).renamed


def _shuffled(history: History, rng: random.Random) -> list[SignedRecord]:
    order = list(history.all.values())
    rng.shuffle(order)
    return order
