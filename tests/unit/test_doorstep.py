"""Strangers at the join port wait their turn, and keep nobody out for long."""

import asyncio

import pytest

from crdtmerge.errors import OverloadedError
from nodes.doorstep import (
    JOIN_BURST_S,
    JOIN_RATE,
    JOINS_MAX,
    JOINS_OF_HOST_MAX,
    PATIENCE_S,
    Doorstep,
    host_of,
)
from nodes.quotas import CALLERS_MAX

HERE, THERE = b"ipv4:192.0.2.1", b"ipv4:192.0.2.2"
BURST = int(JOIN_RATE * JOIN_BURST_S)


def test_a_class_behind_one_router_is_let_in_at_once() -> None:
    """Thirty people who join together wait for nothing."""
    door = Doorstep()
    assert [door.knock(HERE, 0.0) for _ in range(BURST)] == [0.0] * BURST


def test_who_knocks_without_end_is_heard_at_a_rate() -> None:
    """However often: no more than burst and rate, and others are heard at once."""
    door = Doorstep()
    heard = 0
    for tick in range(600):  # a minute, ten knocks a tick
        for _ in range(10):
            try:
                heard += door.knock(HERE, tick / 10) <= PATIENCE_S
            except OverloadedError:
                continue
    assert heard <= BURST + JOIN_RATE * (60 + PATIENCE_S) + 1
    assert door.knock(THERE, 60.0) == 0.0


def test_a_neighbour_of_who_knocks_is_not_kept_out_for_ever() -> None:
    """A refused knock costs nothing, so that the debt of a host has a bound."""
    door = Doorstep()
    for _ in range(10_000):
        try:
            door.knock(HERE, 0.0)
        except OverloadedError:
            continue
    assert door.knock(HERE, 1.0) <= PATIENCE_S + 1


def test_hosts_are_remembered_up_to_a_bound() -> None:
    """Addresses cost nothing: who did not knock for longest is forgotten."""
    door = Doorstep()
    for number in range(CALLERS_MAX + 100):
        door.knock(str(number).encode(), 0.0)
    assert len(door._hosts) == CALLERS_MAX


def test_one_host_leaves_places_for_others() -> None:
    """Its joiners wait for one another, and not the joiner of another host."""

    async def test() -> None:
        door = Doorstep()
        go = asyncio.Event()
        inside: list[bytes] = []

        async def join(host: bytes) -> None:
            async with door.place(host):
                inside.append(host)
                await go.wait()

        tasks = [asyncio.ensure_future(join(HERE)) for _ in range(12)]
        await asyncio.sleep(0.2)
        assert len(inside) == JOINS_OF_HOST_MAX < JOINS_MAX
        tasks.append(asyncio.ensure_future(join(THERE)))
        await asyncio.sleep(0.2)
        assert inside[-1] == THERE
        go.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 5)
        assert len(inside) == 13

    asyncio.run(test())


def test_who_waits_in_vain_is_told_so() -> None:
    """Not for ever: the time at the door has an end."""

    async def test() -> None:
        times = iter([0.0, 0.0, 0.0, PATIENCE_S + 1])
        door = Doorstep(clock=lambda: next(times))
        for _ in range(JOINS_OF_HOST_MAX):
            assert door._slots.take(HERE)
        with pytest.raises(OverloadedError, match="no room for one more"):
            async with door.place(HERE):
                raise AssertionError
        assert door._slots.taken == JOINS_OF_HOST_MAX

    asyncio.run(test())


@pytest.mark.parametrize(
    ("peer", "other", "same"),
    [
        ("ipv4:192.0.2.1:5", "ipv4:192.0.2.1:6", True),
        ("ipv4:192.0.2.1:5", "ipv4:192.0.2.2:5", False),
        ("ipv6:%5B2001:db8::1%5D:5", "ipv6:[2001:db8::ffff]:6", True),
        ("ipv6:[2001:db8::1]:5", "ipv6:[2001:db8:0:1::1]:5", False),
        ("ipv6:[fe80::1%25eth0]:5", "ipv6:[fe80::2]:7", True),
        ("unix:nothing", "unix:other", True),
    ],
)
def test_a_host_is_an_address_or_the_network_it_may_choose_in(
    peer: str, other: str, *, same: bool
) -> None:
    """Of IPv6 anybody has a whole network of addresses: it counts as one."""
    assert (host_of(peer) == host_of(other)) is same
