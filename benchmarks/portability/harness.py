"""Running the rows: baselines first, then the others, some at a time.

Owns the order, and what is compared with what: small cases with the golden digests, large
ones and functions over arrays with the reference's on the baseline. Does not own the
judgement (`verdict`).
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from benchmarks.portability.job import ARRAY, Report
from benchmarks.portability.kernels import array_titles
from benchmarks.portability.platforms import ROOT, Platform, do
from benchmarks.portability.rows import BASELINE, LARGE_BASELINE, Row
from benchmarks.portability.verdict import Expected, Outcome, Verdict, judge

REFERENCE: Final = "reference"
VECTORS: Final = ROOT / "tests" / "vectors"

Ready = Mapping[str, Platform | str]
"""Each platform, or why it cannot be had."""


@dataclass
class Harness:
    """One run: its platforms, titles, processes at once, and what the baselines found."""

    ready: Ready
    cache: Path
    only: str = ""
    jobs: int = 1
    _found: dict[tuple[bool, str], Report] = field(default_factory=dict)

    def run(self, backends: Sequence[str], rows: Sequence[Row]) -> Iterator[Outcome]:
        """Yield the outcome of every row and backend, those of the baselines first."""
        canaries = tuple(sorted({row.canary for row in rows if row.canary}))
        with ThreadPoolExecutor(self.jobs) as pool:
            bases = [BASELINE] + [LARGE_BASELINE] * any(row.job.large for row in rows)
            for base in bases:
                taken = canaries if base is BASELINE else ()
                names = dict.fromkeys((REFERENCE, *backends))
                started = [pool.submit(self._do, base, name, taken) for name in names]
                for name, future in zip(names, started, strict=True):
                    report, seconds = future.result()
                    yield from self._keep(base, name, report, seconds)
            able = [name for name in backends if self._runs(name, bases)]
            todo = [(row, name) for row in rows for name in able]
            begun = [pool.submit(self.outcome, row, name) for row, name in todo]
            for outcome in begun:
                yield outcome.result()

    def _runs(self, backend: str, bases: Sequence[Row]) -> bool:
        """Tell whether a backend worked on every baseline; else no row tells more."""
        names = {
            (base.job.large, name) for base in bases for name in (REFERENCE, backend)
        }
        found = [self._found.get(name) for name in names]
        return all(report is not None and not report.missing for report in found)

    def _keep(
        self, base: Row, backend: str, report: Report | str, seconds: float
    ) -> Iterator[Outcome]:
        """Keep what later rows are compared with; yield the baseline's own outcome."""
        if isinstance(report, str):
            yield Outcome(base, backend, Verdict.FAILED, reason=report, seconds=seconds)
            return
        self._found[base.job.large, backend] = report
        if (base.job.large, REFERENCE) not in self._found:
            reason = "the reference failed, so there is nothing to compare with"
            yield Outcome(base, backend, Verdict.FAILED, reason=reason)
            return
        outcome = judge(base, backend, report, self._expected(base, backend), {})
        yield replace(outcome, seconds=seconds)

    def outcome(self, row: Row, backend: str) -> Outcome:
        """Return the outcome of one row, after the baselines."""
        platform = self.ready[row.platform]
        if isinstance(platform, str):
            return Outcome(row, backend, Verdict.SKIPPED, reason=platform)
        report, seconds = self._do(row, backend, (row.canary,) if row.canary else ())
        if isinstance(report, str):
            return Outcome(row, backend, Verdict.FAILED, reason=report, seconds=seconds)
        canaries = self._found[False, REFERENCE].canaries
        expected = self._expected(row, backend)
        return replace(judge(row, backend, report, expected, canaries), seconds=seconds)

    def _do(
        self, row: Row, backend: str, canaries: tuple[str, ...]
    ) -> tuple[Report | str, float]:
        """Return what a process found, or what ended it, and how long that took."""
        job = replace(row.job, backend=backend, only=self.only, canaries=canaries)
        platform, start = self.ready[row.platform], time.perf_counter()
        assert isinstance(platform, Platform), "a platform that is not ready is skipped"
        try:
            report: Report | str = do(platform, job, row.environment(), self.cache)
        except ChildProcessError as e:
            report = str(e)
        return report, time.perf_counter() - start

    def _expected(self, row: Row, backend: str) -> Expected:
        """Return the digests that a row must find, of the cases that a backend serves."""
        reference = self._found[row.job.large, REFERENCE]
        if row.job.large:
            golden = Expected(reference.kernels, reference.strategies)
        else:
            golden = golden_digests(reference, self.only)
        if row.job.layout == "strided":
            golden = golden.of_arrays(array_titles())
        if backend == REFERENCE:
            return golden
        return golden.served(self._found[row.job.large, backend])


def golden_digests(reference: Report, only: str) -> Expected:
    """Return the golden digests whose titles have the word `only`.

    Functions over arrays have none: for them the reference's stand, on the baseline.
    """
    kernels, merged, kinds = (
        json.loads((VECTORS / f"{name}.json").read_text())
        for name in ("kernels", "resolves", "adapters")
    )
    kernels |= {t: d for t, d in reference.kernels.items() if t.startswith(ARRAY)}
    merged |= {f"kinds: {title}": digest for title, digest in kinds.items()}
    return Expected(
        {title: digest for title, digest in kernels.items() if only in title},
        {title: digest for title, digest in merged.items() if only in title},
    )
