"""Looking at a cluster while it runs: what must hold at any time, and not only at the end.

Owns how often. Does not own what is looked at (`bounds`, `bans`).
"""

from typing import Final

from simulations.cluster import Cluster

from .bans import Bans
from .bounds import check_bounds

LOOK_S: Final = 2.0
"""Time between two looks, in seconds of the world."""


def keep_watch(cluster: Cluster) -> None:
    """Look at `cluster` from now on; whoever lets its time pass is told what is broken."""
    bans = Bans(cluster)

    def look() -> None:
        check_bounds(cluster)
        bans.look()
        cluster.clock.after(LOOK_S, look)

    cluster.clock.after(LOOK_S, look)
