"""The story in which everything happens at once, drawn from one seed.

Owns its course: some people meet, then all work and more join while everything fails, then
no more is said and no more machines fail, and all must agree. Does not own what people do
(`workload`), nor what fails (`weather`, `network`). Links go on losing messages to the end.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from crdtmerge.recipe import Recipe
from crdtmerge.sync.session import FEED_WITHOUT_CURSOR_MAX
from nodes.quotas import DEFAULT
from simulations.checking.checkers import repeatable
from simulations.checking.patience import patience
from simulations.checking.settling import settle
from simulations.checking.watching import keep_watch
from simulations.cluster import Cluster
from simulations.disks.mending import DAMAGING
from simulations.faults import STORM, Faults, Only, only_options
from simulations.liars.flooding import TIGHT
from simulations.limits import ROUNDS_DEFAULT, ROUNDS_MAX, check_range, check_run
from simulations.outcome import Outcome, outcome_of
from simulations.weather import Weather
from simulations.workload import RECIPES, Workload
from simulations.world import TICK_S, World

NODES_MIN: Final = 2
PATIENCE_ROUNDS: Final = 1500
"""Rounds to agree at most, whatever goes on failing; `patience` says how many mostly."""
QUARANTINE: Final = 0.5
"""Share of the spaces that cut off who signs two records of one number, where any does."""
FORGETTING: Final = ("backup", "wipe", *DAMAGING)
"""What a disk can lose the last of its author's records by: then an honest one may sign a
number again, the owner too, whom nobody could let in again."""
FRUGAL: Final = 0.5
"""Share of the runs with a flood in which nodes have little to spare for anybody."""
OLD: Final = 0.5
"""Share of the spaces with so many records already that newcomers repair by trie."""
NODES_PER_ACTION: Final = 4
"""So many nodes together do one thing a round, and never less than two things."""


def drawn_faults(seed: int) -> Faults:
    """Return the mix that a seed draws, of a storm's kinds."""
    return STORM.drawn(World(seed).random("mix"))


def run_swarm(
    seed: int,
    nodes: int,
    faults: Faults | None = None,
    rounds: int = ROUNDS_DEFAULT,
    *,
    only: Only | None = None,
    watch: Callable[[Cluster], None] = lambda _: None,
) -> Outcome:
    """Run a swarm; the same arguments give the same outcome.

    Without `faults` the seed draws some of a storm's. `watch` is lent the cluster before
    anything happens.

    Raises:
        NotConvergedError: a promise does not hold under these arguments.
        BadInputError: one of them is out of range.
    """
    check_run(seed, nodes, NODES_MIN)
    check_range("rounds", rounds, 1, ROUNDS_MAX)
    faults = faults or drawn_faults(seed)
    faults.check()
    command = f"swarm --nodes {nodes} --seed {seed} --rounds {rounds} "
    command += faults.options()
    if only is not None:
        command += f" {only_options(only)}"
    with repeatable(command):
        cluster = found(seed, faults, only)
        watch(cluster)
        play(cluster, nodes, rounds)
        rest = patience(faults, nodes) + held_back(cluster)
        settled = settle(cluster, patience_rounds=min(rest, PATIENCE_ROUNDS))
        return outcome_of(command, cluster, settled)


def found(seed: int, faults: Faults, only: Only | None = None) -> Cluster:
    """Return the cluster of a swarm, whose rules the seed draws where a fault meets any.

    No space cuts off who signs two records of one number where honest people may do so.
    """
    rng = World(seed).random("rules")
    strict, frugal = rng.random() < QUARANTINE, rng.random() < FRUGAL
    forgetful = any(faults[name] for name in FORGETTING)
    return Cluster(
        seed,
        faults,
        only,
        disks=faults.of_area("disk"),
        quarantine=strict and faults["equivocate"] > 0 and not forgetful,
        quotas=TIGHT if frugal and faults["flood"] else DEFAULT,
    )


def held_back(cluster: Cluster) -> int:
    """Return the rounds in which the quotas of nodes let all come that was said."""
    authors = Counter(signed.record.author for signed in cluster.ledger.values())
    rate = cluster.quotas.author_rate or math.inf
    return math.ceil(max(authors.values()) / rate / TICK_S)


def play(
    cluster: Cluster, nodes: int, rounds: int, recipes: Sequence[Recipe] = RECIPES
) -> None:
    """Let a new cluster work and suffer until it has `nodes`, and may agree.

    Its people choose among `recipes`.
    """
    keep_watch(cluster)
    workload = Workload(cluster, cluster.random("workload"), recipes)
    if workload.rng.random() < OLD:
        cluster.fill(cluster.owner, FEED_WITHOUT_CURSOR_MAX)
    weather = Weather(cluster)
    while len(cluster.machines) < (nodes + 1) // 2:
        workload.join()
    for done in range(rounds):
        weather.strike()
        if len(cluster.machines) < nodes * (done + 1) / rounds:
            workload.join()
        for _ in range(max(2, nodes // NODES_PER_ACTION)):
            workload.act()
            cluster.run(workload.rng.uniform(0, TICK_S / 4))
        cluster.run(workload.rng.uniform(0, TICK_S))
    weather.pass_over()
    while len(cluster.machines) < nodes:
        workload.join()
    workload.add(cluster.owner)  # whatever was removed and banned, there is a merge
