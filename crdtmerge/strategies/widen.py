"""widen: weigh columns by how far each model has moved them, next to the others.

Owns `widen/1`. Does not own sums of squares (`numerics.inner_products`), nor exp.

Formula (WIDEN, Yu et al. 2024, arXiv:2408.03092): column j of a matrix W_k has the
magnitude |W_k,j| and the direction W_k,j / |W_k,j|; its changes are the difference of
magnitudes to the base's, without sign, and 1 - cos of the angle to the base's. Both are
ranked within the model, from 0 to below 1; of either rank the score is the softmax over
models, but `s` where the rank is above `t` times the model's mean rank. Then out = theta_0
+ sum(w_k tau_k), w_k the mean of a column's two scores, which need not sum to 1 over
models. In a tensor of one dimension |tau| stands for the rank, item by item.

Ours: a contribution's weight, divided by the mean weight, multiplies w_k (equal weights
give the formula); a tensor of three dimensions and more is a matrix whose rows lie along
the first; of two columns that changed alike the lower index has the lower rank (as in the
authors' code); the direction of a column of zeros has a cosine of 0 to others and of 1 to
its like (there: a division by zero). The authors turn the embedding over, to weigh tokens,
not features; here no tensor is told by its name. Inner products are summed along the tree;
ranks and their mean are exact. As columns are measured beside the base's, task vectors
alone are not merged. mergekit has no widen.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    Floats,
    Items,
    each_item,
    exp,
    inner_products,
    mean,
    sum_over,
    values_of,
)
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Parts, Strategy, never
from crdtmerge.strategies.tensors import (
    Term,
    base_of,
    in_parts,
    participants,
    refuse_negative,
    tau_of,
    theta_of,
    vector_of,
)

NAME: Final = "widen"

_BAND_COLUMNS: Final = 1 << 10
_BAND_ITEMS: Final = 1 << 18
"""Columns whose inner products are taken at once: short ones are padded while summed."""


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, NAME, inputs.tensor)
    exponent, terms = participants(inputs, inputs.weights)
    if not inputs.items or not terms:
        vectors = [base_of(inputs)]
        return in_parts(inputs, lambda output: each_item(vectors, output, _first))
    if len(inputs.shape) < 2:
        return _merged_items(inputs, terms)
    return _merged_columns(inputs, terms, exponent)


def _first(rows: Floats) -> Floats:
    found: Floats = rows[0]
    return found


def _added(rows: Floats) -> Floats:
    found: Floats = rows[0] + sum_over(rows[1:])
    return found


def _shares(terms: Sequence[Term]) -> Floats:
    """Return each weight over the mean weight, (n, 1)."""
    total = sum(term.weight for term in terms)
    return np.array([[len(terms) * term.weight / total] for term in terms])


def _scores(powers: Floats, above: NDArray[np.bool_], s: float) -> Floats:
    """Return the softmax over models of what `powers` are the exponentials of.

    (models, items), in place; `s` where `above` says so.
    """
    powers /= sum_over(powers)
    powers[above] = s
    return powers


def _merged_items(inputs: Inputs, terms: Sequence[Term]) -> Parts:
    """Return a tensor of one dimension, each item weighed by its own changes."""
    t, s = inputs.values.real("t"), inputs.values.real("s")
    taus = [tau_of(inputs, term) for term in terms]
    limits = np.array([[t * mean(np.abs(values_of(tau)))] for tau in taus])
    shares = _shares(terms)

    def formula(rows: Floats) -> Floats:
        changes = np.abs(rows[1:])
        less = changes - changes.max(axis=0)  # the softmax is the same: no overflow
        powers = exp(less.reshape(-1)).reshape(less.shape)
        weights = _scores(powers, changes > limits, s) * shares
        merged: Floats = rows[0] + sum_over(weights * rows[1:])
        return merged

    vectors = [base_of(inputs), *taus]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _merged_columns(inputs: Inputs, terms: Sequence[Term], exponent: int) -> Parts:
    """Return a matrix, each column weighed by its changes."""
    rows = inputs.shape[0]
    base = _transposed(values_of(base_of(inputs)), rows)
    changes = [
        _changes(
            base, _transposed(values_of(theta_of(inputs, term)), rows), rows, exponent
        )
        for term in terms
    ]
    del base
    magnitudes, directions = zip(*changes, strict=True)
    weights = _rank_scores(inputs, magnitudes)
    weights += _rank_scores(inputs, directions)
    weights *= 0.5 * _shares(terms)
    del changes, magnitudes, directions
    weighed = [
        vector_of(_by_column(values_of(tau_of(inputs, term)), row))
        for term, row in zip(terms, weights, strict=True)
    ]
    vectors = [base_of(inputs), *weighed]
    return in_parts(inputs, lambda output: each_item(vectors, output, _added))


def _transposed(values: Floats, rows: int) -> Items:
    """Return a matrix column after column."""
    return vector_of(np.ascontiguousarray(values.reshape(rows, -1).T).reshape(-1))


def _by_column(values: Floats, weights: Floats) -> Floats:
    """Return a matrix, in a row, whose columns are multiplied with their weights."""
    found: Floats = (values.reshape(-1, weights.size) * weights).reshape(-1)
    return found


def _changes(
    base: Items, theta: Items, length: int, exponent: int
) -> tuple[Floats, Floats]:
    """Return the changes of all columns in magnitude and in direction.

    All are scaled by a power of two, so that no square overflows: ranks do not see it.
    """
    columns = theta.count // length
    step = min(_BAND_COLUMNS, max(_BAND_ITEMS // length, 1))
    bands = [range(i, min(i + step, columns)) for i in range(0, columns, step)]
    grams = np.concatenate(
        [inner_products([base, theta], length, band, exponent) for band in bands]
    )
    squares, other = grams[:, 0, 0], grams[:, 1, 1]
    magnitude = np.abs(np.sqrt(other) - np.sqrt(squares))
    norms = np.sqrt(squares) * np.sqrt(other)
    cosine = np.where(norms > 0, grams[:, 0, 1] / np.where(norms > 0, norms, 1.0), 0.0)
    alike = (squares == other) & (grams[:, 0, 1] == squares)
    return magnitude, np.where(alike, 0.0, np.maximum(1.0 - cosine, 0.0))


def _rank_scores(inputs: Inputs, changes: Sequence[Floats]) -> Floats:
    """Return the scores of columns by their ranks in each model, (models, columns)."""
    count = changes[0].size
    powers = exp(np.arange(count) / np.float64(count))
    # place / count > t * mean, where the places' mean is (count - 1) / 2: by integers
    limit = inputs.values.units("t") * (count - 1) // (2 * DECIMAL_UNIT)
    ranked = np.empty((len(changes), count), dtype=np.int64)
    for row, change in zip(ranked, changes, strict=True):
        row[np.argsort(change, kind="stable")] = np.arange(count)
    return _scores(powers[ranked], ranked > limit, inputs.values.real("s"))


WIDEN = Strategy(
    name=NAME,
    version=1,
    summary="Weigh columns by the ranks of their changes in magnitude and direction",
    paper="Yu et al. 2024, WIDEN, https://arxiv.org/abs/2408.03092",
    parameters=(
        Parameter(
            "s",
            "decimal",
            default="1",
            mergekit_default=None,
            help="score of what changed more than t times the mean",
            maximum=100 * DECIMAL_UNIT,
        ),
        Parameter(
            "t",
            "decimal",
            default="1",
            mergekit_default=None,
            help="times the mean rank (or change) of its model, above which s is the score",
            maximum=100 * DECIMAL_UNIT,
        ),
    ),
    shifts=never,
    memory=Memory(shared=60, each=52),
    emit=_emit,
)
