"""Chunks of a blob as runs: what is asked for, what is due, what is left to hand out.

Owns the arithmetic of runs, and nothing else.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Run:
    """Chunks in a row: `count` of them from `first` on."""

    first: int
    count: int

    @property
    def end(self) -> int:
        """The index behind the last one."""
        return self.first + self.count


def clipped(runs: Iterable[Run], count: int) -> list[Run]:
    """Return the parts of `runs` that a blob of `count` chunks has, in their order."""
    inside = (Run(run.first, min(run.end, count) - run.first) for run in runs)
    return [run for run in inside if run.count > 0]


def runs_of(indexes: Iterable[int]) -> list[Run]:
    """Return ascending `indexes` as runs."""
    found: list[Run] = []
    for index in indexes:
        if found and found[-1].end == index:
            found[-1] = Run(found[-1].first, found[-1].count + 1)
        else:
            found.append(Run(index, 1))
    return found


@dataclass(slots=True)
class Runs:
    """A queue of runs: taken from the front, cut at the back."""

    _runs: list[Run] = field(default_factory=list)
    left: int = 0
    """How many chunks they have together."""

    @classmethod
    def of(cls, runs: Iterable[Run]) -> "Runs":
        """Return a queue of `runs`, in their order; empty ones are left out."""
        kept = [run for run in runs if run.count > 0]
        return cls(kept, sum(run.count for run in kept))

    def __iter__(self) -> Iterator[Run]:
        return iter(tuple(self._runs))

    @property
    def next(self) -> int:
        """The first chunk; there must be one."""
        return self._runs[0].first

    def __contains__(self, index: int) -> bool:
        return any(run.first <= index < run.end for run in self._runs)

    def pop(self) -> int:
        """Take the first chunk off."""
        first = self._runs[0]
        if first.count == 1:
            del self._runs[0]
        else:
            self._runs[0] = Run(first.first + 1, first.count - 1)
        self.left -= 1
        return first.first

    def take(self, count: int, runs_max: int) -> list[Run]:
        """Take up to `count` chunks in up to `runs_max` runs off the front."""
        taken: list[Run] = []
        while self._runs and count > 0 and len(taken) < runs_max:
            run = self._runs.pop(0)
            part = min(run.count, count)
            taken.append(Run(run.first, part))
            if part < run.count:
                self._runs.insert(0, Run(run.first + part, run.count - part))
            count -= part
            self.left -= part
        return taken

    def cut(self, keep: int) -> list[Run]:
        """Keep the first `keep` chunks; return the others."""
        kept = self.take(keep, len(self._runs))
        others, self._runs = self._runs, kept
        self.left = sum(run.count for run in kept)
        return others

    def discard(self, index: int) -> None:
        """Take one chunk out, if it is there."""
        if index in self:
            kept: list[Run] = []
            for run in self._runs:
                if run.first <= index < run.end:
                    kept.append(Run(run.first, index - run.first))
                    kept.append(Run(index + 1, run.end - index - 1))
                else:
                    kept.append(run)
            self._runs = [run for run in kept if run.count]
            self.left -= 1

    def put(self, runs: Iterable[Run]) -> None:
        """Add runs that were taken, in ascending order of all; neighbours join."""
        joined: list[Run] = []
        for run in sorted([*self._runs, *runs]):
            if joined and joined[-1].end == run.first:
                joined[-1] = Run(joined[-1].first, joined[-1].count + run.count)
            else:
                joined.append(run)
        self._runs, self.left = joined, sum(run.count for run in joined)
