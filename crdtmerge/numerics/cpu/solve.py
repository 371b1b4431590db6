"""Symmetric positive definite systems as compiled loops, the bits of `reference.solve`.

Owns loops that run over memory in a better order. Does not own the method or its limits.

L' is made row by row, in panels whose rows stay in the cache while they are subtracted
from the rows below; right sides run in strips of `WIDTH` columns.
"""

from functools import partial
from typing import Final

import numpy as np

from crdtmerge.numerics.cpu.compiling import compiled
from crdtmerge.numerics.cpu.eigen import WIDTH
from crdtmerge.numerics.cpu.threads import on_threads
from crdtmerge.numerics.reference import solve
from crdtmerge.numerics.reference.dtypes import Floats
from crdtmerge.numerics.reference.eigen import checked

PANEL: Final = 32
TILE: Final = 128
"""Rows of a panel and columns of a tile; no output bit depends on them."""


def cholesky(matrix: Floats) -> Floats:
    """Return the lower triangular L with L L' = `matrix`; above it all is +0.

    Raises:
        ContractError: the matrix is not square, symmetric and finite, or too large; or it
            is not positive definite.
    """
    checked(matrix)
    return np.ascontiguousarray(_upper(matrix).T)


def solve_spd(matrix: Floats, rhs: Floats, ridge: float = 0.0) -> Floats:
    """Return X with (`matrix` + `ridge` I) X = `rhs`, for one column or several.

    Raises:
        ContractError: the matrix is not square, symmetric and finite, or too large; or it
            is not positive definite, also with the ridge; or `rhs` does not fit or is not
            finite; or X is beyond float64.
    """
    raised = solve.ridged(matrix, rhs, ridge)
    checked(raised)
    upper = _upper(raised)
    lower = np.ascontiguousarray(upper.T)
    table = solve.columns_of(rhs)

    def work(start: int, stop: int) -> None:
        for left in range(start, stop, WIDTH):
            columns = slice(left, min(left + WIDTH, stop))
            strip = np.zeros((len(upper), WIDTH))
            strip[:, : columns.stop - left] = table[:, columns]
            _forward(strip, lower)
            _backward(strip, upper)
            table[:, columns] = strip[:, : columns.stop - left]

    on_threads(work, range(table.shape[1]), WIDTH)
    return solve.finite(table, rhs)


def _upper(matrix: Floats) -> Floats:
    """Return L', refusing a matrix that is not positive definite."""
    upper, limits = matrix.copy(), solve.pivot_limits(matrix)
    for first in range(0, len(upper), PANEL):
        failed = _factor_panel(upper, limits, first)
        if failed >= 0:
            raise solve.not_definite(failed)
        update = partial(_update, upper, first)
        on_threads(update, range(first + PANEL, len(upper)), TILE)
    return np.triu(upper) + 0.0


@compiled
def _factor_panel(upper: Floats, limits: Floats, first: int) -> int:
    """Write a panel of L' over its rows; return the first without a pivot, or -1."""
    side = limits.size
    stop = min(first + PANEL, side)
    for k in range(first, stop):
        row = upper[k]
        pivot = row[k]
        if not pivot > limits[k]:
            return k
        row[k] = np.sqrt(pivot)
        for j in range(k + 1, side):
            row[j] /= row[k]
        for i in range(k + 1, stop):
            under = upper[i]
            for j in range(i, side):
                under[j] -= row[i] * row[j]
    return -1


@compiled
def _update(upper: Floats, first: int, start: int, stop: int) -> None:
    """Subtract a whole panel's products from some of the columns below it."""
    packed = np.empty(PANEL * TILE)
    for begin in range(start, stop, TILE):
        width = min(TILE, stop - begin)
        for k in range(PANEL):
            for j in range(width):
                packed[k * TILE + j] = upper[first + k, begin + j]
        for i in range(first + PANEL, begin + width):
            into = upper[i, begin : begin + width]
            for k in range(0, PANEL, 4):
                p = packed[k * TILE : (k + 4) * TILE]
                u0, u1 = upper[first + k, i], upper[first + k + 1, i]
                u2, u3 = upper[first + k + 2, i], upper[first + k + 3, i]
                for j in range(width):
                    item = into[j] - u0 * p[j]
                    item = item - u1 * p[TILE + j]
                    item = item - u2 * p[2 * TILE + j]
                    into[j] = item - u3 * p[3 * TILE + j]


@compiled
def _forward(strip: Floats, lower: Floats) -> None:
    """Solve L y = b for a strip of right sides, in place."""
    x = strip.reshape(-1)
    for i in range(lower.shape[0]):
        into, row = x[i * WIDTH : (i + 1) * WIDTH], lower[i]
        whole = i // 4 * 4
        for k in range(0, whole, 4):
            y = x[k * WIDTH : (k + 4) * WIDTH]
            for j in range(WIDTH):
                item = into[j] - row[k] * y[j]
                item = item - row[k + 1] * y[WIDTH + j]
                item = item - row[k + 2] * y[2 * WIDTH + j]
                into[j] = item - row[k + 3] * y[3 * WIDTH + j]
        for k in range(whole, i):
            for j in range(WIDTH):
                into[j] -= row[k] * x[k * WIDTH + j]
        for j in range(WIDTH):
            into[j] /= row[i]


@compiled
def _backward(strip: Floats, upper: Floats) -> None:
    """Solve L' x = y for a strip of right sides, in place."""
    side = upper.shape[0]
    x = strip.reshape(-1)
    for i in range(side - 1, -1, -1):
        into, row = x[i * WIDTH : (i + 1) * WIDTH], upper[i]
        rest = (side - 1 - i) % 4
        for k in range(side - 4, i + rest, -4):
            y = x[k * WIDTH : (k + 4) * WIDTH]
            for j in range(WIDTH):
                item = into[j] - row[k + 3] * y[3 * WIDTH + j]
                item = item - row[k + 2] * y[2 * WIDTH + j]
                item = item - row[k + 1] * y[WIDTH + j]
                into[j] = item - row[k] * y[j]
        for k in range(i + rest, i, -1):
            for j in range(WIDTH):
                into[j] -= row[k] * x[k * WIDTH + j]
        for j in range(WIDTH):
            into[j] /= row[i]
