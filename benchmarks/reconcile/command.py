"""`python -m benchmarks reconcile`: what it costs to find what differs between two sets.

    python -m benchmarks reconcile [--json] [--count 1000000] [--only WAY]

Real tries and sets, every message as it travels; the records themselves are not counted.
Owns the table and the goals.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from . import negentropy, rateless, tries
from .counting import Cost
from .pairs import Ids, Pair
from .sessions import mechanisms

COUNT: Final = 1_000_000
COUNTS: Final = (1_000, 10_000, 100_000, COUNT)
DIFFERENCES: Final = (0, 1, 10, 100, 1_000, 10_000, 100_000)
WAYS: Final[dict[str, Callable[[Pair], Cost]]] = {
    "clues": tries.by_clues,
    "whole": tries.whole,
    "negentropy": negentropy.reconcile,
    "rateless": rateless.reconcile,
}
GOALS: Final = {1: 2_600, 100: 153_000, 1_000: 1_100_000}
"""Bytes at 10^6, of one side that lacks so many."""
MESSAGES_GOAL: Final = 7
FEED_GOAL: Final = 200


def main(argv: Sequence[str]) -> int:
    """Measure, and print JSON or a table; the status does not say whether goals are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks reconcile")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=int, default=COUNT, help="the largest set")
    parser.add_argument("--only", choices=sorted(WAYS), help="one way alone")
    options = parser.parse_args(argv)
    ways = [options.only] if options.only else list(WAYS)
    if "rateless" in ways:
        rateless.reconcile(Ids(64).pair(8, both=True))  # compiles
    rows = list(_rows(ways, [n for n in COUNTS if n <= options.count]))
    found = {
        "rows": rows,
        "mechanisms": mechanisms(options.count),
        "goals": {"bytes": GOALS, "messages": MESSAGES_GOAL, "feed_bytes": FEED_GOAL},
    }
    print(json.dumps(found, indent=1) if options.json else _table(found))
    return 0


def _rows(ways: Sequence[str], counts: Sequence[int]) -> Iterator[dict[str, Any]]:
    for count in counts:
        ids = Ids(count)
        for differences in (d for d in DIFFERENCES if d <= count):
            for both in (False, True) if differences > 1 else (False,):
                pair = ids.pair(differences, both=both)
                for way in ways:
                    cost = WAYS[way](pair)
                    row = {"n": count, "d": differences, "way": way, "both": both}
                    print(row, file=sys.stderr)
                    yield row | cost.row(max(map(len, (pair.we_lack, pair.they_lack))))


def _table(found: dict[str, Any]) -> str:
    head = f"{'n':>8} {'d':>7} {'missing':>8} {'way':>11} {'bytes':>10} {'messages':>8}"
    lines = [
        f"{head} {'CPU s':>7} {'10/20':>8} {'10/100':>8} {'100/20':>8} {'100/100':>8}"
    ]
    for row in found["rows"]:
        times = [f"{v:8.3f}" for k, v in row.items() if k.startswith("seconds_")]
        side = "on both" if row["both"] else "on one"
        lines.append(
            f"{row['n']:8} {row['d']:7} {side:>8} {row['way']:>11} {row['bytes']:10}"
            f" {row['messages']:8} {row['cpu_s']:7.3f} {' '.join(times)}"
        )
    lines.append(
        "seconds over links of megabits a second / milliseconds of a round trip"
    )
    lines.append("")
    lines += [
        f"{row['mechanism']:>11} n={row['n']} d={row['d']}: {row['bytes']} bytes beside"
        f" heartbeats ({row['heartbeat_bytes']}) and records, {row['messages']} messages,"
        f" {row['round_trips']:g} round trips"
        for row in found["mechanisms"]
    ]
    return "\n".join(lines)
