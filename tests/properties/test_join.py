"""The laws of join, by byte equality over independent sets decoded from bytes."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.bodies import SpaceId
from crdtmerge.errors import MissingAuthorityError, WrongSpaceError
from crdtmerge.orset import OpSet
from crdtmerge.record import SignedRecord
from tests.properties.cast import outcome, wire
from tests.properties.histories import REPLICAS, History, histories
from tests.properties.oracle import trie_root

Drawn = st.builds(random.Random, st.integers(0, 2**32))


def delivered(opset: OpSet, order: list[SignedRecord]) -> OpSet:
    """Deliver one by one; what misses its chain counts as not received and comes again."""
    waiting = order
    while waiting:
        late: list[SignedRecord] = []
        for signed in waiting:
            try:
                opset = opset.insert([wire(signed)])
            except MissingAuthorityError:
                late.append(signed)
        assert len(late) < len(waiting), "a round delivered nothing"
        waiting = late
    return opset


@given(histories())
def test_join_commutes(history: History) -> None:
    """Either side may begin."""
    left = history.opset(0).join(history.opset(1))
    right = history.opset(1).join(history.opset(0))
    assert outcome(left) == outcome(right)


@given(histories())
def test_join_associates(history: History) -> None:
    """Three sets join to one, however they are paired."""
    left = history.opset(0).join(history.opset(1)).join(history.opset(2))
    right = history.opset(0).join(history.opset(1).join(history.opset(2)))
    assert outcome(left) == outcome(right)
    assert outcome(left) == outcome(history.union())


@given(histories())
def test_join_is_idempotent(history: History) -> None:
    """A set joined with a copy of itself, or twice with another, is as before."""
    alone = history.opset(0)
    assert outcome(alone.join(history.opset(0))) == outcome(history.opset(0))
    once = history.opset(0).join(history.opset(1))
    twice = once.join(history.opset(1)).join(history.opset(0))
    assert outcome(once) == outcome(twice)


@given(histories())
def test_join_keeps_both_sides(history: History) -> None:
    """The join holds exactly the records of both, as bytes: none is lost or made up."""
    joined = history.opset(0).join(history.opset(1))
    kept = sorted((s.record.data, s.signature) for s in joined.signed.values())
    sent = (history.known[0] | history.known[1]).values()
    assert kept == sorted((s.record.data, s.signature) for s in sent)


@given(histories())
def test_join_is_insert_without_admitting_again(history: History) -> None:
    """Records that another set admitted join as if each had been checked anew."""
    left, right = history.opset(0), history.opset(1)
    anew = left.insert(wire(signed) for signed in right.signed.values())
    assert outcome(left.join(right)) == outcome(anew)


@given(histories())
def test_sets_of_two_spaces_do_not_join(history: History) -> None:
    """Whichever begins, and though one of them is empty."""
    ours, other = history.opset(0), OpSet(SpaceId(bytes(32)))
    for one, two in ((ours, other), (other, ours)):
        with pytest.raises(WrongSpaceError):
            one.join(two)


@given(histories(), Drawn)
def test_the_root_is_that_of_the_set_whenever_it_was_asked_for(
    history: History, rng: random.Random
) -> None:
    """Asked for after each change, seldom, or once: always the root of a fresh build."""
    opset = history.opset(0)
    for n in range(1, REPLICAS):
        if rng.random() < 0.6:
            assert opset.root == trie_root(sorted(opset.signed))
        opset = opset.join(history.opset(n))
    for signed in history.all.values():
        before = opset
        opset = opset.insert([wire(signed)])
        if rng.random() < 0.6:
            assert opset.root == trie_root(sorted(opset.signed))
            assert before.root == trie_root(sorted(before.signed))
    assert opset.root == history.union().root == trie_root(sorted(history.all))


@given(histories(), Drawn)
def test_batch_equals_one_by_one(history: History, rng: random.Random) -> None:
    """Joining a batch is joining its records one by one, in any admissible order."""
    order = list(history.all.values())
    rng.shuffle(order)
    assert outcome(delivered(OpSet(history.space), order)) == outcome(history.union())


@given(histories(), Drawn)
def test_loss_duplication_and_disorder_change_nothing(
    history: History, rng: random.Random
) -> None:
    """Whatever was lost and sent again, doubled or delayed: the same state at the end."""
    records = list(history.all.values())
    sent = [s for s in records if rng.random() < 0.6] * 2
    rng.shuffle(sent)
    opset = OpSet(history.space)
    for signed in sent:
        try:
            opset = opset.insert([wire(signed)])
        except MissingAuthorityError:
            assert signed.record.auth not in opset.signed
    rng.shuffle(records)
    assert outcome(delivered(opset, records)) == outcome(history.union())


@given(histories(), Drawn)
def test_gossip_in_any_pairing_converges(history: History, rng: random.Random) -> None:
    """Replicas that push to one another at random end with the state of the union."""
    replicas = [history.opset(n) for n in range(REPLICAS)]
    for _ in range(4):
        giver, taker = rng.sample(range(REPLICAS), 2)
        replicas[taker] = replicas[taker].join(replicas[giver])
    for n in rng.sample(range(REPLICAS), REPLICAS):
        for m in rng.sample(range(REPLICAS), REPLICAS):
            replicas[n] = replicas[n].join(replicas[m])
    final = [replicas[0].join(r) for r in replicas]
    assert {outcome(opset) for opset in final} == {outcome(history.union())}


@given(histories())
def test_admission_is_monotone(history: History) -> None:
    """What one replica admitted, every larger set admits too, banned or not."""
    small, large = history.opset(0), history.union()
    assert small.signed.keys() <= large.signed.keys()
    for signed in history.known[0].values():
        assert large.insert([wire(signed)]) is large


@given(histories(), st.integers(0, 100))
def test_refused_batch_leaves_nothing_behind(history: History, at: int) -> None:
    """One record without its chain refuses the batch; the set is as it was."""
    records = list(history.all.values())
    hanging = [s for s in records if s.record.auth]
    grant = hanging[at % len(hanging)].record.auth
    opset = OpSet(history.space)
    batch = [wire(s) for s in records if s.record.id != grant]
    with pytest.raises(MissingAuthorityError):
        opset.insert(batch)
    assert len(opset) == 0
    assert opset.root == OpSet(history.space).root
