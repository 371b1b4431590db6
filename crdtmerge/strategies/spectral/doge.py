"""doge: a shared change that lessens conflicts, found by projected gradient descent.

Owns `doge/1`. Does not own decompositions, products and sums (`numerics`), nor the trim
(`sparsify`).

Formula (DOGE TA, Wei et al. 2025, arXiv:2501.01230): with lambda_i = `lambda` / |tau_i|,
find Delta, added to every task matrix, that lessens

    L(Delta) = sum_j |rowsum(tau_j * (tau_j - sum_i lambda_i (tau_i + Delta)))|^2

(* item by item, rowsum along each row) by `iterations` steps of Adam from zero, of length
`lr`, each gradient G first projected: G - U U' G, U the first s / `subspace` left singular
vectors of all contributions' first s / n left singular vectors side by side, s the shorter
side. Then tau = sum_i lambda_i (tau_i + Delta) m_i, m_i the share `density` of the largest
magnitudes of tau_i.

Derived: with c_j = rowsum(tau_j * (tau_j - sum_i lambda_i tau_i)) - l rowsum(tau_j *
Delta), l = sum_i lambda_i, the loss is sum_j |c_j|^2, quadratic in Delta and apart for each
row but for the projection; dL/dDelta = -2 l sum_j c_j tau_j, row by row. No automatic
differentiation: a step is n products of rows and n sums of scaled rows, in float64 (the
authors: float32). Adam is that of PyTorch at its defaults, decay 0.9 and 0.999 and
epsilon 10**-8, with correction of the bias. All steps are taken, none is left out.

Ours: the largest magnitudes are those of a tensor, not of the whole model, their number is
rounded up, and what ties with the last stays; a contribution's weight over the mean weight
multiplies lambda_i (of a scaled tau_i it would cancel out); where fewer than n directions
are to be had each contribution has one; directions below 2**-16 of the largest count as
none; one contribution's own order serves for U, as all of its directions would be equal.
Tensors that are no matrices take the mean task vector, by the rule of all strategies on
matrices, where the authors' code leaves all but the encoder's weights at the base. Task
matrices come out short, each |tau_i| counts as `lambda`: so it is published. mergekit has
no doge.

Cost: every step touches each item of each contribution, and two exact products with U,
which weigh as much as the rest: docs/strategies says what that takes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    Floats,
    at_least,
    matmul,
    rounded,
    row_sums,
    sliced,
    sum_of_squares,
    svd,
)
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Parts, Strategy
from crdtmerge.strategies.sparsify import trim
from crdtmerge.strategies.spectral.adam import Adam
from crdtmerge.strategies.spectral.matrices import Matrices, emit_matrix, shares_of
from crdtmerge.strategies.tensors import vector_of

NAME: Final = "doge"

BLOCK_ITEMS: Final = 1 << 15
"""Items of some rows that are worked on at once: they stay in a core's cache."""


def _formula(inputs: Inputs, found: Matrices) -> Floats:
    """Return the sum of what stays of the task matrices, moved and scaled."""
    scale = inputs.values.real("lambda")
    lambdas = [
        share * scale / math.sqrt(sum_of_squares(tau.reshape(-1)))
        for share, tau in zip(shares_of(found.terms), found.taus, strict=True)
    ]
    basis = _shared(found.taus, inputs.values.count("subspace"))
    count, rate = inputs.values.count("iterations"), inputs.values.real("lr")
    delta = _descended(_Loss(found.taus, lambdas), basis, count, rate)
    density = inputs.values.units("density")
    merged = np.zeros(delta.shape)
    for tau, factor in zip(found.taus, lambdas, strict=True):
        single = rounded(tau.reshape(-1))  # exact: task vectors are float32
        kept = at_least(single, trim(vector_of(single), density).least)
        merged += np.where(kept.reshape(tau.shape), (tau + delta) * factor, 0.0)
    return merged


def _shared(taus: Sequence[Floats], subspace: int) -> Floats:
    """Return the directions that gradients keep off, (rows, k); k may be 0."""
    short = min(taus[0].shape)
    count = short // subspace
    if not count:
        return np.zeros((taus[0].shape[0], 0))
    if len(taus) == 1:
        return svd(taus[0], count).u
    each = max(short // len(taus), 1)
    return svd(np.concatenate([svd(tau, each).u for tau in taus], axis=1), count).u


@dataclass(frozen=True, slots=True)
class _Loss:
    """The loss of a change: how far the merge is from each, row by row."""

    taus: Sequence[Floats]
    lambdas: Sequence[float]

    @property
    def total(self) -> float:
        """What a shared change is multiplied with."""
        return math.fsum(self.lambdas)

    def begun(self) -> list[Floats]:
        """Return each contribution's row sums before anything is changed."""
        found = [np.empty(len(tau)) for tau in self.taus]
        for rows in self.blocks():
            cut = [tau[rows] for tau in self.taus]
            plain = np.zeros(cut[0].shape)
            for tau, factor in zip(cut, self.lambdas, strict=True):
                plain += tau * factor
            for sums, tau in zip(found, cut, strict=True):
                sums[rows] = row_sums(tau * (tau - plain))
        return found

    def blocks(self) -> Iterator[slice]:
        """Yield the rows that are worked on together."""
        rows, columns = self.taus[0].shape
        step = max(BLOCK_ITEMS // columns, 1)
        for start in range(0, rows, step):
            yield slice(start, min(start + step, rows))

    def gradient(self, begun: Sequence[Floats], delta: Floats, into: Floats) -> None:
        """Write the gradient at `delta`."""
        total = self.total
        for rows in self.blocks():
            part = into[rows]
            part[...] = 0.0
            for first, tau in zip(begun, self.taus, strict=True):
                product = tau[rows] * delta[rows]
                left = first[rows] - row_sums(product) * total
                np.multiply(tau[rows], left[:, np.newaxis], out=product)
                part += product
            part *= -2.0 * total


def _descended(loss: _Loss, basis: Floats, count: int, rate: float) -> Floats:
    """Return the change after `count` steps of Adam from zero.

    What is as large as the tensor is made once; products make their slices anew.
    """
    shape = loss.taus[0].shape
    delta, gradient = np.zeros(shape), np.zeros(shape)
    begun = loss.begun()
    across, back = (
        (sliced(np.ascontiguousarray(basis.T)), sliced(basis))
        if basis.shape[1]
        else (None, None)
    )
    adam = Adam(shape)
    for _ in range(count):
        loss.gradient(begun, delta, gradient)
        if across is not None and back is not None:
            gradient -= matmul(back, matmul(across, gradient))
        adam.next()
        for rows in loss.blocks():
            delta[rows] -= adam.step(gradient, rows) * rate
    return delta


def _emit(inputs: Inputs) -> Parts:
    return emit_matrix(inputs, NAME, _formula, weighted=False)


DOGE = Strategy(
    name=NAME,
    version=1,
    summary="Find a shared change that lessens conflicts, by projected descent",
    paper="Wei et al. 2025, DOGE, https://arxiv.org/abs/2501.01230",
    parameters=(
        Parameter(
            "density",
            "decimal",
            default="0.3",
            mergekit_default=None,
            help="share of each task matrix's items that is kept, per tensor",
            maximum=DECIMAL_UNIT,
        ),
        Parameter(
            "iterations",
            "integer",
            default="400",
            mergekit_default=None,
            help="steps of Adam, all of which are taken",
            maximum=10_000 * DECIMAL_UNIT,
        ),
        Parameter(
            "lambda",
            "decimal",
            default="0.07",
            mergekit_default=None,
            help="length that each task matrix is scaled to",
            maximum=100 * DECIMAL_UNIT,
        ),
        Parameter(
            "lr",
            "decimal",
            default="0.0001",
            mergekit_default=None,
            help="length of Adam's steps",
            maximum=DECIMAL_UNIT,
        ),
        Parameter(
            "subspace",
            "integer",
            default="6",
            mergekit_default=None,
            help="one in so many directions is shared: gradients keep off it",
            minimum=DECIMAL_UNIT,
            maximum=1_000_000 * DECIMAL_UNIT,
        ),
    ),
    memory=Memory(shared=200, each=16),
    emit=_emit,
)
