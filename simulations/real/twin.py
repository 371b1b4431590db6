"""The simulated world of a story: the same members and the same trouble, in virtual time.

Owns what each word of a story is in the simulation. Does not own the simulation; what
differs is told in docs/real.md.
"""

import random
from collections import Counter
from collections.abc import Collection
from typing import Final

from crdtmerge.errors import MachineError
from crdtmerge.sync.messages import SPEAKS_ATTESTATIONS
from simulations.checking.checkers import NotConvergedError, record_root
from simulations.checking.settling import STEP_S, gather, settle
from simulations.cluster import Cluster
from simulations.disks.storage import DiskStorage
from simulations.faults import CALM, Faults
from simulations.links.walls import Wall
from simulations.releases import CURRENT, RELEASES, Release
from simulations.world import TICK_S, Machine

from .stage import Figures

STORM: Final = Faults.of(0.07, loss=0.1, duplicate=0.05, reorder=0.1, corrupt=0.0005)
"""The storm of `places`, as far as there is such a thing: of messages, not of packets."""
KILLED_WITHIN_S: Final = 0.4
NARROW_BYTES_PER_S: Final = 1000.0
"""Less than in the real world, as contents are."""
FOR_EVER_S: Final = 1e6
(OLDER,) = (release for release in RELEASES if release.features == SPEAKS_ATTESTATIONS)
"""What the kept older build speaks."""


class Twin:
    """A simulated cluster that a story is told to."""

    def __init__(
        self,
        names: tuple[str, ...],
        seed: int,
        *,
        disks: bool = False,
        older: bool = False,
    ) -> None:
        """Let all join and meet: with `disks` to be filled, of an `older` release."""
        self.names = names
        self.rng = random.Random(seed)
        self.cluster = Cluster(seed, disks=disks)
        gather(self.cluster, len(names))
        self._machines = dict(zip(names, self.cluster.machines, strict=True))
        for machine in self.cluster.machines if older else ():
            self._become(machine, OLDER)
        self.cluster.run(2 * TICK_S if older else 0.0)
        self._before, self._began = self._count(), self.cluster.clock.now

    def _others(self, *names: str) -> list[str]:
        return [name for name in self.names if name not in names]

    def _keys(self, names: Collection[str]) -> frozenset[bytes]:
        return frozenset(self._machines[name].transport for name in names)

    # --- what members do ------------------------------------------------------------------

    def contribute(self, name: str) -> None:
        """Let a member contribute a new model."""
        self.cluster.contribute(self._machines[name])
        self.cluster.run(self.rng.uniform(0, STEP_S))

    def refuse_contribution(self, name: str) -> None:
        """Let a member try to contribute where its disk has no room."""
        machine = self._machines[name]
        if machine.node is None:
            return  # it has ended for lack of room
        try:
            self.cluster.contribute(machine)
        except MachineError:
            return
        raise NotConvergedError(f"{name} contributed on a full disk")

    def remove_one(self, name: str) -> None:
        """Let a member remove the first of its contributions."""
        machine = self._machines[name]
        mine = machine.author.public
        visible = machine.spaces.view(self.cluster.space).visible
        adds = next(v.adds for v in visible if v.authors == (mine,))
        self.cluster.commit(machine, self.cluster.replica(machine).remove(adds))

    def rest(self, rounds: float) -> None:
        """Let heartbeats pass."""
        self.cluster.run(rounds * TICK_S)

    def expect_apart(self, one: str, other: str) -> None:
        """Check that two members do not hold the same records."""
        if self._root(one) == self._root(other):
            raise NotConvergedError(f"news crossed from {one} to {other}, or back")

    def _root(self, name: str) -> bytes:
        return record_root(self._machines[name].spaces, self.cluster.space)

    # --- processes ------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """End the process of a member."""
        self.cluster.crash(self._machines[name])

    def kill_amid(self, name: str) -> None:
        """End it soon after it contributed: what commands commit is whole at once."""
        self.cluster.contribute(self._machines[name])
        self.cluster.run(self.rng.uniform(0, KILLED_WITHIN_S))
        self.kill(name)

    def revive(self, name: str) -> None:
        """Start it again from its disk."""
        self.cluster.run(self.rng.uniform(0, TICK_S))
        self.cluster.restart(self._machines[name])

    def pause(self, name: str, rounds: float) -> None:
        """Let it stand still for so long."""
        self.cluster.pause(self._machines[name], rounds * TICK_S)

    def upgrade(self, name: str) -> None:
        """End it in order, and start it as this release."""
        self._become(self._machines[name], CURRENT)

    def _become(self, machine: Machine, release: Release) -> None:
        self.cluster.leave(machine)
        machine.release = release
        self.cluster.run(self.rng.uniform(0, TICK_S))
        self.cluster.restart(machine)

    # --- networks -------------------------------------------------------------------------

    def part(self, island: Collection[str]) -> None:
        """Let nothing pass between these and the others."""
        self.cluster.network.partition(self._keys(island))

    def silence(self, senders: Collection[str]) -> None:
        """Lose what these send to the others, whom they still hear."""
        self.cluster.network.put_up(Wall(self._keys(senders), both_ways=False))

    def leave_only(self, middle: str) -> None:
        """Let everybody reach this member and nobody else."""
        for name in self._others(middle):
            others = self._keys(self._others(middle, name))
            self.cluster.network.put_up(Wall(self._keys([name]), others))

    def unplug(self, name: str) -> None:
        """Let a member reach nobody."""
        self.part([name])

    def heal(self) -> None:
        """Let everybody reach everybody."""
        self.cluster.network.heal()

    def storm(self) -> None:
        """Lose, delay, reorder and double messages."""
        self.cluster.dice.faults = STORM

    def narrow(self) -> None:
        """Let links carry few bytes a second, for as long as they are open."""
        for one, other in sorted(self.cluster.network.links):
            self.cluster.network.slow(one, other, NARROW_BYTES_PER_S, FOR_EVER_S)

    def calm(self) -> None:
        """End a storm, or what is narrow."""
        self.cluster.dice.faults = CALM
        for link in self.cluster.network.links.values():
            link.slow_until = 0.0

    # --- disks ----------------------------------------------------------------------------

    def fill_disk(self, name: str) -> None:
        """Leave no room on the disk of a member."""
        self._disk(name).fill(0)

    def free_disk(self, name: str) -> None:
        """Give it room again; who ended for lack of it starts again."""
        self._disk(name).fill(None)
        if self._machines[name].node is None:
            self.revive(name)

    def _disk(self, name: str) -> DiskStorage:
        storage = self._machines[name].storage
        assert isinstance(storage, DiskStorage), "this story is told without disks"
        return storage

    # --- the end --------------------------------------------------------------------------

    def settle(self) -> Figures:
        """Wait until all agree, check every promise, and return what it came to.

        What goes over wires while agreement is waited for to last is counted as well.
        """
        settled = settle(self.cluster)
        counted = self._count() - self._before
        return Figures(
            records=len(self.cluster.ledger),
            contributions=len(self._visible(self.cluster.owner)),
            lasted=round((self.cluster.clock.now - self._began) / TICK_S, 2),
            record_rounds=round(settled.record_rounds, 2),
            rounds=round(settled.rounds, 2),
            messages=counted["messages"],
            message_bytes=counted["message_bytes"],
            content_bytes=counted["blob_bytes"],
            carried_bytes=None,
            packets=None,
        )

    def _visible(self, machine: Machine) -> tuple[object, ...]:
        return tuple(machine.spaces.view(self.cluster.space).visible)

    def _count(self) -> Counter[str]:
        traffic = self.cluster.network.traffic
        return Counter(
            messages=traffic.messages,
            message_bytes=traffic.message_bytes,
            blob_bytes=traffic.blob_bytes,
        )
