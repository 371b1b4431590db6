"""Running the rows: baselines first, then the others, some at a time.

Owns the order, and what is compared with what: small cases with the golden digests, large
ones with the reference's on the baseline. Does not own the judgement (`verdict`).
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from benchmarks.portability.job import Report
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
            for base in self._baselines(rows):
                taken = canaries if base is BASELINE else ()
                names = dict.fromkeys((REFERENCE, *backends))
                started = [pool.submit(self._do, base, name, taken) for name in names]
                for name, future in zip(names, started, strict=True):
                    report, seconds = future.result()
                    yield from self._keep(base, name, report, seconds)
            todo = [(row, name) for row in rows for name in backends]
            begun = [pool.submit(self._outcome, row, name) for row, name in todo]
            for outcome in begun:
                yield outcome.result()

    def _baselines(self, rows: Sequence[Row]) -> list[Row]:
        return [BASELINE] + [LARGE_BASELINE] * any(row.job.large for row in rows)

    def _keep(
        self, base: Row, backend: str, report: Report | str, seconds: float
    ) -> Iterator[Outcome]:
        """Keep what later rows are compared with; yield the baseline's own outcome."""
        if isinstance(report, str):
            yield Outcome(base, backend, Verdict.FAILED, reason=report, seconds=seconds)
            return
        self._found[base.job.large, backend] = report
        outcome = judge(base, backend, report, self._expected(base, backend), {})
        yield replace(outcome, seconds=seconds)

    def _outcome(self, row: Row, backend: str) -> Outcome:
        base = self._found.get((row.job.large, backend))
        platform = self.ready[row.platform]
        if isinstance(platform, str):
            return Outcome(row, backend, Verdict.SKIPPED, reason=platform)
        if base is None or base.missing:
            reason = base.missing if base else "its baseline failed"
            return Outcome(row, backend, Verdict.SKIPPED, reason=reason)
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
            golden = golden.of_arrays()
        if backend == REFERENCE:
            return golden
        return golden.served(self._found[row.job.large, backend])


def golden_digests(reference: Report, only: str) -> Expected:
    """Return the golden digests whose titles have the word `only`."""
    merged = json.loads((VECTORS / "resolves.json").read_text())
    kinds = json.loads((VECTORS / "adapters.json").read_text())
    merged |= {f"kinds: {title}": digest for title, digest in kinds.items()}
    kept = {title: digest for title, digest in merged.items() if only in title}
    return Expected(reference.kernels, kept)
