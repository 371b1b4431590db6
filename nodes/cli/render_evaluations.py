"""Evaluations as people read them.

Owns the words and the order of columns. Does not own the facts (`operations.evaluating`),
nor what all renderers share (`render`).
"""

from .output import plain, short, table
from .render import Facts, counted, several


def added(facts: Facts) -> list[str]:
    """Return the lines of `evaluation add`."""
    lines = [_said(item) for item in several(facts["evaluations"])]
    if facts["another_merge"]:
        lines.append(f"the recipe reads it: merge id {short(facts['merge_id'])} now")
    return lines


def _said(facts: Facts) -> str:
    verb = "evaluated" if facts["new"] else "unchanged:"
    what = f"{facts['subject']} {short(facts['target'])}"
    note = f" ({plain(facts['note'])})" if facts["note"] else ""
    said = f"{facts['metric']} {facts['result']} on {facts['data']}"
    return f"{verb} {what}: {said}{note}"


def listed(facts: Facts) -> list[str]:
    """Return the lines of `evaluation list`."""
    name = f"space {plain(facts['name'])} ({short(facts['space'])})"
    rows = [_row(item) for item in several(facts["evaluations"])]
    if not rows:
        return [f"{name}: no such evaluation"]
    head = ("SUBJECT", "METRIC", "DATA", "RESULT", "AUTHOR", "RANK", "NOW", "NOTE")
    return [name, *table(head, rows), *_medians(facts)]


def _row(facts: Facts) -> tuple[str, ...]:
    now = str(facts["state"])
    return (
        f"{facts['subject']} {short(facts['target'])}",
        str(facts["metric"]),
        str(facts["data"]),
        str(facts["result"]),
        short(facts["author"]) + (" (you)" if facts["you"] else ""),
        str(facts["rank"] or "-"),
        f"{now}, read by the recipe" if facts["read"] else now,
        str(facts["note"] or "-"),
    )


def _medians(facts: Facts) -> list[str]:
    rows = [
        (
            short(item["content"]),
            str(item["metric"]),
            str(item["data"] or "(any)"),
            str(item["median"]),
            counted(item["authors"], "author"),
        )
        for item in several(facts["medians"])
    ]
    if not rows:
        return []
    return ["", *table(("CONTRIBUTION", "METRIC", "DATA", "MEDIAN", "OF"), rows)]
