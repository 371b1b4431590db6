"""`python -m benchmarks poison`: options, processes and output.

Owns the command line. Exit status: 0 if no strategy failed by a bug, else 1; a refusal is
no failure.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from benchmarks.poison.settings import CONTRAST, ROBUST
from benchmarks.poison.study import Job, run
from benchmarks.poison.table import render
from benchmarks.quality.networks import FAMILIES
from benchmarks.quality.training import FULL, Effort
from crdtmerge.numerics import CONTRACT_VERSION

SEEDS: Final = 3


def main(argv: Sequence[str], effort: Effort = FULL) -> int:
    """Run what is asked for, print it, and return the exit status."""
    options = _options(argv)
    if options.load:
        document = json.loads(options.load.read_text())
    else:
        document = _document(list(_runs(options, effort)), effort)
    text = json.dumps(document, indent=1) + "\n"
    if options.json == Path("-"):
        sys.stdout.write(text)
    else:
        if options.json:
            options.json.write_text(text)
        sys.stdout.write(render(document))
    merges = (row for told in document["runs"] for row in told["merges"])
    return 1 if any("failed" in row for row in merges) else 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks poison")
    add = parser.add_argument
    add(
        "--json",
        nargs="?",
        type=Path,
        const=Path("-"),
        metavar="OUT",
        help="the whole result: to OUT beside the tables, or alone to standard output",
    )
    add("--family", action="append", choices=tuple(FAMILIES), help="default: each")
    known = (*ROBUST, *CONTRAST)
    add("--only", action="append", default=[], choices=known, help="a strategy")
    add("--seeds", type=int, default=SEEDS, help=f"trainings, default {SEEDS}")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    add("--load", type=Path, metavar="JSON", help="print a result; measure nothing")
    return parser.parse_args(argv)


def _runs(options: argparse.Namespace, effort: Effort) -> Iterator[dict[str, Any]]:
    """Yield the runs, one a family and seed, in this order."""
    jobs = [
        Job(family, seed, tuple(options.only), effort)
        for family in options.family or FAMILIES
        for seed in range(options.seeds)
    ]
    if options.jobs == 1 or len(jobs) == 1:
        yield from (run(job, partial(_tell, job.seed)) for job in jobs)
        return
    # Spawned, as torch's threads do not survive a fork; the longest family first.
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        order = sorted(jobs, key=lambda job: job.family, reverse=True)
        given = {job: pool.submit(run, job, partial(_tell, job.seed)) for job in order}
        yield from (given[job].result() for job in jobs)


def _tell(seed: int, line: str) -> None:
    print(f"seed {seed}, {line}", file=sys.stderr, flush=True)


def _document(runs: Sequence[dict[str, Any]], effort: Effort) -> dict[str, Any]:
    return {
        "format": 1,
        "contract": CONTRACT_VERSION,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {
            name: version(name) for name in ("numpy", "torch", "scikit-learn")
        },
        "effort": asdict(effort),
        "runs": list(runs),
    }
