"""The tables of a summary, as text for a terminal and as markdown for the documents.

Owns wording and layout. Does not own figures (`summary`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from benchmarks.quality.poison import KINDS, POINTS_MAX
from benchmarks.quality.summary import BASE, MEAN, SINGLE

Told: TypeAlias = dict[str, Any]
Table: TypeAlias = tuple[Sequence[str], Sequence[Sequence[str]]]

TITLES: Final[Mapping[str, str]] = {
    "tasks": "Ten fine-tunes, each on three digits",
    "halves": "Two fine-tunes, each on five digits",
    "checkpoints": "Eight checkpoints of one run on all digits",
    "poison": "Poisoned contributors, all tuned on all digits",
}
LEGEND: Final = (
    "Accuracy in %, mean over {seeds} trainings with {test_images} test images each. First"
    " figure: all images, among ten digits. Second: the mean over the tasks, each on the"
    " images of its three digits, among these. Default: as the strategy comes, or with"
    " the settings it cannot do without. Tuned: the best of a grid on other images."
    " 'over mean': points of the first figure, tuned if it is there, over the plain"
    " average of the same models, and in how many trainings it lies above."
)
POISON_LEGEND: Final = (
    "Points that the merge moves when honest contributors are replaced by poisoned ones:"
    " mean over the seeds (worst seed). Held: at most"
    f" {POINTS_MAX:g} points below the clean merge for every kind of poison, on the mean."
)


def render(document: Told, *, markdown: bool) -> str:
    """Return all tables of a document."""
    summary = document["summary"]
    lines = [LEGEND.format(**summary), ""]
    for group, rows in summary["groups"].items():
        if len(rows) > len((BASE, SINGLE, MEAN)):
            table = _accuracy(rows, summary["families"])
            lines += _titled(TITLES[group], table, markdown=markdown)
    lines += [*_verdicts(summary), ""]
    if summary["poison"]:
        table = _poison(summary)
        lines += _titled(TITLES["poison"], table, markdown=markdown)
        lines += [POISON_LEGEND, ""]
    mark = "* " if markdown else ""
    lines += [mark + reason for reason in _reasons(summary)]
    return "\n".join(lines).rstrip() + "\n"


def _reasons(summary: Told) -> Iterator[str]:
    """Say of each strategy that gave no model why, once for all families alike."""
    for name, reasons in summary["reasons"].items():
        for reason in dict.fromkeys(reasons.values()):
            where = [family for family, told in reasons.items() if told == reason]
            yield f"{name} ({', '.join(where)}): {reason}"
    refused = [row for row in summary["poison"] if "reason" in row]
    told = [
        f"{r['strategy']}, poisoned {r['scenario']}: {r['reason']}" for r in refused
    ]
    yield from dict.fromkeys(told)


def _titled(title: str, table: Table, *, markdown: bool) -> list[str]:
    heading = f"### {title}" if markdown else title
    lines = _markdown(table) if markdown else _aligned(table)
    return [heading, "", *lines, ""]


def _markdown(table: Table) -> list[str]:
    heads, rows = table
    marks = ["---"] + ["---:"] * (len(heads) - 1)
    return ["| " + " | ".join(cells) + " |" for cells in (heads, marks, *rows)]


def _aligned(table: Table) -> list[str]:
    heads, rows = table
    columns = zip(heads, *rows, strict=True)
    widths = [max(len(cell) for cell in column) for column in columns]
    lines = []
    for cells in (heads, *rows):
        padded = [cell.rjust(w) for cell, w in zip(cells, widths, strict=True)]
        lines.append("  ".join([cells[0].ljust(widths[0]), *padded[1:]]).rstrip())
    return lines


def _accuracy(rows: Mapping[str, Told], families: Sequence[str]) -> Table:
    heads = ["strategy"]
    for family in families:
        heads += [f"{family}, default", "tuned", "over mean"]
    body = []
    for name, row in rows.items():
        cells = [name]
        for family in families:
            cells += _cells(row.get(family))
        body.append(cells)
    return heads, body


def _cells(cell: Told | None) -> list[str]:
    if cell is None:
        return ["-", "-", "-"]
    tuned = cell.get("tuned")
    best = tuned or cell
    gain = "-"
    if "points" in best:
        gain = f"{best['points']:+.1f}, {best['above']} of {best['seeds']}"
    return [_share(cell), _share(tuned) if tuned else "-", gain]


def _share(cell: Told) -> str:
    return f"{100 * cell['joint']:.1f} / {100 * cell['tasks']:.1f}"


def _verdicts(summary: Told) -> Iterator[str]:
    """Name what is not above the plain average, as it comes and as it was tuned."""
    for which in ("default", "tuned"):
        for family in summary["families"]:
            names = [
                name
                for rows in summary["groups"].values()
                for name, row in rows.items()
                if _is_below(row.get(family), which)
            ]
            told = ", ".join(names) or "none"
            yield f"Not above the plain average, {family}, {which}: {told}."


def _is_below(cell: Told | None, which: str) -> bool:
    if cell is None:
        return False
    asked = cell.get("tuned") if which == "tuned" else cell
    return asked is not None and asked.get("points", 1) <= 0


def _poison(summary: Told) -> Table:
    families: Sequence[str] = summary["families"]
    heads = ["strategy", "poisoned", "parameters"]
    for family in families:
        heads += [f"{family}, clean", *KINDS, "held"]
    rows: dict[tuple[str, str], list[str]] = {}
    for row in summary["poison"]:
        key = row["strategy"], row["scenario"]
        words = " ".join(f"{k}={v}" for k, v in row["parameters"].items())
        cells = rows.setdefault(key, [*key, words or "-"])
        # A family that a run leaves out of the middle keeps its place.
        missing = 3 + families.index(row["family"]) * (len(KINDS) + 2) - len(cells)
        cells += ["-"] * missing + _poisoned(row)
    return heads, [cells + ["-"] * (len(heads) - len(cells)) for cells in rows.values()]


def _poisoned(row: Told) -> list[str]:
    if "reason" in row:
        return ["refused", *("-" for _ in KINDS), "-"]
    moved = [
        f"{row[kind]['points']:+.1f} ({row[kind]['worst']:+.1f})" for kind in KINDS
    ]
    return [f"{100 * row['clean']:.1f}", *moved, "yes" if row["held"] else "no"]
