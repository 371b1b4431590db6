"""What was done to a model so that it cannot be merged, though it computes what it did.

Owns the thresholds. Does not own the figures (`symmetries`, `partners`).
"""

import math
from collections.abc import Iterator
from typing import Final

from crdtmerge.scrutiny.findings import Finding, Name, named
from crdtmerge.scrutiny.lines import LineFacts
from crdtmerge.scrutiny.measuring import FAR, Measured
from crdtmerge.scrutiny.symmetries import Symmetry, symmetry_of_numbers

LINES: Final = 4
LINES_SHARE: Final = 0.04
"""Lines that must have moved or been scaled, and their share of all."""

FOUND_SHARE: Final = 0.5
"""Share of moved lines that must be other lines of the base."""

ROTATED: Final = 0.35
ROTATED_FAR: Final = 0.5
"""Share of what chance would move up to which products stand still, at this distance."""

LOCKED: Final = 0.7
"""Change of a product, over the lesser of its factors' distances, that is standing still.

Factors that move by themselves move a product by the root of two of that, or more."""


def disguises(measured: Measured, place: int) -> Iterator[Finding]:
    """Yield what was done to single matrices, then to pairs of them."""
    found: dict[Name, dict[str, float]] = {}
    distances = measured.distances(place)
    for tensor, entry in enumerate(measured.company.tensors):
        numbers = tuple(measured.symmetries[place, tensor].tolist())
        if math.isnan(numbers[0]):
            continue
        symmetry = symmetry_of_numbers(numbers)
        name, share = _seen(symmetry, float(distances[tensor]))
        if name:
            found.setdefault(name, {})[entry.name] = share
    for name, tensors in found.items():
        figures = {"tensors": float(len(tensors)), "share": max(tensors.values())}
        yield Finding(name, "warning", figures, named(tensors))
    yield from _locked(measured, place)


def _seen(symmetry: Symmetry, distance: float) -> tuple[Name | None, float]:
    """Return what was done to a matrix, and to which share of its lines."""
    sides = (symmetry.rows, symmetry.across)
    moved = [s.moved / s.count for s in sides if _is_permuted(s)]
    scaled = [s.scaled / s.count for s in sides if _many(s.scaled, s.count)]
    if moved:
        return "permuted", max(moved)
    if scaled:
        return "rescaled", max(scaled)
    still = min(side.mixed for side in sides) <= ROTATED
    if still and distance >= ROTATED_FAR:
        return "rotated", 1.0
    return None, 0.0


def _is_permuted(lines: LineFacts) -> bool:
    return _many(lines.moved, lines.count) and lines.found >= FOUND_SHARE


def _many(some: int, count: int) -> bool:
    return some >= max(LINES, LINES_SHARE * count)


def _locked(measured: Measured, place: int) -> Iterator[Finding]:
    entries = measured.company.tensors
    distances = measured.distances(place).tolist()
    by_name = {e.name: float(d) for e, d in zip(entries, distances, strict=True)}
    held: dict[str, tuple[float, float]] = {}
    for number, pair in enumerate(measured.pairs):
        change = float(measured.partners[place, number])
        names = (pair.first.name, pair.second.name)
        away = min(by_name[name] for name in names)
        if away >= FAR and change <= LOCKED * away:
            held[" and ".join(names)] = (change, away)
    if held:
        change, away = min(held.values(), key=lambda found: found[0] / found[1])
        figures = {"pairs": float(len(held)), "change": change, "distance": away}
        yield Finding("locked", "warning", figures, named(held))
