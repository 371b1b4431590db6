"""The turns of the node: one at a time, in order, and nobody waits for the busiest."""

import asyncio
from collections.abc import Sequence

import pytest

from nodes.effects import Effect, Input, PeerOpened, Ticked
from nodes.turns import Turns

LIGHT = b"light"


class Clock:
    """A node whose inputs take as long as is written down, on a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.handled: list[bytes] = []

    def handle(self, item: Input, _now: float) -> Sequence[Effect]:
        """Take a second for a busy peer, and next to nothing for others."""
        assert isinstance(item, PeerOpened)
        self.handled.append(item.peer)
        self.now += 0.001 if item.peer == LIGHT else 1.0
        return []


def test_a_light_peer_waits_for_one_turn_of_the_busy_ones() -> None:
    """Twenty peers that keep the node busy do not keep the others waiting."""
    clock = Clock()
    busy = [b"busy %d" % n for n in range(20)]

    async def scenario() -> None:
        turns = Turns(clock.handle, lambda _: None, lambda: clock.now)
        running = asyncio.ensure_future(turns.run())
        for peer in (*busy, LIGHT):  # from now on it is known what each of them costs
            await turns.submit(lambda peer=peer: [PeerOpened(peer)], peer)  # type: ignore[misc]
        for peer in 3 * busy:
            turns.submit(lambda peer=peer: [PeerOpened(peer)], peer)  # type: ignore[misc]
        waits = []
        for _ in range(5):
            began = len(clock.handled)
            await turns.submit(lambda: [PeerOpened(LIGHT)], LIGHT)
            # others may have had their turn before this one woke: they kept nobody waiting
            waits.append(clock.handled.index(LIGHT, began) + 1 - began)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await turns.close()
        assert max(waits) <= 2, waits
        assert len(turns) > 40

    asyncio.run(scenario())


def test_the_turns_of_a_peer_keep_their_order() -> None:
    """What a session says never overtakes what it said before."""
    seen: list[int] = []

    def handle(_: Input, __: float) -> Sequence[Effect]:
        return []

    async def scenario() -> None:
        turns = Turns(handle, lambda _: None, lambda: 0.0)
        running = asyncio.ensure_future(turns.run())

        def turn(number: int) -> list[Input]:
            seen.append(number)
            return [Ticked()]

        ends = [
            turns.submit(lambda n=n: turn(n), b"peer")  # type: ignore[misc]
            for n in range(50)
        ]
        await asyncio.gather(*ends)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await turns.close()

    asyncio.run(scenario())
    assert seen == list(range(50))


def test_a_failure_ends_the_turns() -> None:
    """After a bug, or on a bad disk, nothing goes on."""

    def handle(_: Input, __: float) -> Sequence[Effect]:
        raise KeyError("ours")

    async def scenario() -> None:
        turns = Turns(handle, lambda _: None, lambda: 0.0)
        turns.submit(lambda: [Ticked()])
        with pytest.raises(KeyError):
            await turns.run()
        await turns.close()

    asyncio.run(scenario())
