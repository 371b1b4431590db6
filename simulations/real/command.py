"""`python -m simulations real`: stories with real nodes, beside their simulation.

    python -m simulations real [STORY...] [--json] [--nodes 4] [--times N] [--seed 0]

Each story plays in a world of its own, which ends with it, and then in the simulation. A
story that this machine cannot play says why. Owns options and what is printed.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from simulations.checking.checkers import NotConvergedError

from . import isolation
from .playing import NAMES, Asked, Skipped, play
from .process import end_in_order
from .stories import STORIES

BOUND_S: Final = 600.0
"""So long a story may take, whatever it waits for."""
LATE: Final = f"not over after {BOUND_S:g} s"


def main(argv: Sequence[str]) -> int:
    """Play stories; 1 unless all promises held."""
    options = _parser().parse_args(argv)
    end_in_order()
    if options.list:
        for name, story in STORIES.items():
            print(f"{name:14} {story.words}")
        return 0
    unknown = [name for name in options.stories if name not in STORIES]
    if unknown:
        _parser().error(f"no story is called {unknown[0]!r}: see --list")
    chosen = options.stories or list(STORIES)
    if len(chosen) == 1:
        if not options.loopback and not isolation.inside() and not isolation.refusal():
            return isolation.enter(argv)
        if isolation.inside():
            isolation.begin()
        return _play(chosen[0], options)
    return max(_apart(name, options, argv) for name in chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulations real")
    parser.add_argument("stories", nargs="*", metavar="STORY", help="else all")
    parser.add_argument("--json", action="store_true", help="one JSON value a story")
    parser.add_argument("--list", action="store_true", help="tell what there is")
    parser.add_argument(
        "--nodes", type=int, default=4, choices=range(3, len(NAMES) + 1)
    )
    parser.add_argument("--times", type=int, default=0, help="how often trouble comes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storm", choices=("netem", "switch", "proxy"), help="by what")
    parser.add_argument("--loopback", action="store_true", help="use no namespaces")
    parser.add_argument("--older", type=Path, help="a kept build to upgrade from")
    return parser


def _play(name: str, options: argparse.Namespace) -> int:
    """Play one story here; print what it came to."""
    asked = Asked(
        name, NAMES[: options.nodes], options.times, options.seed, options.storm,
        options.older,
    )  # fmt: skip
    began = time.monotonic()
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"{name}: {LATE}"))
    signal.alarm(int(BOUND_S))
    with tempfile.TemporaryDirectory(prefix="real-") as folder:
        try:
            facts = play(asked, Path(folder))
        except Skipped as e:
            facts = {"story": name, "skipped": str(e)}
        except NotConvergedError as e:
            print(f"{name}, seed {options.seed}: {e}", file=sys.stderr)
            return 1
    facts["seconds"] = round(time.monotonic() - began, 1)
    print(json.dumps(facts) if options.json else "\n".join(lines(facts)), flush=True)
    return 0


def _apart(name: str, options: argparse.Namespace, argv: Sequence[str]) -> int:
    """Play one story in a process of its own."""
    words = [word for word in argv if word not in options.stories]
    command = [sys.executable, "-m", "simulations.real", name, *words]
    return subprocess.run(command, check=False).returncode


def lines(facts: dict[str, Any]) -> list[str]:
    """Return what is printed of one story."""
    head = f"{facts['story']}: {STORIES[facts['story']].words}"
    if "skipped" in facts:
        return [head, f"  skipped     {facts['skipped']}"]
    rows = [head, f"  where       {facts['where']}"]
    if facts["storm_by"]:
        rows.append(f"  storm       by {facts['storm_by']}: {facts['storm']}")
    done = ", ".join(f"{count} {what}" for what, count in facts["done"].items())
    rows.append(f"  done        {done or 'nothing to processes'}")
    real, twin = facts["real"], facts["simulated"]
    rows.append(f"  {'':22}{'real':>12}{'simulated':>12}")
    for key in real:
        both = (real[key], twin[key])
        shown = ["-" if value is None else f"{value:,}" for value in both]
        rows.append(f"  {key.replace('_', ' '):22}{shown[0]:>12}{shown[1]:>12}")
    rows.append(f"  held        no acknowledged record lost; equal roots and bytes"
                f" on {facts['nodes']} nodes; {facts['seconds']} s")  # fmt: skip
    return rows
