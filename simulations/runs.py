"""One run as a value: a story, its seed and its faults, and the command that says them.

Owns which stories there are, and checking and performing a run. Does not own what they tell
(`swarm`, `scenarios`), nor runs of many seeds (`hunting`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from crdtmerge.errors import BadInputError
from simulations.stories.crowd import CROWD_MAX
from simulations.stories.scenarios import CROWDS, SCENARIOS, known, run_scenario
from simulations.stories.scenarios import NODES_MIN as NODES_OF_STORIES_MIN
from simulations.stories.swarm import NODES_MIN as NODES_OF_SWARMS_MIN
from simulations.stories.swarm import drawn_faults, run_swarm

from .cluster import Cluster
from .faults import Faults, Only, only_options
from .limits import (
    NODES_DEFAULT,
    NODES_MAX,
    ROUNDS_DEFAULT,
    ROUNDS_MAX,
    check_range,
    check_run,
)
from .memo import remembering
from .outcome import Outcome

SWARM: Final = "swarm"
ALL: Final = "all"
"""Every story, and the swarm, of each seed."""


@dataclass(frozen=True, slots=True)
class Run:
    """What decides everything that happens in one run.

    `rounds` and `faults` are the swarm's: told stories have their own. Without `faults` the
    seed draws them.
    """

    story: str
    seed: int = 0
    nodes: int = NODES_DEFAULT
    rounds: int = ROUNDS_DEFAULT
    faults: Faults | None = None
    only: Only | None = None

    @property
    def nodes_min(self) -> int:
        """The fewest nodes that its story can be told of."""
        return NODES_OF_SWARMS_MIN if self.story == SWARM else NODES_OF_STORIES_MIN

    @property
    def nodes_max(self) -> int:
        """The most nodes that its story can be told of."""
        return CROWD_MAX if self.story in CROWDS else NODES_MAX

    @property
    def command(self) -> str:
        """The words that repeat it, after `crdtmerge simulate`."""
        words = [f"{self.story} --nodes {self.nodes} --seed {self.seed}"]
        if self.story == SWARM:
            words.append(f"--rounds {self.rounds}")
        if self.faults is not None:
            words.append(self.faults.options())
        if self.only is not None:
            words.append(only_options(self.only))
        return " ".join(words)

    def check(self) -> None:
        """Refuse a run that there cannot be.

        Raises:
            UnknownNameError: there is no such story.
            BadInputError: something is out of its range, or not for this story.
        """
        if self.story != SWARM:
            known(self.story)
        check_run(self.seed, self.nodes, self.nodes_min, self.nodes_max)
        check_range("rounds", self.rounds, 1, ROUNDS_MAX)
        if self.faults is None:
            return
        self.faults.check()
        if self.story != SWARM:
            message = f"the faults of {self.story!r} are those that it tells of"
            raise BadInputError(message, hint="only the swarm takes --fault")

    def pinned(self) -> "Run":
        """Return the same run with the faults that its seed draws written out."""
        if self.story != SWARM or self.faults is not None:
            return self
        return replace(self, faults=drawn_faults(self.seed))

    def perform(self, watch: Callable[[Cluster], None] = lambda _: None) -> Outcome:
        """Perform it, from its beginning; `watch` is lent the cluster before it lives.

        Raises:
            NotConvergedError: a promise does not hold.
            BadInputError: as `check`.
        """
        self.check()
        founded: list[Cluster] = []

        def lend(cluster: Cluster) -> None:
            founded.append(cluster)
            watch(cluster)

        with remembering():
            try:
                return self._performed(lend)
            finally:
                for cluster in founded:
                    cluster.close()

    def _performed(self, watch: Callable[[Cluster], None]) -> Outcome:
        if self.story != SWARM:
            return run_scenario(
                self.story, self.seed, self.nodes, only=self.only, watch=watch
            )
        return run_swarm(
            self.seed,
            self.nodes,
            self.faults,
            self.rounds,
            only=self.only,
            watch=watch,
        )


def stories(name: str) -> tuple[str, ...]:
    """Return the stories that a name stands for: one, or all of them.

    Raises:
        UnknownNameError: there is no such story.
    """
    if name == ALL:
        return (*SCENARIOS, SWARM)
    return (name if name == SWARM else known(name),)


def told() -> Iterator[tuple[str, str]]:
    """Yield the name of each story, and what it tells in one line."""
    yield (
        SWARM,
        "All work while everything fails at once; the seed draws what, and when.",
    )
    for name, tell in SCENARIOS.items():
        yield name, (tell.__doc__ or "").splitlines()[0]
