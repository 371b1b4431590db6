"""Sums over the elements of an array along the fixed tree, in compiled loops.

Owns the fast forms of `reference.reductions` for arrays in memory. Does not own the tree,
nor the largest items, which NumPy finds at the speed of memory.
The 64 lanes of a block are what vector registers hold anyway, so that the order of the
contract costs nothing. A lane that has no item in the last row keeps its sum, as if +0
were added: no lane is ever -0, because it begins at +0.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crdtmerge.errors import ContractError
from crdtmerge.numerics.cpu.compiling import compiled
from crdtmerge.numerics.reference.dtypes import Floats, Singles
from crdtmerge.numerics.reference.reductions import BLOCK_ITEMS, LANES, share


@compiled
def tree_of(sums: Any) -> float:
    """Return the sum of block sums in neighbouring pairs; `sums` is used up.

    Its length is a power of two: the blocks' sums and then +0.
    """
    count = sums.size
    while count > 1:
        count //= 2
        for place in range(count):
            sums[place] = sums[2 * place] + sums[2 * place + 1]
    return float(sums[0])


@compiled
def lanes_of(lanes: Any) -> float:
    """Return the sum of 64 lanes by halving; they are used up."""
    half = LANES // 2
    while half:
        for lane in range(half):
            lanes[lane] += lanes[lane + half]
        half //= 2
    return float(lanes[0])


@compiled
def _sum(values: Any, sums: Any) -> None:
    lanes = np.empty(LANES)
    for block in range(-(-values.size // BLOCK_ITEMS)):
        part = values[block * BLOCK_ITEMS : (block + 1) * BLOCK_ITEMS]
        lanes[:] = 0.0
        for start in range(0, part.size, LANES):
            row = part[start : start + LANES]
            for lane in range(row.size):
                lanes[lane] += np.float64(row[lane])
        sums[block] = lanes_of(lanes)


@compiled
def _products(left: Any, right: Any, sums: Any) -> None:
    lanes = np.empty(LANES)
    for block in range(-(-left.size // BLOCK_ITEMS)):
        part = left[block * BLOCK_ITEMS : (block + 1) * BLOCK_ITEMS]
        other = right[block * BLOCK_ITEMS : (block + 1) * BLOCK_ITEMS]
        lanes[:] = 0.0
        paired = part.size - part.size % (2 * LANES)
        for start in range(0, paired, 2 * LANES):  # two rows: lanes are written once
            row = part[start : start + 2 * LANES]
            column = other[start : start + 2 * LANES]
            for lane in range(LANES):
                first = np.float64(row[lane]) * np.float64(column[lane])
                second = np.float64(row[LANES + lane]) * np.float64(
                    column[LANES + lane]
                )
                lanes[lane] = (lanes[lane] + first) + second
        for start in range(paired, part.size, LANES):
            row = part[start : start + LANES]
            column = other[start : start + LANES]
            for lane in range(row.size):
                lanes[lane] += np.float64(row[lane]) * np.float64(column[lane])
        sums[block] = lanes_of(lanes)


@compiled
def _deviations(values: Any, middle: float, sums: Any) -> None:
    lanes = np.empty(LANES)
    for block in range(-(-values.size // BLOCK_ITEMS)):
        part = values[block * BLOCK_ITEMS : (block + 1) * BLOCK_ITEMS]
        lanes[:] = 0.0
        for start in range(0, part.size, LANES):
            row = part[start : start + LANES]
            for lane in range(row.size):
                away = np.float64(row[lane]) - middle
                lanes[lane] += away * away
        sums[block] = lanes_of(lanes)


def sum_of_squares(tau: Singles | Floats) -> float:
    """Return the sum of the squares of `tau`, in float64 along the tree."""
    return dot(tau, tau)


def dot(left: Singles | Floats, right: Singles | Floats) -> float:
    """Return the inner product of two vectors, in float64 along the tree."""
    if left.size != right.size:
        message = f"vectors of {left.size} and {right.size} items have no product"
        raise ContractError(message)
    sums = _room(left.size)
    _products(np.ascontiguousarray(left), np.ascontiguousarray(right), sums)
    return tree_of(sums)


def mean(values: Singles | Floats) -> float:
    """Return the sum along the tree, divided once by the number of items."""
    return _mean(np.ascontiguousarray(values), "mean")


def variance(values: Singles | Floats) -> float:
    """Return the mean of the squared deviations from the mean: two passes."""
    kept = np.ascontiguousarray(values)
    middle, sums = _mean(kept, "variance"), _room(kept.size)
    _deviations(kept, middle, sums)
    return share(tree_of(sums), kept.size, "variance")


def _mean(values: NDArray[Any], name: str) -> float:
    sums = _room(values.size)
    _sum(values, sums)
    return share(tree_of(sums), values.size, name)


def _room(items: int) -> Floats:
    """Return +0 for each block, and more of them up to a power of two."""
    blocks = max(1, -(-items // BLOCK_ITEMS))
    return np.zeros(1 << (blocks - 1).bit_length())
