"""The exact products that a sum is made of, as loops take them.

Owns splitting terms into products, and the shifts of a grid. Does not own which splits
are exact (`reference.grid`), nor what is done with products (`sums`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics.contract import LIMB_BITS
from crdtmerge.numerics.cpu.compiling import compiled
from crdtmerge.numerics.reference.grid import (
    ROUNDING_SHIFT,
    VALUE_SPLIT_MASK,
    Grid,
    pieces,
    split_weight,
)
from crdtmerge.numerics.vectors import Vector

Array: TypeAlias = NDArray[Any]

WHOLE: Final = 0
_HIGH: Final = 1
_LOW: Final = 2
_SPLIT: Final = np.uint64(VALUE_SPLIT_MASK)


@dataclass(frozen=True, slots=True)
class Products:
    """The exact products of a sum: which vector, times what, and which part of it."""

    vectors: Array
    factors: Array
    halves: Array


def products_of(terms: Sequence[tuple[Vector, int, int]]) -> Products:
    """Return the products of (vector, weight, significand bits), as `GridSum` has them."""
    rows: list[tuple[int, float, int]] = []
    for place, (_, weight, bits) in enumerate(terms):
        number = pieces(weight, bits)
        factors = [weight] if number == 1 else split_weight(weight)
        halves = [_HIGH, _LOW] if number == 4 else [WHOLE]
        used = [float(factor) for factor in factors if factor or number == 1]
        rows += [(place, factor, half) for half in halves for factor in used]
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    vectors, factors_, halves_ = columns
    return Products(
        np.array(vectors, dtype=np.int64),
        np.array(factors_, dtype=np.float64),
        np.array(halves_, dtype=np.int64),
    )


def shifts_of(grid: Grid) -> Array:
    """Return C of each limb; that of a limb that is not there is zero."""
    shifts = np.zeros(2)
    for limb in range(grid.limbs):
        shifts[limb] = ROUNDING_SHIFT * 2.0 ** (grid.step_exponent - LIMB_BITS * limb)
    return shifts


@compiled
def halve(half: int, x: Array, n: int, out: Array) -> None:
    """Fill `out` with the high or the low part of n values."""
    for i in range(n):
        high = np.uint64(np.float64(x[i]).view(np.uint64) & _SPLIT).view(np.float64)
        out[i] = high if half == _HIGH else x[i] - high
