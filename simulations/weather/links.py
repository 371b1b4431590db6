"""Faults of links and of whole networks.

Owns which links and machines they strike, and for how long. Does not own what a link does
then (`simulations.links.network`).
"""

import random
from functools import partial
from typing import Final

from simulations.cluster import Cluster
from simulations.links.walls import Wall, around

from .coming import Coming

APART_S: Final = (0.5, 6.0)
"""How long a wall stands."""
SLOW_S: Final = (2.0, 15.0)
"""How long a link carries little."""
SLOW_BYTES_PER_S: Final = (100.0, 2000.0)
FLAPS: Final = (3, 8)
"""How often a link that flaps is lost."""
FLAP_DOWN_S: Final = (0.1, 1.5)
FLAP_UP_S: Final = (0.3, 2.0)
BRIDGED_LEAST: Final = 3
"""Machines without which there are no two islands and a bridge."""


def strike(cluster: Cluster, coming: Coming) -> None:
    """Draw this round's faults of links."""
    _strike_links(cluster, coming)
    _strike_networks(cluster)
    for machine in cluster.running:
        if cluster.dice.arms("isolate", machine.name) and len(cluster.machines) > 1:
            rng = cluster.dice.how("isolate")
            _stand(cluster, "isolate", around([machine.transport]), rng)


def pass_over(cluster: Cluster) -> None:
    """Let every machine reach every other, and every link carry what it can.

    A link that carries nothing one way is left: its ends find out.
    """
    cluster.network.heal()
    for link in cluster.network.links.values():
        link.slow_until = 0.0


def _strike_links(cluster: Cluster, coming: Coming) -> None:
    """Let links be cut, slow, silent one way, or lost again and again."""
    dice, network = cluster.dice, cluster.network
    for one, other in sorted(network.links):
        if dice.arms("cut", one, other):
            dice.struck["cut"] += network.cut(one, other)
        if dice.arms("throttle", one, other):
            rng = dice.how("throttle")
            rate, seconds = rng.uniform(*SLOW_BYTES_PER_S), rng.uniform(*SLOW_S)
            dice.struck["throttle"] += network.slow(one, other, rate, seconds)
        if dice.arms("half_open", one, other):
            ends = dice.how("half_open").sample((one, other), 2)
            dice.struck["half_open"] += network.silence(*ends)
        if dice.arms("flap", one, other) and network.reaches(one, other):
            dice.struck["flap"] += 1
            wall, rng = Wall(frozenset({one}), frozenset({other})), dice.how("flap")
            _flap(coming, rng, wall, rng.randint(*FLAPS))


def _strike_networks(cluster: Cluster) -> None:
    """Let the network fall apart, in one of three ways."""
    dice = cluster.dice
    for name in ("partition", "one_way", "bridge"):
        least = BRIDGED_LEAST if name == "bridge" else 2
        if dice.arms(name) and len(cluster.machines) >= least:
            rng = dice.how(name)
            _stand(cluster, name, _drawn(cluster, name, rng), rng)


def _drawn(cluster: Cluster, name: str, rng: random.Random) -> Wall:
    """Draw who is on which side of a wall."""
    nodes = [machine.transport for machine in cluster.machines]
    if name == "bridge":
        _, *nodes = rng.sample(nodes, len(nodes))  # the first talks to all
        size = rng.randrange(1, len(nodes))
        return Wall(frozenset(nodes[:size]), frozenset(nodes[size:]))
    island = frozenset(rng.sample(nodes, rng.randrange(1, len(nodes))))
    return Wall(island, both_ways=name == "partition")


def _stand(cluster: Cluster, name: str, wall: Wall, rng: random.Random) -> None:
    """Let a wall stand for some time."""
    cluster.dice.struck[name] += 1
    cluster.network.put_up(wall)
    gone = partial(cluster.network.take_down, wall)
    cluster.clock.after(rng.uniform(*APART_S), gone)


def _flap(coming: Coming, rng: random.Random, wall: Wall, left: int) -> None:
    """Let two machines lose each other, find each other, and so on."""
    if coming.over:
        return
    network, clock = coming.cluster.network, coming.cluster.clock
    network.put_up(wall)

    def up() -> None:
        network.take_down(wall)
        if left > 1:
            again = partial(_flap, coming, rng, wall, left - 1)
            clock.after(rng.uniform(*FLAP_UP_S), again)

    clock.after(rng.uniform(*FLAP_DOWN_S), up)
