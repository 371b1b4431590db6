"""Tier 3 again, where everything fails: lost messages, crashes, torn disks, lies.

Owns which faults, and what is measured of them. Does not own the world, its faults, nor
what must hold afterwards (`simulations`): real nodes in virtual time, that find their
peers by themselves, each with the store of a real node on a simulated disk.
"""

import math
from typing import Final

from nodes.gossip import RUMOUR_FANOUT
from simulations.checking.merging import merge
from simulations.checking.settling import gather, settle
from simulations.cluster import Cluster
from simulations.faults import Faults
from simulations.outcome import outcome_of
from simulations.stories.scenarios import run_scenario
from simulations.town import Town
from simulations.weather import Weather
from simulations.world import TICK_S

from .spaces import distinct
from .timing import Watch

FAULTS: Final = Faults.of(
    0.2,
    loss=0.3,
    duplicate=0.1,
    reorder=0.2,
    refuse=0.1,
    cut=0.02,
    crash=0.02,
    power_loss=0.05,
)
"""30% loss, and more beside it; a lost power tears what a disk had not synced."""
ROUNDS: Final = 8
"""In which all contribute, while all of that happens."""
PATIENCE_ROUNDS: Final = 600
LIARS: Final = ("liar-attests", "equivocating-author", "stale-member")
"""Stories of members that lie: of models, of their own records, of what they have."""

Facts = dict[str, object]


def faulty(nodes: int, seed: int) -> Facts:
    """Let all nodes contribute while everything fails, then agree; return what it took.

    Links go on losing messages to the end: only crashes and cuts stop.

    Raises:
        NotConvergedError: a promise does not hold.
    """
    watch = Watch()
    cluster = Cluster(seed, FAULTS, disks=True)
    gather(cluster, nodes)
    weather = Weather(cluster)
    late = list(cluster.machines)
    cluster.random("turns").shuffle(late)
    met = cluster.network.traffic.messages, cluster.network.traffic.message_bytes
    for done in range(ROUNDS):
        weather.strike()
        cluster.run(TICK_S / 2)
        for machine in late[done::ROUNDS]:
            if machine.node is not None:
                with cluster.powered(machine):
                    cluster.contribute(machine)
        cluster.run(TICK_S / 2)
    weather.pass_over()
    settled = settle(cluster, patience_rounds=PATIENCE_ROUNDS)
    found = outcome_of("paper", cluster, settled).facts()
    told = ("nodes", "seed", "faults", "records", "visible", "messages", "bytes")
    also = ("injected", "crashes", "events")
    work = cluster.network.traffic
    return {
        **{name: found[name] for name in (*told, *also)},
        "power_losses": cluster.power_losses,
        "accused": len(cluster.accused),
        "distinct_models": _distinct(cluster),
        "model_digest": found["model_digest"],
        "rounds_to_agree": round(settled.rounds, 2),
        "optimum_rounds": round(optimum(nodes), 2),
        "messages_per_node": round((work.messages - met[0]) / nodes),
        "bytes_per_node": round((work.message_bytes - met[1]) / nodes),
        "seconds": round(watch.lap(), 1),
    }


def _distinct(cluster: Cluster) -> int:
    """Merge on every machine, from its own disk alone; count what differs in a byte."""
    base = cluster.base.manifest
    found = [merge(m.spaces, cluster.space, base) for m in cluster.machines]
    return distinct([model for model in found if model is not None])


def lied_to(name: str, nodes: int, seed: int) -> Facts:
    """Run one story of liars; it raises unless its honest nodes agree."""
    watch = Watch()
    found = run_scenario(name, seed, nodes).facts()
    told = ("rounds", "messages", "model_digest")
    return {
        "story": name,
        "nodes": nodes,
        "seed": seed,
        **{key: found[key] for key in told},
        "seconds": round(watch.lap(), 1),
    }


def news(nodes: int, seed: int) -> Facts:
    """Let one record spread among many nodes that have met, on links that lose 30%.

    Records alone: nobody resolves here, and nobody has a disk.
    """
    watch = Watch()
    loss = FAULTS["loss"]
    town = Town(nodes, loss, RUMOUR_FANOUT, seed)
    met_s = watch.lap()
    found = town.spread()
    return {
        "nodes": nodes,
        "loss": loss,
        "rounds_half": round(found.half, 2),
        "rounds_99_of_100": round(found.most, 2),
        "rounds_all": round(found.all, 2),
        "optimum_rounds": round(optimum(nodes), 2),
        "messages_per_node": round(found.messages / nodes, 1),
        "bytes_per_node": round(found.bytes / nodes),
        "met_s": round(met_s, 1),
        "seconds": round(watch.lap(), 1),
    }


def optimum(nodes: int) -> float:
    """Return the rounds that push-pull to random peers takes: log2 n + ln n."""
    return math.log2(nodes) + math.log(nodes)
