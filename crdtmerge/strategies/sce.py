"""sce: keep what differs most between models, weigh by squares, add what agrees.

Owns `sce/1`. Does not own the disjoint mean (`numerics.consensus`).

Formula (SCE, Wan et al. 2024, FuseChat, arXiv:2408.07990), for each tensor. Select: of the
items whose variance over the task vectors (population, the base not among them) is not
zero, the `select_topk` share of largest variance stays, in all task vectors alike; 1
selects all items, also those without variance. Calculate: W_k is the mean square of task
vector k over all items, in proportion to their sum. Erase: the sign of an item is that of
the sum of the task vectors, zero counts as +. Then out = theta_0 + sum(W_k tau_k) /
sum(W_k), both over those of that sign.

Ours: a contribution's weight multiplies W_k, and its task vector in the sum that elects
(equal weights give the formula); ceil(select_topk * items) stay and all that tie with the
last (mergekit truncates, and leaves ties to chance); W_k is rounded half-even to 9 places,
but not to zero.
Exact: the count and the threshold, the elected sign and the mean on the grid of task
vectors. Variances and mean squares are float64, the one sorted over models, the other
along the tree.

As in mergekit, and other than in the authors' code: what is not selected stays as it is in
the base (there the selection is for W_k alone); and W_k is the same for all where mean
squares sum to less than `uniform_below` (there: to zero). Task vectors of language models
often are that small, so set it to 0 to have W_k by squares. mergekit divides by at least
10**-6, the authors and we by the sum itself.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    Data,
    Floats,
    Grid,
    Keep,
    Output,
    Singles,
    Voter,
    Weighed,
    consensus,
    each_item,
    keep_count,
    quantile,
    singles_of,
    sum_of_squares,
    sum_over,
    tau_grid,
    weighted_sum,
)
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Strategy
from crdtmerge.strategies.tensors import (
    Term,
    base_of,
    output_of,
    participants,
    refuse_negative,
    tau_of,
    vector_of,
)

NAME: Final = "sce"


def _emit(inputs: Inputs) -> Data:
    refuse_negative(inputs.weights, NAME, inputs.tensor)
    exponent, terms = participants(inputs, inputs.weights)
    grid = tau_grid(exponent, inputs.dtype)
    stays = _selected(inputs, terms)
    taus = [_within(singles_of(tau_of(inputs, term)), stays) for term in terms]
    weights = _weights(inputs, terms, taus)
    positive = _elected(inputs, terms, taus, grid)
    for tau in taus:
        tau[(tau > 0) != positive] = 0
    voters = [
        Voter(vector_of(tau), Keep(), weight, weight)
        for tau, weight in zip(taus, weights, strict=True)
        if weight
    ]
    output = output_of(inputs)
    return consensus(base_of(inputs), voters, grid, output, scale=1.0, normalize=True)


def _selected(inputs: Inputs, terms: Sequence[Term]) -> NDArray[np.bool_] | None:
    """Tell which items differ most between the models; None if all are selected."""
    share = inputs.values.units("select_topk")
    if share == DECIMAL_UNIT or not terms:
        return None
    taus = [tau_of(inputs, term) for term in terms]
    output = Output("F64", range(inputs.items), f"tensor {inputs.tensor!r}")
    variances = np.frombuffer(each_item(taus, output, _variance), "<f8")
    varied = variances[variances > 0]
    k = keep_count(varied.size, share)
    if not k:
        return np.zeros(inputs.items, dtype=np.bool_)
    steps = max(varied.size - 1, 1)
    least = quantile(varied, varied.size - k, steps)  # the k-th largest, exactly
    found: NDArray[np.bool_] = variances >= least
    return found


def _variance(taus: Floats) -> Floats:
    """Return the population variance of each item; zero where all are equal.

    SUBTLE: task vectors are float32, so the sum of equal ones is exact, and so its mean.
    """
    away = taus - sum_over(taus) / len(taus)
    return sum_over(away * away) / len(taus)


def _within(tau: Singles, stays: NDArray[np.bool_] | None) -> Singles:
    return tau if stays is None else np.where(stays, tau, np.float32(0))


def _weights(
    inputs: Inputs, terms: Sequence[Term], taus: Sequence[Singles]
) -> list[int]:
    """Return each contribution's W in units: zero only if nothing of it is left.

    SUBTLE: where one alone has the sign, its W is divided out again, however small.
    """
    means = [Fraction(sum_of_squares(tau)) / max(inputs.items, 1) for tau in taus]
    floor = Fraction(inputs.values.units("uniform_below"), DECIMAL_UNIT)
    total = sum(means)
    if not total or total < floor:
        means = [Fraction(1)] * len(taus)
    shares = [term.weight * mean for term, mean in zip(terms, means, strict=True)]
    total = sum(shares)
    return [max(round(s * DECIMAL_UNIT / total), 1) if s else 0 for s in shares]


def _elected(
    inputs: Inputs, terms: Sequence[Term], taus: Sequence[Singles], grid: Grid
) -> NDArray[np.bool_]:
    """Tell which items' task vectors do not sum to less than zero, on the grid."""
    weighed = [
        Weighed(vector_of(tau), term.weight)
        for tau, term in zip(taus, terms, strict=True)
    ]
    output = Output("F64", range(inputs.items), f"tensor {inputs.tensor!r}")
    sums = np.frombuffer(weighted_sum(weighed, DECIMAL_UNIT, grid, output), "<f8")
    found: NDArray[np.bool_] = sums >= 0
    return found


SCE = Strategy(
    name=NAME,
    version=1,
    summary="Keep what differs most between models, weigh by squares, add what agrees",
    paper="Wan et al. 2024, FuseChat (SCE), https://arxiv.org/abs/2408.07990",
    parameters=(
        Parameter(
            "select_topk",
            "decimal",
            default="1",
            mergekit_default="1",
            help="share of the items with variance that is kept; 1 keeps all items",
            maximum=DECIMAL_UNIT,
        ),
        Parameter(
            "uniform_below",
            "decimal",
            default="0.000001",
            mergekit_default="0.000001",
            help="sum of mean squares below which all weigh the same; fixed in mergekit",
            maximum=DECIMAL_UNIT,
        ),
    ),
    memory=Memory(shared=36, each=18),
    emit=_emit,
)
