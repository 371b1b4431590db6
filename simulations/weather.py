"""Faults of links and machines, drawn round by round: cuts, crashes, partitions.

Owns when they happen and when they pass. Does not own faults of single messages, dials and
fetches (`network`).
"""

import random
from dataclasses import dataclass, field
from typing import Final

from .cluster import Cluster
from .world import Machine

DOWN_S: Final = (0.1, 6.0)
"""How long a crashed machine stays down."""
CUT_WITHIN: Final = 150
"""Operations of a disk, about as many as a contribution and some news take."""
APART_S: Final = (1.0, 8.0)
"""How long a partition lasts."""


@dataclass
class Weather:
    """What befalls a cluster, from one generator."""

    cluster: Cluster
    rng: random.Random
    _coming: set[tuple[str, int]] = field(default_factory=set)
    """Who is coming back, in which life."""

    def strike(self) -> None:
        """Let this round's faults happen."""
        cluster, faults = self.cluster, self.cluster.faults
        for one, other in sorted(cluster.network.links):
            if self._happens(faults.cut):
                cluster.network.cut(one, other)
        for machine in cluster.running:
            if self._happens(faults.crash):
                self._crash(machine)
        for machine in cluster.running:
            if self._happens(faults.power):
                self._lose_power(machine)
        for machine in cluster.machines:
            if machine.node is None:
                self._restart_later(machine)
        whole = not cluster.network.islands
        if whole and len(cluster.machines) > 1 and self._happens(faults.partition):
            size = self.rng.randrange(1, len(cluster.machines))
            island = self.rng.sample(cluster.machines, size)
            cluster.network.partition([machine.transport for machine in island])
            cluster.clock.after(self.rng.uniform(*APART_S), cluster.network.heal)

    def pass_over(self) -> None:
        """Let the sun shine: all is in one piece, all machines run."""
        self.cluster.network.heal()
        for machine in self.cluster.machines:
            machine.storage.cut_power(None)
            if machine.node is None:
                self.cluster.restart(machine)

    def _crash(self, machine: Machine) -> None:
        self.cluster.crash(machine)
        self._restart_later(machine)

    def _restart_later(self, machine: Machine) -> None:
        cluster, life = self.cluster, machine.life
        if (machine.name, life) in self._coming:
            return
        self._coming.add((machine.name, life))

        def restart() -> None:
            if machine.life == life and machine.node is None:
                cluster.restart(machine)

        cluster.clock.after(self.rng.uniform(*DOWN_S), restart)

    def _lose_power(self, machine: Machine) -> None:
        """Let the power go amid the next things that a machine writes.

        The owner's goes at once: it is what lets others in, wholly or not.
        """
        if machine is not self.cluster.owner:
            machine.storage.cut_power(self.rng.randrange(CUT_WITHIN))
            return
        self.cluster.lose_power(machine)

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self.rng.random() < chance
