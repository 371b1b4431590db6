"""Exact products with fewer passes over memory, the bits of `reference.gemm`.

Owns slicing and combining as compiled loops, and products of rows by halves. Does not own
the method: the products of slices are made by the same library, exact whatever its order.

An operand is cut in one pass after one that finds its exponents, rows or columns alike, so
nothing is transposed; the four products are combined and scaled in one pass.
"""

from typing import Final

import numpy as np

from crdtmerge.numerics.cpu.compiling import compiled
from crdtmerge.numerics.reference import gemm
from crdtmerge.numerics.reference.dtypes import Floats, Singles

ROUND: Final = 1.5 * 2.0**52
"""(x + ROUND) - ROUND is x rounded to an integer, ties to even, for |x| below 2**51."""

REACH: Final = 400
"""Exponents up to this keep scales, their products and results far from float64's ends."""

HALVES_ROWS_MAX: Final = 1 << 12
"""Up to so many rows their four products are held whole; no output bit depends on it."""

TILE: Final = 32


def matmul(
    left: Floats | gemm.Sliced, right: Floats, slices: int = gemm.SLICES
) -> Floats:
    """Return left @ right for finite (m, K) and (K, n), the same bits everywhere.

    Raises:
        ContractError: K is outside the contract.
    """
    rows = len(left.high if isinstance(left, gemm.Sliced) else left)
    inner, columns = right.shape
    other = sliced(right.T)
    product = np.empty((rows, columns))
    step = max(1, gemm.BLOCK_ITEMS // max(1, columns, inner))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        if isinstance(left, gemm.Sliced):
            part = left.part(start, stop)
        else:
            part = sliced(left[start:stop])
        product[start:stop] = product_of(part, other, slices)
    return product


def row_products(rows: Floats) -> Floats:
    """Return rows @ rows.T, the inner products of rows: symmetric bit for bit.

    Raises:
        ContractError: the rows' length is outside the contract.
    """
    cut = sliced(rows)
    if len(rows) > HALVES_ROWS_MAX or not _is_near(cut):
        return matmul(rows, rows.T)
    # The library makes one half of a product with its own transpose.
    highest, lowest = cut.high @ cut.high.T, cut.low @ cut.low.T
    _combine_symmetric(highest, cut.high @ cut.low.T, lowest, _scales(cut), cut.bits)
    return highest


def sliced(rows: Floats) -> gemm.Sliced:
    """Return each row's exponent and its two slices; a row of zeros has exponent 0.

    Raises:
        ContractError: the rows' length is outside the contract.
    """
    bits = gemm.slice_bits(rows.shape[1])
    across = not rows.flags.c_contiguous and rows.flags.f_contiguous
    table = rows.T if across else np.ascontiguousarray(rows)
    largest = _largest_of_columns(table) if across else _largest_of_rows(table)
    exponents = np.frexp(largest)[1].astype(np.int64)
    if not (np.abs(exponents) <= REACH).all():
        return gemm.sliced(rows)
    scales = np.ldexp(1.0, bits - exponents)
    high, low = np.empty(table.shape), np.empty(table.shape)
    _cut(table, scales, across, 2.0**bits, high, low)
    return gemm.Sliced(bits, exponents, *((high.T, low.T) if across else (high, low)))


def product_of(
    left: gemm.Sliced, right: gemm.Sliced, slices: int = gemm.SLICES
) -> Floats:
    """Return the rows of `left` times the columns that the rows of `right` are."""
    if slices == 1 or not (_is_near(left) and _is_near(right)):
        return gemm.product_of(left, right, slices)
    highest, lowest = left.high @ right.high.T, left.low @ right.low.T
    middle, other = left.high @ right.low.T, left.low @ right.high.T
    scales = _scales(left), _scales(right)
    _combine(highest, middle, other, lowest, *scales, 2.0**-left.bits)
    return highest


def low_rank(
    a: Floats, b: Floats, scale: float, *, transposed: bool, name: str = ""
) -> Singles:
    """Return scale * (b @ a) as a flat task vector, rounded once to float32.

    Raises:
        ContractError: an operand holds NaN or infinity, or an item is beyond float32.
    """
    return gemm.low_rank(a, b, scale, transposed=transposed, name=name, multiply=matmul)


def _is_near(cut: gemm.Sliced) -> bool:
    """Tell whether results can be scaled by two multiplications, both exact."""
    return bool((np.abs(cut.exponents) <= REACH).all())


def _scales(cut: gemm.Sliced) -> Floats:
    """Return what each row's integers are multiplied by."""
    return np.ldexp(1.0, cut.exponents - cut.bits)


@compiled
def _largest_of_rows(table: Floats) -> Floats:
    """Return the largest magnitude in each row."""
    found = np.zeros(table.shape[0])
    lanes = np.zeros(TILE)
    for row in range(table.shape[0]):
        items = table[row]
        whole = items.size // TILE * TILE
        for start in range(0, whole, TILE):
            for lane in range(TILE):
                lanes[lane] = max(lanes[lane], abs(items[start + lane]))
        for place in range(whole, items.size):
            lanes[0] = max(lanes[0], abs(items[place]))
        for lane in range(TILE):
            found[row] = max(found[row], lanes[lane])
            lanes[lane] = 0.0
    return found


@compiled
def _largest_of_columns(table: Floats) -> Floats:
    """Return the largest magnitude in each column."""
    found = np.zeros(table.shape[1])
    for row in range(table.shape[0]):
        items = table[row]
        for column in range(items.size):
            found[column] = max(found[column], abs(items[column]))
    return found


@compiled
def _cut(
    table: Floats, scales: Floats, across: bool, finer: float, high: Floats, low: Floats
) -> None:
    """Write the two slices of every item, scaled by its row or, `across`, its column."""
    for row in range(table.shape[0]):
        items, upper, lower = table[row], high[row], low[row]
        for place in range(items.size):
            scaled = items[place] * scales[place if across else row]
            rounded = (scaled + ROUND) - ROUND
            upper[place] = rounded
            lower[place] = ((scaled - rounded) * finer + ROUND) - ROUND


@compiled
def _combine(
    highest: Floats,
    middle: Floats,
    other: Floats,
    lowest: Floats,
    scales: Floats,
    across: Floats,
    finer: float,
) -> None:
    """Write the product of two operands over `highest`, the product of first slices."""
    for row in range(highest.shape[0]):
        h, m, o, w, scale = (
            highest[row],
            middle[row],
            other[row],
            lowest[row],
            scales[row],
        )
        for j in range(h.size):
            total = w[j] * finer + (m[j] + o[j])
            total = total * finer + h[j]
            h[j] = total * scale * across[j] + 0.0


@compiled
def _combine_symmetric(
    highest: Floats, middle: Floats, lowest: Floats, scales: Floats, bits: int
) -> None:
    """Write the products of rows with rows over `highest`, tile after tile."""
    finer, side = 2.0**-bits, scales.size
    for top in range(0, side, TILE):
        for left in range(0, side, TILE):
            for row in range(top, min(top + TILE, side)):
                for j in range(left, min(left + TILE, side)):
                    total = lowest[row, j] * finer + (middle[row, j] + middle[j, row])
                    total = total * finer + highest[row, j]
                    highest[row, j] = total * scales[row] * scales[j] + 0.0
