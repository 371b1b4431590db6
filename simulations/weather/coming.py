"""Machines that are down, and come back after some time.

Owns when they do. Does not own why they went.
"""

import random
from dataclasses import dataclass, field
from typing import Final

from simulations.cluster import Cluster
from simulations.world import Machine

DOWN_S: Final = (0.1, 6.0)
"""How long a machine stays down."""


@dataclass
class Coming:
    """Who is coming back, in which life."""

    cluster: Cluster
    rng: random.Random
    _coming: set[tuple[str, int]] = field(default_factory=set)

    def restart_later(self) -> None:
        """Let every machine that is down come back some time."""
        for machine in self.cluster.machines:
            if machine.node is None:
                self.restart(machine)

    def restart(self, machine: Machine) -> None:
        """Let a machine that went down come back, once."""
        life = machine.life
        if (machine.name, life) in self._coming:
            return
        self._coming.add((machine.name, life))

        def restart() -> None:
            if machine.life == life and machine.node is None:
                self.cluster.restart(machine)

        self.cluster.clock.after(self.rng.uniform(*DOWN_S), restart)

    def restart_now(self) -> None:
        """Let every machine run."""
        for machine in self.cluster.machines:
            if machine.node is None:
                self.cluster.restart(machine)
