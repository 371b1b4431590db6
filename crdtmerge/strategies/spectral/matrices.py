"""What strategies on matrices share: task vectors as matrices, and the way back.

Owns which tensors are matrices, what becomes of the others, how weights enter, and the
addition of a merged task matrix to the base. Does not own any formula, nor arithmetic on
matrices (`numerics`).

A tensor of two dimensions is a matrix; one of more has its first dimension as rows and all
others as columns, as a convolution maps patches to channels. All others take the weighted
mean of the task vectors, as the public implementations do. Weights: each task matrix is
multiplied by its weight over the mean weight, so equal weights give the formula as it is
published; a strategy whose formula would lose that factor asks for task matrices as they
are (`weighted=False`) and brings weights in on its own. A contribution that leaves a matrix
as it is in the base takes no part in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np

from crdtmerge.numerics import Decomposition, Floats, each_item, values_of
from crdtmerge.strategies.base import Inputs, Parts
from crdtmerge.strategies.means import weighted_mean, whole_weights
from crdtmerge.strategies.tensors import (
    Term,
    base_of,
    in_parts,
    participants,
    refuse_negative,
    tau_of,
    vector_of,
)

MATRIX_DIMENSIONS: Final = 2


@dataclass(frozen=True, slots=True)
class Matrices:
    """The task matrices of one tensor: who made them, and each times its share (or not).

    `taus` are (rows, columns) in float64; none is all zero.
    """

    terms: tuple[Term, ...]
    taus: tuple[Floats, ...]
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Triples:
    """Singular triples of several matrices: u (rows, k), sigma (k,), vt (k, columns)."""

    u: Floats
    sigma: Floats
    vt: Floats


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return (rows, columns) of a tensor that counts as a matrix, None of others."""
    if len(shape) < MATRIX_DIMENSIONS or not prod(shape):
        return None
    return shape[0], prod(shape[1:])


def emit_matrix(
    inputs: Inputs,
    strategy: str,
    formula: Callable[[Inputs, Matrices], Floats],
    alpha: float = 1.0,
    *,
    weighted: bool = True,
) -> Parts:
    """Return base + alpha * tau, where `formula` makes tau of a tensor's task matrices.

    `formula` returns (rows, columns) in float64 and is not asked where no contribution of
    weight changes the tensor. Tensors that are no matrices take tau = the weighted mean.

    Raises:
        ContractError: a weight is negative, or an input or a result breaks the contract.
    """
    refuse_negative(inputs.weights, strategy, inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    shape = matrix_shape(inputs.shape)
    if not inputs.items or not terms:
        return base_alone(inputs)
    if shape is None:
        return add_to_base(inputs, mean_tau(inputs, terms), alpha)
    found = matrices_of(inputs, terms, shape, weighted=weighted)
    if not found.taus:
        return base_alone(inputs)
    return add_to_base(inputs, formula(inputs, found).reshape(-1), alpha)


def matrices_of(
    inputs: Inputs,
    terms: tuple[Term, ...],
    shape: tuple[int, int],
    *,
    weighted: bool = True,
) -> Matrices:
    """Return the task matrices of those that change the tensor, each times its share.

    Without `weighted` they are as they are.
    """
    pairs = [(t, values_of(tau_of(inputs, t)).reshape(shape)) for t in terms]
    changed = [(term, tau) for term, tau in pairs if tau.any()]
    kept = tuple(term for term, _ in changed)
    shares = shares_of(kept) if weighted else [1.0] * len(kept)
    taus = tuple(
        tau if share == 1.0 else tau * share
        for (_, tau), share in zip(changed, shares, strict=True)
    )
    return Matrices(kept, taus, *shape)


def shares_of(terms: tuple[Term, ...]) -> list[float]:
    """Return each weight over the mean weight."""
    total = sum(term.weight for term in terms)
    return [len(terms) * term.weight / total for term in terms]


def mean_tau(inputs: Inputs, terms: tuple[Term, ...]) -> Floats:
    """Return the weighted mean of the task vectors in float64: (items,)."""
    rows = np.stack([values_of(tau_of(inputs, term)) for term in terms])
    return weighted_mean(rows, whole_weights(terms)[:, np.newaxis])


def side_by_side(parts: Sequence[Decomposition]) -> Triples:
    """Return the singular triples of several matrices as one list, in their order."""
    return Triples(
        np.concatenate([part.u for part in parts], axis=1),
        np.concatenate([part.sigma for part in parts]),
        np.concatenate([part.vt for part in parts], axis=0),
    )


def base_alone(inputs: Inputs) -> Parts:
    """Return the base's tensor in the output dtype."""
    vectors = [base_of(inputs)]
    return in_parts(inputs, lambda output: each_item(vectors, output, _first))


def add_to_base(inputs: Inputs, tau: Floats, alpha: float = 1.0) -> Parts:
    """Return base + alpha * tau for (items,) in float64: three roundings an item."""
    vectors = [base_of(inputs), vector_of(np.ascontiguousarray(tau))]

    def added(rows: Floats) -> Floats:
        found: Floats = rows[0] + rows[1] * alpha
        return found

    return in_parts(inputs, lambda output: each_item(vectors, output, added))


def _first(rows: Floats) -> Floats:
    found: Floats = rows[0]
    return found
