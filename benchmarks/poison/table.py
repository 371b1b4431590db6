"""The study's tables: figures over seeds, as text.

Owns the form. Does not own a figure.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any, TypeAlias

from benchmarks.poison.settings import (
    CONTRAST,
    COPIES,
    MANY,
    MOST,
    ONE,
    PAIR,
    ROBUST,
    TWO,
)

Told: TypeAlias = dict[str, Any]

LEGEND = (
    "Each cell: accuracy on clean test images / share of other digits' images that the"
    " trigger turns into the target, both in %, mean over the trainings; in brackets the"
    " lowest and the highest share."
)


def render(document: Told) -> str:
    """Return all tables as Markdown."""
    runs = document["runs"]
    lines = [f"{len({run['seed'] for run in runs})} trainings. {LEGEND}", ""]
    for family in dict.fromkeys(run["family"] for run in runs):
        mine = [run for run in runs if run["family"] == family]
        lines += [f"### {family}: alone", "", *_alone(mine), ""]
        for scenario in (ONE, TWO):
            kinds = [kind for kind in scenario.kinds if kind != PAIR]
            title = f"### {family}: {scenario.name} poisoned"
            lines += [
                title,
                "",
                *_merges(mine, [(scenario.name, k) for k in kinds]),
                "",
            ]
        columns = [(TWO.name, PAIR), (MANY.name, COPIES), (MOST.name, COPIES)]
        title = f"### {family}: what no strategy promises"
        lines += [title, "", *_merges(mine, columns), ""]
    lines += ["### What inspect says", "", *_inspected(runs), ""]
    return "\n".join(lines)


def _alone(runs: Sequence[Told]) -> Iterator[str]:
    yield from _head(["model", "accuracy / success", "from base", "from honest mean"])
    rows = [row for run in runs for row in run["alone"]]
    for who, scenario in dict.fromkeys((r["who"], r["scenario"]) for r in rows):
        found = [r for r in rows if (r["who"], r["scenario"]) == (who, scenario)]
        name = f"{who}, {scenario}" if scenario else who
        yield _line([name, _cell(found), *(_far(found, at) for at in ("base", "mean"))])


def _far(rows: Sequence[Told], at: str) -> str:
    return f"{fmean(row[f'from_{at}'] for row in rows):.1f}"


def _merges(runs: Sequence[Told], columns: Sequence[tuple[str, str]]) -> Iterator[str]:
    several = len({scenario for scenario, _ in columns}) > 1
    heads = [f"{k}, {s}" if several else k for s, k in columns]
    yield from _head(["strategy", *heads])
    rows = [row for run in runs for row in run["merges"]]
    for name in (*ROBUST, *CONTRAST):
        cells = []
        for scenario, kind in columns:
            at = (name, scenario, kind)
            keys = ("strategy", "scenario", "kind")
            found = [r for r in rows if tuple(r[key] for key in keys) == at]
            cells.append(_cell(found))
        if any(cell != "-" for cell in cells):
            yield _line([f"**{name}**" if name in ROBUST else name, *cells])


def _inspected(runs: Sequence[Told]) -> Iterator[str]:
    """Yield who is flagged, of the poisoned and of the honest, over all trainings."""
    families = list(dict.fromkeys(run["family"] for run in runs))
    sides = [(family, side) for family in families for side in ("poisoned", "honest")]
    yield from _head(["poison", *(f"{family}, {side}" for family, side in sides)])
    rows = [(run["family"], row) for run in runs for row in run["inspected"]]
    for key in dict.fromkeys((row["kind"], row["scenario"]) for _, row in rows):
        mine = [(f, r) for f, r in rows if (r["kind"], r["scenario"]) == key]
        cells = [
            _flags([m for f, r in mine if f == fam for m in r[s]]) for fam, s in sides
        ]
        yield _line([", ".join(key), *cells])


def _flags(models: Sequence[Sequence[Told]]) -> str:
    """Return how many models anything was found of, and what."""
    if not models:
        return "-"
    named = Counter(name for model in models for name in {f["finding"] for f in model})
    said = ", ".join(f"{name} {count}" for name, count in sorted(named.items()))
    flagged = f"{sum(map(bool, models))} of {len(models)}"
    return f"{flagged}: {said}" if said else flagged


def _cell(rows: Sequence[Told]) -> str:
    """Return accuracy / success (lowest to highest success)."""
    made = [row for row in rows if "success" in row]
    if len(made) < len(rows):
        return "failed" if any("failed" in row for row in rows) else "refused"
    if not made:
        return "-"
    accuracy = 100 * fmean(row["accuracy"] for row in made)
    found = [100 * row["success"] for row in made]
    span = f"{min(found):.0f}-{max(found):.0f}"
    return f"{accuracy:.1f} / {fmean(found):.0f} ({span})"


def _head(heads: Sequence[str]) -> list[str]:
    return [_line(heads), _line(["---", *("---:" for _ in heads[1:])])]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
