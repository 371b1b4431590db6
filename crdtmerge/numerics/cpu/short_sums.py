"""Sums of bfloat16 models without a grid, wherever the grid would round nothing.

Owns the test that decides it for each block, and the sum. Does not own the grid's meaning
(`reference.grid`).

Weights mostly share a factor: W_k = u w_k and D = u d. With 2**t the power of two in u, and
every item of a block zero or of magnitude 2**low to 2**high, a product W_k x is a multiple
of 2**(low - 7 + t). If that is a multiple of the second limb's step, both limbs together
hold it exactly; if the whole sum, below sum|W| 2**high, then has at most 53 bits, adding
the limbs rounds nothing either. So the contract's result is that of the true sum, divided
once: sum(w_k x_k) / d, whose terms and partial sums have no more bits and are exact too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics.contract import LIMB_BITS
from crdtmerge.numerics.cpu.compiling import at, compiled
from crdtmerge.numerics.reference.grid import Grid
from crdtmerge.numerics.vectors import Items, Weighed

_DOUBLE_BITS: Final = 53
_FRACTION_BITS: Final = 7
_U16: Final = np.uint16
_U32: Final = np.uint32


@dataclass(frozen=True, slots=True)
class Short:
    """Weights and divisor without their common factor, and what a block must keep to.

    No weights: no block is summed in short. `reciprocal` is 0 if it is not exact.
    """

    weights: NDArray[np.float64]
    divisor: float
    reciprocal: float
    spread: int
    least: int


def short_of(terms: Sequence[Weighed], divisor: int, grid: Grid) -> Short:
    """Return how a sum is made in short, if it is one of bfloat16 items alone."""
    weights = [term.weight for term in terms]
    factor = gcd(*weights, divisor)
    narrow = all(
        isinstance(t.vector, Items) and t.vector.dtype == "BF16" for t in terms
    )
    if not (narrow and any(weights) and grid.limbs == 2):
        return Short(np.zeros(0), 1.0, 0.0, 0, 0)
    twos = (factor & -factor).bit_length() - 1
    bits = sum(map(abs, weights)).bit_length()
    rest = divisor // factor
    is_power = abs(rest) & (abs(rest) - 1) == 0
    return Short(
        np.array([weight // factor for weight in weights], np.float64),
        float(rest),
        1.0 / rest if is_power else 0.0,
        _DOUBLE_BITS - _FRACTION_BITS - bits + twos,
        grid.step_exponent - LIMB_BITS + _FRACTION_BITS - twos,
    )


@compiled
def is_short(table: Any, begin: int, n: int, spread: int, least: int) -> bool:
    """Tell whether the grid would round nothing of n items of every vector."""
    top: Any = _U16(0)
    low: Any = _U16(0xFFFF)
    for v in range(table.shape[0]):
        words = at(table[v, 2], np.uint16, begin + n)[begin:]
        for i in range(n):
            magnitude = _U16(words[i] & _U16(0x7FFF))
            top = max(top, magnitude)
            low = min(low, _U16(magnitude - _U16(1)))  # a zero is the largest then
    if top == 0:
        return True
    high = np.int64(top >> _U16(7)) - 126
    field: Any = (np.int64(low) + 1) >> 7
    lowest = (max(1, field)) - 127  # subnormals share the least exponent
    return bool(high - lowest <= spread and lowest >= least)


@compiled
def short_sum(
    table: Any,
    weights: Any,
    begin: int,
    n: int,
    divisor: float,
    reciprocal: float,
    out: Any,
) -> None:
    """Fill `out` with n sums of weighed items, divided."""
    sums = out[:n]
    for v in range(table.shape[0]):
        words = at(table[v, 2], np.uint16, begin + n)[begin:]
        if v:
            _add(words, weights[v], sums)
        else:
            _begin(words, weights[v], sums)
    if reciprocal != 0.0:
        for i in range(n):
            sums[i] = sums[i] * reciprocal
    else:
        for i in range(n):
            sums[i] = sums[i] / divisor


@compiled
def _begin(words: Any, weight: float, sums: Any) -> None:
    for i in range(sums.size):
        single = _U32(_U32(words[i]) << _U32(16)).view(np.float32)
        sums[i] = np.float64(single) * weight


@compiled
def _add(words: Any, weight: float, sums: Any) -> None:
    for i in range(sums.size):
        single = _U32(_U32(words[i]) << _U32(16)).view(np.float32)
        sums[i] += np.float64(single) * weight
