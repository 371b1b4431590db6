"""Faults of links and machines, drawn round by round: cuts, crashes, partitions.

Owns when they happen and when they pass. Does not own faults of single messages, dials and
fetches (`network`).
"""

import random
from dataclasses import dataclass
from typing import Final

from .cluster import Cluster
from .world import Machine

DOWN_S: Final = (0.1, 6.0)
"""How long a crashed machine stays down."""
APART_S: Final = (1.0, 8.0)
"""How long a partition lasts."""


@dataclass
class Weather:
    """What befalls a cluster, from one generator."""

    cluster: Cluster
    rng: random.Random

    def strike(self) -> None:
        """Let this round's faults happen."""
        cluster, faults = self.cluster, self.cluster.faults
        for one, other in sorted(cluster.network.links):
            if self._happens(faults.cut):
                cluster.network.cut(one, other)
        for machine in cluster.running:
            if self._happens(faults.crash):
                self._crash(machine)
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
            if machine.node is None:
                self.cluster.restart(machine)

    def _crash(self, machine: Machine) -> None:
        cluster = self.cluster
        cluster.crash(machine)
        life = machine.life

        def restart() -> None:
            if machine.life == life and machine.node is None:
                cluster.restart(machine)

        cluster.clock.after(self.rng.uniform(*DOWN_S), restart)

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self.rng.random() < chance
