"""Choices over peers are pure, bounded and reproducible."""

import random

from nodes.gossip import (
    BACKOFF_FIRST_S,
    BACKOFF_LAST_S,
    BANISHED_S,
    Backoff,
    pick,
)

PEERS = [bytes([n]) * 32 for n in range(10)]


def test_the_pick_depends_on_the_generator_alone() -> None:
    """The order in which candidates are kept changes nothing."""
    forwards = pick(PEERS, 3, random.Random(1))
    backwards = pick(set(PEERS), 3, random.Random(1))
    assert forwards == backwards
    assert len(set(forwards)) == 3


def test_fewer_candidates_than_asked_for_are_all_picked() -> None:
    """Nobody is picked twice, and nobody is no error."""
    assert sorted(pick(PEERS[:2], 3, random.Random(1))) == PEERS[:2]
    assert pick([], 3, random.Random(1)) == []


def test_waiting_grows_with_every_failure_up_to_a_limit() -> None:
    """Delays double with jitter, never above the last; a success forgets them."""
    backoff, rng = Backoff(), random.Random(1)
    waits: list[float] = []
    for _ in range(12):
        backoff.failed(PEERS[0], 0.0, rng)
        waits.append(
            next(t / 10 for t in range(400) if backoff.ready(PEERS[0], t / 10))
        )
    assert waits[0] <= BACKOFF_FIRST_S + 0.1
    assert max(waits) <= BACKOFF_LAST_S + 0.1
    assert min(waits[-3:]) >= BACKOFF_LAST_S / 2
    backoff.succeeded(PEERS[0])
    assert backoff.ready(PEERS[0], 0.0)


def test_a_long_outage_does_not_overflow() -> None:
    """The thousandth failure waits no longer than the tenth."""
    backoff, rng = Backoff(), random.Random(1)
    for _ in range(1_000):
        backoff.failed(PEERS[0], 0.0, rng)
    assert backoff.ready(PEERS[0], BACKOFF_LAST_S)


def test_who_is_forgiven_is_dialled_at_once() -> None:
    """Banishment and failures are forgotten, of that peer alone."""
    backoff, rng = Backoff(), random.Random(1)
    for peer in PEERS[:2]:
        backoff.banish(peer, 5.0)
        backoff.failed(peer, 5.0, rng)
    backoff.forgive(PEERS[0])
    assert backoff.ready(PEERS[0], 5.0)
    assert not backoff.banished(PEERS[0], 5.0)
    assert not backoff.ready(PEERS[1], 5.0)


def test_the_banished_wait_whatever_else_happens() -> None:
    """A success does not end a banishment; time does. Others are not touched."""
    backoff = Backoff()
    backoff.banish(PEERS[0], 5.0)
    backoff.succeeded(PEERS[0])
    assert not backoff.ready(PEERS[0], 5.0 + BANISHED_S - 0.1)
    assert backoff.ready(PEERS[0], 5.0 + BANISHED_S)
    assert backoff.ready(PEERS[1], 5.0)
