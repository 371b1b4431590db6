"""Whole vectors as arrays, and formulas of single items over all contributions.

Owns reading vectors into arrays, rounding arrays back, the sum over contributions that no
order changes, and the sums of many rows. Does not own the formulas: strategies write these
with single float64 operations, which the contract allows anywhere (`+ - * /`, square root,
magnitude, comparison, choice), and nothing else (tests/unit/test_strategies_arithmetic.py).

There is one form, in NumPy: such operations have equal bits wherever they run.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

import numpy as np

from crdtmerge.numerics.kernels import check_part
from crdtmerge.numerics.reference.dtypes import Data, Floats, Singles, downcast
from crdtmerge.numerics.reference.reading import parts_of, read, read_tau, stored
from crdtmerge.numerics.vectors import Output, Tau, Vector

BLOCK_ITEMS: Final = 1 << 16
"""Items that a formula is given at once: enough that compiled functions serve it."""

NETWORK_MAX: Final = 32
"""Rows up to which a sorting network is faster than sorting columns."""


def each_item(
    vectors: Sequence[Vector], output: Output, formula: Callable[[Floats], Floats]
) -> Data:
    """Return the output's items of `formula`, rounded once to the output dtype.

    `formula` takes (vectors, items) in float64, a block of items at a time, and returns
    (items,): it must not look from one item at another, nor at which block it is.

    Raises:
        ContractError: sizes differ, or a result is beyond the output dtype.
    """
    check_part(vectors, output)

    def compute(block: range) -> Floats:
        return formula(np.stack([read(vector, block) for vector in vectors]))

    return stored(compute, output, BLOCK_ITEMS)


def values_of(vector: Vector) -> Floats:
    """Return all items of a vector as float64: 8 bytes each.

    Raises:
        ContractError: a difference is beyond float32.
    """
    return read(vector, range(vector.count))


def singles_of(tau: Tau) -> Singles:
    """Return all items of a task vector as float32, every zero +0.

    Raises:
        ContractError: a difference is beyond float32.
    """
    found = np.empty(tau.count, dtype=np.float32)
    for part in parts_of(range(tau.count)):
        found[part.start : part.stop] = read_tau(tau, part)
    return found


def rounded(values: Floats, name: str = "") -> Singles:
    """Return float64 items as float32, each rounded once, to nearest even.

    Raises:
        ContractError: an item is beyond float32; `name` says of what.
    """
    return np.frombuffer(downcast(values, "F32", name), "<f4")


def sum_over(rows: Floats) -> Floats:
    """Return the sum of (contributions, items) over contributions: (items,).

    The values of an item are sorted first, then added one by one in float64: so the
    order of contributions changes no bit, as it would in a plain sum. Zero is +0.
    """
    total = np.zeros(rows.shape[1:])
    for row in sorted_over(rows):
        total = total + row
    return total


def sums_in_order(terms: Floats, begun: Floats) -> Floats:
    """Return the sums of rows of terms, (rows,), from the first to the last.

    `begun`, (rows,), comes before the first: long rows may be summed piece by piece.

    SUBTLE: NumPy's `sum` takes them in pairs; its `accumulate`, of which every partial sum
    is an output, one after the other.
    """
    first = np.concatenate([begun[:, np.newaxis], terms], axis=1)
    return np.add.accumulate(first, axis=1)[:, -1]


def sorted_over(rows: Floats) -> Sequence[Floats]:
    """Return (contributions, items) with each item's values from low to high, as rows.

    Every zero is +0, so equal values have equal bits, and any way to sort gives the same.
    Few rows go through a network of compare and exchange, which takes whole rows at once:
    a fifth of the time of sorting columns.
    """
    if len(rows) > NETWORK_MAX:
        return list(np.sort(rows + 0.0, axis=0))
    found = list(rows + 0.0)
    for low, high in _network(len(found)):
        below, above = found[low], found[high]
        found[low], found[high] = np.minimum(below, above), np.maximum(below, above)
    return found


@cache
def _network(count: int) -> tuple[tuple[int, int], ...]:
    """Return the places that are compared in turn to sort `count` values.

    Batcher's odd-even merge sort (1968, https://doi.org/10.1145/1468075.1468121), for any
    number of values.
    """
    pairs: list[tuple[int, int]] = []
    block = 1
    while block < count:
        step = block
        while step:
            pairs += [
                (i + j, i + j + step)
                for j in range(step % block, count - step, 2 * step)
                for i in range(min(step, count - j - step))
                if (i + j) // (2 * block) == (i + j + step) // (2 * block)
            ]
            step //= 2
        block *= 2
    return tuple(pairs)


def row_sums(rows: Floats) -> Floats:
    """Return the sum of each row of (rows, items), in float64: (rows,).

    A row is padded with +0 to a power of two and halved, its second half added to its
    first item by item, until one item is left. No items sum to +0; no sum is -0.
    """
    count, items = rows.shape
    if not items:
        return np.zeros(count)
    folded, half = rows, (1 << (items - 1).bit_length()) >> 1
    while half:
        first = folded[:, :half].copy()
        first[:, : folded.shape[1] - half] += folded[:, half:]
        folded, half = first, half >> 1
    found: Floats = folded[:, 0] + 0.0
    return found
