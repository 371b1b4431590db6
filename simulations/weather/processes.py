"""Faults of processes: they end, stand still, and come back as another.

Owns which machines they strike, and when. Does not own what ending is (`world`).
"""

from simulations.cluster import Cluster

from .coming import Coming


def strike(cluster: Cluster, coming: Coming) -> None:
    """Draw this round's faults of processes."""
    for machine in cluster.running:
        if cluster.dice.strikes("crash", machine.name):
            cluster.crash(machine)
            coming.restart(machine)


def pass_over(_cluster: Cluster) -> None:
    """Let every process go on."""
