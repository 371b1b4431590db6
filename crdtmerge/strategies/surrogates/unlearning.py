"""negative_merge and split_unlearn_merge: changes that are to be forgotten are taken away.

Owns `negative_merge/1` and `split_unlearn_merge/1`. Does not own trims (`sparsify`).

Surrogates, both, of methods that train on what is to be forgotten: here a contribution
that was tuned on it, and is marked `forget`, stands for that training.

Formula (negation, Ilharco et al. 2023, arXiv:2212.04089): out = theta_0 + sum of w_i tau_i
over those that are kept - lambda sum of w_i tau_i over those to be forgotten. `consensus`
takes away only items whose sign all of the latter agree on, as NegMerge does (Kim et al.
2024, arXiv:2410.05583), which then averages them: so does this.

Formula (ours, in the spirit of SPUNGE, Kadhe et al. 2024, arXiv:2406.11780, which splits
data by attributes, unlearns each part and merges the models): of a contribution to be
forgotten the share `q` of largest magnitudes, per tensor, is what it learned, and is set to
zero; what is left of it is merged with all others, by weighted mean.

Where none is marked nothing is taken away. Weights count as in task_arithmetic
(negative_merge), or by their sum (split_unlearn_merge); negative ones are refused. What
ties with the last of the largest is taken away too. Sums do not depend on the order.
mergekit has neither.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, Keep, each_item, sum_over
from crdtmerge.strategies.base import (
    FALSE,
    Inputs,
    Memory,
    Parameter,
    Parts,
    Strategy,
    part_by_part,
)
from crdtmerge.strategies.sparsify import trim
from crdtmerge.strategies.spectral.matrices import base_alone
from crdtmerge.strategies.tensors import (
    Term,
    base_of,
    in_parts,
    participants,
    refuse_negative,
    tau_of,
)
from crdtmerge.strategies.ties import LAMBDA

FORGET: Final = Parameter(
    "forget",
    "flag",
    default=FALSE,
    mergekit_default=None,
    help="whether a contribution is one of those to be forgotten",
    per_model=True,
)


def _emit_negative(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "negative_merge", inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    if not terms:
        return base_alone(inputs)
    gone = np.array([[_is_gone(term)] for term in terms])
    weights = np.array([[term.weight / DECIMAL_UNIT] for term in terms])
    scale = inputs.values.real(LAMBDA.name)
    agreed = inputs.values.flag("consensus")

    def formula(rows: Floats) -> Floats:
        taus = weights * rows[1:]
        merged: Floats = rows[0] + sum_over(np.where(gone, 0.0, taus))
        if not gone.any():
            return merged
        found: Floats = merged - scale * _taken(taus[gone[:, 0]], agreed=agreed)
        return found

    vectors = [base_of(inputs), *(tau_of(inputs, term) for term in terms)]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _taken(taus: Floats, *, agreed: bool) -> Floats:
    """Return what is taken away: the sum, or the mean of items of one sign."""
    total = sum_over(taus)
    if not agreed:
        return total
    alike = (taus > 0).all(axis=0) | (taus < 0).all(axis=0)
    found: Floats = np.where(alike, total / len(taus), 0.0)
    return found


def _is_gone(term: Term) -> bool:
    return term.values.flag(FORGET.name)


def _emit_split(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "split_unlearn_merge", inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    if not terms or not inputs.items:
        return base_alone(inputs)
    total = sum(term.weight for term in terms)
    shares = np.array([[term.weight / total] for term in terms])
    least = np.array([[_least(inputs, term)] for term in terms])

    def formula(rows: Floats) -> Floats:
        kept = np.where(np.abs(rows[1:]) >= least, 0.0, rows[1:])
        found: Floats = rows[0] + sum_over(shares * kept)
        return found

    vectors = [base_of(inputs), *(tau_of(inputs, term) for term in terms)]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _least(inputs: Inputs, term: Term) -> float:
    """Return the magnitude from which a contribution's items are forgotten."""
    if not _is_gone(term):
        return float("inf")
    keep: Keep = trim(tau_of(inputs, term), term.values.units("q"))
    return max(keep.least, 0.0)


def _with_forget(*parameters: Parameter) -> Sequence[Parameter]:
    return sorted((FORGET, *parameters), key=lambda parameter: parameter.name)


NEGATIVE_MERGE = Strategy(
    name="negative_merge",
    version=1,
    summary="Add some changes and take others away: a surrogate of unlearning",
    paper="Ilharco et al. 2023, Task arithmetic, https://arxiv.org/abs/2212.04089",
    parameters=tuple(
        _with_forget(
            Parameter(
                "consensus",
                "flag",
                default=FALSE,
                mergekit_default=None,
                help="take away the mean of items whose sign is that of all, and no others",
            ),
            replace(LAMBDA, mergekit_default=None),
        )
    ),
    memory=Memory(shared=24, each=24),
    held=part_by_part,
    emit=_emit_negative,
)

SPLIT_UNLEARN_MERGE = Strategy(
    name="split_unlearn_merge",
    version=1,
    summary="Average, without the largest of what is to be forgotten: a surrogate",
    paper="Kadhe et al. 2024, SPUNGE, https://arxiv.org/abs/2406.11780",
    parameters=tuple(
        _with_forget(
            Parameter(
                "q",
                "decimal",
                default="0.1",
                mergekit_default=None,
                help="share of a forgotten task vector's items that is set to zero",
                maximum=DECIMAL_UNIT,
                per_model=True,
            ),
        )
    ),
    memory=Memory(shared=24, each=24),
    held=part_by_part,
    emit=_emit_split,
)
