"""`python -m tests.fuzz.table [RESULTS]`: the table of counts in docs/fuzzing.md.

Owns the table, and the results beside it from which it is made: with RESULTS, what a run
wrote takes the place of what was kept of its targets. Does not own the words around it.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.fuzz.target import NEVER, Target
from tests.fuzz.targets import TARGETS

DOCS: Final = Path(__file__).parent.parent.parent / "docs"
KEPT: Final = DOCS / "fuzzing.json"
BEGIN: Final = "<!-- made by `python -m tests.fuzz.table` -->"
END: Final = "<!-- end -->"
WHOSE: Final = {
    "peers": "a peer's",
    "sets": "a peer's",
    "files": "the user's",
    "weights": "the user's",
    "homes": "this machine's",
}
"""By the module that the target's read stands in."""


def main(arguments: list[str]) -> None:
    """Write the table, from the results that are kept and those of a run."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for name in arguments:
        run = json.loads(Path(name).read_text())
        for found in run["targets"]:
            kept[found["target"]] = {
                **found,
                "commit": run["commit"],
                "date": run["date"],
            }
    known = {name: kept[name] for name in TARGETS if name in kept}
    KEPT.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    page = DOCS / "fuzzing.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{table(known)}{END}{after}")


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a row a target, and one for all."""
    words = "target | what it decodes | whose fault | s | runs | runs/s | edges"
    head = f"| {words} | features | finds | commit |"
    lines = ["", head, "|---|---|---|--:|--:|--:|--:|--:|--:|---|"]
    lines += [_row(target, results.get(name)) for name, target in TARGETS.items()]
    seconds = sum(found["seconds"] for found in results.values())
    runs = sum(found["executions"] for found in results.values())
    finds = sum(len(found["finds"]) for found in results.values())
    lines.append(f"| all | | | {seconds:,.0f} | {runs:,} | | | | {finds} | |")
    return "\n".join(lines) + "\n\n"


def _row(target: Target, found: Mapping[str, Any] | None) -> str:
    start = f"| {target.name} | {target.of} | {whose(target)} |"
    if found is None:
        return f"{start} | | | | | | not run yet |"
    rate = found["executions"] / found["seconds"] if found["seconds"] else 0
    numbers = f" {found['seconds']:.0f} | {found['executions']:,} | {rate:,.0f} |"
    seen = f" {found['coverage']:,} | {found['features']:,} | {len(found['finds'])} |"
    return f"{start}{numbers}{seen} {found['commit']} |"


def whose(target: Target) -> str:
    """Return whose fault it is if bytes are refused."""
    if target.refusals == NEVER:
        return "never an error"
    return WHOSE[target.read.__module__.rpartition("_")[2]]


if __name__ == "__main__":
    main(sys.argv[1:])
