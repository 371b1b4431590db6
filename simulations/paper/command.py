"""`python -m simulations paper`: the paper's experiments, ours beside its figures.

    python -m simulations paper [--json] [--out DIR] [--tier 1 2 3] [--quick]

Progress goes to standard error, the report to standard output: Markdown, or with `--json`
all figures. With `--out` both are written to DIR, with the plots. `--quick` runs fewer
nodes, orderings and strategies: it shows that all works, at other sizes than the paper's.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from . import tier1, tier3
from .timing import commit, machine, processors, tell

QUICK_STRATEGIES: Final = ("linear", "ties", "dare_ties", "slerp", "pma", "passthrough")

Facts = dict[str, object]


def main(argv: Sequence[str]) -> int:
    """Run what is asked for; return the exit status, 1 if a law does not hold."""
    asked = _parser().parse_args(argv)
    tiers, processes = sorted(set(asked.tier)), asked.processes or processors()
    facts: Facts = {
        "command": " ".join(["python -m simulations paper", *argv]),
        "quick": asked.quick,
        "commit": commit(),
        "machine": machine(),
    }
    if 1 in tiers:
        only = QUICK_STRATEGIES if asked.quick else ()
        orders = 2 if asked.quick else tier1.ORDERS
        facts["tier1"] = tier1.run(only, processes, orders, tell)
    if 3 in tiers:
        size = tier3.QUICK if asked.quick else tier3.FULL
        facts["tier3"] = tier3.run(size, processes, tell)
    sys.stdout.write(json.dumps(facts, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulations paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    parser.add_argument("--out", type=Path, help="where report, plots and JSON go")
    parser.add_argument(
        "--tier", type=int, nargs="+", choices=(1, 2, 3), default=[1, 2, 3]
    )
    parser.add_argument("--quick", action="store_true", help="small, for a first look")
    parser.add_argument(
        "--processes", type=int, help="default: as many as there are processors"
    )
    return parser
