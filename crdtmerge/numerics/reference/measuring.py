"""What strategies measure on vectors: thresholds, inner products, sums of magnitudes.

Owns these as functions of vectors, stored or differences, and what stays of one. Does not
own the tree of the sums (`reductions`) nor selection on bits (`selection`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics.reference.dtypes import Floats, Singles
from crdtmerge.numerics.reference.masks import MASK_ITEMS, packed
from crdtmerge.numerics.reference.reading import (
    parts_of,
    read,
    read_kept,
    read_tau,
    step_of,
)
from crdtmerge.numerics.reference.reductions import gram, tree_sum
from crdtmerge.numerics.reference.selection import digit_of, kth_magnitude
from crdtmerge.numerics.vectors import Keep, Settled, Tau, Vector

FEW: Final = 1 << 12
"""Up to so many items are read at once, and no histogram is worth its while."""
_HALF_BITS: Final = 16
_MAGNITUDE: Final = np.uint32(0x7FFF_FFFF)


def kth_largest(tau: Tau, places: Sequence[int]) -> list[float]:
    """Return the k-th largest magnitude of a task vector for each k, counted from 1.

    Magnitudes are counted by the upper half of their bits, then those with the upper half
    of the one wanted by the lower half. Few are put in order instead: the value at a place
    is the same.
    """
    if tau.count <= FEW:
        values = read_tau(tau, range(tau.count))
        return [kth_magnitude(values, k) for k in places]
    found = []
    counts = _histogram(tau, None)
    for k in places:
        upper, place = digit_of(counts, k)
        lower, _ = digit_of(_histogram(tau, upper), place)
        bits = np.array([(upper << _HALF_BITS) | lower], np.uint32)
        found.append(float(bits.view(np.float32)[0]))
    return found


def _histogram(tau: Tau, upper: int | None) -> NDArray[np.int64]:
    """Count magnitudes by the upper half of their bits, or those with it by the lower."""
    half, lower = np.uint32(_HALF_BITS), np.uint32((1 << _HALF_BITS) - 1)
    counts = np.zeros(1 << _HALF_BITS, dtype=np.int64)
    for part in parts_of(range(tau.count)):
        bits = read_tau(tau, part).view(np.uint32) & _MAGNITUDE
        digits = bits >> half if upper is None else bits[bits >> half == upper] & lower
        counts += np.bincount(digits, minlength=counts.size)
    return counts


def inner_products(
    vectors: Sequence[Vector], length: int, sets: range, exponent: int
) -> Floats:
    """Return (sets, n, n) inner products of n vectors, each cut in rows of `length`.

    Items are scaled by 2**-exponent first, which is exact but for subnormals.
    """
    scale = 2.0**-exponent

    def values(part: range) -> list[Floats]:
        if len(sets) == 1:
            start = sets.start * length
            items = range(start + part.start, start + part.stop)
        else:
            items = range(sets.start * length, sets.stop * length)
        shape = (len(sets), len(items) // len(sets))
        cut = slice(0, len(part)) if len(sets) == 1 else slice(part.start, part.stop)
        return [(read(v, items) * scale).reshape(shape)[:, cut] for v in vectors]

    return gram(length, len(vectors), values)


def magnitude_sum(tau: Tau, keep: Keep) -> float:
    """Return the sum of the magnitudes of the items that stay, along the tree."""

    def values(part: range) -> Floats:
        found = np.empty(len(part))
        for block in parts_of(part, step_of([keep])):
            cut = slice(block.start - part.start, block.stop - part.start)
            np.abs(read_kept(tau, keep, block), out=found[cut])
        return found

    return tree_sum(tau.count, values)


def settle(tau: Tau, keep: Keep) -> Settled:
    """Return a rule with its answers, and the sums of magnitudes of all and of the kept.

    What is zero stays nowhere: it adds nothing either way.
    """
    step = max(step_of([keep]) // MASK_ITEMS, 1) * MASK_ITEMS
    masks = [
        packed(read_kept(tau, keep, part) != 0)
        for part in parts_of(range(tau.count), step)
    ]
    decided = replace(keep, mask=b"".join(masks))
    return Settled(decided, magnitude_sum(tau, Keep()), magnitude_sum(tau, decided))


def kept_of(tau: Tau, keep: Keep, part: range) -> Singles:
    """Return the items of `part` that stay as float32, the others +0."""
    found = np.empty(len(part), dtype=np.float32)
    for block in parts_of(part, step_of([keep])):
        cut = slice(block.start - part.start, block.stop - part.start)
        found[cut] = read_kept(tau, keep, block)
    return found
