"""`python -m benchmarks quality`: options, processes and output.

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

from benchmarks.quality.networks import FAMILIES
from benchmarks.quality.study import Job, run
from benchmarks.quality.summary import summarize
from benchmarks.quality.table import render
from benchmarks.quality.tasks import HALVES, TASKS
from benchmarks.quality.training import FULL, Effort
from crdtmerge.errors import CrdtMergeError
from crdtmerge.numerics import CONTRACT_VERSION
from crdtmerge.strategies import find

SEEDS: Final = 3


def main(argv: Sequence[str], effort: Effort = FULL) -> int:
    """Run what is asked for, print it, and return the exit status."""
    options = _options(argv)
    if options.load:
        document = json.loads(options.load.read_text())
    else:
        try:
            document = _document(list(_runs(options, effort)), effort)
        except CrdtMergeError as e:
            print(f"{e}; {e.hint}" if e.hint else str(e), file=sys.stderr)
            return e.exit_code
    if options.json:
        text = json.dumps(document, indent=1) + "\n"
        if options.json == Path("-"):
            sys.stdout.write(text)
        else:
            options.json.write_text(text)
    if options.json != Path("-"):
        sys.stdout.write(render(document, markdown=options.markdown))
    return 1 if _failures(document) else 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks quality")
    add = parser.add_argument
    add(
        "--json",
        nargs="?",
        type=Path,
        const=Path("-"),
        metavar="OUT",
        help="the whole result: to OUT beside the table, or alone to standard output",
    )
    add("--markdown", action="store_true", help="the tables as the documents have them")
    add("--family", action="append", choices=tuple(FAMILIES), help="default: each")
    add("--only", action="append", default=[], metavar="NAME", help="a strategy")
    add("--seeds", type=int, default=SEEDS, help=f"trainings, default {SEEDS}")
    add("--no-poison", action="store_true", help="leave poison out")
    add("--no-tuning", action="store_true", help="defaults alone")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    add("--load", type=Path, metavar="JSON", help="print a result; measure nothing")
    return parser.parse_args(argv)


def _runs(options: argparse.Namespace, effort: Effort) -> Iterator[dict[str, Any]]:
    """Yield the runs, one a family and seed, in this order."""
    # The poison's rows stand under plain names, the library's under versioned ones.
    only = tuple(n for name in options.only for n in (name, find(name).name))
    jobs = [
        Job(family, seed, only, not options.no_poison, not options.no_tuning, effort)
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
        "tasks": TASKS,
        "halves": HALVES,
        "summary": summarize(runs),
        "runs": list(runs),
    }


def _failures(document: dict[str, Any]) -> list[str]:
    """Return the strategies that a bug stopped."""
    found = []
    for told in document["runs"]:
        for name, row in told["strategies"].items():
            if any("failed" in one for one in (row, *row.get("grid", ()))):
                found.append(name)
        found += [row["strategy"] for row in told["poison"] if "failed" in row]
    return found
