"""regmean and regmean_pp: linear layers that fit what all models make of their inputs.

Owns `regmean/1` and `regmean_pp/1`. Does not own evidence (`given`), the solve (`systems`),
nor the plain mean (`forms`).

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

Formula (RegMean++, Nguyen et al. 2025, arXiv:2508.03121): the same, layer by layer, with
G_i of what comes into a layer of contribution i's data through the layers that are merged
already; alpha is 0.95. That takes runs of a model between tensors, which no merge here
makes: a task sees one tensor, and models are of any architecture.

Ours: rounds. In a first merge no one attaches `gram_merged`, and `gram` serves, as in
regmean. Then each contributor runs the merged model on its own data, attaches the Gram
matrices of its layers' inputs as `gram_merged`, and all merge again. What comes into the
first layer is right at once, into the second after one round, and so on: of L layers in a
row, the merge of round L is the paper's to the last step, and later rounds change nothing
but roundings. `gram` serves who attaches nothing newer. Which merge it was measured in is
its author's word.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats
from crdtmerge.strategies.base import (
    Evidence,
    Inputs,
    Memory,
    Parameter,
    Parts,
    Strategy,
    Values,
)
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
IN_ROUNDS: Final = "regmean_pp"
GRAM: Final = "gram"
GRAM_MERGED: Final = "gram_merged"


def _emit(inputs: Inputs) -> Parts:
    return _emitted(inputs, NAME)


def _emit_in_rounds(inputs: Inputs) -> Parts:
    newest = tuple(
        {GRAM: each.get(GRAM_MERGED, each[GRAM])} if GRAM in each else _only(each)
        for each in inputs.evidence
    )
    return _emitted(replace(inputs, evidence=newest), IN_ROUNDS)


def _only(each: Evidence) -> Evidence:
    """Return what is attached of an earlier merge, under the name that is read."""
    return {GRAM: each[GRAM_MERGED]} if GRAM_MERGED in each else {}


def _emitted(inputs: Inputs, name: str) -> Parts:
    refuse_negative(inputs.weights, name, inputs.tensor)
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


def _reads_both(_values: Values) -> tuple[str, ...]:
    return (GRAM, GRAM_MERGED)


def _parameters(alpha: str) -> tuple[Parameter, ...]:
    return (
        Parameter(
            "alpha",
            "decimal",
            default=alpha,
            mergekit_default=None,
            help="what off-diagonal items of Gram matrices are multiplied by",
            maximum=DECIMAL_UNIT,
        ),
        LACKING,
        RIDGE,
    )


REGMEAN = Strategy(
    name=NAME,
    version=1,
    aliases=("regression_mean",),
    summary="Fit each linear layer to what all models make of their own inputs",
    paper="Jin et al. 2022, RegMean, https://arxiv.org/abs/2212.09849",
    parameters=_parameters("0.9"),
    needs_base=False,
    evidence=_reads_gram,
    memory=Memory(shared=80, each=8, columns=50),
    emit=_emit,
)

REGMEAN_PP = Strategy(
    name=IN_ROUNDS,
    version=1,
    summary="Fit each linear layer to inputs that come through merged layers, in rounds",
    paper="Nguyen et al. 2025, RegMean++, https://arxiv.org/abs/2508.03121",
    parameters=_parameters("0.95"),
    needs_base=False,
    evidence=_reads_both,
    memory=REGMEAN.memory,
    emit=_emit_in_rounds,
)
