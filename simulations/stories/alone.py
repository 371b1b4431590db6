"""Each kind of fault alone: people work under nothing else, and then all must agree.

Owns the course of these stories, how often each kind must have struck, and how long
machines may take to agree afterwards. Does not own what a kind does: where it strikes
(`faults`). All kinds at once are `swarm`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from simulations.checking.checkers import NotConvergedError
from simulations.checking.patience import FORGIVEN_ROUNDS
from simulations.checking.settling import PATIENCE_ROUNDS, Settled, gather, settle
from simulations.cluster import Cluster
from simulations.faults import CALM, FAULTS, Faults
from simulations.weather import Weather
from simulations.workload import Workload
from simulations.world import TICK_S

ROUNDS_LEAST: Final = 10
"""Rounds of work, however soon a kind has struck often enough."""
ROUNDS_MOST: Final = 200
"""Rounds after which a kind that did not strike often enough is taken for broken."""
DELAY_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Alone:
    """How one kind is told: `chance` is drawn for what the catalogue says."""

    chance: float
    strikes: int = 5
    """How often it must strike, or the story fails."""
    patience_rounds: int = PATIENCE_ROUNDS
    """Rounds to agree once it strikes no more."""
    then: Callable[[Cluster], None] | None = None
    """Checks what is true of this kind alone, once all agree."""


KINDS: Final[Mapping[str, Alone]] = {
    "loss": Alone(0.3, strikes=100),
    "duplicate": Alone(0.3, strikes=100),
    "reorder": Alone(0.3, strikes=100),
    "tail": Alone(0.1, strikes=50),
    "corrupt": Alone(0.05, strikes=20),
    "throttle": Alone(0.3),
    "half_open": Alone(0.2),
    "refuse": Alone(0.3),
    "cut": Alone(0.2),
    "flap": Alone(0.1),
    "partition": Alone(0.3),
    "one_way": Alone(0.3),
    "bridge": Alone(0.3),
    "isolate": Alone(0.1),
    "cut_stream": Alone(0.3, strikes=10),
    "stalled_stream": Alone(0.3, strikes=10),
    "bad_chunk": Alone(
        0.3, strikes=10, patience_rounds=PATIENCE_ROUNDS + FORGIVEN_ROUNDS
    ),
    "crash": Alone(0.1),
    "crash_amid": Alone(0.1),
    "pause": Alone(0.1),
    "restart_loop": Alone(0.05),
    "upgrade": Alone(0.1),
    "clock_ahead": Alone(0.1),
    "clock_back": Alone(0.1),
    "power_loss": Alone(0.1),
    "torn_write": Alone(0.2),
    "misdirected": Alone(0.2, strikes=3),
    "bit_flip": Alone(0.2),
    "no_space": Alone(0.2),
    "io_error": Alone(0.2),
    "failed_sync": Alone(0.2),
    "backup": Alone(0.1),
    "wipe": Alone(0.1, strikes=3),
    "forge": Alone(0.3),
    "equivocate": Alone(0.2, strikes=3),
    "replay": Alone(0.3, strikes=3),
    "lie_size": Alone(0.3),
    "stall": Alone(0.3),
    "flood": Alone(0.3),
    "eclipse": Alone(0.2),
}
"""The kinds that have a story, by name."""


def story(name: str) -> Callable[[Cluster, int], Settled]:
    """Return the story of one kind.

    The cluster must keep all on disks if the kind is one of disks.
    """

    def tell(cluster: Cluster, count: int) -> Settled:
        return play(cluster, count, name)

    tell.__doc__ = f"{FAULTS[name].words} Nothing else goes wrong."
    return tell


def play(cluster: Cluster, count: int, name: str) -> Settled:
    """Let people work while one kind strikes; then it is over, and all must agree.

    Raises:
        NotConvergedError: they do not, or the kind never strikes often enough.
    """
    told = KINDS[name]
    gather(cluster, count)
    workload = Workload(cluster, cluster.random("workload"))
    weather = Weather(cluster)
    cluster.dice.faults = Faults.of(DELAY_S, **{name: told.chance})
    rounds = 0
    while rounds < ROUNDS_LEAST or cluster.dice.struck[name] < told.strikes:
        if rounds >= ROUNDS_MOST:
            struck = cluster.dice.struck[name]
            raise NotConvergedError(f"{name} struck {struck} times, not {told.strikes}")
        _round(cluster, workload, weather)
        rounds += 1
    cluster.dice.faults = CALM
    weather.pass_over()
    workload.add(cluster.owner)  # whatever was removed and banned, there is a merge
    settled = settle(cluster, patience_rounds=told.patience_rounds)
    if told.then is not None:
        told.then(cluster)
    return settled


def _round(cluster: Cluster, workload: Workload, weather: Weather) -> None:
    weather.strike()
    for _ in range(2):
        workload.act()
        cluster.run(workload.rng.uniform(0, TICK_S / 4))
    cluster.run(workload.rng.uniform(0, TICK_S))
