"""Sums over the elements of an array along the fixed tree, on the device.

Owns the device's forms of `reference.reductions` for arrays, and the sums of blocks that
they and `measuring` are made of. Does not own the tree: lanes are summed here in its
order, many blocks side by side, and the few sums of blocks by the reference.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from numpy.typing import NDArray
from torch import Tensor

from crdtmerge.errors import ContractError
from crdtmerge.numerics.cuda.device import blocks_of, moved_array
from crdtmerge.numerics.reference.dtypes import Floats, Singles
from crdtmerge.numerics.reference.reductions import (
    BLOCK_ITEMS,
    LANES,
    ROWS,
    share,
    tree_sums,
)

PRODUCT_ITEMS: Final = 1 << 24
"""Items and products held at once, 128 MiB; never less than one block of each."""

_ARRAY_BUFFERS: Final = 4
"""What a sum over arrays holds: two of them, products, padding."""


def room_for(buffers: int) -> int:
    """Return how many items of each of so many buffers are held: whole blocks."""
    return max(1, PRODUCT_ITEMS // buffers // BLOCK_ITEMS) * BLOCK_ITEMS


def block_sums(values: Tensor) -> Tensor:
    """Return the sum of each block of each set, (sets, items) to (sets, blocks).

    Rows of padding alone are left out: they add +0.
    """
    sets, items = values.shape
    blocks = -(-items // BLOCK_ITEMS)
    rows = ROWS if blocks > 1 else -(-items // LANES)
    padded = values.new_zeros((sets, blocks * rows * LANES))
    padded[:, :items] = values
    table = padded.view(sets * blocks, rows, LANES)
    lanes = values.new_zeros((sets * blocks, LANES))
    for row in range(rows):
        lanes += table[:, row]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes.view(sets, blocks)


def sum_of_squares(tau: Singles | Floats) -> float:
    """Return the sum of the squares of `tau`, in float64 along the tree."""
    return _sum(lambda x: x * x, tau)


def dot(left: Singles | Floats, right: Singles | Floats) -> float:
    """Return the inner product of two vectors, in float64 along the tree."""
    if left.size != right.size:
        message = f"vectors of {left.size} and {right.size} items have no product"
        raise ContractError(message)
    return _sum(lambda x, y: x * y, left, right)


def mean(values: Singles | Floats) -> float:
    """Return the sum along the tree, divided once by the number of items."""
    return share(_sum(lambda x: x, values), values.size, "mean")


def variance(values: Singles | Floats) -> float:
    """Return the mean of the squared deviations from the mean: two passes."""
    middle = share(_sum(lambda x: x, values), values.size, "variance")

    def squares(x: Tensor) -> Tensor:
        away = x - middle
        return away * away

    return share(_sum(squares, values), values.size, "variance")


def largest(values: Singles | Floats) -> float:
    """Return the largest item; zero is +0."""
    if not values.size:
        message = "there is no largest of no items"
        raise ContractError(message)
    return max(_extremes(values, lambda x: x)) + 0.0


def largest_magnitude(values: Singles | Floats) -> float:
    """Return the largest magnitude, +0 of no items."""
    return max(_extremes(values, torch.abs), default=0.0)


def _extremes(
    values: Singles | Floats, of: Callable[[Tensor], Tensor]
) -> Iterator[float]:
    flat = values.reshape(-1)
    for part in blocks_of(range(flat.size)):
        yield float(of(moved_array(flat[part.start : part.stop])).amax())


def _sum(of: Callable[..., Tensor], *arrays: NDArray[Any]) -> float:
    """Return the sum along the tree of what `of` makes of arrays, as float64."""
    sums = [moved_array(arrays[0][:0]).to(torch.float64)[None]]
    for part in blocks_of(range(arrays[0].size), room_for(_ARRAY_BUFFERS)):
        cut = slice(part.start, part.stop)
        items = [moved_array(array[cut]).to(torch.float64) for array in arrays]
        sums.append(block_sums(of(*items)[None]))
    return float(tree_sums(torch.cat(sums, dim=1).cpu().numpy())[0])
