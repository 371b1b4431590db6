"""Limits on bytes a second and on transfers at once, in a time that the test tells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.sync.pace import (
    BURST_S,
    PEERS_MAX,
    UPLOADS_MAX,
    UPLOADS_OF_PEER_MAX,
    Bucket,
    Pace,
    Slots,
)


@given(
    st.floats(1.0, 1e9),
    st.lists(st.tuples(st.integers(0, 1 << 21), st.floats(0.0, 3.0)), max_size=40),
)
def test_a_bucket_lets_its_rate_pass_and_no_more(
    rate: float, takes: list[tuple[int, float]]
) -> None:
    """Whoever waits as told has never sent more than the rate and one burst allow."""
    bucket, now, sent = Bucket(rate), 0.0, 0
    for amount, rest in takes:
        now += rest
        now += bucket.take(amount, now)
        sent += amount
        assert sent <= rate * (now + BURST_S) * 1.000001 + 1e-3


def test_a_bucket_is_used_up_to_its_rate() -> None:
    """A sender that always has more sends as much as it may."""
    bucket, now = Bucket(1000.0), 0.0
    for _ in range(100):
        now += bucket.take(100, now)
    assert now == pytest.approx(10.0 - BURST_S)


def test_without_a_limit_nobody_waits() -> None:
    """Zero is no limit, in all and for each."""
    pace = Pace()
    assert pace.take(b"a", 1 << 40, 0.0) == 0.0


def test_each_peer_has_its_own_limit() -> None:
    """One that used up its own does not hold up another, but for what all have."""
    pace = Pace(total=1e6, per_peer=1000.0)
    pace.take(b"a", 1000, 0.0)
    assert pace.take(b"a", 1000, 0.0) > 1.5
    assert pace.take(b"b", 50, 0.0) == 0.0
    pace.take(b"c", 1_000_000, 0.0)
    assert pace.take(b"d", 1, 0.0) > 0.5


def test_peers_that_are_remembered_are_bounded() -> None:
    """Whatever keys call."""
    pace = Pace(per_peer=1.0)
    for number in range(PEERS_MAX + 10):
        pace.take(number.to_bytes(4, "big"), 1, 0.0)
    assert len(pace._peers) == PEERS_MAX


def test_one_peer_has_a_share_of_the_slots() -> None:
    """However many it asks for."""
    slots = Slots()
    assert [slots.take(b"a") for _ in range(20)].count(True) == UPLOADS_OF_PEER_MAX
    slots.give_back(b"a")
    assert slots.take(b"a")
    assert not slots.take(b"a")


def test_many_greedy_peers_leave_room_for_one_more() -> None:
    """Who holds some gets no more as they run out; who holds none is served."""
    slots = Slots()
    greedy = [bytes([n]) for n in range(UPLOADS_MAX // 2)]
    for _ in range(UPLOADS_OF_PEER_MAX):
        for peer in greedy:
            slots.take(peer)
    assert slots.taken < UPLOADS_MAX
    assert slots.take(b"late comer")


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=300))
def test_slots_are_never_overdrawn(moves: list[tuple[int, bool]]) -> None:
    """Whatever order they are taken and given back in."""
    slots, held = Slots(most=10, of_peer=4), [0] * 6
    for peer, take in moves:
        name = bytes([peer])
        if take:
            held[peer] += slots.take(name)
        elif held[peer]:
            slots.give_back(name)
            held[peer] -= 1
        assert slots.taken == sum(held) <= 10
        assert max(held) <= 4
