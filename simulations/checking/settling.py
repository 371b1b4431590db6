"""Waiting until a cluster is there, and until it agrees.

Owns how long nodes may take, and for how long agreement must last. Does not own what
agreeing means (`checkers`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from simulations.cluster import Cluster
from simulations.faults import CALM
from simulations.world import TICK_S, Machine

from .checkers import (
    NotConvergedError,
    check_merged,
    check_settled,
    disagreement,
    same_records,
)
from .patience import patience

PATIENCE_ROUNDS: Final = patience(CALM, nodes=2)
"""Rounds that nodes get to agree where links lose nothing, however many they are."""
STEP_S: Final = 0.25
CALM_ROUNDS: Final = 3
"""Rounds to go on for once nodes agree: agreement must last."""


def gather(cluster: Cluster, count: int) -> None:
    """Let machines join until there are `count`, and meet."""
    while len(cluster.machines) < count:
        cluster.join()
        cluster.run(cluster.rng.uniform(0, TICK_S))
    cluster.run(2 * TICK_S)


@dataclass(frozen=True, slots=True)
class Settled:
    """Rounds until all had the same records, and until all had all contents too.

    `model_digest` is that of the model which all of them merged; empty if there is none.
    """

    record_rounds: float
    rounds: float
    model_digest: bytes


def settle(
    cluster: Cluster,
    machines: Sequence[Machine] = (),
    patience_rounds: int = PATIENCE_ROUNDS,
    merging: Sequence[Machine] = (),
) -> Settled:
    """Let time pass until `machines` agree; return how long it took.

    They are all honest ones, unless given. Those who are `merging` merge then: all of
    `machines`, unless given.

    Raises:
        NotConvergedError: they do not agree in time, or lost something.
    """
    chosen = machines or cluster.honest
    begun = cluster.clock.now
    patience_s = patience_rounds * TICK_S
    records_s, agreed_s = _until_agreed(cluster, chosen, begun, patience_s)
    cluster.run(CALM_ROUNDS * TICK_S)
    while cluster.suspects and disagreement(cluster, chosen):
        # What a liar said late may come late, and what it offers later still.
        _, agreed_s = _until_agreed(cluster, chosen, begun, patience_s)
        cluster.run(CALM_ROUNDS * TICK_S)
    check_settled(cluster, chosen)
    merged = check_merged(cluster, merging or chosen)
    model_digest = merged.model_digest if merged else b""
    return Settled(records_s / TICK_S, agreed_s / TICK_S, model_digest)


def _until_agreed(
    cluster: Cluster, machines: Sequence[Machine], begun: float, patience_s: float
) -> tuple[float, float]:
    """Return the seconds since `begun` until all had the same records, and all else."""
    records = -1.0
    while problem := disagreement(cluster, machines):
        if records < 0 and same_records(cluster, machines):
            records = cluster.clock.now - begun
        if cluster.clock.now - begun > patience_s:
            rounds = patience_s / TICK_S
            raise NotConvergedError(
                f"seed {cluster.seed}: after {rounds:g} rounds, {problem}"
            )
        cluster.run(STEP_S)
    agreed = cluster.clock.now - begun
    return (agreed if records < 0 else records), agreed
