"""The best factors of a given rank, found the same way on every machine.

Owns the truncated singular value decomposition of one matrix. Does not own products
(`gemm`) or sums over elements (`reductions`), of which alone it is made: with elementwise
IEEE operations and square roots.

Method (Halko, Martinsson, Tropp, "Finding structure with randomness", SIAM Review 2011,
algorithms 4.4 and 5.1): multiply by a random matrix of `rank` + `OVERSAMPLING` columns
drawn from the caller's key, orthonormalise, iterate `POWER_STEPS` times over the matrix
and its transpose, and decompose the small projection. If the matrix has no more than
`rank` + `OVERSAMPLING` directions the result is exact up to rounding; else the error is
that of the best factors but for a factor that falls with (s_next / s_rank)^(2 steps + 1).
Ours: orthonormal bases by Gram-Schmidt in column order, done twice; the small symmetric
eigenproblem by cyclic Jacobi with a fixed number of sweeps (Golub and Van Loan, 8.5);
directions below 2**-16 of the largest are left out; signs are pinned by making the
largest entry of each left vector positive, the first of equals.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from crdtmerge.numerics.reference.dtypes import Floats, Singles
from crdtmerge.numerics.reference.eigen import row_lengths, signs
from crdtmerge.numerics.reference.gemm import Sliced, matmul, sliced
from crdtmerge.numerics.reference.philox import random_words

OVERSAMPLING: Final = 8
POWER_STEPS: Final = 3
SWEEPS: Final = 12
CUTOFF: Final = 2.0**-16
"""Singular values below this share of the largest count as none."""

_VANISHED: Final = 2.0**-40
"""A column of which less than this is left depends on those before it."""

NEGLIGIBLE: Final = 2.0**-60
"""An entry below this share of the largest is left where it is."""


def jacobi(matrix: Floats) -> tuple[Floats, Floats]:
    """Return eigenvalues and, in columns, eigenvectors of a small symmetric matrix."""
    work, vectors = matrix.copy(), np.eye(matrix.shape[0])
    least = float(np.abs(matrix).max(initial=0.0)) * NEGLIGIBLE
    for _ in range(SWEEPS):
        for p in range(work.shape[0] - 1):
            for q in range(p + 1, work.shape[0]):
                if abs(work[p, q]) > least:
                    _rotate(work, vectors, p, q)
    return np.diagonal(work).copy(), vectors


@dataclass(frozen=True, slots=True)
class Tools:
    """What the factors are made with; every backend's gives the same bits."""

    matmul: Callable[[Floats | Sliced, Floats], Floats] = matmul
    sliced: Callable[[Floats], Sliced] = sliced
    row_lengths: Callable[[Floats], Floats] = row_lengths
    jacobi: Callable[[Floats], tuple[Floats, Floats]] = jacobi


REFERENCE: Final = Tools()


def low_rank_factors(
    matrix: Singles, rank: int, key: bytes, tools: Tools = REFERENCE
) -> tuple[Floats, Floats, Floats]:
    """Return (b, a, sigma) with b @ a the best product of `rank` for (m, n) `matrix`.

    `b` is (m, rank), `a` is (rank, n), each carries the square roots of the singular
    values `sigma`, largest first; what the matrix does not have is +0. The same `key` (8
    bytes) and matrix give the same bits everywhere; 1 <= rank <= min(m, n).
    """
    wide = matrix.astype(np.float64)
    basis = _range(wide, min(rank + OVERSAMPLING, *wide.shape), key, tools)
    projected = tools.matmul(basis.T, wide)
    values, vectors = tools.jacobi(tools.matmul(projected, projected.T))
    order = np.lexsort((np.arange(values.size), -values))[:rank]
    sigma = np.sqrt(np.maximum(values[order], 0.0))
    sigma[sigma < sigma[0] * CUTOFF] = 0.0
    left = tools.matmul(basis, vectors[:, order])
    left *= signs(left)
    root = np.sqrt(sigma)
    # The right side holds sigma already: left.T @ matrix = sigma * right vectors.
    shrink = np.divide(1.0, root, out=np.zeros(rank), where=root > 0)
    right = tools.matmul(left.T, wide) * shrink[:, np.newaxis]
    left *= root
    return left + 0.0, right + 0.0, sigma


def _range(matrix: Floats, columns: int, key: bytes, tools: Tools) -> Floats:
    """Return an orthonormal basis of what the matrix does most, one column each."""
    words = random_words(key, matrix.shape[1] * columns)
    # Centred, exact: odd multiples of 2**-32 in (-1, 1).
    drawn = (2.0 * words.astype(np.float64) - (2.0**32 - 1)) * 2.0**-32
    forth, back = tools.sliced(matrix), tools.sliced(matrix.T)
    basis = _orthonormal(tools.matmul(forth, drawn.reshape(-1, columns)), tools)
    for _ in range(POWER_STEPS):
        across = _orthonormal(tools.matmul(back, basis), tools)
        basis = _orthonormal(tools.matmul(forth, across), tools)
    return basis


def _orthonormal(columns: Floats, tools: Tools) -> Floats:
    """Return an orthonormal basis of the columns; a dependent column becomes zero."""
    rows = np.ascontiguousarray(columns.T)
    for place in range(len(rows)):
        row = rows[place : place + 1]
        before = tools.row_lengths(row)[0]
        for _ in range(2 if place else 0):
            along = tools.matmul(rows[:place], row.T)
            row -= tools.matmul(along.T, rows[:place])
        left = tools.row_lengths(row)[0]
        row *= 1.0 / left if left > before * _VANISHED else 0.0
    return rows.T


def _rotate(work: Floats, vectors: Floats, p: int, q: int) -> None:
    """Make the entry (p, q) zero by a rotation in the plane of p and q."""
    off = float(work[p, q])
    tau = (float(work[q, q]) - float(work[p, p])) / (2.0 * off)
    root = float(np.sqrt(1.0 + tau * tau))
    t = 1.0 / (tau + root) if tau >= 0 else -1.0 / (root - tau)
    c = 1.0 / float(np.sqrt(1.0 + t * t))
    s = t * c
    for table in (work.T, work, vectors.T):
        first, second = table[p] * c - table[q] * s, table[p] * s + table[q] * c
        table[p], table[q] = first, second
    work[p, q] = work[q, p] = 0.0
