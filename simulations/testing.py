"""Property tests of your own strategies, policies and faults, by Hypothesis.

`runs` draws swarms: who works, under which faults, with which recipes. `check_converges`
performs one and checks all that is promised: equal roots and equal merged bytes on every
machine, nothing lost, nobody accused. Hypothesis makes a run that fails smaller, and prints
it. docs/simulating.md has an example of each. Owns these two; does not own what must hold
(`checkers`). Needs the extra `testing`.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from crdtmerge.recipe import Recipe
from crdtmerge.strategies import Strategy, make_recipe
from crdtmerge.strategies.plugins import offered
from nodes.quotas import DEFAULT, Quotas
from simulations.checking.settling import settle
from simulations.stories.swarm import NODES_MIN, PATIENCE_ROUNDS, play

from .cluster import Cluster
from .faults import FAULTS, Faults
from .limits import NODES_MAX, ROUNDS_MAX, SEED_MAX, check_range, check_run
from .memo import remembering
from .outcome import Outcome, outcome_of
from .workload import RECIPES

Check: TypeAlias = Callable[[Cluster], None]

NODES_DRAWN: Final = (2, 6)
ROUNDS_DRAWN: Final = (1, 10)
DELAY_DRAWN_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class SwarmRun:
    """One swarm; equal values are the same run, to the last line of its log.

    Its people choose among `recipes`, which may be of `strategies` that no package brings
    yet. `quarantine` is the space's policy towards who signs two records of one number, and
    `quotas` that of every node towards its peers and their authors.
    """

    seed: int
    nodes: int
    rounds: int
    faults: Faults
    strategies: tuple[Strategy, ...] = ()
    recipes: tuple[Recipe, ...] = RECIPES
    quarantine: bool = False
    quotas: Quotas = DEFAULT

    def perform(self, check: Check = lambda _: None) -> Outcome:
        """Perform it; `check` may look at the cluster once all have settled.

        Raises:
            NotConvergedError: a promise does not hold.
            BadInputError: the run is out of bounds.
        """
        check_run(self.seed, self.nodes, NODES_MIN)
        check_range("rounds", self.rounds, 1, ROUNDS_MAX)
        self.faults.check()
        with (
            offered(*self.strategies),
            remembering(),
            closing(
                Cluster(
                    self.seed,
                    self.faults,
                    quotas=self.quotas,
                    disks=self.faults.of_area("disk"),
                    quarantine=self.quarantine,
                )
            ) as cluster,
        ):
            cluster.set_recipe(cluster.owner, self.recipes[0])
            play(cluster, self.nodes, self.rounds, self.recipes)
            settled = settle(cluster, patience_rounds=PATIENCE_ROUNDS)
            check(cluster)
            return outcome_of(f"{self!r}", cluster, settled)


def check_converges(run: SwarmRun, check: Check = lambda _: None) -> Outcome:
    """Perform a run, and let what fails say how it is done again.

    `check` raises where something more does not hold that you promise.

    Raises:
        NotConvergedError: machines differ in a root or in a byte of what they merge, one
            lost what was acknowledged, or took an honest one for a liar.
    """
    try:
        return run.perform(check)
    except Exception as e:
        e.add_note(f"the same again: check_converges({run!r})")
        raise


def mixes(*kinds: str, delay: float = DELAY_DRAWN_S) -> SearchStrategy[Faults]:
    """Draw faults of the kinds that are named (else of all), up to a storm's chances.

    A name may be that of an area: network, download, process, disk, member.
    """
    known = {f.name for f in FAULTS.values()} | {f.area for f in FAULTS.values()}
    if unknown := [kind for kind in kinds if kind not in known]:
        message = (
            f"no fault is called {unknown[0]!r}; known: {', '.join(sorted(known))}"
        )
        raise ValueError(message)
    chosen = {
        name: fault.storm
        for name, fault in FAULTS.items()
        if not kinds or name in kinds or fault.area in kinds
    }
    chances = {name: st.just(0.0) | st.just(most) for name, most in chosen.items()}
    drawn = st.fixed_dictionaries(chances)
    return st.builds(
        lambda delay, chances: Faults.of(delay, **chances), st.floats(0, delay), drawn
    )


def runs(
    *,
    strategies: Sequence[Strategy] = (),
    recipes: Sequence[Recipe] = (),
    faults: SearchStrategy[Faults] | None = None,
    nodes: tuple[int, int] = NODES_DRAWN,
    rounds: tuple[int, int] = ROUNDS_DRAWN,
    quarantine: SearchStrategy[bool] | None = None,
    quotas: SearchStrategy[Quotas] | None = None,
) -> SearchStrategy[SwarmRun]:
    """Draw runs: up to so many nodes and rounds, with these strategies and recipes.

    Without `recipes` each of the `strategies` has one, on its defaults; without either
    they are those of the swarm. Without `faults` there are any of the network and of
    processes. A run takes tenths of a second, and one on disks several times as long: set
    `max_examples` to what you have time for.
    """
    with offered(*strategies):
        made = tuple(make_recipe(one.full_name, {}) for one in strategies)
    return st.builds(
        SwarmRun,
        seed=st.integers(0, SEED_MAX),
        nodes=st.integers(max(NODES_MIN, nodes[0]), min(nodes[1], NODES_MAX)),
        rounds=st.integers(max(1, rounds[0]), min(rounds[1], ROUNDS_MAX)),
        faults=mixes("network", "process") if faults is None else faults,
        strategies=st.just(tuple(strategies)),
        recipes=st.just(tuple(recipes) or made or RECIPES),
        quarantine=st.just(False) if quarantine is None else quarantine,
        quotas=st.just(DEFAULT) if quotas is None else quotas,
    )
