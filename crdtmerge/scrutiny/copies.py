"""Whose copy a contribution is: near, scaled, turned about, or in parts.

Owns what counts as a copy. Does not own products (`measuring`). Honest fine-tunes of
like data may have a cosine of 0.95, so a copy is told by how much nearer it is than all
others.
"""

from collections.abc import Iterator
from typing import Final

from crdtmerge.changes import Change, Whole, key_of
from crdtmerge.manifest import TensorEntry
from crdtmerge.scrutiny.findings import WHERE_MAX, Finding, Nearest, Severity
from crdtmerge.scrutiny.measuring import Measured
from crdtmerge.scrutiny.standing import Among, middle

SAME: Final = 1e-4
"""1 - |cosine| up to which two are multiples of one another, whoever else there is."""

NEAR: Final = 0.1
NEAR_SHARE: Final = 0.2
"""With three and more: up to the first, and this share of the median of all pairs."""

ROUNDED: Final = 0.05
"""Distance from the base, over its length, that rounding to another dtype may make."""

SHARED_ITEMS: Final = 64
"""Items of a tensor from which equal bytes are no accident."""


def nearest(measured: Measured, whole: Among, place: int) -> Nearest | None:
    """Return whose multiple a task vector most nearly is."""
    others = whole.others(place)
    if not others or not whole.lengths[place]:
        return None
    best = max(others, key=lambda other: abs(whole.cosine(place, other)))
    content = measured.company.subjects[best].content
    return Nearest(content, whole.cosine(place, best), whole.factor(place, best))


def copies(measured: Measured, whole: Among, place: int) -> Iterator[Finding]:
    """Yield whose multiples a task vector is."""
    if not whole.lengths[place]:
        return
    limit = _limit(whole, place)
    for other in whole.others(place):
        cosine = whole.cosine(place, other)
        if 1.0 - abs(cosine) <= limit:
            severity: Severity = "warning" if 1.0 - abs(cosine) <= SAME else "notice"
            figures = {"cosine": cosine, "factor": whole.factor(place, other)}
            content = measured.company.subjects[other].content
            yield Finding("copy", severity, figures, against=content)


def _limit(whole: Among, place: int) -> float:
    """Return how near a copy is: nearer than others are to one another."""
    everybody = [*whole.others(place), place]
    pairs = [
        1.0 - abs(whole.cosine(a, b)) for a in everybody for b in everybody if a < b
    ]
    if len(pairs) <= 1:
        return SAME
    return max(SAME, min(NEAR, NEAR_SHARE * middle(pairs)))


def _is_own(change: Change | None, entry: TensorEntry, distance: float) -> bool:
    """Tell whether a change is more than the base in another dtype, rounded.

    Who leaves a tensor alone and saves it in another dtype has the bytes of all who do.
    """
    if not isinstance(change, Whole) or change.entry.dtype == entry.dtype:
        return change is not None
    return bool(distance > ROUNDED)


def shared(measured: Measured, place: int) -> Iterator[Finding]:
    """Yield whose tensors a contribution has, byte for byte, in place of the base's."""
    company = measured.company
    mine = company.subjects[place]
    changed = [
        entry
        for entry, distance in zip(
            company.tensors, measured.distances(place), strict=True
        )
        if entry.items >= SHARED_ITEMS and _is_own(mine.change(entry), entry, distance)
    ]
    total = sum(entry.items for entry in changed)
    for other in company.subjects:
        if other is mine:
            continue
        same = [
            entry
            for entry in changed
            if key_of(mine.change(entry), entry) == key_of(other.change(entry), entry)
        ]
        if same:
            share = sum(entry.items for entry in same) / total
            figures = {"tensors": float(len(same)), "share": share}
            where = tuple(entry.name for entry in same[:WHERE_MAX])
            yield Finding("shares", "notice", figures, where, other.content)
