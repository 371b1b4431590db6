"""Writes docs/faults.md: the forty kinds, and how often each struck in one counted run.

Owns the form of the page. Does not own what stands in it: `simulations.faults` declares the
kinds, and docs/faults.json is what `crdtmerge simulate --json` printed of the run. Run by
`make docs`; `make faults` does the run anew.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from simulations.faults import FAULTS
from simulations.scenarios import ALONE

PAGE: Final = Path(__file__).parent / "faults.md"
COUNTED: Final = Path(__file__).parent / "faults.json"

_TEXT: Final = """\
# Faults

Written by `make docs` from the catalogue in `simulations/faults` and from one counted run
of swarms, docs/faults.json.

Every kind has a number, which never changes its meaning, and a story in which nothing else
goes wrong: `crdtmerge simulate fault-loss`. In a swarm the seed draws about half of the
kinds. CHANCE is that in a storm, the most that is drawn, for each of what stands beside it;
`--fault NAME=CHANCE` takes another.

INJECTED was counted over {runs} runs from seed {seed}, {nodes} nodes each: {events} events
(lines of the logs) in {wall_seconds:.0f} s, {events_per_second} a second in {jobs}
processes; {failed} failed. After the work half of them agreed within {p50:g} rounds, 99 of
100 within {p99:g}, all within {most:g}. The command was
`crdtmerge simulate swarm --nodes {nodes} --seed {seed} --seeds {runs} --json`, at {commit},
Python {python}, {processors} processors ({machine}). The digest over all log digests is
`{digest}`.

"""


def faults_page() -> str:
    """Return the page of the forty kinds."""
    counted: Mapping[str, Any] = json.loads(COUNTED.read_text())
    rounds = counted["rounds"]
    text = _TEXT.format(
        **{key: value for key, value in counted.items() if key != "rounds"},
        p50=rounds["p50"],
        p99=rounds["p99"],
        most=rounds["max"],
    )
    stories = {kind: story for story, kind in ALONE.items()}
    lines = [
        "| # | name | what happens | chance | each | injected | story |",
        "|---|---|---|---|---|---|---|",
    ]
    for fault in FAULTS.values():
        injected = counted["injected"].get(fault.name, 0)
        story = f"`{stories[fault.name]}`" if fault.name in stories else "-"
        lines.append(
            f"| {fault.number} | `{fault.name}` | {fault.words} | {fault.storm:g} |"
            f" {fault.per} | {injected} | {story} |"
        )
    return text + "\n".join(lines) + "\n"


def write_faults() -> None:
    """Write the page."""
    PAGE.write_text(faults_page(), encoding="utf-8")
