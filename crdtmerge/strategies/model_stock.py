"""model_stock: the mean of fine-tuned models, drawn back to the base by their angles.

Owns `model_stock/1`. Does not own inner products, nor the sum that they weigh (`gram`).

Formula (Model Stock, Jang, Yun, Han 2024, arXiv:2403.19522): out = t mean(theta_i) +
(1 - t) theta_0, t = N c / (1 + (N - 1) c), with c the cosine of the angle between task
vectors, of which there are N >= 2. The paper takes all angles for equal; the mean of the
cosines of all pairs is mergekit's reading and ours. One t a tensor; with
`filter_wise=true` one for each row of the first dimension (a tensor of one dimension is
one row), where mergekit takes vectors along the last: the same for matrices, and for
convolutions whole filters and not their rows.

Ours: t is from 0 to 1. As written it has a pole at c = -1 / (N - 1), beyond which it is
above 1, and is negative from there to 0; task vectors that point apart tell nothing of a
common direction, so there t = 0. mergekit has t = 0 only within 10**-6 of the pole.
Weights w_i: the mean of models by w_i, that of cosines by w_i w_j; equal weights give the
paper's formula; N counts contributions. A task vector of zeros has cosine 0 to all others.
mergekit divides by at least 10**-6, which makes the cosines of short task vectors smaller
than they are; we divide by the norms.

Exact: the weighted sum, on the grid. Inner products are summed along the tree, the rest
is float64, and coefficients are rounded half-even to 9 places.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Data, inner_products, theta_grid, weighted_sum
from crdtmerge.strategies.base import (
    FALSE,
    Inputs,
    Made,
    Memory,
    Parameter,
    Strategy,
    Values,
)
from crdtmerge.strategies.forms import terms_of
from crdtmerge.strategies.gram import Gram, GramMethod, units_of
from crdtmerge.strategies.tensors import (
    output_of,
    participants,
    refuse_negative,
    refuse_zero,
    tau_of,
)

BAND_ITEMS: Final = 1 << 20
"""Items of many rows measured at once; no output bit depends on it."""


def _coefficients(gram: Gram) -> Sequence[float]:
    count = len(gram.weights)
    if count < 2:
        message = "model_stock compares contributions, and one of weight alone is there"
        raise ContractError(message, hint="give at least two, or use linear")
    ratio = _ratio(_cosine(gram), count)
    return [ratio * share for share in gram.shares]


def _cosine(gram: Gram) -> float:
    """Return the mean cosine of all pairs, by the products of their weights."""
    norms = np.sqrt(np.diagonal(gram.matrix)).tolist()
    total, weight = 0.0, 0.0
    for i, j in combinations(range(len(norms)), 2):
        both = gram.shares[i] * gram.shares[j]
        length = norms[i] * norms[j]
        cosine = float(gram.matrix[i, j]) / length if length else 0.0
        total += both * min(max(cosine, -1.0), 1.0)
        weight += both
    return total / weight


def _ratio(cosine: float, count: int) -> float:
    """Return t, the way from the base to the mean."""
    if cosine <= 0:
        return 0.0
    return min(count * cosine / (1 + (count - 1) * cosine), 1.0)


_METHOD = GramMethod("model_stock", _coefficients)


def _emit(inputs: Inputs) -> Made:
    shape = inputs.shape
    by_rows = inputs.values.flag("filter_wise") and len(shape) > 1 and inputs.items
    return b"".join(_rows(inputs, shape[0])) if by_rows else _METHOD.emit(inputs)


def _rows(inputs: Inputs, count: int) -> Iterator[Data]:
    """Yield the output tensor row by row."""
    refuse_negative(inputs.weights, "model_stock", inputs.tensor)
    exponent, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    grid, length = theta_grid(exponent, inputs.dtype), inputs.items // count
    vectors = [tau_of(inputs, term) for term in terms]
    weights, own = tuple(t.weight for t in terms), tuple(t.values for t in terms)
    step = max(1, BAND_ITEMS // length)
    for first in range(0, count, step):
        band = range(first, min(first + step, count))
        matrices = inner_products(vectors, length, band, 0)
        for row, matrix in zip(band, matrices, strict=True):
            found = units_of(_coefficients(Gram(matrix, weights, inputs.values, own)))
            weighed = [replace(t, weight=w) for t, w in zip(terms, found, strict=True)]
            summed = terms_of(inputs, weighed, DECIMAL_UNIT - sum(found))
            part = output_of(inputs, range(row * length, (row + 1) * length))
            yield weighted_sum(summed, DECIMAL_UNIT, grid, part)


def _held(values: Values) -> Memory:
    """Keep rows until they are joined."""
    return Memory(shared=16 if values.flag("filter_wise") else 0)


MODEL_STOCK = Strategy(
    name="model_stock",
    version=1,
    summary="The mean of models, drawn to the base by the angles between task vectors",
    paper="Jang, Yun, Han 2024, Model Stock, https://arxiv.org/abs/2403.19522",
    parameters=(
        Parameter(
            "filter_wise",
            "flag",
            FALSE,
            FALSE,
            "an angle for each row of the first dimension, not for each tensor",
        ),
    ),
    memory=Memory(shared=24, each=8),
    held=_held,
    fewest=lambda _values: 2,
    emit=_emit,
)
