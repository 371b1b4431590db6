"""What strategies that solve systems of Gram matrices share: who takes part, start and end.

Owns whole tensors around their weighted mean, evidence times weights, and the regression
on pairs that come one by one. Does not own any formula.

Whole tensors are solved for as differences to their weighted mean in float64: these are
small and nearly exact, so errors of products and of the solution are relative to what the
models differ by, not to their weights; and they are the same on any base.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics import (
    Floats,
    Output,
    each_item,
    matmul,
    mean,
    solve_spd,
    values_of,
)
from crdtmerge.strategies.base import Inputs, Parameter, Parts
from crdtmerge.strategies.evidential.given import Told
from crdtmerge.strategies.means import weighted_mean, whole_weights
from crdtmerge.strategies.spectral.matrices import shares_of
from crdtmerge.strategies.tensors import Term, in_parts, theta_of, vector_of

RIDGE: Final = Parameter(
    "ridge",
    "decimal",
    default="0.000001",
    mergekit_default=None,
    help="added to the diagonal of the sum of Gram matrices, times its mean",
    minimum=1,
    maximum=1000 * DECIMAL_UNIT,
)


def mean_of(inputs: Inputs, terms: Sequence[Term]) -> Floats:
    """Return the weighted mean of whole tensors in float64: (items,)."""
    weights = whole_weights(terms)[:, np.newaxis]
    vectors = [theta_of(inputs, term) for term in terms]
    output = Output("F64", range(inputs.items), f"tensor {inputs.tensor!r}")
    found = each_item(vectors, output, lambda rows: weighted_mean(rows, weights))
    return np.frombuffer(found, "<f8")


def away_of(inputs: Inputs, term: Term, mean: Floats) -> Floats:
    """Return how far a whole tensor is from the mean, in float64: (items,)."""
    found: Floats = values_of(theta_of(inputs, term)) - mean
    return found


def moved(inputs: Inputs, mean: Floats, change: Floats) -> Parts:
    """Return mean + change, both (items,) in float64, rounded to the output dtype."""
    vectors = [vector_of(mean), vector_of(np.ascontiguousarray(change))]
    return in_parts(inputs, lambda output: each_item(vectors, output, _sum))


def _sum(rows: Floats) -> Floats:
    found: Floats = rows[0] + rows[1]
    return found


def shared(found: Sequence[Told]) -> list[tuple[Told, float]]:
    """Return who takes part, each with its weight over the mean weight."""
    shares = shares_of(tuple(one.term for one in found))
    return list(zip(found, shares, strict=True))


def regression(
    inputs: Inputs, pairs: Iterable[tuple[Floats, Floats]], ridge: float
) -> Floats:
    """Return (sum T_i G_i) (sum G_i + rho I)^-1 of pairs (T_i, G_i), summed in their order.

    rho is `ridge` times the mean diagonal of sum G_i; zero where all G_i are zero.

    Raises:
        ContractError: the sum is not positive definite, also with the ridge; or too large.
    """
    sides, system = np.zeros(()), np.zeros(())
    for target, gram in pairs:
        sides = sides + matmul(target, gram)
        system = system + gram
        del target, gram
    if not system.any():
        return np.zeros(sides.shape)
    rho = ridge * mean(np.ascontiguousarray(np.diagonal(system)))
    return solved(inputs, system, np.ascontiguousarray(sides.T), rho).T


def solved(inputs: Inputs, system: Floats, sides: Floats, rho: float) -> Floats:
    """Return X with (`system` + `rho` I) X = `sides`; errors name the tensor and a way out.

    Raises:
        ContractError: the system is not positive definite, also with rho; or too large.
    """
    try:
        return solve_spd(system, sides, rho)
    except ContractError as e:
        message = (
            f"tensor {inputs.tensor!r}: its Gram matrices cannot be solved for: {e}"
        )
        raise ContractError(message, hint="set a larger ridge, or lambda") from e
