"""What a row showed: equal bytes on another platform, or less than that.

Owns the judgement. Does not own running. A row counts only if its canary moved and the
library that its switch steers was used.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from benchmarks.portability.job import ARRAY, TORCH, Report
from benchmarks.portability.rows import Row

BACKEND_LIBRARY: Final = {"cpu": "numba", TORCH: "torch", "cuda": "torch"}
"""What has been loaded where this backend, and not a fall-back, has served."""

OPTIONAL: Final = {TORCH, "cuda"}
"""Backends that a platform may lack: torch is not a dependency."""


class Verdict(StrEnum):
    """The last column. Those in capitals fail the run."""

    EQUAL = "equal"
    INERT = "INERT"
    UNUSED = "unused"
    SKIPPED = "skipped"
    DIFFERS = "DIFFERS"
    FELL_BACK = "FELL BACK"
    FAILED = "FAILED"


FAILING: Final = {Verdict.DIFFERS, Verdict.FELL_BACK, Verdict.FAILED}


@dataclass(frozen=True, slots=True)
class Tally:
    """How many digests are equal, of how many that are expected, and which are not."""

    total: int = 0
    unequal: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Mapping[str, str], expected: Mapping[str, str]) -> "Tally":
        """Compare by title; one that is missing, or that nobody expected, is unequal."""
        titles = sorted({*found, *expected})
        unequal = [t for t in titles if found.get(t) != expected.get(t)]
        return cls(len(titles), tuple(unequal))

    def __str__(self) -> str:
        return f"{self.total - len(self.unequal)}/{self.total}" if self.total else "-"


@dataclass(frozen=True, slots=True)
class Expected:
    """The golden digests of a kind of job."""

    kernels: Mapping[str, str]
    strategies: Mapping[str, str]

    def served(self, report: Report) -> "Expected":
        """Return those of the titles that a backend served on the baseline."""
        kernels = {t: d for t, d in self.kernels.items() if t in report.kernels}
        return Expected(kernels, self.strategies)

    def of_arrays(self, titles: Container[str]) -> "Expected":
        """Return those of `titles` and of functions that take nothing but arrays."""
        kernels = {
            title: digest
            for title, digest in self.kernels.items()
            if title.startswith(ARRAY) or title in titles
        }
        return Expected(kernels, {})


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the table."""

    row: Row
    backend: str
    verdict: Verdict
    kernels: Tally = field(default_factory=Tally)
    strategies: Tally = field(default_factory=Tally)
    moved: bool | None = None
    reason: str = ""
    seconds: float = 0.0
    report: Report | None = None


def judge(
    row: Row,
    backend: str,
    report: Report,
    expected: Expected,
    canaries: Mapping[str, str],
) -> Outcome:
    """Return the outcome of a row; `canaries` are those of the baseline."""
    if report.missing:
        verdict = Verdict.SKIPPED if backend in OPTIONAL else Verdict.FAILED
        return Outcome(row, backend, verdict, reason=report.missing)
    kernels = Tally.of(report.kernels, expected.kernels)
    strategies = Tally.of(report.strategies, expected.strategies)
    moved = _moved(row, report, canaries)
    library = BACKEND_LIBRARY.get(backend, "")
    if kernels.unequal or strategies.unequal:
        verdict, reason = Verdict.DIFFERS, "; ".join(_first(kernels, strategies))
    elif not kernels.total + strategies.total:
        verdict, reason = Verdict.FAILED, "nothing was computed"
    elif library and library not in report.loaded:
        verdict, reason = Verdict.FELL_BACK, f"{library} was never loaded"
    elif row.canary and moved is None:
        verdict, reason = Verdict.SKIPPED, "its canary cannot be had here"
    elif moved is False:
        verdict, reason = Verdict.INERT, "the canary did not move"
    elif row.library and row.library not in report.loaded:
        verdict, reason = Verdict.UNUSED, f"this backend does not load {row.library}"
    else:
        verdict, reason = Verdict.EQUAL, ""
    return Outcome(
        row, backend, verdict, kernels, strategies, moved, reason, report=report
    )


def _moved(row: Row, report: Report, canaries: Mapping[str, str]) -> bool | None:
    """Tell whether the canary moved; None if the row has none, or it cannot be had."""
    if not row.canary:
        return None
    seen, before = report.canaries.get(row.canary), canaries.get(row.canary)
    if not seen or not before:
        return None
    return seen != before


def _first(*tallies: Tally) -> list[str]:
    named = [title for tally in tallies for title in tally.unequal]
    return named[:3] + ["..."] * (len(named) > 3)
