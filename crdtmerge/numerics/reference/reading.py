"""Reading vectors block by block, as the numbers that they stand for, and storing such.

Owns what `Items`, `Difference` and `Shifted` mean, and which items a `Keep` keeps. Does
not own the conversions (`dtypes`) or the words drawn (`philox`).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Final, assert_never

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics.reference.chances import limits_of, quotients_of
from crdtmerge.numerics.reference.dtypes import (
    ITEM_BYTES,
    Data,
    Floats,
    Singles,
    downcast,
    given_task_vector,
    task_vector,
    upcast,
)
from crdtmerge.numerics.reference.masks import unpacked
from crdtmerge.numerics.reference.philox import random_words
from crdtmerge.numerics.reference.selection import at_least, rank_in_row
from crdtmerge.numerics.vectors import (
    Chances,
    Difference,
    Items,
    Keep,
    Output,
    Shifted,
    Tau,
    Vector,
)

BLOCK_ITEMS: Final = 1 << 15
"""Items worked on at once; their float64 forms stay in a core's cache."""


def step_of(keeps: Iterable[Keep]) -> int:
    """Return how many items are worked on at once: no row that ranks is read twice."""
    rows = [k.chances.row for k in keeps if k.chances is not None and not k.mask]
    return max([BLOCK_ITEMS, *rows])


def parts_of(part: range, items: int = 0) -> Iterator[range]:
    """Yield the blocks that a range is worked on in; no bit depends on their `items`."""
    step = items or BLOCK_ITEMS
    for start in range(part.start, part.stop, step):
        yield range(start, min(start + step, part.stop))


def read(vector: Vector, part: range) -> Floats:
    """Return the items of `part` as float64.

    Raises:
        ContractError: a difference is beyond float32.
    """
    match vector:
        case Items(data, dtype):
            return upcast(_cut(data, dtype, part), dtype)
        case Difference():
            return read_tau(vector, part).astype(np.float64)
        case Shifted(tau, base, dtype):
            return upcast(_cut(base, dtype, part), dtype) + upcast(
                _cut(tau, "F32", part), "F32"
            )
        case _:
            assert_never(vector)


def read_tau(vector: Tau, part: range) -> Singles:
    """Return the items of `part` of a task vector, every zero +0.

    Raises:
        ContractError: a difference is beyond float32.
    """
    if isinstance(vector, Items):
        return given_task_vector(_cut(vector.data, vector.dtype, part), vector.dtype)
    theta = upcast(_cut(vector.theta, vector.dtype, part), vector.dtype)
    base = upcast(_cut(vector.base, vector.of_base, part), vector.of_base)
    return task_vector(theta, base, vector.name)


def read_kept(tau: Tau, keep: Keep, part: range) -> Floats:
    """Return the items of `part` that stay, the others +0, as float64.

    Raises:
        ContractError: a difference, or what is rescaled, is beyond float32.
    """
    if keep.mask:
        items = read_tau(tau, part).astype(np.float64)
        return np.where(unpacked(keep.mask, part), items, 0.0)
    if keep.chances is not None:
        return _read_ranked(tau, keep, keep.chances, part)
    found = read_tau(tau, part)
    stays = _in_band(found, keep)
    if keep.draws:
        words = random_words(keep.key, len(part), part.start)
        stays &= words < np.uint64(keep.limit)
    return np.where(stays, found.astype(np.float64), 0.0)


def _read_ranked(tau: Tau, keep: Keep, chances: Chances, part: range) -> Floats:
    """Read whole rows, since an item's chance depends on its row; return `part`."""
    row = chances.row
    rows = range(part.start // row * row, -(-part.stop // row) * row)
    found = read_tau(tau, rows)
    ranks = rank_in_row(found, row)
    words = random_words(keep.key, len(rows), rows.start)
    stays = _in_band(found, keep) & (words < limits_of(chances)[ranks])
    items = np.where(stays, found.astype(np.float64), 0.0)
    if chances.rescaled:
        name = tau.name if isinstance(tau, Difference) else ""
        items = _singles(items / quotients_of(chances)[ranks], name)
    return items[part.start - rows.start :][: len(part)]


def _singles(items: Floats, name: str) -> Floats:
    """Round to float32, once."""
    return upcast(downcast(items, "F32", name), "F32")


def _in_band(tau: Singles, keep: Keep) -> NDArray[np.bool_]:
    stays: NDArray[np.bool_] = at_least(tau, keep.least)
    if keep.most < math.inf:
        stays &= np.abs(tau) <= np.float32(keep.most)
    return stays


def stored(compute: Callable[[range], Floats], output: Output, items: int = 0) -> Data:
    """Return what is computed in blocks of `items`, rounded once at the end.

    Raises:
        ContractError: a result is beyond the output dtype.
    """
    return b"".join(
        downcast(compute(block), output.dtype, output.name)
        for block in parts_of(output.part, items)
    )


def _cut(data: Data, dtype: str, part: range) -> memoryview:
    size = ITEM_BYTES[dtype]
    return memoryview(data).cast("B")[part.start * size : part.stop * size]
