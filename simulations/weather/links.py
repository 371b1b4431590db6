"""Faults of links and of whole networks.

Owns which links and machines they strike, and for how long. Does not own what a link does
then (`simulations.network`).
"""

from typing import Final

from simulations.cluster import Cluster

from .coming import Coming

APART_S: Final = (1.0, 8.0)
"""How long a partition lasts."""


def strike(cluster: Cluster, _coming: Coming) -> None:
    """Draw this round's faults of links."""
    dice, network = cluster.dice, cluster.network
    for one, other in sorted(network.links):
        if dice.strikes("cut", one, other):
            network.cut(one, other)
    whole = not network.islands and len(cluster.machines) > 1
    if whole and dice.strikes("partition"):
        rng = dice.of("partition")
        size = rng.randrange(1, len(cluster.machines))
        island = rng.sample(cluster.machines, size)
        network.partition([machine.transport for machine in island])
        cluster.clock.after(rng.uniform(*APART_S), network.heal)


def pass_over(cluster: Cluster) -> None:
    """Let every machine reach every other."""
    cluster.network.heal()
