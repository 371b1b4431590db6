"""Spaces with more nodes than anybody has streams: they fall apart, and mend by themselves.

Real node cores on the simulated network, above the number up to which all dial all.
"""

from collections.abc import Collection, Sequence

import pytest

from crdtmerge.bodies import RecordId
from nodes.effects import Effect, Input, PeerOpened, RecordsCommitted
from nodes.gossip import RUMOUR_FANOUT
from nodes.neighbours import CHOSEN, ROTATE_S
from simulations.links.link import pair
from simulations.town import Town
from simulations.world import TICK_S, Machine

SOME = 72


def say(town: Town, machine: Machine) -> RecordId:
    """Let somebody say something new."""
    (fresh,) = machine.spaces.commit(town.space, [town.news(machine)])
    town.world.submit(machine, RecordsCommitted(town.space, (fresh,)))
    return fresh


def periods(
    town: Town,
    machines: Collection[Machine],
    records: Collection[RecordId],
    most: float,
) -> float:
    """Return after how many periods all of some machines have some records."""
    began = town.world.clock.now

    def lacking() -> list[Machine]:
        sets = ((m, m.spaces.opset(town.space)) for m in machines)
        return [m for m, known in sets if not all(r in known for r in records)]

    while away := lacking():
        assert town.world.clock.now - began < most * TICK_S, f"{len(away)} never heard"
        town.world.run(TICK_S / 4)
    return (town.world.clock.now - began) / TICK_S


def reached(town: Town, machines: Sequence[Machine]) -> int:
    """Return how many of some machines the first of them reaches over streams."""
    by_key = {m.transport: m for m in machines}
    seen, edge = {machines[0].transport}, [machines[0].transport]
    while edge:
        node = by_key[edge.pop()].node
        assert node is not None
        fresh = (node.sessions.keys() & by_key.keys()) - seen
        seen |= fresh
        edge += sorted(fresh)
    return len(seen)


@pytest.mark.parametrize("count", [SOME, pytest.param(200, marks=pytest.mark.slow)])
def test_a_partition_heals(count: int) -> None:
    """Each half goes on, with places filled by its own; then all hear from both."""
    town = Town(count, 0.0, RUMOUR_FANOUT, seed=5)
    half = town.machines[: count // 2]
    other = town.machines[count // 2 :]
    assert reached(town, town.machines) == count
    town.world.network.partition([m.transport for m in half])
    town.world.run(20 * TICK_S)
    assert (reached(town, half), reached(town, other)) == (len(half), len(other))
    news = [say(town, half[3]), say(town, other[3])]
    periods(town, half, news[:1], 20)
    periods(town, other, news[1:], 20)
    assert not any(news[0] in m.spaces.opset(town.space) for m in other)
    town.world.network.heal()
    assert periods(town, town.machines, news, ROTATE_S) < ROTATE_S
    assert town.world.accused == []


@pytest.mark.parametrize("count", [SOME, pytest.param(300, marks=pytest.mark.slow)])
def test_a_third_vanishes_at_once(count: int) -> None:
    """Who is left is one network at that moment, and hears all news soon."""
    town = Town(count, 0.0, RUMOUR_FANOUT, seed=6)
    gone = town.world.random("gone").sample(town.machines, count // 3)
    for machine in gone:
        town.world.crash(machine)
    left = town.world.running
    town.world.run(TICK_S)
    assert reached(town, left) == len(left)
    assert periods(town, left, [say(town, left[0])], 12) <= 12
    town.world.run(30 * TICK_S)
    chosen = [len(m.node.neighbours.chosen) for m in left if m.node is not None]
    assert min(chosen) >= CHOSEN - 1


class Mute:
    """A member's node that lets everybody in, and says nothing."""

    def handle(self, _item: Input, _now: float) -> list[Effect]:
        """Do nothing."""
        return []


def test_members_who_surround_everybody_delay_news_and_no_more() -> None:
    """A third of the members hold a stream with each node, and never say a word."""
    town = Town(SOME, 0.0, RUMOUR_FANOUT, seed=7)
    world = town.world
    mute, honest = town.machines[: SOME // 3], town.machines[SOME // 3 :]
    for machine in mute:
        world.crash(machine)
        machine.node = Mute()  # type: ignore[assignment]
        machine.members = frozenset(m.transport for m in town.machines)
    world.run(TICK_S)
    for machine in mute:
        for victim in honest:
            if pair(machine.transport, victim.transport) not in world.network.links:
                world.network.open(machine.transport, victim.transport)
                world.submit(victim, PeerOpened(machine.transport))
    for machine in honest:
        assert machine.node is not None
        crowd = [m for m in mute if m.transport in machine.node.sessions]
        assert len(crowd) == len(mute)
    for teller in honest[:3]:
        assert periods(town, honest, [say(town, teller)], 20) <= 20


@pytest.mark.slow
def test_the_same_seed_tells_the_same_story() -> None:
    """Draws, dials and rotations are a matter of the seed alone."""

    def story(seed: int) -> str:
        town = Town(SOME, 0.0, RUMOUR_FANOUT, seed)
        town.spread()
        return town.world.log_digest

    assert story(8) == story(8)
