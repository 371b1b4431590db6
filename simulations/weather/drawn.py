"""The course of the weather: what strikes each round, and what is mended at the end.

Owns the order in which kinds are drawn. Does not own what they do to their subjects.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from simulations.cluster import Cluster
from simulations.disks.mending import mend

from . import disks, links, members, processes
from .coming import Coming

Strike = Callable[[Cluster, Coming], None]

STRIKES: Final[tuple[Strike, ...]] = (
    links.strike,
    processes.strike,
    disks.strike,
    members.strike,
)


@dataclass
class Weather:
    """What befalls a cluster, from its dice."""

    cluster: Cluster
    coming: Coming = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nobody coming back."""
        self.coming = Coming(self.cluster, self.cluster.random("coming back"))

    def strike(self) -> None:
        """Let this round's faults happen."""
        for strike in STRIKES:
            strike(self.cluster, self.coming)
        self.coming.restart_later()

    def pass_over(self) -> None:
        """Let the sun shine: all is in one piece, all machines run.

        Links go on losing messages, and streams end early; but no byte is changed any more,
        for nodes leave alone who sent others, for longer than anybody wants to wait.
        """
        dice = self.cluster.dice
        dice.faults = dice.faults.but(bad_chunk=0.0)
        self.coming.over = True
        links.pass_over(self.cluster)
        disks.pass_over(self.cluster)
        processes.pass_over(self.cluster)
        self.coming.restart_now()
        if self.cluster.disks:
            mend(self.cluster)
        members.pass_over(self.cluster)
