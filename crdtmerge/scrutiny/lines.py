"""Matrices as lines: their rows, or what lies across; and what became of each line.

Owns cutting a tensor into lines along one of its first two axes, and the comparison of
each line with the base's: how far it turned, how it was scaled, and which other line of
the base it is. Does not own what that means (`symmetries`). A hidden unit is a row of
one matrix and a column of the next; a convolution's channel a slab. Tensors above
`VALUES_MAX` are looked at in a part of each line, the same of both models: lines that
are equal are so in any part.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from crdtmerge.manifest import ITEM_BYTES, TensorEntry
from crdtmerge.numerics import Floats, Items, Shifted, matmul, row_sums, values_of
from crdtmerge.scrutiny.probing import columns, relative

VALUES_MAX: Final = 1 << 24
"""Values of a matrix that are held at once in float64."""

LINES_MAX: Final = 1 << 18
"""Lines that are compared; tensors with more along an axis are left out along it."""

SAMPLE: Final = 256
"""Lines that are looked for among those of the base, evenly chosen of all that moved."""

MOVED_BELOW: Final = 0.7
"""A line whose cosine with the base's own line is below this is another line."""

PARALLEL: Final = 0.98
"""Lines with a cosine (of either sign) from here on point the same way."""

FOUND: Final = 0.8
"""A line that moved is found again at this cosine with another line of the base."""

SCALES: Final = (0.5, 2.0)
"""A parallel line is scaled if its factor lies outside."""

LENGTH_MIN: Final = 16
"""Items of a line below which lines may be alike by chance."""


@dataclass(frozen=True, slots=True)
class LineFacts:
    """What became of the lines: how many there are, moved, are scaled.

    `found` is the share of those that moved that are another line of the base, on a
    sample. `mixed` is how far the products of all lines, summed, are from the base's, over
    what they would be for any other lines of that length: next to nothing where the lines
    were turned into one another by an orthogonal matrix, and about one for other lines.
    """

    count: int
    moved: int
    scaled: int
    found: float
    mixed: float


def lines_of(weights: Items | Shifted, entry: TensorEntry, axis: int) -> Floats:
    """Return (lines, items of a line, or a part of them) along axis 0 or 1, in float64."""
    rows = entry.shape[0]
    width = entry.items // rows
    count = entry.shape[axis]
    limit = max(LENGTH_MIN, VALUES_MAX // count)
    if axis == 1:
        taken = rows if entry.items <= VALUES_MAX else max(1, limit * count // width)
        block = _values(weights, entry, 0, min(rows, taken))
        shaped = block.reshape(-1, count, width // count)
        found: Floats = np.moveaxis(shaped, 1, 0).reshape(count, -1)
        return np.ascontiguousarray(found)
    step = max(1, VALUES_MAX // 4 // width)
    parts = [
        _values(weights, entry, at, min(rows, at + step))[:, :limit].copy()
        for at in range(0, rows, step)
    ]
    return np.concatenate(parts)


def _values(
    weights: Items | Shifted, entry: TensorEntry, start: int, stop: int
) -> Floats:
    """Return rows from `start` to `stop`."""
    width = entry.items // entry.shape[0]

    def cut(data: bytes | memoryview, dtype: str) -> memoryview:
        size = width * ITEM_BYTES[dtype]
        return memoryview(data).cast("B")[start * size : stop * size]

    part: Items | Shifted
    if isinstance(weights, Items):
        part = Items(cut(weights.data, weights.dtype), weights.dtype)
    else:
        tau, base = cut(weights.tau, "F32"), cut(weights.base, weights.dtype)
        part = Shifted(tau, base, weights.dtype)
    return values_of(part).reshape(stop - start, width)


def compare(theirs: Floats, base: Floats) -> LineFacts:
    """Return what became of the base's lines."""
    lengths, before = row_sums(theirs * theirs), row_sums(base * base)
    along = row_sums(theirs * base)
    there = (lengths > 0.0) & (before > 0.0)
    scale = np.where(there, np.sqrt(lengths) * np.sqrt(before), 1.0)
    cosines = np.where(there, along / scale, 1.0)
    factors = np.where(there, np.abs(along) / np.where(there, before, 1.0), 1.0)
    outside = (factors < SCALES[0]) | (factors > SCALES[1]) | (cosines < 0.0)
    scaled = (np.abs(cosines) >= PARALLEL) & outside
    moved = np.flatnonzero(np.abs(cosines) < MOVED_BELOW)
    return LineFacts(
        len(base),
        int(moved.size),
        int(np.count_nonzero(scaled)),
        _found(_units(theirs[_sampled(moved)]), _units(base[moved])),
        _mixed(theirs, base),
    )


def _mixed(theirs: Floats, base: Floats) -> float:
    """Return how far M' M of the lines M moved, over what chance would give.

    SUBTLE: of many short lines M' M hardly hangs on which lines they are: for random ones
    it moves by the root of twice their length over their number alone.
    """
    drawn = columns(base.shape[1])

    def seen(lines: Floats) -> Floats:
        return matmul(np.ascontiguousarray(lines.T), matmul(lines, drawn))

    by_chance = min(1.0, float(np.sqrt(2.0 * base.shape[1] / len(base))))
    return relative(seen(theirs), seen(base)) / by_chance


def _sampled(places: np.ndarray[tuple[int], np.dtype[np.intp]]) -> list[int]:
    """Return at most `SAMPLE` of the places, evenly chosen."""
    step = max(1, -(-places.size // SAMPLE))
    return [int(place) for place in places[::step]]


def _units(rows: Floats) -> Floats:
    """Return rows of length 1; a row of zeros stays."""
    lengths = np.sqrt(row_sums(rows * rows))
    found: Floats = rows / np.where(lengths > 0.0, lengths, 1.0)[:, np.newaxis]
    return found


def _found(some: Floats, base: Floats) -> float:
    """Return the share of `some` unit rows that are, up to sign, a row of `base`.

    Each row of the base stands for one row at most: two that are alike prove nothing.
    """
    if not len(some):
        return 0.0
    cosines = np.abs(matmul(some, base.T, 1))
    best = np.argmax(cosines, axis=1)
    near = cosines[np.arange(len(some)), best] >= FOUND
    return len(set(best[near].tolist())) / len(some)
