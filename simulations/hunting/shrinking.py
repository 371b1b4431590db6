"""The least run that still fails in the same way.

Owns what is left out, and in which order: rounds, nodes, kinds of faults, then single
strikes. Does not own performing runs (`workers`), nor which failures are the same
(`attempts`).
What comes out depends on the failure and the budget alone.

Source: Zeller and Hildebrandt, Simplifying and isolating failure-inducing input, IEEE TSE
2002 (ddmin), over the strikes that happened.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from typing import TypeAlias

from simulations.faults import FAULTS, Faults, Only
from simulations.limits import SHRINKING_DEFAULT
from simulations.runs import SWARM, Run

from .attempts import Failure
from .workers import Attempts

Hit: TypeAlias = tuple[str, int]
"""One strike: its kind, and which hit of the kind it was."""


@dataclass(slots=True)
class Search:
    """The `least` failure so far, found in `done` runs of a budget."""

    attempts: Attempts
    least: Failure
    budget: int = SHRINKING_DEFAULT
    done: int = 0
    tried: set[str] = field(default_factory=set)

    def go(self) -> None:
        """Leave out what the failure does not need, as far as the budget reaches."""
        self.least = replace(self.least, run=self.least.run.pinned())
        _shrink_size(self)
        _leave_out_kinds(self)
        _leave_out_strikes(self)
        _shrink_size(self)
        _leave_out_strikes(self)
        _forget_chances(self)

    @property
    def whole(self) -> bool:
        """Tell whether no run was lacking to leave out more."""
        return self.done < self.budget

    def first(self, runs: Iterable[Run]) -> bool:
        """Take the first of `runs` that fails in the same way; tell whether one does."""
        affordable = islice(self._untried(runs), self.budget - self.done)
        for result in self.attempts(affordable):
            self.done += 1
            self.tried.add(result.command)
            if isinstance(result, Failure) and result.sign == self.least.sign:
                self.least = result
                return True
        return False

    def _untried(self, runs: Iterable[Run]) -> Iterator[Run]:
        seen = set[str]()
        for run in runs:
            if run.command not in self.tried and run.command not in seen:
                seen.add(run.command)
                yield run


def _shrink_size(search: Search) -> None:
    """Try fewer rounds, and fewer nodes, for as long as either does."""
    while search.first(_smaller(search.least.run)):
        pass


def _smaller(run: Run) -> Iterator[Run]:
    """Yield runs of fewer rounds or nodes, those of the fewest first."""
    if run.story == SWARM:
        yield from (replace(run, rounds=n) for n in _fewer(run.rounds, 1))
    yield from (replace(run, nodes=n) for n in _fewer(run.nodes, run.nodes_min))


def _fewer(count: int, least: int) -> list[int]:
    """Return a few numbers below `count`."""
    steps = {least, (least + count) // 2, count * 3 // 4, count - 1}
    return sorted(n for n in steps if least <= n < count)


def _leave_out_kinds(search: Search) -> None:
    """Try without any strike; then without each kind, those that struck most first."""
    if search.first([replace(search.least.run, only={})]):
        return
    struck = dict(search.least.injected or {})
    for kind in sorted(struck, key=lambda name: (-struck[name], name)):
        left = [hit for hit in _hits(search.least) if hit[0] != kind]
        search.first([_only(search.least.run, left)])


def _leave_out_strikes(search: Search) -> None:
    """Leave out halves, quarters and so on, down to single strikes."""
    parts = 2
    while (hits := _hits(search.least)) and search.done < search.budget:
        parts = min(parts, len(hits))
        if search.first(_only(search.least.run, part) for part in _parts(hits, parts)):
            parts = 2
        elif search.first(
            _only(search.least.run, rest) for rest in _rests(hits, parts)
        ):
            parts = max(parts - 1, 2)
        elif parts == len(hits):
            return
        else:
            parts *= 2


def _parts(hits: Sequence[Hit], count: int) -> list[Sequence[Hit]]:
    """Cut strikes into parts about as large as each other, in the order of time."""
    cuts = [len(hits) * n // count for n in range(count + 1)]
    return [hits[begin:end] for begin, end in pairwise(cuts)]


def _rests(hits: Sequence[Hit], count: int) -> Iterator[list[Hit]]:
    """Yield all strikes but one part, the last part first: failing takes no more."""
    parts = _parts(hits, count)
    for left_out in reversed(range(count)):
        yield [h for n, part in enumerate(parts) if n != left_out for h in part]


def _forget_chances(search: Search) -> None:
    """Say no chance of a kind that does not strike: the command gets short."""
    run = search.least.run
    if run.faults is None:
        return
    kinds = {name for name, _ in _hits(search.least)}
    kept = {name: chance for name, chance in run.faults.chances if name in kinds}
    search.first([replace(run, faults=Faults.of(run.faults.delay, **kept))])


def _hits(failure: Failure) -> list[Hit]:
    return [(strike.name, strike.hit) for strike in failure.strikes]


def _only(run: Run, hits: Iterable[Hit]) -> Run:
    """Return the run in which no other strikes are left than these."""
    found: defaultdict[str, set[int]] = defaultdict(set)
    for name, hit in hits:
        found[name].add(hit)
    only: Only = {name: frozenset(found[name]) for name in FAULTS if name in found}
    return replace(run, only=only)
