"""regmean: the linear layer that fits what all models make of their own inputs.

Owns `regmean/1`. Does not own evidence (`given`), the solve (`systems`), nor
the plain mean (`forms`).

Formula (RegMean, Jin et al. 2022, arXiv:2212.09849): of a linear layer, out x in, that of
contribution i being W_i and the Gram matrix of its inputs G_i = X_i' X_i / n_i, with
G^_i = alpha G_i + (1 - alpha) diag(G_i): out = (sum W_i G^_i) (sum G^_i)^-1, which is the
least of sum |X_i W' - X_i W_i'|^2 where alpha is 1. All other tensors are averaged.

Ours: G_i has a trace of 1 in each tensor, whatever its author gave, so that no author
outweighs others by scaling; and G^_i is multiplied by the weight, by which authors of many
samples can be given their say. It is solved around the weighted mean M of the W_i:
out = M + (sum (W_i - M) G^_i) (sum G^_i + rho I)^-1, rho being `ridge` times the mean of
the sum's diagonal. Without a ridge that is the same; with one, inputs that nobody saw, of
which the published formula has no answer, take the mean (a ridge alone would make them
zero), and equal models are themselves. It is more exact too: what is solved for is as small
as the models' differences. Where nobody attaches `gram` for a tensor, or all of them are
zero, it is the weighted mean, as the paper has it. mergekit has no regmean.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Parts, Strategy, Values
from crdtmerge.strategies.evidential.given import LACKING, Told, told
from crdtmerge.strategies.evidential.systems import (
    RIDGE,
    away_of,
    mean_of,
    moved,
    regression,
    shared,
)
from crdtmerge.strategies.forms import emit_weighted
from crdtmerge.strategies.spectral.matrices import matrix_shape
from crdtmerge.strategies.tensors import participants, refuse_negative, refuse_zero

NAME: Final = "regmean"
GRAM: Final = "gram"


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, NAME, inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    shape = matrix_shape(inputs.shape)
    found = told(inputs, terms, GRAM) if shape else ()
    if shape is None or not found:
        return emit_weighted(inputs, inputs.weights, 0, sum(inputs.weights))
    mean = mean_of(inputs, [one.term for one in found])
    pairs = _pairs(inputs, found, mean.reshape(shape))
    change = regression(inputs, pairs, inputs.values.real(RIDGE.name))
    return moved(inputs, mean, change.reshape(-1))


def _pairs(
    inputs: Inputs, found: Sequence[Told], mean: Floats
) -> Iterator[tuple[Floats, Floats]]:
    """Yield each model's distance to the mean, and its shrunk Gram matrix."""
    alpha = inputs.values.real("alpha")
    for one, share in shared(found):
        away = away_of(inputs, one.term, mean.reshape(-1)).reshape(mean.shape)
        yield away, _shrunk(one.array, alpha, share)


def _shrunk(gram: Floats, alpha: float, share: float) -> Floats:
    """Return share * (alpha G + (1 - alpha) diag G): the diagonal stays as it is."""
    shrunk = gram * (alpha * share)
    np.fill_diagonal(shrunk, np.diagonal(gram) * share)
    return shrunk


def _reads_gram(_values: Values) -> tuple[str, ...]:
    return (GRAM,)


REGMEAN = Strategy(
    name=NAME,
    version=1,
    aliases=("regression_mean",),
    summary="Fit each linear layer to what all models make of their own inputs",
    paper="Jin et al. 2022, RegMean, https://arxiv.org/abs/2212.09849",
    parameters=(
        Parameter(
            "alpha",
            "decimal",
            default="0.9",
            mergekit_default=None,
            help="what off-diagonal items of Gram matrices are multiplied by",
            maximum=DECIMAL_UNIT,
        ),
        LACKING,
        RIDGE,
    ),
    needs_base=False,
    evidence=_reads_gram,
    memory=Memory(shared=80, each=8, columns=50),
    emit=_emit,
)
