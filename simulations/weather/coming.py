"""Machines that are down, and come back after some time.

Owns when they do. Does not own why they went.
"""

import random
from collections.abc import Callable
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
    over: bool = False
    """Whether the weather is over: what would go on for some time ends."""
    _coming: set[tuple[str, int]] = field(default_factory=set)

    def restart_later(self) -> None:
        """Let every machine that is down come back some time."""
        for machine in self.cluster.machines:
            if machine.node is None:
                self.restart(machine)

    def restart(
        self,
        machine: Machine,
        after_s: tuple[float, float] = DOWN_S,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Let a machine that went down come back, once; `then` something happens."""
        life = machine.life
        if (machine.name, life) in self._coming:
            return
        self._coming.add((machine.name, life))

        def restart() -> None:
            if machine.life == life and machine.node is None:
                self.cluster.restart(machine)
                if then is not None:
                    then()

        self.cluster.clock.after(self.rng.uniform(*after_s), restart)

    def restart_now(self) -> None:
        """Let every machine run."""
        for machine in self.cluster.machines:
            if machine.node is None:
                self.cluster.restart(machine)
