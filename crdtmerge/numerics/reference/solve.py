"""Symmetric positive definite systems, in one fixed order of single IEEE operations.

Owns `cholesky` and `solve_spd`. Does not own where the matrices come from.

A = L L' by columns: an item starts as that of A; for k = 0, 1, ... the product l_ik l_jk is
subtracted, one multiplication and one subtraction at a time; then it is divided by l_jj, or
rooted on the diagonal. L y = b is solved for k rising, L' x = y for k falling, each item
again one product after the other. Items may be computed side by side, but none in another
order (Golub and Van Loan, 4.2 and 3.1).
"""

from typing import Final

import numpy as np

from crdtmerge.errors import ContractError
from crdtmerge.numerics.reference.dtypes import Floats
from crdtmerge.numerics.reference.eigen import check_finite, checked

PIVOT_MIN: Final = 2.0**-40
"""A pivot of at most this share of its diagonal entry is rounding, not a pivot."""


def cholesky(matrix: Floats) -> Floats:
    """Return the lower triangular L with L L' = `matrix`; above it all is +0.

    Raises:
        ContractError: the matrix is not square, symmetric and finite, or too large; or it
            is not positive definite.
    """
    checked(matrix)
    work, limits = matrix.copy(), pivot_limits(matrix)
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(len(work)):
            pivot = work[k, k]
            if not pivot > limits[k]:  # NaN is none either
                raise not_definite(k)
            work[k:, k] /= np.sqrt(pivot)
            work[k, k] = np.sqrt(pivot)
            below = work[k + 1 :, k]
            work[k + 1 :, k + 1 :] -= np.multiply.outer(below, below)
    return np.tril(work) + 0.0


def solve_spd(matrix: Floats, rhs: Floats, ridge: float = 0.0) -> Floats:
    """Return X with (`matrix` + `ridge` I) X = `rhs`, for one column or several.

    Raises:
        ContractError: the matrix is not square, symmetric and finite, or too large; or it
            is not positive definite, also with the ridge; or `rhs` does not fit or is not
            finite; or X is beyond float64.
    """
    lower = cholesky(ridged(matrix, rhs, ridge))
    table = columns_of(rhs)
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(len(lower)):
            table[k] /= lower[k, k]
            table[k + 1 :] -= np.multiply.outer(lower[k + 1 :, k], table[k])
        for k in range(len(lower) - 1, -1, -1):
            table[k] /= lower[k, k]
            table[:k] -= np.multiply.outer(lower[k, :k], table[k])
    return finite(table, rhs)


def ridged(matrix: Floats, rhs: Floats, ridge: float) -> Floats:
    """Return the matrix with `ridge` added to its diagonal; refuse a system that is none.

    Raises:
        ContractError: the matrix is not square, symmetric and finite, or too large; or
            `rhs` does not fit or is not finite; or the ridge is negative or not finite.
    """
    checked(matrix)
    if rhs.ndim not in {1, 2} or rhs.shape[0] != len(matrix):
        message = f"a right side of shape {rhs.shape} does not fit {len(matrix)} rows"
        raise ContractError(message)
    check_finite(rhs, "a right side")
    if not 0.0 <= ridge < np.inf:
        raise ContractError(f"a ridge of {ridge} is not finite or below zero")
    raised = matrix.copy()
    raised[np.diag_indices(len(matrix))] += ridge
    return raised


def pivot_limits(matrix: Floats) -> Floats:
    """Return what each pivot must exceed."""
    return np.maximum(np.diagonal(matrix) * PIVOT_MIN, 0.0)


def columns_of(rhs: Floats) -> Floats:
    """Return a copy of the right sides in columns, also of one."""
    return np.array(rhs if rhs.ndim > 1 else rhs[:, np.newaxis], np.float64, order="C")


def finite(table: Floats, rhs: Floats) -> Floats:
    """Return a solution in the shape of its right side, every zero +0.

    Raises:
        ContractError: it is beyond float64.
    """
    if not np.isfinite(table).all():
        raise ContractError("a solution is beyond float64")
    return (table + 0.0).reshape(rhs.shape)


def not_definite(place: int) -> ContractError:
    """Return the error of a matrix whose pivot at `place` is none."""
    message = (
        f"a matrix is not positive definite: row {place} depends on those above it"
    )
    return ContractError(
        message, hint="add a ridge, a small multiple of its mean diagonal"
    )
