"""opcm: one contribution after another, each cleared of what is merged already.

Owns `opcm/1`. Does not own the order (`tensors.in_drawn_order`), the decomposition or
products (`numerics`).

Formula (OPCM, Tang et al. 2025, arXiv:2501.09522): of the task matrix Delta merged so far
take U S V' = svd(Delta); P = U' tau_t V, of which the diagonal and the block P[:r, :r]
become zero, r the first index (from 0) at which the cumulated singular values exceed
`alpha` of their sum; then with tau' = U P V' the merged task matrix is (lambda_(t-1) Delta
+ tau') / lambda_t, with lambda_t such that it is as long as the mean of the lengths of
tau_1 to tau_t.

Exact, and derived: lambda_t Delta_t = lambda_(t-1) Delta_(t-1) + tau', so all the lambdas
are one sum S_t = S_(t-1) + tau' and one scale at the end. S is a multiple of Delta: its
directions and its share `alpha` are the same. U and V are complete there; only what is
taken away needs them: tau' = tau - U C V', where C has P[:r, :r] and, from r on, the
diagonal of P. That has no free sign, and no need of directions beyond the rank. tau' is
orthogonal to S, so S never vanishes.

Ours: lengths are those of each tensor, where the paper scales the whole model by one
number; directions below 2**-16 of the largest singular value count as none (there the
diagonal is cleared along whatever LAPACK returns for them); the order is drawn by the set's
seed, so that nobody can choose a place in it (the authors' code shuffles without a seed).
Tensors that are no matrices take the mean task vector, by the rule of all strategies on
matrices (the paper: their sum, scaled like the rest). mergekit has no opcm.
"""

import math
from dataclasses import replace
from itertools import accumulate
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    Decomposition,
    Floats,
    matmul,
    row_sums,
    sum_of_squares,
    svd,
)
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Parts, Strategy
from crdtmerge.strategies.spectral.matrices import Matrices, emit_matrix
from crdtmerge.strategies.tensors import in_drawn_order
from crdtmerge.strategies.ties import LAMBDA

NAME: Final = "opcm"


def _formula(inputs: Inputs, found: Matrices) -> Floats:
    """Return the merged task matrix, as long as theirs are on average."""
    by_place = {
        term.place: tau for term, tau in zip(found.terms, found.taus, strict=True)
    }
    ordered = in_drawn_order(inputs, found.terms)
    alpha = inputs.values.real("alpha")
    merged = by_place[ordered[0].place]
    for term in ordered[1:]:
        merged = merged + _cleared(by_place[term.place], merged, alpha)
    lengths = [math.sqrt(sum_of_squares(tau.reshape(-1))) for tau in found.taus]
    mean = math.fsum(lengths) / len(lengths)
    return merged * (mean / math.sqrt(sum_of_squares(merged.reshape(-1))))


def _cleared(tau: Floats, merged: Floats, alpha: float) -> Floats:
    """Return a task matrix without what lies along the directions of `merged`."""
    parts = svd(merged, min(merged.shape))
    split = _split(parts, alpha)
    across = matmul(parts.u.T, tau)
    core = np.zeros((parts.sigma.size, parts.sigma.size))
    np.fill_diagonal(core, row_sums(across * parts.vt))
    if split:
        core[:split, :split] = matmul(across[:split], parts.vt[:split].T)
    del across
    return tau - matmul(matmul(parts.u, core), parts.vt)


def _split(parts: Decomposition, alpha: float) -> int:
    """Return the first place at which the cumulated values exceed their share, or 0."""
    sums = [*accumulate(parts.sigma.tolist())]
    limit = alpha * sums[-1]
    return next((r for r, total in enumerate(sums) if total > limit), 0)


def _emit(inputs: Inputs) -> Parts:
    return emit_matrix(inputs, NAME, _formula, inputs.values.real("lambda"))


OPCM = Strategy(
    name=NAME,
    version=1,
    summary="Add one change after another, each cleared of the directions before it",
    paper="Tang et al. 2025, OPCM, https://arxiv.org/abs/2501.09522",
    parameters=(
        Parameter(
            "alpha",
            "decimal",
            default="0.5",
            mergekit_default=None,
            help="share of the singular values whose directions are cleared as a block",
            maximum=DECIMAL_UNIT - 1,
        ),
        replace(LAMBDA, mergekit_default=None),
    ),
    order_dependent=True,
    memory=Memory(shared=200, each=8),
    emit=_emit,
)
