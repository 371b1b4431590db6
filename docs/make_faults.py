"""Writes docs/faults.md: the forty kinds, and how often each struck in counted runs.

Owns the form of the page. Does not own what stands in it: `simulations.faults` declares the
kinds, and docs/faults.json is what `crdtmerge simulate --json` printed of the runs, piece
by piece. Run by `make docs`; `make faults` does the runs anew.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from simulations.faults import FAULTS
from simulations.stories.scenarios import ALONE

PAGE: Final = Path(__file__).parent / "faults.md"
COUNTED: Final = Path(__file__).parent / "faults.json"
NOT_KEPT: Final = {"failures", "least"}
"""What tells of failures: `failed_seeds` are kept in their place."""

Piece: TypeAlias = Mapping[str, Any]
"""What `--json` printed of runs from consecutive seeds."""
_SEEDS: Final = re.compile(r" --seeds? [0-9]+")

_TEXT: Final = """\
# Faults

Written by `make docs` from the catalogue in `simulations/faults` and from counted runs of
swarms, docs/faults.json.

Every kind has a number, which never changes its meaning, and a story in which nothing else
goes wrong: `crdtmerge simulate fault-loss`. In a swarm the seed draws about half of the
kinds. CHANCE is that in a storm, the most that is drawn, for each of what stands beside it;
`--fault NAME=CHANCE` takes another.

INJECTED was counted over the runs below. `make faults` does them again, some hundred seeds
at a time; docs/faults.json has each such piece, with the digest over its logs. An event is
a line of a log; rounds are those until all agreed after the work.

"""


def faults_page() -> str:
    """Return the page of the forty kinds."""
    counted: list[Piece] = json.loads(COUNTED.read_text())
    text = _TEXT + "\n".join(map(_said, together(counted))) + "\n\n"
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


def together(counted: Iterable[Piece]) -> list[Piece]:
    """Return the pieces, those of one command that follow one another as one."""
    found: list[Piece] = []
    for piece in counted:
        follows = bool(found) and _follows(found[-1], piece)
        found.append(_joined(found.pop(), piece) if follows else piece)
    return found


def _follows(before: Piece, piece: Piece) -> bool:
    """Tell whether a piece begins where another ended: same command, code and machine."""
    same = ("commit", "python", "machine", "processors", "jobs")
    words = [_SEEDS.sub("", one["command"]) for one in (before, piece)]
    return (
        bool(piece["seed"] == before["seed"] + _seeds(before))
        and words[0] == words[1]
        and all(before[name] == piece[name] for name in same)
    )


def _joined(before: Piece, piece: Piece) -> Piece:
    """Return what two pieces are as one."""
    sums = ("runs", "failed", "events", "wall_seconds", "failed_seeds")
    most = max(before["rounds"]["max"], piece["rounds"]["max"])
    return {
        **before,
        **{name: before[name] + piece[name] for name in sums},
        "rounds": {"max": most},
    }


def _seeds(piece: Piece) -> int:
    """Return how many seeds were run, which may be fewer than were asked for."""
    return int(piece["runs"]) // len(piece["story"])


def _said(piece: Piece) -> str:
    """Return what runs came to, and how they are done again."""
    words = re.sub(r"--seeds [0-9]+", f"--seeds {_seeds(piece)}", piece["command"])
    seeds = ", ".join(map(str, piece["failed_seeds"]))
    failed = f"{piece['failed']} failed" + f" (seeds {seeds})" * bool(seeds)
    speed = f"{piece['events'] / piece['wall_seconds']:.0f} a second"
    return (
        f"* `{words}`: {piece['runs']} runs, {failed}; {piece['events']} events in"
        f" {piece['wall_seconds']:.0f} s: {speed} in {piece['jobs']} processes; at most"
        f" {piece['rounds']['max']:g} rounds. At {piece['commit']}, Python"
        f" {piece['python']}, {piece['processors']} processors ({piece['machine']})."
    )


def main(files: Sequence[str]) -> None:
    """Keep what `--json` printed of some runs, in the order of seeds; write the page."""
    counted = [kept(json.loads(Path(name).read_text())) for name in files]
    counted.sort(key=lambda piece: piece["seed"])
    COUNTED.write_text(json.dumps(counted, indent=1) + "\n")
    write_faults()


def kept(printed: Piece) -> Piece:
    """Return what is kept of runs: all, but of failures the seeds alone."""
    seeds = [failure["seed"] for failure in printed["failures"]]
    facts = {name: value for name, value in printed.items() if name not in NOT_KEPT}
    return {**facts, "failed_seeds": seeds}


def write_faults() -> None:
    """Write the page."""
    PAGE.write_text(faults_page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
