"""ota_ffg and led_merge: what of a change counts is told by gradients of its own task.

Owns `ota_ffg/1` and `led_merge/1`. Does not own evidence (`given`), nor selection
(`numerics`).

Formula (OTA with Fast Fisher Grafting, Mahdavinia et al. 2025, arXiv:2509.11167): with the
second moments v_i that Adam had at the end of training, of each tensor the share `density`
of items stays whose tau_i^2 v_i is largest (m_i), and
P_i = v_i^p / (mean(v_i^p) + `epsilon`) + `epsilon`;
out = sum P_i (theta_0 + m_i tau_i) / sum P_i, item by item.

Formula (LED-Merging, Ma et al. 2025, arXiv:2502.16770): with the importance |theta * dL /
d theta| of each item on a contributor's own data (SNIP), in its model (`snip`) and in the
base (`snip_base`), locate the share `density` of the largest of each; elect what is located
in both (`elect`: both, as the authors say, or either); keep of each contribution what no
other one's election has (disjoint), D_i. out = theta_0 + lambda sum w_i D_i tau_i. The
registry of crdt-merge has a LED that is another thing ("layer-wise evaluation-driven").

Ours: v_i has a mean of 1 and so have importances, whatever their author gave. Of ota_ffg, p
is 1, 1/2 or 1/4, so that square roots are enough; P_i is multiplied by the weight; the
scores are |tau_i| sqrt(v_i), which are in the same order, rounded to float32, and what ties
with the last that stays, stays. Of led_merge the number of located items is exact, the
lower index first, so that nobody locates everything by making all alike; where somebody
attaches `snip` alone, that one falls under `lacking`. Where nobody attaches the kind, it is
the base plus the weighted mean of the task vectors (ota_ffg), or plus `lambda` times their
weighted sum (led_merge). mergekit has neither.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    Floats,
    Singles,
    at_least,
    each_item,
    keep_count,
    mean,
    rank_in_row,
    rounded,
    sum_over,
    values_of,
)
from crdtmerge.strategies.base import (
    Inputs,
    Memory,
    Parameter,
    Parts,
    Strategy,
    Values,
)
from crdtmerge.strategies.evidential.given import LACKING, Told, told
from crdtmerge.strategies.forms import emit_weighted
from crdtmerge.strategies.means import whole_weights
from crdtmerge.strategies.sparsify import trim
from crdtmerge.strategies.spectral.matrices import add_to_base, base_alone, mean_tau
from crdtmerge.strategies.tensors import (
    base_of,
    in_parts,
    participants,
    refuse_negative,
    tau_of,
    vector_of,
)
from crdtmerge.strategies.ties import LAMBDA

Flags = NDArray[np.bool_]

ADAM: Final = "adam"
SNIP: Final = "snip"
SNIP_BASE: Final = "snip_base"

ROOTS: Final = {"1": 0, "0.5": 1, "0.25": 2}
"""How many square roots make a power."""


def _emit_ota(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "ota_ffg", inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    if not terms or not inputs.items:
        return base_alone(inputs)
    found = told(inputs, terms, ADAM)
    if not found:
        return add_to_base(inputs, mean_tau(inputs, terms))
    weights = whole_weights([one.term for one in found])
    grafts = [_graft(inputs, one) for one in found]
    shares = [
        _sure(inputs.values, one, w) for one, w in zip(found, weights, strict=True)
    ]
    count = len(found)

    def formula(rows: Floats) -> Floats:
        taus, sure = rows[1 : count + 1], rows[count + 1 :]
        merged: Floats = rows[0] + sum_over(sure * taus) / sum_over(sure)
        return merged

    vectors = [base_of(inputs), *map(vector_of, grafts), *map(vector_of, shares)]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _graft(inputs: Inputs, one: Told) -> Singles:
    """Return the task vector with what matters least set to +0; exact in float32."""
    tau = values_of(tau_of(inputs, one.term))
    score = rounded(np.abs(tau) * np.sqrt(one.array.reshape(-1)))
    keep = trim(vector_of(score), one.term.values.units("density"))
    return rounded(np.where(at_least(score, keep.least), tau, 0.0))


def _sure(values: Values, one: Told, weight: float) -> Floats:
    """Return how much each item of a contribution counts."""
    power = one.array.reshape(-1)
    for _ in range(ROOTS[values.choice("p")]):
        power = np.sqrt(power)
    epsilon = values.real("epsilon")
    found: Floats = power / (mean(np.ascontiguousarray(power)) + epsilon) + epsilon
    return found * weight


def _emit_led(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "led_merge", inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    if not terms or not inputs.items:
        return base_alone(inputs)
    found = told(inputs, terms, SNIP)
    of_base = told(inputs, [one.term for one in found], SNIP_BASE)
    if not of_base:
        return _arithmetic(inputs)
    in_base = {one.term.place: one.array for one in of_base}
    chosen = [one for one in found if one.term.place in in_base]
    masks = [_elected(inputs, one, in_base[one.term.place]) for one in chosen]
    return add_to_base(inputs, _disjoint(inputs, chosen, masks))


def _disjoint(inputs: Inputs, chosen: Sequence[Told], masks: Sequence[Flags]) -> Floats:
    """Return the sum of what one contribution alone elects: one term an item at most."""
    votes = np.zeros(inputs.items, np.int64)
    for mask in masks:
        votes += mask
    scale, total = inputs.values.real(LAMBDA.name), np.zeros(inputs.items)
    for one, mask in zip(chosen, masks, strict=True):
        factor = scale * (one.term.weight / DECIMAL_UNIT)
        tau = values_of(tau_of(inputs, one.term))
        total = np.where(mask & (votes == 1), tau * factor, total)
    return total


def _elected(inputs: Inputs, one: Told, in_base: Floats) -> Flags:
    """Return which items are important in the model and in the base, or in either."""
    k = keep_count(inputs.items, one.term.values.units("density"))
    own, base = _located(one.array, k), _located(in_base, k)
    return own & base if inputs.values.choice("elect") == "both" else own | base


def _located(scores: Floats, k: int) -> Flags:
    """Return the k largest, of equal ones those of lower index."""
    turned = np.ascontiguousarray(rounded(scores.reshape(-1))[::-1])
    ranks = rank_in_row(turned, turned.size)[::-1]
    found: Flags = ranks >= turned.size - k
    return found


def _arithmetic(inputs: Inputs) -> Parts:
    """Return base + lambda * the weighted sum of task vectors, as one exact sum."""
    scale = inputs.values.units(LAMBDA.name)
    shares = [round(weight * scale / DECIMAL_UNIT) for weight in inputs.weights]
    return emit_weighted(inputs, shares, DECIMAL_UNIT - sum(shares), DECIMAL_UNIT)


def _density(default: str, what: str) -> Parameter:
    return Parameter(
        "density",
        "decimal",
        default=default,
        mergekit_default=None,
        help=what,
        maximum=DECIMAL_UNIT,
        per_model=True,
    )


OTA_FFG = Strategy(
    name="ota_ffg",
    version=1,
    summary="Graft the changes that matter, weighed by Adam's second moments",
    paper="Mahdavinia et al. 2025, OTA Merging, https://arxiv.org/abs/2509.11167",
    parameters=(
        _density("0.4", "share of each task vector that is grafted, per tensor"),
        Parameter(
            "epsilon",
            "decimal",
            default="0.00000001",
            mergekit_default=None,
            help="added to what is divided by, and to what each item counts",
            minimum=1,
            maximum=DECIMAL_UNIT,
        ),
        LACKING,
        Parameter(
            "p",
            "choice",
            default="0.5",
            mergekit_default=None,
            help="power of the second moments by which items count",
            choices=("0.25", "0.5", "1"),
        ),
    ),
    evidence=lambda _values: (ADAM,),
    memory=Memory(shared=48, each=24),
    emit=_emit_ota,
)

LED_MERGE = Strategy(
    name="led_merge",
    version=1,
    summary="Keep of each change what matters to it, to the base, and to no other",
    paper="Ma et al. 2025, LED-Merging, https://arxiv.org/abs/2502.16770",
    parameters=(
        _density("0.3", "share of items that is located by importance, per tensor"),
        Parameter(
            "elect",
            "choice",
            default="both",
            mergekit_default=None,
            help="whether an item must be located in the model and in the base",
            choices=("both", "either"),
        ),
        LACKING,
        replace(LAMBDA, mergekit_default=None),
    ),
    evidence=lambda _values: (SNIP, SNIP_BASE),
    memory=Memory(shared=80, each=8),
    emit=_emit_led,
)
