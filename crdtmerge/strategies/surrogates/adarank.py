"""adarank: the singular components that help what all models make of their inputs.

Owns `adarank/1`. Does not own evidence (`given`), decompositions and products (`numerics`).

A surrogate of AdaRank (Lee et al. 2025, arXiv:2503.22178), which learns masks of singular
components by the entropy of test data. With Gram matrices G_k of the inputs of contribution
k, what stands for it is Q(tau) = sum_k tr((tau - tau_k) G_k (tau - tau_k)'): the first s /
n singular components of each task matrix, s the shorter side, all together in order of
falling singular value, ties by content id; one pass, in which a component is added if Q
falls by it. Each counts with 1 / n of its singular value, as in a mean: at its full size a
component that one of three unrelated models needs does more harm to the two others than
good, and nothing would stay. Without Gram matrices each keeps its first components up to
the share `energy` of its squared singular values, and the mean is taken.

Weights over the mean weight multiply task matrices and Gram matrices. Of equal models of
full rank the components beyond the first s / n are lost. Tensors that are no matrices take
the mean task vector. mergekit has no adarank.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, matmul, row_products, row_sums, svd
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Parts, Strategy, Values
from crdtmerge.strategies.evidential.given import LACKING, Told, told
from crdtmerge.strategies.evidential.systems import shared
from crdtmerge.strategies.spectral.matrices import Matrices, emit_matrix, side_by_side
from crdtmerge.strategies.surrogates.fits import total_of
from crdtmerge.strategies.ties import LAMBDA

GRAM: Final = "gram"


def _adarank(inputs: Inputs, matrices: Matrices) -> Floats:
    found = told(inputs, matrices.terms, GRAM)
    if not found:
        return _by_energy(matrices, inputs.values.real("energy"))
    places = {one.term.place for one in found}
    pairs = zip(matrices.terms, matrices.taus, strict=True)
    taus = [tau for term, tau in pairs if term.place in places]
    rank = max(1, min(matrices.rows, matrices.columns) // len(taus))
    all_of = side_by_side([svd(tau, rank) for tau in taus])
    order = np.argsort(-all_of.sigma, kind="stable")
    u, vt = all_of.u[:, order], all_of.vt[order]
    sigma = all_of.sigma[order] / len(taus)
    seen = matmul(np.ascontiguousarray(vt), total_of(found))
    meet = row_products(np.ascontiguousarray(u.T)) * matmul(seen, vt.T)
    kept = _kept(sigma, meet, _wanted(taus, found, u, vt))
    if not kept.size:
        return np.zeros(taus[0].shape)
    return matmul(u[:, kept] * sigma[kept], vt[kept])


def _wanted(
    taus: Sequence[Floats], found: Sequence[Told], u: Floats, vt: Floats
) -> Floats:
    """Return u' (sum tau_k G_k) v of each component, (m,)."""
    target = np.zeros(taus[0].shape)
    for tau, (one, share) in zip(taus, shared(found), strict=True):
        target += matmul(tau, one.array) * share
    return row_sums(matmul(np.ascontiguousarray(u.T), target) * vt)


def _kept(sigma: Floats, meet: Floats, wanted: Floats) -> Floats:
    """Return the places of the components that stay, in one pass."""
    there, kept = np.zeros(sigma.size), []
    for place in range(sigma.size):
        gain = 2.0 * (wanted[place] - there[place]) - sigma[place] * meet[place, place]
        if gain > 0:
            there += meet[:, place] * sigma[place]
            kept.append(place)
    return np.array(kept, np.intp)


def _by_energy(matrices: Matrices, energy: float) -> Floats:
    """Return the mean of what is left of each up to the share of squared values."""
    total = np.zeros((matrices.rows, matrices.columns))
    for tau in matrices.taus:
        parts = svd(tau, min(tau.shape))
        squares = [*accumulate((parts.sigma * parts.sigma).tolist())]
        rank = 1 + sum(square < energy * squares[-1] for square in squares)
        total += matmul(parts.u[:, :rank] * parts.sigma[:rank], parts.vt[:rank])
    total /= len(matrices.taus)
    return total


def _emit_adarank(inputs: Inputs) -> Parts:
    return emit_matrix(inputs, "adarank", _adarank, inputs.values.real(LAMBDA.name))


def _reads_gram(_values: Values) -> tuple[str, ...]:
    return (GRAM,)


ADARANK = Strategy(
    name="adarank",
    version=1,
    summary="Keep the singular components that help all models' inputs: a surrogate",
    paper="Lee et al. 2025, AdaRank, https://arxiv.org/abs/2503.22178",
    parameters=(
        Parameter(
            "energy",
            "decimal",
            default="0.9",
            mergekit_default=None,
            help="share of squared singular values that stays without Gram matrices",
            maximum=DECIMAL_UNIT,
        ),
        LACKING,
        replace(LAMBDA, mergekit_default=None),
    ),
    evidence=_reads_gram,
    memory=Memory(shared=200, each=16, columns=50, short=100),
    emit=_emit_adarank,
)
