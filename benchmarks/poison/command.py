"""`python -m benchmarks poison`: options, processes and output.

Owns the command line. Exit status: 0 if no strategy failed by a bug, else 1; a refusal is
no failure.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

from benchmarks.poison.settings import CONTRAST, ROBUST
from benchmarks.poison.study import Job, run
from benchmarks.poison.table import render
from benchmarks.quality.networks import FAMILIES
from benchmarks.quality.runs import add_json, head, runs, write
from benchmarks.quality.training import FULL, Effort

SEEDS: Final = 3


def main(argv: Sequence[str], effort: Effort = FULL) -> int:
    """Run what is asked for, print it, and return the exit status."""
    options = _options(argv)
    if options.load:
        document = json.loads(options.load.read_text())
    else:
        document = {**head(effort), "runs": list(_runs(options, effort))}
    write(document, options.json, lambda: render(document))
    merges = (row for told in document["runs"] for row in told["merges"])
    return 1 if any("failed" in row for row in merges) else 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks poison")
    add = parser.add_argument
    add_json(parser)
    add("--family", action="append", choices=tuple(FAMILIES), help="default: each")
    known = (*ROBUST, *CONTRAST)
    add("--only", action="append", default=[], choices=known, help="a strategy")
    add("--seeds", type=int, default=SEEDS, help=f"trainings, default {SEEDS}")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    return parser.parse_args(argv)


def _runs(options: argparse.Namespace, effort: Effort) -> Iterator[dict[str, Any]]:
    """Return the runs, one a family and seed, in this order."""
    jobs = [
        Job(family, seed, tuple(options.only), effort)
        for family in options.family or FAMILIES
        for seed in range(options.seeds)
    ]
    return runs(jobs, run, options.jobs)
