"""pcb: score each change by itself and against the others, keep the best, average.

Owns `pcb/1`. Does not own quantiles, exp and tanh (`numerics`).

Formula (PCB-Merging, Du et al. 2024, arXiv:2410.02396), n task vectors of D items: a_i is
|tau_i| clamped to its sorted values at the places floor(clamp D) and floor((1 - clamp) D -
1), from 0; intra-balancing is exp(n minmax(a_i)^2), inter-balancing tanh(tau_i sum_j
tau_j); the score s_i is their product, raised to its sorted value at the place floor((1 -
r) D), and S_i = minmax(s_i). Then out = theta_0 + lambda sum(sgn(tau_i) a_i S_i) /
max(sum(S_i), 10**-12). minmax(x) = (x - least) / (largest - least).

The formula is that of the authors' code, where exp stands for the paper's softmax (as far
as we know: its denominator is a constant that minmax takes out). Exact: places, by
integers. Ours: per tensor (the authors: over the whole model at once); a contribution's
weight, divided by the mean weight, multiplies S_i, and tau_i in the sum of all (equal
weights give the formula); minmax of equal items is 0; exp(n (minmax^2 - 1)) stands for
exp(n minmax^2), of which minmax sees no difference but for roundings, so that no number
of models overflows. Sums over contributions are float64, sorted. mergekit has no pcb.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    Floats,
    Output,
    Singles,
    Tau,
    each_item,
    exp,
    largest,
    quantile,
    singles_of,
    sum_over,
    tanh,
)
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Parts, Strategy
from crdtmerge.strategies.tensors import (
    base_of,
    in_parts,
    participants,
    refuse_negative,
    tau_of,
    vector_of,
)
from crdtmerge.strategies.ties import LAMBDA

NAME: Final = "pcb"
LEAST_SCORE: Final = 1e-12


@dataclass(frozen=True, slots=True)
class _Balance:
    """One contribution: what its magnitudes are clamped to, its weighted scores S_i."""

    least: float
    most: float
    scores: Floats


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, NAME, inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    base = base_of(inputs)
    if not inputs.items or not terms:
        return in_parts(inputs, lambda output: each_item([base], output, _first))
    taus = [tau_of(inputs, term) for term in terms]
    units = sum(term.weight for term in terms)
    shares = [len(terms) * term.weight / units for term in terms]
    column = np.array(shares)[:, np.newaxis]
    found = each_item(taus, _whole(inputs), lambda rows: sum_over(column * rows))
    total = np.frombuffer(found, "<f8")
    balances = [
        _balance(inputs, tau, len(terms), share, total)
        for tau, share in zip(taus, shares, strict=True)
    ]
    scores = [vector_of(balance.scores) for balance in balances]
    vectors, formula = [base, *taus, *scores], _merged(inputs, balances)
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _first(rows: Floats) -> Floats:
    found: Floats = rows[0]
    return found


def _balance(
    inputs: Inputs, tau: Tau, count: int, share: float, total: Floats
) -> _Balance:
    """Return the scores of one of `count` contributions, times its share."""
    clamp, part = (inputs.values.units(name) for name in ("clamp", "r"))
    magnitudes = np.abs(singles_of(tau))
    items = magnitudes.size
    least = _sorted_at(magnitudes, clamp * items // DECIMAL_UNIT)
    above = (DECIMAL_UNIT - clamp) * items // DECIMAL_UNIT
    most = _sorted_at(magnitudes, max(above - 1, 0))

    def score(rows: Floats) -> Floats:
        sizes = np.minimum(np.maximum(np.abs(rows[0]), least), most)
        intra = _stretched(sizes, least, most)
        return exp(count * (intra * intra - 1.0)) * tanh(rows[0] * rows[1])

    found = each_item([tau, vector_of(total)], _whole(inputs), score)
    scores = np.frombuffer(found, "<f8")
    cut = _sorted_at(scores, (DECIMAL_UNIT - part) * items // DECIMAL_UNIT)
    scores = _stretched(np.maximum(scores, cut), cut, largest(scores))
    scores *= share
    return _Balance(least, most, scores)


def _sorted_at(values: Singles | Floats, place: int) -> float:
    """Return the item at a place of the sorted values, the last for any beyond."""
    last = values.size - 1
    return quantile(values, min(place, last), max(last, 1))


def _whole(inputs: Inputs) -> Output:
    return Output("F64", range(inputs.items), f"tensor {inputs.tensor!r}")


def _stretched(values: Floats, least: float, most: float) -> Floats:
    """Return (value - least) / (most - least), 0 where these are equal."""
    if most == least:
        return np.zeros_like(values)
    stretched: Floats = (values - least) / (most - least)
    return stretched


def _merged(inputs: Inputs, balances: Sequence[_Balance]) -> Callable[[Floats], Floats]:
    """Return the formula of an item of base, task vectors and scores."""
    least = np.array([[balance.least] for balance in balances])
    most = np.array([[balance.most] for balance in balances])
    scale, count = inputs.values.real("lambda"), len(balances)

    def formula(rows: Floats) -> Floats:
        taus, scores = rows[1 : count + 1], rows[count + 1 :]
        sizes = np.minimum(np.maximum(np.abs(taus), least), most)
        signed = np.where(taus > 0, sizes, np.where(taus < 0, -sizes, 0.0))
        total = np.maximum(sum_over(scores), LEAST_SCORE)
        merged: Floats = rows[0] + scale * (sum_over(signed * scores) / total)
        return merged

    return formula


PCB = Strategy(
    name=NAME,
    version=1,
    summary="Score changes by themselves and against the others, average the best",
    paper="Du et al. 2024, PCB-Merging, https://arxiv.org/abs/2410.02396",
    parameters=(
        Parameter(
            "clamp",
            "decimal",
            default="0.0001",
            mergekit_default=None,
            help="share of magnitudes clamped at either end, per tensor",
            maximum=DECIMAL_UNIT // 2,
        ),
        replace(LAMBDA, default="1.2", mergekit_default=None),
        Parameter(
            "r",
            "decimal",
            default="0.1",
            mergekit_default=None,
            help="share of items whose scores count, per tensor",
            maximum=DECIMAL_UNIT,
        ),
    ),
    memory=Memory(shared=60, each=32),
    emit=_emit,
)
