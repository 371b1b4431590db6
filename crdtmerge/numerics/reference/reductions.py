"""Sums over the elements of a tensor, along one fixed tree.

Owns `dot` and `sum_of_squares`. Does not own sums over contributions (`grid`).

The tree, which is part of the contract. The items are padded with +0 to whole blocks of
65,536; item i of a block stands in lane i mod 64 and row i div 64.

1. Each lane starts at +0 and adds its rows 0 to 1,023 in order.
2. The 64 lane sums are halved: lane j adds lane j + 32 (for j < 32), then lane j + 16,
   and so on to one sum a block.
3. The block sums are padded with +0 to a power of two and added in neighbouring pairs,
   (0, 1), (2, 3), ..., until one is left. No items at all sum to +0.

Products of two float32 are exact in float64, so the adds alone round; products of float64
round once each. Nothing in it
depends on threads, on how the tensor is cut, or on a library's own way to sum.
"""

from typing import Final

import numpy as np

from crdtmerge.numerics.reference.dtypes import Floats, Singles

LANES: Final = 64
ROWS: Final = 1024
BLOCK_ITEMS: Final = LANES * ROWS

_GROUP_BLOCKS: Final = 16


def sum_of_squares(tau: Singles) -> float:
    """Return the sum of the squares of `tau`, in float64 along the tree."""
    return dot(tau, tau)


def dot(left: Singles | Floats, right: Singles | Floats) -> float:
    """Return the inner product of two flat arrays, in float64 along the tree."""
    sums = [np.zeros(0)]
    for start in range(0, left.size, _GROUP_BLOCKS * BLOCK_ITEMS):
        part = slice(start, start + _GROUP_BLOCKS * BLOCK_ITEMS)
        sums.append(_block_sums(np.multiply(left[part], right[part], dtype=np.float64)))
    return _tree_sum(np.concatenate(sums))


def _block_sums(products: Floats) -> Floats:
    """Return the sum of each block; rows of padding alone are left out, they add +0."""
    blocks = -(-products.size // BLOCK_ITEMS)
    rows = ROWS if blocks > 1 else -(-products.size // LANES)
    padded = np.zeros(blocks * rows * LANES)
    padded[: products.size] = products
    table = padded.reshape(blocks, rows, LANES)
    lanes = np.zeros((blocks, LANES))
    for row in range(rows):
        lanes += table[:, row, :]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def _tree_sum(sums: Floats) -> float:
    if not sums.size:
        return 0.0
    padded = np.zeros(1 << (sums.size - 1).bit_length())
    padded[: sums.size] = sums
    while padded.size > 1:
        padded = padded[0::2] + padded[1::2]
    return float(padded[0])
