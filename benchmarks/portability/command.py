"""`python -m benchmarks portability`: the table of platforms, and its JSON.

Owns options and output. Exit status: 0 if no row differs and at least one counts, else 1.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.portability import arm
from benchmarks.portability.harness import Harness
from benchmarks.portability.job import BACKENDS, Report
from benchmarks.portability.platforms import (
    ROOT,
    Platform,
    UnreadyError,
    environment,
    here,
    interpreter,
)
from benchmarks.portability.rows import ARM, HERE, rows
from benchmarks.portability.verdict import FAILING, Outcome, Verdict

OLD_NUMPY: Final = "2.0.2"
"""The oldest NumPy that is supported; constraints.txt has the newest."""

NEW_PYTHON: Final = "python3.13"
HEADINGS: Final = (
    "row",
    "backend",
    "kernels",
    "strategies",
    "canary",
    "moved",
    "s",
    "verdict",
)
_LINE: Final = "{:<49} {:<9} {:>8} {:>10} {:<14} {:<6} {:>6}  {}"


def main(argv: Sequence[str]) -> int:
    """Run the rows that are asked for; return the exit status."""
    options = _options(argv)
    ready, canaries = _platforms(options)
    made = [row for row in rows(_groups(), canaries) if _asked(row.name, options)]
    if not made:
        print(f"no row has one of {options.rows} in its name", file=sys.stderr)
        return 2
    harness = Harness(ready, options.work / "numba", options.only, options.jobs)
    print(_LINE.format(*HEADINGS), flush=True)
    outcomes = []
    for outcome in harness.run(options.backend or BACKENDS, made):
        outcomes.append(outcome)
        print(_line(outcome), flush=True)
    failed = [o for o in outcomes if o.verdict in FAILING]
    counted = [o for o in outcomes if o.verdict == Verdict.EQUAL]
    print(f"{len(counted)} rows equal, {len(failed)} failed, of {len(outcomes)}")
    if options.json:
        options.json.write_text(json.dumps(_document(outcomes), indent=1) + "\n")
    return 1 if failed or not counted else 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks portability")
    add = parser.add_argument
    add("--json", type=Path, help="where the whole result goes")
    add("--work", type=Path, default=ROOT / ".portability", help="what is kept")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    add("--backend", action="append", choices=BACKENDS, help="default: each")
    add("--rows", action="append", metavar="WORD", help="rows whose name has this word")
    add("--only", default="", metavar="WORD", help="only titles that have this word")
    add("--python", action="append", metavar="PATH[:LABEL]", help="another Python")
    add("--numpy", action="append", metavar="VERSION", help=f"default: {OLD_NUMPY}")
    add("--arm", type=Path, metavar="DIR", help="an arm64 machine that was made ready")
    add("--prepare-arm", action="store_true", help="make one, with apt and pip")
    options = parser.parse_args(argv)
    options.work = options.work.resolve()
    options.rows = options.rows or [""]
    return options


def _asked(name: str, options: argparse.Namespace) -> bool:
    return any(word in name for word in options.rows)


def _platforms(
    options: argparse.Namespace,
) -> tuple[dict[str, Platform | str], dict[str, str]]:
    """Return each platform, or why it cannot be had, and the canary of each but this."""
    ready: dict[str, Platform | str] = {HERE: here()}
    canaries = {}
    for name, canary, make in _others(options):
        canaries[name] = canary
        if not _asked(name, options):
            continue
        try:
            ready[name] = make()
        except UnreadyError as e:
            ready[name] = str(e)
    return ready, canaries


def _others(
    options: argparse.Namespace,
) -> Iterator[tuple[str, str, Callable[[], Platform]]]:
    """Yield name, canary, and what makes it ready."""
    for given in options.python or [NEW_PYTHON]:
        path, _, label = given.partition(":")
        name = label or Path(path).name
        yield name, "python sum", partial(environment, options.work, interpreter(path))
    for version in options.numpy or [OLD_NUMPY]:
        make = partial(environment, options.work, sys.executable, version)
        yield f"numpy {version}", "numpy release", make
    yield ARM, "machine", partial(_arm, options)


def _arm(options: argparse.Namespace) -> Platform:
    folder = (options.arm or options.work / "arm64").resolve()
    if options.prepare_arm:
        arm.prepare_machine(folder)
    return arm.machine(folder)


def _groups() -> list[str]:
    """Return what NumPy dispatches on and finds on this CPU, the widest last."""
    found: list[str] = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return found


def _line(outcome: Outcome) -> str:
    told = outcome.verdict.value
    return _LINE.format(
        outcome.row.name[:49],
        outcome.backend,
        str(outcome.kernels),
        str(outcome.strategies),
        outcome.row.canary or "-",
        {True: "yes", False: "no", None: "-"}[outcome.moved],
        f"{outcome.seconds:.1f}",
        f"{told}: {outcome.reason}" if outcome.reason else told,
    ).rstrip()


def _document(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the whole result; digests of a row are listed where they differ."""
    return {
        "format": 1,
        "cpu": _cpu(),
        "kernel": platform.platform(),
        "baselines": [
            {"row": o.row.name, "backend": o.backend, **asdict(o.report)}
            for o in outcomes
            if o.report and not o.row.canary
        ],
        "rows": [_told(outcome) for outcome in outcomes],
    }


def _told(outcome: Outcome) -> dict[str, Any]:
    row, report = outcome.row, outcome.report
    told: dict[str, Any] = {
        "row": row.name,
        "backend": outcome.backend,
        "platform": row.platform,
        "environment": row.environment(),
        "verdict": outcome.verdict.name,
        "reason": outcome.reason,
        "canary": row.canary,
        "moved": outcome.moved,
        "seconds": round(outcome.seconds, 2),
    }
    if report is not None:
        found = report.kernels | report.strategies
        unequal = (*outcome.kernels.unequal, *outcome.strategies.unequal)
        told |= {
            "kernels": str(outcome.kernels),
            "strategies": str(outcome.strategies),
            "differing": {title: found.get(title, "") for title in unequal},
            "digest of digests": _combined(report),
            "versions": report.versions,
            "loaded": report.loaded,
            "warnings": report.warnings,
            "canaries": report.canaries,
        }
    return told


def _combined(report: Report) -> str:
    """Return one digest of all, so that two runs compare at a glance."""
    found = sorted((report.kernels | report.strategies).items())
    return sha256(repr(found).encode()).hexdigest()


def _cpu() -> str:
    """Return the name that the processor gives itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = [line for line in lines if line.startswith("model name")]
    return named[0].partition(": ")[2] if named else platform.processor()
