"""Matrix products with the same bits on every BLAS: operands sliced to integers.

Owns the exact GEMM and the task vector of a pair of low-rank factors. Does not own what a
pair means (`crdtmerge.changes`).

An operand row (of the left) or column (of the right) with largest magnitude below 2**e
becomes 2**e * (q1 2**-b + q2 2**-2b) with integers |q1| <= 2**b, |q2| <= 2**(b-1), by
rounding to nearest, ties to even, twice. With 2b + ceil(log2 K) <= 53 every partial sum
of a product of slices over K terms is an integer of at most 2**53, which float64 holds
exactly: so a library may add in any order, with or without fused multiply-adds, on any
device. Source: Ootomo, Ozaki, Yokota, "DGEMM on integer matrix multiplication unit",
2024, and Ozaki et al. 2012 (error-free transformation of a matrix product). The four
products are added as (P11 + (P12 + P22 2**-b) 2**-b) 2**-2b, with P12 = Q1 R2 + Q2 R1;
what the slices cut off is below K 2**(1-2b) of the row's largest entry times the column's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crdtmerge.errors import ContractError
from crdtmerge.numerics.contract import prefix
from crdtmerge.numerics.reference.dtypes import Floats, Singles

PRODUCT_BITS: Final = 53
INNER_MAX: Final = 1 << 21
"""Largest inner dimension: slices keep 16 bits there."""

SLICES: Final = 2

Multiply: TypeAlias = Callable[[Floats, Floats], Floats]
"""A form of `matmul`: all give the same bits."""

BLOCK_ITEMS: Final = 1 << 20
"""Items of a product made at once; no output bit depends on it."""


@dataclass(frozen=True, slots=True)
class Sliced:
    """The rows of an operand as integers: to be multiplied many times, cut once."""

    bits: int
    exponents: NDArray[np.int64]
    high: Floats
    low: Floats

    def part(self, start: int, stop: int) -> "Sliced":
        """Return some of the rows."""
        rows = slice(start, stop)
        cut = self.exponents[rows], self.high[rows], self.low[rows]
        return Sliced(self.bits, *cut)


def slice_bits(inner: int) -> int:
    """Return the bits b of a slice for a product over `inner` terms.

    Raises:
        ContractError: the inner dimension is outside the contract.
    """
    if not 1 <= inner <= INNER_MAX:
        message = f"a matrix product over {inner} terms is not in 1 to {INNER_MAX}"
        raise ContractError(message)
    return (PRODUCT_BITS - (inner - 1).bit_length()) // 2


def matmul(left: Floats | Sliced, right: Floats, slices: int = SLICES) -> Floats:
    """Return left @ right for finite (m, K) and (K, n), the same bits everywhere.

    With one slice P11 alone is made: a quarter of the work, and an error of 2**-b of the
    row's largest entry times the column's for each of the K terms.

    Raises:
        ContractError: K is outside the contract.
    """
    rows, columns = len(left.high if isinstance(left, Sliced) else left), right.shape[1]
    other = sliced(right.T)
    product = np.empty((rows, columns))
    step = max(1, BLOCK_ITEMS // max(1, columns, right.shape[0]))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        if isinstance(left, Sliced):
            part = left.part(start, stop)
        else:
            part = sliced(left[start:stop])
        product[start:stop] = product_of(part, other, slices)
    return product


def row_products(rows: Floats) -> Floats:
    """Return rows @ rows.T, the inner products of rows: symmetric bit for bit.

    P12 is a sum of two products, of which one is the other's transpose: so swapping two
    rows adds the same two integers.

    Raises:
        ContractError: the rows' length is outside the contract.
    """
    return matmul(rows, rows.T)


def sliced(rows: Floats) -> Sliced:
    """Return each row's exponent and its two slices; a row of zeros has exponent 0.

    Raises:
        ContractError: the rows' length is outside the contract.
    """
    bits = slice_bits(rows.shape[1])
    _, exponents = np.frexp(np.abs(rows).max(axis=1))
    scaled = np.ldexp(rows, (bits - exponents)[:, np.newaxis])
    high = np.rint(scaled)
    scaled -= high  # exact: at most one half
    low = np.rint(np.ldexp(scaled, bits))
    return Sliced(bits, exponents.astype(np.int64), high, low)


def product_of(left: Sliced, right: Sliced, slices: int = SLICES) -> Floats:
    """Return the rows of `left` times the columns that the rows of `right` are."""
    bits = left.bits
    if slices == 1:
        total = left.high @ right.high.T
    else:
        total = left.low @ right.low.T
        total *= 2.0**-bits
        middle = left.high @ right.low.T
        middle += left.low @ right.high.T  # exact: at most 2**53
        total += middle
        total *= 2.0**-bits
        total += left.high @ right.high.T
    exponents = left.exponents[:, np.newaxis] + right.exponents
    scaled: Floats = np.ldexp(total, exponents - 2 * bits)
    scaled += 0.0  # a library may write a sum of nothing but zeros as -0
    return scaled


def low_rank(
    a: Floats,
    b: Floats,
    scale: float,
    *,
    transposed: bool,
    name: str = "",
    multiply: Multiply = matmul,
) -> Singles:
    """Return scale * (b @ a) as a flat task vector, rounded once to float32.

    `a` is (rank, in), `b` is (out, rank); the product is (out, in), or with `transposed`
    (in, out). Every zero is +0. Another form of `matmul` may be given.

    Raises:
        ContractError: an operand holds NaN or infinity, or an item is beyond float32.
    """
    if not (np.isfinite(scale) and np.isfinite(a).all() and np.isfinite(b).all()):
        message = f"{prefix(name)}a factor or its scale holds NaN or infinity"
        raise ContractError(message)
    left, right = (a.T, b.T) if transposed else (b, a)
    with np.errstate(over="ignore"):
        tau = (np.float64(scale) * multiply(left, right)).astype(np.float32)
    if not np.isfinite(tau).all():
        message = f"{prefix(name)}the product of its factors is beyond float32"
        raise ContractError(message)
    tau += np.float32(0)  # -0 + 0 = +0; everything else stays
    return tau.reshape(-1)
