"""Faults of disks.

Owns which machines they strike, and at which of their next operations. Does not own what is
left of a disk then (`simulations.power_loss`).
"""

from typing import Final

from simulations.cluster import Cluster
from simulations.world import Machine

from .coming import Coming

CUT_WITHIN: Final = 150
"""Operations of a disk, about as many as a contribution and some news take."""


def strike(cluster: Cluster, _coming: Coming) -> None:
    """Draw this round's faults of disks."""
    for machine in cluster.running:
        if cluster.dice.strikes("power_loss", machine.name):
            _lose_power(cluster, machine)


def pass_over(cluster: Cluster) -> None:
    """Let every disk work."""
    for machine in cluster.machines:
        machine.storage.cut_power(None)


def _lose_power(cluster: Cluster, machine: Machine) -> None:
    """Let the power go amid the next things that a machine writes.

    The owner's goes at once: it is what lets others in, wholly or not.
    """
    if machine is not cluster.owner:
        within = cluster.dice.of("power_loss").randrange(CUT_WITHIN)
        machine.storage.cut_power(within)
        return
    cluster.lose_power(machine)
