"""fisher and ubgm: averages weighed item by item by how sure each model is of the item.

Owns `fisher/1` and `ubgm/1`. Does not own evidence (`given`), nor the plain mean (`forms`).

Formula (Fisher merging, Matena and Raffel 2022, arXiv:2111.09832): with the diagonal F_k of
contribution k's Fisher matrix and its weight w_k, item by item,
out = sum(w_k F_k theta_k) / sum(w_k F_k). Where the loss of each model is a parabola with
its lowest point at theta_k and the curvature F_k, that is the lowest point of their sum.

Formula (uncertainty-based gradient matching, Daheim et al. 2024, arXiv:2310.12808), item by
item, with Hessian diagonals H_k of the fine-tuned models and H_0 of the base:
out = theta_0 + sum(a_k (H_0 + H_k) tau_k) / (H_0 + sum(a_k H_k) + delta).

Ours: F_k and H_k have a mean of 1 in each tensor, whatever their author gave, which is the
lambda_k = 1 / mean(F_k) of public code, tensor by tensor; so no author outweighs others by
scaling, and how sure of a tensor as a whole a model is cannot be told. `floor` is added to
every F_k: where no model is sure of an item, that item is the weighted mean. a_k is the
weight times `alpha`, over the mean weight times how many models there are: it sums to
`alpha`, so equal models give themselves (the paper has a_k = 1 for each; `alpha` = the
number of models gives that). H_0 is the weighted mean of what contributors measured on the
base (`fisher_base`), or 0 with `h0=zero` and where nobody attaches it; of those who do
attach `fisher`, who lacks `fisher_base` falls under `lacking` too. Of equal H_k and
H_0 = 0 it is task arithmetic on the mean, but for delta.

Where nobody attaches `fisher` for a tensor, it is the weighted mean (`fisher`), or the base
plus `alpha` times the mean task vector (`ubgm`). Float64, item by item, with sums that no
order changes; the fallbacks are exact on the grid.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, Items, each_item, sum_over
from crdtmerge.strategies.base import (
    Inputs,
    Memory,
    Parameter,
    Parts,
    Strategy,
    Values,
    part_by_part,
)
from crdtmerge.strategies.evidential.given import LACKING, Told, told
from crdtmerge.strategies.forms import emit_weighted
from crdtmerge.strategies.means import whole_weights
from crdtmerge.strategies.spectral.matrices import base_alone
from crdtmerge.strategies.tensors import (
    Term,
    base_of,
    in_parts,
    participants,
    refuse_negative,
    refuse_zero,
    tau_of,
    theta_of,
    vector_of,
)

FISHER_KIND: Final = "fisher"
BASE_KIND: Final = "fisher_base"


def _emit_fisher(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "fisher", inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    found = told(inputs, terms, FISHER_KIND)
    if not found:
        return emit_weighted(inputs, inputs.weights, 0, sum(inputs.weights))
    count, floor = len(found), inputs.values.real("floor")
    weights = whole_weights([one.term for one in found])[:, np.newaxis]

    def formula(rows: Floats) -> Floats:
        sure = (rows[count:] + floor) * weights
        sure /= sum_over(sure)  # before the tensors, so that no product overflows
        return sum_over(sure * rows[:count])

    vectors = [*(theta_of(inputs, one.term) for one in found), *_flat(found)]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _flat(found: Sequence[Told]) -> list[Items]:
    return [vector_of(np.ascontiguousarray(one.array).reshape(-1)) for one in found]


def _emit_ubgm(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "ubgm", inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    if not terms:
        return base_alone(inputs)
    found = told(inputs, terms, FISHER_KIND)
    if not found:
        return _arithmetic(inputs)
    of_base = _of_base(inputs, found)
    if of_base:
        places = {one.term.place for one in of_base}
        found = tuple(one for one in found if one.term.place in places)
    return _matched(inputs, found, of_base)


def _of_base(inputs: Inputs, found: Sequence[Told]) -> tuple[Told, ...]:
    if inputs.values.choice("h0") == "zero":
        return ()
    return told(inputs, [one.term for one in found], BASE_KIND)


def _arithmetic(inputs: Inputs) -> Parts:
    """Return base + alpha * the weighted mean of task vectors, as one exact sum."""
    alpha, total = inputs.values.units("alpha"), sum(inputs.weights)
    shares = [round(weight * alpha / total) for weight in inputs.weights]
    return emit_weighted(inputs, shares, DECIMAL_UNIT - sum(shares), DECIMAL_UNIT)


def _matched(inputs: Inputs, found: Sequence[Told], of_base: Sequence[Told]) -> Parts:
    """Return the formula of `ubgm` over those that attach what it reads."""
    count = len(found)
    shares = _shares([one.term for one in found])
    alphas = shares * inputs.values.real("alpha")
    delta = inputs.values.real("delta")

    def formula(rows: Floats) -> Floats:
        taus, curved = rows[1 : count + 1], rows[count + 1 : 2 * count + 1]
        start = sum_over(rows[2 * count + 1 :] * shares) if of_base else 0.0
        below = start + sum_over(curved * alphas) + delta
        merged: Floats = rows[0] + sum_over(alphas * (start + curved) * taus) / below
        return merged

    vectors = [
        base_of(inputs),
        *(tau_of(inputs, one.term) for one in found),
        *_flat(found),
        *_flat(of_base),
    ]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _shares(terms: Sequence[Term]) -> Floats:
    """Return each weight over the sum of all, (n, 1)."""
    total = sum(term.weight for term in terms)
    return np.array([[term.weight / total] for term in terms])


def _reads_fisher(_values: Values) -> tuple[str, ...]:
    return (FISHER_KIND,)


def _reads_both(values: Values) -> tuple[str, ...]:
    of_base = (BASE_KIND,) if values.choice("h0") == "evidence" else ()
    return (FISHER_KIND, *of_base)


FISHER = Strategy(
    name="fisher",
    version=1,
    aliases=("fisher_merge",),
    summary="Average each item by how sure each model is of it (diagonal Fisher)",
    paper="Matena and Raffel 2022, Fisher merging, https://arxiv.org/abs/2111.09832",
    parameters=(
        Parameter(
            "floor",
            "decimal",
            default="0.000001",
            mergekit_default=None,
            help="added to every item of the Fisher diagonals, whose mean is 1",
            minimum=1,
            maximum=DECIMAL_UNIT,
        ),
        LACKING,
    ),
    needs_base=False,
    evidence=_reads_fisher,
    memory=Memory(shared=12, each=16),
    held=part_by_part,
    emit=_emit_fisher,
)

UBGM = Strategy(
    name="ubgm",
    version=1,
    summary="Add task vectors item by item so that the models' gradients match",
    paper="Daheim et al. 2024, Gradient matching, https://arxiv.org/abs/2310.12808",
    parameters=(
        Parameter(
            "alpha",
            "decimal",
            default="1",
            mergekit_default=None,
            help="what the coefficients of all task vectors sum to",
            minimum=1,
            maximum=100 * DECIMAL_UNIT,
        ),
        Parameter(
            "delta",
            "decimal",
            default="0.00000001",
            mergekit_default=None,
            help="added to the curvature that is divided by",
            minimum=1,
            maximum=DECIMAL_UNIT,
        ),
        Parameter(
            "h0",
            "choice",
            default="evidence",
            mergekit_default=None,
            help="the base's curvature: as contributors measured it, or none",
            choices=("evidence", "zero"),
        ),
        LACKING,
    ),
    evidence=_reads_both,
    memory=Memory(shared=12, each=24),
    held=part_by_part,
    emit=_emit_ubgm,
)
