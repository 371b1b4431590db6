"""`python -m simulations model`: what 10,000 to 1,000,000 peers would do.

    python -m simulations model [--json] [--peers 10000 100000 1000000] [--loss 0 0.3]
                                [--records 5] [--check 100 1000] [--check-records 30]
                                [--calibrate 300] [--seed 1] [--about TEXT]

Calibrates on real node cores, checks the model against real cores where both can run, and
prints what it says, as Markdown (`docs/model.md` is this) or as JSON. Owns the command and
the timer that it hands down. Does not own any figure.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from itertools import product
from typing import Final

from .calibration import calibrate
from .check import check
from .graph import PEERS_MIN
from .members import measure
from .prediction import predict
from .report import Report

PEERS_MAX: Final = 2_000_000
"""Of a peer about a kilobyte is held: more is a matter of memory."""
CHECK_MAX: Final = 2000
CALIBRATION_RECORDS: Final = 20


def main(argv: Sequence[str]) -> int:
    """Calibrate, check, predict and print; what is under way is said meanwhile."""
    options = _options(argv)
    seed, losses, timer = options.seed, options.loss, time.process_time
    _say(f"costs, on {options.calibrate} real cores")
    costs = calibrate(options.calibrate, CALIBRATION_RECORDS, seed, timer)
    _say("members")
    line = measure(seed, timer)
    checks = []
    for peers, loss in product(options.check, losses):
        _say(f"{peers:,} real cores, {loss:.0%} lost")
        checks.append(check(peers, loss, options.check_records, seed, costs))
    predictions = []
    for peers, loss in product(options.peers, losses):
        _say(f"{peers:,} peers, {loss:.0%} lost")
        predictions.append(predict(peers, loss, options.records, seed, costs))
    said = " ".join(["python -m simulations model", *_said(argv)])
    report = Report(
        options.about, said, costs, checks, line, predictions, options.peers
    )
    found = report.facts()
    text = json.dumps(found, indent=1) if options.json else "\n".join(report.lines())
    sys.stdout.write(f"{text}\n")
    return 0


def _say(what: str) -> None:
    sys.stderr.write(f"{what}\n")


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulations model")
    add = parser.add_argument
    add("--json", action="store_true")
    add("--peers", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    add("--loss", type=float, nargs="+", default=[0.0, 0.3])
    add("--records", type=int, default=5, help="how many are told, one by one")
    add("--check", type=int, nargs="*", default=[100, 1000], help="sizes, or none")
    add("--check-records", type=int, default=30)
    add("--calibrate", type=int, default=300, help="cores to measure costs on")
    add("--seed", type=int, default=1)
    add("--about", default="", help="machine and commit, for the report")
    options = parser.parse_args(argv)
    if not all(PEERS_MIN <= peers <= PEERS_MAX for peers in options.peers):
        parser.error(f"peers are {PEERS_MIN} to {PEERS_MAX:,}")
    cores = (*options.check, options.calibrate)
    if not all(PEERS_MIN <= peers <= CHECK_MAX for peers in cores):
        parser.error(f"real cores are {PEERS_MIN} to {CHECK_MAX:,}")
    if not all(0 <= loss <= 0.5 for loss in options.loss):
        parser.error("a loss is 0 to 0.5")
    if min(options.records, options.check_records) < 1:
        parser.error("records are 1 or more")
    return options


def _said(argv: Sequence[str]) -> list[str]:
    """Return the options, without what they say about the run."""
    if "--about" not in argv:
        return list(argv)
    place = list(argv).index("--about")
    return [*argv[:place], *argv[place + 2 :]]
