"""Exact sums over contributions: float64 used as fixed point.

Owns the grid of a tensor, putting products on it, and the sum that does not depend on
order. Does not own which terms are summed, nor the limits' values (`contract`).

A merge of the linear kind is sum(W_k * x_k) / D with integers W, in units of 10**-9. Each
product is made exactly (split where it needs more than 53 bits) and rounded to a multiple
of the grid step g by (v + C) - C with C = 1.5 * 2**52 * g: within |v| < 2**51 * g the sum
v + C lies where float64 has spacing g, so this rounds to nearest, ties to the even
multiple (C / g is even), and the same for v and -v. Multiples of g add without rounding,
so the sum has the same bits in every order, and taking a term away leaves those of a
fresh sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from crdtmerge.errors import ContractError
from crdtmerge.numerics.contract import (
    EXPONENT_MAX,
    EXPONENT_MIN,
    HEADROOM_BITS,
    LIMB_BITS,
    SUM_BITS,
    TERMS_MAX,
    WEIGHT_BITS,
    check_weights,
)
from crdtmerge.numerics.reference.dtypes import Floats, check_dtype

PRODUCT_BITS: Final = 53
"""Bits of a product that one float64 multiplication makes exactly."""

WEIGHT_SPLIT_BITS: Final = 20
"""A wide weight is W = sign * (W_hi * 2**20 + W_lo) with both parts below 2**20."""

VALUE_SPLIT_MASK: Final = np.uint64(2**64 - 2**27)
"""A wide float64 is x_hi + x_lo; x_hi has the low 27 bits of the pattern cleared."""

_SPLIT_VALUES_ABOVE_BITS: Final = 24
ROUNDING_SHIFT: Final = 1.5 * 2.0**52


@dataclass(frozen=True, slots=True)
class Grid:
    """The grid of one tensor: the first limb's step, 2**`step_exponent`, and the limbs."""

    step_exponent: int
    limbs: int


def theta_grid(exponent: int, dtype: str) -> Grid:
    """Return the grid for sums of W * theta, |theta| < 2**(exponent + headroom).

    `exponent` is that of the base's tensor, `dtype` the stored one. There are two limbs
    for every dtype: W = 10**9 w has 21 bits more than w, and with one limb alone those of
    W * theta that fall off decide means that lie halfway between two 16-bit items.

    Raises:
        ContractError: the exponent or the dtype is outside the contract.
    """
    return _grid(exponent, dtype, 0)


def tau_grid(exponent: int, dtype: str) -> Grid:
    """Return the grid for sums of W * tau, |tau| < 2**(exponent + headroom + 1).

    Raises:
        ContractError: the exponent or the dtype is outside the contract.
    """
    return _grid(exponent, dtype, 1)


def _grid(exponent: int, dtype: str, extra_bits: int) -> Grid:
    check_dtype(dtype)
    if not EXPONENT_MIN <= exponent <= EXPONENT_MAX:
        message = (
            f"exponent {exponent} of a base tensor is not in {EXPONENT_MIN} to"
            f" {EXPONENT_MAX}"
        )
        raise ContractError(message)
    step = exponent + HEADROOM_BITS + extra_bits + WEIGHT_BITS - SUM_BITS
    limbs = 1 if extra_bits and dtype not in {"F64", "F32"} else 2
    return Grid(step, limbs)


def weight_bits(weight: int) -> int:
    """Return the significant bits of `weight`: trailing zeros cost nothing."""
    magnitude = abs(weight)
    trailing = (magnitude & -magnitude).bit_length() - 1
    return magnitude.bit_length() - max(trailing, 0)


def split_weight(weight: int) -> tuple[int, int]:
    """Return the high and low part of a wide weight; they have its sign and its sum.

    SUBTLE: the split is by magnitude, so that |parts| add up to |W| (the range check
    counts on it) and -W splits into the negated parts (subtraction counts on it).
    """
    magnitude, sign = abs(weight), -1 if weight < 0 else 1
    low = magnitude & ((1 << WEIGHT_SPLIT_BITS) - 1)
    return sign * (magnitude - low), sign * low


class GridSum:
    """A sum of terms W * x over equally long arrays, exact on one grid.

    Each limb holds multiples of its own step: the first of 2**`step_exponent`, the second
    of 2**`LIMB_BITS` finer, which takes what the first leaves of a product. The caller
    keeps |x| below the bound that the grid was made for; the sum of |W| and the number of
    products are checked here.
    """

    def __init__(self, grid: Grid, items: int, limbs: Floats | None = None) -> None:
        """Begin with the empty sum, +0 everywhere; or go on with `limbs`, in place.

        What `limbs` hold already does not count in the limits that are checked here.
        """
        begun = np.zeros((grid.limbs, items)) if limbs is None else limbs
        self._limbs = list(begun)
        self._shifts = [
            ROUNDING_SHIFT * 2.0 ** (grid.step_exponent - LIMB_BITS * limb)
            for limb in range(grid.limbs)
        ]
        self._product = np.empty(items)
        self._rounded = np.empty(items)
        self._weight = 0
        self._terms = 0

    def add(self, values: Floats, weight: int, significand_bits: int) -> None:
        """Add weight * values; no value has more than `significand_bits`.

        Raises:
            ContractError: sum|W| or the number of products leaves the contract.
        """
        check_weights((self._weight, weight))
        terms = self._terms + pieces(weight, significand_bits)
        if terms > TERMS_MAX:
            message = f"a sum of {terms} products is above the limit of {TERMS_MAX}"
            raise ContractError(message)
        self._weight += abs(weight)
        self._terms = terms
        self._put(values, weight, significand_bits)

    def subtract(self, values: Floats, weight: int, significand_bits: int) -> None:
        """Take away a term that was added with the same arguments, without a trace.

        Raises:
            ContractError: more would be taken away than was added.
        """
        terms = self._terms - pieces(weight, significand_bits)
        if terms < 0 or abs(weight) > self._weight:
            message = "a term is taken out of a sum that does not hold it"
            raise ContractError(message)
        self._weight -= abs(weight)
        self._terms = terms
        self._put(values, -weight, significand_bits)

    def total(self) -> Floats:
        """Return the sum: the limbs added with one rounding; zero is always +0."""
        return total_of(self._limbs)

    def _put(self, values: Floats, weight: int, significand_bits: int) -> None:
        """Put every product on the grid: x_hi W_hi, x_hi W_lo, x_lo W_hi, x_lo W_lo."""
        if pieces(weight, significand_bits) == 1:
            self._put_product(values, weight)
            return
        parts = [values]
        if significand_bits > _SPLIT_VALUES_ABOVE_BITS:
            high = (values.view(np.uint64) & VALUE_SPLIT_MASK).view(np.float64)
            parts = [high, values - high]
        for part in parts:
            for factor in split_weight(weight):
                self._put_product(part, factor)

    def _put_product(self, values: Floats, factor: int) -> None:
        if factor == 0:  # would add +0 everywhere
            return
        product, rounded = self._product, self._rounded
        np.multiply(values, float(factor), out=product)
        for place, (limb, shift) in enumerate(
            zip(self._limbs, self._shifts, strict=True)
        ):
            if place:
                product -= rounded  # exact: what the limb before left over
            np.add(product, shift, out=rounded)
            rounded -= shift
            np.add(limb, rounded, out=limb)


def total_of(limbs: Sequence[Floats] | Floats) -> Floats:
    """Return what the limbs of a sum add up to, with one rounding; a fresh array."""
    if len(limbs) == 1:
        return limbs[0].copy()
    return limbs[0] + limbs[1]


def pieces(weight: int, significand_bits: int) -> int:
    """Return how many exact products a term W * x needs."""
    if weight_bits(weight) + significand_bits <= PRODUCT_BITS:
        return 1
    return 4 if significand_bits > _SPLIT_VALUES_ABOVE_BITS else 2


def divide(total: Floats, divisor: int) -> Floats:
    """Return total / divisor, one rounding; the divisor is an exact float64.

    Raises:
        ContractError: the divisor is zero or needs more than 53 bits.
    """
    check_divisor(divisor)
    return total / np.float64(divisor)


def check_divisor(divisor: int) -> None:
    """Refuse what a sum cannot be divided by exactly once.

    Raises:
        ContractError: the divisor is zero or needs more than 53 bits.
    """
    if divisor == 0 or int(float(divisor)) != divisor:
        message = f"a sum cannot be divided by {divisor} units"
        raise ContractError(message)
