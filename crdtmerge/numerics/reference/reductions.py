"""Sums over the elements of a tensor, along one fixed tree.

Owns `tree_sum` and what is made of it: `dot`, `sum_of_squares`, `gram`, `mean` and
`variance`; and the largest items, which need no tree. Does not own sums over contributions
(`grid`). Items are finite; whoever takes them in has seen to that (`dtypes`).

The tree, which is part of the contract. The items are padded with +0 to whole blocks of
65,536; item i of a block stands in lane i mod 64 and row i div 64.

1. Each lane starts at +0 and adds its rows 0 to 1,023 in order.
2. The 64 lane sums are halved: lane j adds lane j + 32 (for j < 32), then lane j + 16,
   and so on to one sum a block.
3. The block sums are padded with +0 to a power of two and added in neighbouring pairs,
   (0, 1), (2, 3), ..., until one is left. No items at all sum to +0.

Products of two float32 are exact in float64, so the adds alone round; products of float64
round once each. Nothing in it depends on threads, on how the tensor is cut, or on a
library's own way to sum.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations_with_replacement
from typing import Final

import numpy as np

from crdtmerge.errors import ContractError
from crdtmerge.numerics.reference.dtypes import Floats, Singles

LANES: Final = 64
ROWS: Final = 1024
BLOCK_ITEMS: Final = LANES * ROWS

_GROUP_BLOCKS: Final = 16


def sum_of_squares(tau: Singles | Floats) -> float:
    """Return the sum of the squares of `tau`, in float64 along the tree."""
    return dot(tau, tau)


def dot(left: Singles | Floats, right: Singles | Floats) -> float:
    """Return the inner product of two vectors, in float64 along the tree."""

    def products(part: range) -> Floats:
        cut = slice(part.start, part.stop)
        return np.multiply(left[cut], right[cut], dtype=np.float64)

    return tree_sum(left.size, products)


def mean(values: Singles | Floats) -> float:
    """Return the sum along the tree, divided once by the number of items.

    Raises:
        ContractError: there are no items, or their sum is beyond float64.
    """
    return _mean_of(values, lambda items: items.astype(np.float64), "mean")


def variance(values: Singles | Floats) -> float:
    """Return the mean of the squared deviations from the mean: two passes.

    Of the items that are given, not an estimate for others (divided by n, not n - 1). The
    first pass is `mean`; the second subtracts it, squares and adds along the tree, each
    step rounded once in float64.

    Raises:
        ContractError: there are no items, or a sum is beyond float64.
    """
    middle = np.float64(_mean_of(values, lambda x: x.astype(np.float64), "variance"))

    def squares(items: Singles | Floats) -> Floats:
        away = items - middle
        return away * away

    return _mean_of(values, squares, "variance")


def _mean_of(
    values: Singles | Floats, of: Callable[[Singles | Floats], Floats], name: str
) -> float:
    def made(part: range) -> Floats:
        return of(values[part.start : part.stop])

    with np.errstate(over="ignore", invalid="ignore"):  # `share` refuses what it made
        total = tree_sum(values.size, made)
    return share(total, values.size, name)


def share(total: float, items: int, name: str) -> float:
    """Return total / items for the reduction called `name`.

    Raises:
        ContractError: there are no items, or the total is not finite.
    """
    if not items:
        message = f"there is no {name} of no items"
        raise ContractError(message)
    if not math.isfinite(total):
        message = f"the {name} of {items} items is beyond float64"
        raise ContractError(message)
    return total / items


def largest(values: Singles | Floats) -> float:
    """Return the largest item; zero is +0.

    Raises:
        ContractError: there are no items.
    """
    if not values.size:
        message = "there is no largest of no items"
        raise ContractError(message)
    return float(values.max()) + 0.0


def largest_magnitude(values: Singles | Floats) -> float:
    """Return the largest magnitude, +0 of no items."""
    if not values.size:
        return 0.0
    return max(float(values.max()), -float(values.min())) + 0.0


def tree_sum(items: int, values: Callable[[range], Floats]) -> float:
    """Return the sum of `items` numbers along the tree; `values` gives those of a range."""
    sums = [np.zeros((1, 0))]
    sums += [_block_sums(values(part)[np.newaxis]) for part in _groups(items, 1)]
    return float(tree_sums(np.concatenate(sums, axis=1))[0])


def gram(
    items: int, count: int, values: Callable[[range], Sequence[Singles | Floats]]
) -> Floats:
    """Return the inner products of `count` vectors of `items`, each along the tree.

    Many such sets at once: `values` gives, for a range of items, one (sets, items) array
    for each vector; the result is (sets, count, count).
    """
    pairs = list(combinations_with_replacement(range(count), 2))
    sums: dict[tuple[int, int], list[Floats]] = {pair: [] for pair in pairs}
    for part in _groups(items) if items else [range(0)]:
        vectors = values(part)
        for i, j in pairs:
            products = np.multiply(vectors[i], vectors[j], dtype=np.float64)
            sums[i, j].append(_block_sums(products))
    found = [tree_sums(np.concatenate(sums[pair], axis=1)) for pair in pairs]
    matrix = np.empty((found[0].size, count, count))
    for (i, j), total in zip(pairs, found, strict=True):
        matrix[:, i, j] = matrix[:, j, i] = total
    return matrix


def _groups(items: int, blocks: int = _GROUP_BLOCKS) -> Iterator[range]:
    """Yield the ranges that are worked on at once: whole blocks, but for the last."""
    step = blocks * BLOCK_ITEMS
    for start in range(0, items, step):
        yield range(start, min(start + step, items))


def _block_sums(products: Floats) -> Floats:
    """Return the sum of each block of each set, (sets, items) to (sets, blocks).

    Rows of padding alone are left out: they add +0.
    """
    sets, items = products.shape
    blocks = -(-items // BLOCK_ITEMS)
    rows = ROWS if blocks > 1 else -(-items // LANES)
    padded = np.zeros((sets, blocks * rows * LANES))
    padded[:, :items] = products
    table = padded.reshape(sets * blocks, rows, LANES)
    lanes = np.zeros((sets * blocks, LANES))
    for row in range(rows):
        lanes += table[:, row, :]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes.reshape(sets, blocks)


def tree_sums(sums: Floats) -> Floats:
    """Return the sum of each set's blocks, (sets, blocks) to (sets,)."""
    sets, blocks = sums.shape
    if not blocks:
        return np.zeros(sets)
    padded = np.zeros((sets, 1 << (blocks - 1).bit_length()))
    padded[:, :blocks] = sums
    while padded.shape[1] > 1:
        padded = padded[:, 0::2] + padded[:, 1::2]
    return padded[:, 0]
