"""negative_merge and split_unlearn_merge: contributions that are there to be forgotten.

Owns `negative_merge/1` and `split_unlearn_merge/1`, and the flag `forget`, by which a
contribution says so of itself or a rule of it. Does not own magnitudes at a place
(`sparsify.trim`), nor means (`means`).

Formula of negative_merge: out = theta_0 - lambda sum_F(w_i tau_i) + sum_R(w_i tau_i), F
those that are forgotten, R all others: task negation (Ilharco et al. 2022,
arXiv:2212.04089) beside task addition. With `consensus` an entry is negated only where the
task vectors of all in F have the same sign, none of them zero there: the rule of NegMerge
(Kim et al. 2024, arXiv:2410.05583).

A surrogate of both: F are models that were trained on what is to be forgotten, taken as
they are given; NegMerge trains several of them with different settings, and takes the mean
where here is a sum (lambda = 1 / their number gives the mean of equal weights).

Formula of split_unlearn_merge: the task vector of each in F is split into f_i, its
ceil(q items) largest magnitudes with all that tie, and the rest r_i. Then
out = theta_0 + lambda (sum_R(w_i tau_i) + sum_F(w_i r_i)) / sum(w_i): the weighted mean of
all, from which what the f_i had brought to it is gone.

A surrogate of Split, Unlearn, Merge (Kadhe et al. 2024, arXiv:2406.11780), which splits the
data that is to be forgotten by its attributes, unlearns each part by training, and merges
the models. Here nothing is trained and no data is split: that the largest entries of a task
vector hold what it learned is an assumption. This reading is ours.

Ours in both: tensors of any shape are taken alike; weights of those in F count as those of
all; where nobody is to be forgotten it is task arithmetic, or `lambda` times the mean.
Neither proves that anything was forgotten: whoever must be sure removes the contribution.
mergekit has neither. Float64, item by item, with sums that no order changes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, each_item, sum_over
from crdtmerge.strategies.base import (
    FALSE,
    Inputs,
    Memory,
    Parameter,
    Parts,
    Strategy,
    part_by_part,
)
from crdtmerge.strategies.means import weighted_mean, whole_weights
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

NEGATIVE: Final = "negative_merge"
SPLIT: Final = "split_unlearn_merge"

FORGET: Final = Parameter(
    "forget",
    "flag",
    FALSE,
    None,
    "this contribution holds what the merged model is to forget",
    per_model=True,
)


def _forgotten(terms: Sequence[Term]) -> list[bool]:
    return [term.values.flag(FORGET.name) for term in terms]


def _emit_negative(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, NEGATIVE, inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    if not terms:
        return base_alone(inputs)
    forgotten = _forgotten(terms)
    negated = -inputs.values.real("lambda")
    shares = np.array(
        [
            [term.weight / DECIMAL_UNIT * (negated if forget else 1.0)]
            for term, forget in zip(terms, forgotten, strict=True)
        ]
    )
    places = [place for place, forget in enumerate(forgotten) if forget]
    agreeing = inputs.values.flag("consensus") and bool(places)

    def formula(rows: Floats) -> Floats:
        taus = rows[1:]
        if agreeing:
            taus[places] = _agreed(taus[places])
        merged: Floats = rows[0] + sum_over(taus * shares)
        return merged

    vectors = [base_of(inputs), *(tau_of(inputs, term) for term in terms)]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _agreed(taus: Floats) -> Floats:
    """Return task vectors without the entries in which not all have one sign."""
    agree = (taus > 0).all(axis=0) | (taus < 0).all(axis=0)
    return np.where(agree, taus, 0.0)


def _emit_split(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, SPLIT, inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    if not inputs.items or not terms:
        return base_alone(inputs)
    q, scale = inputs.values.units("q"), inputs.values.real("lambda")
    taus = [tau_of(inputs, term) for term in terms]
    forgotten = _forgotten(terms)
    least = np.array(
        [
            [trim(tau, q).least if forget else np.inf]
            for tau, forget in zip(taus, forgotten, strict=True)
        ]
    )
    weights = whole_weights(terms)[:, np.newaxis]

    def formula(rows: Floats) -> Floats:
        rest = np.where(np.abs(rows[1:]) >= least, 0.0, rows[1:])
        merged: Floats = rows[0] + scale * weighted_mean(rest, weights)
        return merged

    vectors = [base_of(inputs), *taus]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


NEGATIVE_MERGE = Strategy(
    name=NEGATIVE,
    version=1,
    summary="Subtract the changes that are to be forgotten, add others (surrogate)",
    paper="Kim et al. 2024, NegMerge, https://arxiv.org/abs/2410.05583",
    parameters=(
        Parameter(
            "consensus",
            "flag",
            FALSE,
            None,
            "negate only entries whose sign is the same in all that are forgotten",
        ),
        FORGET,
        replace(
            LAMBDA,
            mergekit_default=None,
            help="how strongly what is forgotten is negated",
        ),
    ),
    memory=Memory(shared=12, each=8),
    held=part_by_part,
    emit=_emit_negative,
)

SPLIT_UNLEARN_MERGE = Strategy(
    name=SPLIT,
    version=1,
    summary="Average without the largest changes of what is forgotten (surrogate)",
    paper="Kadhe et al. 2024, Split unlearn merge, https://arxiv.org/abs/2406.11780",
    parameters=(
        FORGET,
        replace(LAMBDA, mergekit_default=None),
        Parameter(
            "q",
            "decimal",
            "0.1",
            None,
            "share of the entries of what is forgotten that is removed, the largest",
            maximum=DECIMAL_UNIT,
        ),
    ),
    memory=Memory(shared=12, each=8),
    held=part_by_part,
    emit=_emit_split,
)
