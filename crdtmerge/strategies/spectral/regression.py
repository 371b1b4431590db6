"""The regression on what task matrices read: few rows are solved for by themselves.

Owns which of two forms of one system is solved. Does not own formulas, Gram matrices of
many rows (`evidential.systems`), nor the solve (`numerics`).

For targets T_i and what each reads, A_i, k rows in all, the lowest point of
sum |(tau - T_i) A_i'|^2 + rho |tau|^2, with B the T_i A_i' side by side and A the A_i on
each other, is

    B A (A'A + rho I)^-1 = B (A A' + rho I)^-1 A,

the same in exact arithmetic. The left system is columns x columns. Where k is less it has
columns - k directions that nobody reads, and rounding there is divided by rho alone: of 400
columns and a ridge of 10**-9 a thousandth of the result was noise. The right one is k x k
and its result a sum of rows of A, so it has nothing there to divide. So it is taken where
it is not the larger one.
"""

from collections.abc import Iterable

import numpy as np

from crdtmerge.numerics import Floats, matmul, row_products, sum_of_squares
from crdtmerge.strategies.base import Inputs
from crdtmerge.strategies.evidential.systems import RIDGE, regression, solved
from crdtmerge.strategies.spectral.matrices import Matrices


def fitted(
    inputs: Inputs, found: Matrices, pairs: Iterable[tuple[Floats, Floats]], rows: int
) -> Floats:
    """Return the fit to pairs (T_i, A_i), of which the A_i have at most `rows` in all.

    rho is the parameter `ridge` times the mean diagonal of sum A_i' A_i.

    Raises:
        ContractError: the system is not positive definite, also with the ridge.
    """
    ridge = inputs.values.real(RIDGE.name)
    if rows > found.columns:
        return regression(inputs, ((t, gram_of(reads)) for t, reads in pairs), ridge)
    sides, kept = [], []
    for target, reads in pairs:
        sides.append(matmul(reads, np.ascontiguousarray(target.T)))
        kept.append(reads)
    return _by_rows(inputs, np.concatenate(sides), np.concatenate(kept), ridge)


def gram_of(reads: Floats) -> Floats:
    """Return A' A."""
    return row_products(np.ascontiguousarray(reads.T))


def _by_rows(inputs: Inputs, sides: Floats, reads: Floats, ridge: float) -> Floats:
    """Return B (A A' + rho I)^-1 A, given B' and A."""
    rho = ridge * (sum_of_squares(reads.reshape(-1)) / reads.shape[1])
    found = solved(inputs, row_products(reads), sides, rho)
    return matmul(np.ascontiguousarray(found.T), reads)
