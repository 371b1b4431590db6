"""A hunt: one story or all, from many seeds, and the least of the first failure.

Owns its course. Does not own performing runs (`workers`), counting (`tally`), leaving out
(`shrinking`), nor what is printed (`simulations.words`).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count, islice

from simulations.limits import SEED_MAX, SHRINKING_DEFAULT
from simulations.outcome import Outcome
from simulations.runs import Run

from .attempts import Failure, Result, attempt
from .shrinking import Search
from .tally import Tally
from .workers import Attempts, workers

Told = Callable[[str, int, int], None]
"""Called with the work, how many runs of it are done, and of how many; 0 if unknown."""


@dataclass(frozen=True, slots=True)
class Hunt:
    """What to run: `first` of each story, then those of the seeds after it.

    `seeds` is how many; None is without end. `until_failure` ends with the first that
    fails. `shrinking` is how many runs may be spent on less that fails as the first does.
    """

    first: tuple[Run, ...]
    seeds: int | None = 1
    until_failure: bool = False
    jobs: int = 1
    shrinking: int = SHRINKING_DEFAULT

    def runs(self) -> Iterator[Run]:
        """Yield the runs, seed by seed."""
        begun = self.first[0].seed
        for seed in islice(count(begun), self.seeds):
            if seed > SEED_MAX:
                return
            for run in self.first:
                yield replace(run, seed=seed)

    def check(self) -> None:
        """Refuse what cannot be run.

        Raises:
            UnknownNameError: there is no such story.
            BadInputError: something is out of its range.
        """
        for run in self.first:
            run.check()


@dataclass(slots=True)
class Findings:
    """What a hunt found so far: whole unless it was `interrupted`."""

    tally: Tally = field(default_factory=Tally)
    last: Outcome | None = None
    """That of the last run, if it held."""
    wall_s: float = 0.0
    """Time that the runs took, without those of leaving out, in seconds."""
    interrupted: bool = False
    search: Search | None = None
    """For less that fails as the first failure does."""
    repeats: bool = False
    """Whether the least failure came again, with the same log."""


def hunt(
    plan: Hunt,
    told: Told = lambda *_: None,
    clock: Callable[[], float] = lambda: 0.0,
) -> Findings:
    """Perform all runs of a plan; Ctrl-C ends it with what was found.

    The `clock` says how long the runs took, which changes nothing else.

    Raises:
        UnknownNameError: there is no such story.
        BadInputError: something is out of its range.
    """
    plan.check()
    findings = Findings()
    try:
        with workers(plan.jobs) as attempts:
            _run_all(plan, findings, attempts, told, clock)
            if findings.tally.failures and plan.shrinking:
                _find_least(plan, findings, attempts, told)
    except KeyboardInterrupt:
        findings.interrupted = True
    return findings


def _run_all(
    plan: Hunt,
    findings: Findings,
    attempts: Attempts,
    told: Told,
    clock: Callable[[], float],
) -> None:
    total = (plan.seeds or 0) * len(plan.first)
    begun = clock()
    for result in attempts(plan.runs()):
        findings.tally.add(result)
        findings.last = None if isinstance(result, Failure) else result
        findings.wall_s = clock() - begun
        told("simulating", findings.tally.runs, total)
        if plan.until_failure and isinstance(result, Failure):
            return


def _find_least(plan: Hunt, findings: Findings, attempts: Attempts, told: Told) -> None:
    def counted(runs: Iterable[Run]) -> Iterator[Result]:
        for result in attempts(runs):
            told("leaving out", search.done, plan.shrinking)
            yield result

    search = Search(counted, findings.tally.failures[0], plan.shrinking)
    findings.search = search
    search.go()
    again = attempt(search.least.run)
    findings.repeats = again.log_digest == search.least.log_digest
