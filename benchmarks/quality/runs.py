"""Runs of a study in processes, one a family and seed, and the document that tells of them.

Owns the order of the runs, how the document begins, and where it is written. Does not own
what a run is, nor the tables (`study` and `table`, here and in `benchmarks.poison`).
"""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

from benchmarks.quality.training import Effort
from crdtmerge.numerics import CONTRACT_VERSION


class Job(Protocol):
    """What one process does."""

    @property
    def family(self) -> str:
        """The name of its family of networks."""
        ...

    @property
    def seed(self) -> int:
        """What its trainings are seeded with."""
        ...


J = TypeVar("J", bound=Job)


def runs(
    jobs: Sequence[J],
    run: Callable[[J, Callable[[str], None]], dict[str, Any]],
    processes: int,
) -> Iterator[dict[str, Any]]:
    """Yield what `run` returns of each job, in their order."""
    if processes == 1 or len(jobs) == 1:
        yield from (run(job, partial(_tell, job.seed)) for job in jobs)
        return
    # Spawned, as torch's threads do not survive a fork; the longest family first.
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        order = sorted(jobs, key=lambda job: job.family, reverse=True)
        given = {job: pool.submit(run, job, partial(_tell, job.seed)) for job in order}
        yield from (given[job].result() for job in jobs)


def _tell(seed: int, line: str) -> None:
    print(f"seed {seed}, {line}", file=sys.stderr, flush=True)


def head(effort: Effort) -> dict[str, Any]:
    """Return how a document begins: what its figures were measured with."""
    return {
        "format": 1,
        "contract": CONTRACT_VERSION,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {
            name: version(name) for name in ("numpy", "torch", "scikit-learn")
        },
        "effort": asdict(effort),
    }


def add_json(parser: argparse.ArgumentParser) -> None:
    """Give a command line the options by which a document is written and read."""
    parser.add_argument(
        "--json",
        nargs="?",
        type=Path,
        const=Path("-"),
        metavar="OUT",
        help="the whole result: to OUT beside the tables, or alone to standard output",
    )
    parser.add_argument(
        "--load", type=Path, metavar="JSON", help="print a result; measure nothing"
    )


def write(
    document: dict[str, Any], out: Path | None, tables: Callable[[], str]
) -> None:
    """Write a document to `out` beside the tables, or alone to standard output."""
    text = json.dumps(document, indent=1) + "\n"
    if out == Path("-"):
        sys.stdout.write(text)
        return
    if out is not None:
        out.write_text(text)
    sys.stdout.write(tables())
