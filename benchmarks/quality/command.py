"""`python -m benchmarks quality`: options, processes and output.

Owns the command line. Exit status: 0 if no strategy failed by a bug, else 1; a refusal is
no failure.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

from benchmarks.quality.networks import STUDIED
from benchmarks.quality.runs import add_json, head, runs, write
from benchmarks.quality.study import Job, run
from benchmarks.quality.summary import summarize
from benchmarks.quality.table import render
from benchmarks.quality.tasks import HALVES, TASKS
from benchmarks.quality.training import FULL, Effort
from crdtmerge.errors import CrdtMergeError
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
    write(document, options.json, lambda: render(document, markdown=options.markdown))
    return 1 if _failures(document) else 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks quality")
    add = parser.add_argument
    add_json(parser)
    add("--markdown", action="store_true", help="the tables as the documents have them")
    add("--family", action="append", choices=tuple(STUDIED), help="default: each")
    add("--only", action="append", default=[], metavar="NAME", help="a strategy")
    add("--seeds", type=int, default=SEEDS, help=f"trainings, default {SEEDS}")
    add("--no-poison", action="store_true", help="leave poison out")
    add("--no-tuning", action="store_true", help="defaults alone")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    return parser.parse_args(argv)


def _runs(options: argparse.Namespace, effort: Effort) -> Iterator[dict[str, Any]]:
    """Return the runs, one a family and seed, in this order."""
    # The poison's rows stand under plain names, the library's under versioned ones.
    only = tuple(n for name in options.only for n in (name, find(name).name))
    jobs = [
        Job(family, seed, only, not options.no_poison, not options.no_tuning, effort)
        for family in options.family or STUDIED
        for seed in range(options.seeds)
    ]
    return runs(jobs, run, options.jobs)


def _document(told: Sequence[dict[str, Any]], effort: Effort) -> dict[str, Any]:
    return {
        **head(effort),
        "tasks": TASKS,
        "halves": HALVES,
        "summary": summarize(told),
        "runs": list(told),
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
