"""Writes docs/faults.md: the forty kinds, and how often each struck in one counted run.

Owns the form of the page. Does not own what stands in it: `simulations.faults` declares the
kinds, and docs/faults.json is what `crdtmerge simulate --json` printed of the run. Run by
`make docs`; `make faults` does the run anew.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from simulations.faults import FAULTS
from simulations.stories.scenarios import ALONE

PAGE: Final = Path(__file__).parent / "faults.md"
NOT_KEPT: Final = {"failures", "least"}
COUNTED: Final = Path(__file__).parent / "faults.json"

_TEXT: Final = """\
# Faults

Written by `make docs` from the catalogue in `simulations/faults` and from one counted run
of swarms, docs/faults.json.

Every kind has a number, which never changes its meaning, and a story in which nothing else
goes wrong: `crdtmerge simulate fault-loss`. In a swarm the seed draws about half of the
kinds. CHANCE is that in a storm, the most that is drawn, for each of what stands beside it;
`--fault NAME=CHANCE` takes another.

INJECTED was counted over the runs below, by `make faults`. An event is a line of a log;
rounds are those until all agreed after the work.

"""


def faults_page() -> str:
    """Return the page of the forty kinds."""
    counted: list[Mapping[str, Any]] = json.loads(COUNTED.read_text())
    text = _TEXT + "\n\n".join(map(_said, counted)) + "\n\n"
    injected = Counter[str]()
    for run in counted:
        injected.update(run["injected"])
    stories = {kind: story for story, kind in ALONE.items()}
    lines = [
        "| # | name | what happens | chance | each | injected | story |",
        "|---|---|---|---|---|---|---|",
    ]
    for fault in FAULTS.values():
        story = f"`{stories[fault.name]}`" if fault.name in stories else "-"
        lines.append(
            f"| {fault.number} | `{fault.name}` | {fault.words} | {fault.storm:g} |"
            f" {fault.per} | {injected[fault.name]} | {story} |"
        )
    return text + "\n".join(lines) + "\n"


def _said(run: Mapping[str, Any]) -> str:
    """Return what one run came to, and how it is done again."""
    rounds = run["rounds"]
    speed = f"{run['wall_seconds']:.0f} s: {run['events_per_second']} a second"
    return (
        f"* `{run['command']}`: {run['runs']} runs, {run['failed']} failed;"
        f" {run['events']} events in {speed} in {run['jobs']} processes;"
        f" rounds: half {rounds['p50']:g}, 99 of 100 {rounds['p99']:g}, most"
        f" {rounds['max']:g}. At {run['commit']}, Python {run['python']},"
        f" {run['processors']} processors ({run['machine']}). Digest over all logs:"
        f" `{run['digest']}`."
    )


def main(files: Sequence[str]) -> None:
    """Keep what `--json` printed of some runs, without their failures; write the page."""
    counted = [json.loads(Path(name).read_text()) for name in files]
    kept = [{k: v for k, v in run.items() if k not in NOT_KEPT} for run in counted]
    COUNTED.write_text(json.dumps(kept, indent=1) + "\n")
    write_faults()


def write_faults() -> None:
    """Write the page."""
    PAGE.write_text(faults_page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
