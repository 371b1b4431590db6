"""lore: a base that nobody gave, and a low-rank change of each model from it.

Owns `lore/1`. Does not own decompositions or products (`numerics`), whole tensors around
their mean (`evidential.systems`), nor the plain mean (`forms`).

Formula (LoRE-Merging, Liu et al. 2025, arXiv:2502.10749): the b and delta_i that make
sum |b + delta_i - theta_i|^2 + mu |delta_i|_* least are found by turns, from deltas of
zero: b = mean(theta_i - delta_i), then delta_i = that of theta_i - b whose singular values
are smaller by mu / 2, and none below zero. The merged model is b + lambda sum delta_i.

Unsure: mu and the number of turns are our choice, and the published objective squares the
nuclear norm, though it is minimised by thresholds too; the thresholds here are those of
the norm as it is. With a lambda of 1 / n the deltas are averaged, which comes to the mean
of the models once the turns have settled.

Exact, and derived: around the weighted mean m of the models, theta_i = m + a_i, so that
b = m - mean(delta_i) and no turn adds large numbers to small ones.

Ours: the number of turns is fixed; means are by weight, and in the sum of deltas a weight
counts over the mean weight. Singular values below 2**-16 of the largest count as none.
Tensors that are no matrices take the weighted mean. No base is read. mergekit has no lore.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, matmul, svd
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Parts, Strategy
from crdtmerge.strategies.evidential.systems import away_of, mean_of, moved
from crdtmerge.strategies.forms import emit_weighted
from crdtmerge.strategies.spectral.matrices import matrix_shape, shares_of
from crdtmerge.strategies.tensors import participants, refuse_negative, refuse_zero
from crdtmerge.strategies.ties import LAMBDA

NAME: Final = "lore"


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, NAME, inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    shape = matrix_shape(inputs.shape)
    if shape is None:
        return emit_weighted(inputs, inputs.weights, 0, sum(inputs.weights))
    mean = mean_of(inputs, terms)
    aways = [away_of(inputs, term, mean).reshape(shape) for term in terms]
    change = _estimated(inputs, aways, shares_of(terms))
    return moved(inputs, mean, change.reshape(-1))


def _estimated(
    inputs: Inputs, aways: Sequence[Floats], shares: Sequence[float]
) -> Floats:
    """Return how far the merged model is from the mean of `aways`' models."""
    values = inputs.values
    least = values.real("mu") / 2
    base, total = np.zeros(aways[0].shape), np.zeros(aways[0].shape)
    for _ in range(values.count("iterations")):
        base = total * (-1.0 / len(aways))
        total = np.zeros(base.shape)
        for away, share in zip(aways, shares, strict=True):
            total += _shrunk(away - base, least) * share
    return base + total * values.real("lambda")


def _shrunk(matrix: Floats, least: float) -> Floats:
    """Return a matrix with singular values smaller by `least`, none below zero."""
    parts = svd(matrix, min(matrix.shape))
    rank = np.count_nonzero(parts.sigma > least)
    if not rank:
        return np.zeros(matrix.shape)
    sigma = parts.sigma[:rank] - least
    return matmul(parts.u[:, :rank] * sigma, parts.vt[:rank])


LORE = Strategy(
    name=NAME,
    version=1,
    summary="Estimate a base and a low-rank change of each model, and add the changes",
    paper="Liu et al. 2025, LoRE-Merging, https://arxiv.org/abs/2502.10749",
    parameters=(
        Parameter(
            "iterations",
            "integer",
            default="10",
            mergekit_default=None,
            help="how often the base and the changes are estimated in turn",
            minimum=DECIMAL_UNIT,
            maximum=1000 * DECIMAL_UNIT,
        ),
        replace(LAMBDA, mergekit_default=None),
        Parameter(
            "mu",
            "decimal",
            default="0.01",
            mergekit_default=None,
            help="weight of the nuclear norm: twice what singular values lose",
            maximum=1000 * DECIMAL_UNIT,
        ),
    ),
    needs_base=False,
    memory=Memory(shared=200, each=16),
    emit=_emit,
)
