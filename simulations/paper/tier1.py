"""Tier 1: the algebra of every strategy, raw and through both layers.

Owns what is counted. Does not own the laws of an operation (`binary`), nor those of a set
(`laws`).
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from .binary import LAWS as RAW_LAWS
from .binary import Raw, laws_of
from .catalogue import Choice, catalogue, not_run
from .laws import LAWS, Wire, audit
from .published import PHASE_1, PHASE_2
from .timing import Tell, Watch, in_processes

ORDERS: Final = 6
"""In which three replicas take from one another: all."""

Facts = dict[str, object]


def run(only: tuple[str, ...], processes: int, orders: int, tell: Tell) -> Facts:
    """Return all figures of tier 1; `only` names strategies, all if empty."""
    chosen = catalogue(only)
    raw = [laws_of(choice) for choice in chosen]
    tell(f"tier 1: phase 1 over {len(raw)} strategies")
    audited = _audited(chosen, processes, orders, tell)
    passed = sum(len(LAWS) - len(failed) for _, failed in audited)
    ours = [choice for choice in chosen if choice.papers]
    return {
        "phase1": _phase_1(raw),
        "phase2_passed": passed,
        "phase2_total": len(LAWS) * len(chosen),
        "phase2_paper": list(PHASE_2),
        "phase2": [row for row, _ in audited],
        "strategies": len(chosen),
        "of_the_paper": sum(len(choice.papers) for choice in ours),
        "not_run": [{"strategy": n, "why": "not in the catalogue"} for n in not_run()],
    }


def _phase_1(raw: Sequence[Raw]) -> Facts:
    rows = [found.facts() for found in raw]
    pairs = zip(raw, rows, strict=True)
    papers = [row for found, row in pairs for _ in found.choice.papers]
    return {
        "rows": rows,
        "catalogue": _counts(rows),
        "same_as_the_paper": _counts(papers),
        "paper": dict(PHASE_1),
    }


def _counts(rows: Sequence[Facts]) -> dict[str, int]:
    """Return how many keep each law, and of how many that take two models at all."""
    counts = {law: sum(row[law] is True for row in rows) for law in RAW_LAWS}
    counts["all_three"] = sum(bool(row["all_three"]) for row in rows)
    counts["of"] = sum(not row["refused"] for row in rows)
    return counts


def _audited(
    chosen: Sequence[Choice], processes: int, orders: int, tell: Tell
) -> list[tuple[Facts, dict[str, str]]]:
    work = partial(audited, orders=orders)
    names = [choice.strategy.name for choice in chosen]
    rows = []
    for row, failed in in_processes(work, names, processes):
        rows.append((row, failed))
        tell(f"tier 1: phase 2, {row['strategy']}: {failed or 'all four laws'}")
    return rows


def audited(name: str, orders: int) -> tuple[Facts, dict[str, str]]:
    """Return the four laws of one strategy through both layers, by bytes."""
    (choice,) = catalogue((name,))
    wire, watch = Wire(), Watch()
    found = audit(choice, wire, orders)
    row: Facts = {
        "strategy": choice.name,
        "paper": list(choice.papers),
        "laws": {law: law not in found.failed for law in LAWS},
        "failed": found.failed,
        "comparisons": found.comparisons,
        "joins": wire.traffic.exchanges,
        "messages": wire.traffic.messages,
        "message_bytes": wire.traffic.message_bytes,
        "seconds": round(watch.lap(), 3),
    }
    return row, found.failed
