"""What strategies measure on vectors: thresholds, inner products, sums of magnitudes.

Owns these as functions of vectors, stored or differences. Does not own the tree of the
sums (`reductions`) nor selection on bits (`selection`).
"""

from collections.abc import Sequence

import numpy as np

from crdtmerge.numerics.reference.dtypes import Floats, Singles
from crdtmerge.numerics.reference.reading import parts_of, read, read_kept, read_tau
from crdtmerge.numerics.reference.reductions import gram, tree_sum
from crdtmerge.numerics.reference.selection import kth_magnitude
from crdtmerge.numerics.vectors import Keep, Tau, Vector


def task_vector_items(tau: Tau) -> Singles:
    """Return all items of a task vector."""
    found = np.empty(tau.count, dtype=np.float32)
    for part in parts_of(range(tau.count)):
        found[part.start : part.stop] = read_tau(tau, part)
    return found


def kth_largest(tau: Tau, k: int) -> float:
    """Return the k-th largest magnitude of a task vector, counted from 1."""
    return kth_magnitude(task_vector_items(tau), k)


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
        return np.abs(read_kept(tau, keep, part))

    return tree_sum(tau.count, values)
