"""pcb: score each change by itself and against the others, keep the best, average.

Owns `pcb/1`. Does not own quantiles, exp and tanh (`numerics`).

Formula (PCB-Merging, Du et al. 2024, arXiv:2410.02396), n task vectors: a_i is |tau_i|
clamped to its quantiles `clamp` and 1 - `clamp`; intra-balancing exp(n minmax(a_i)^2);
inter-balancing tanh(tau_i sum_j tau_j); the score s_i is their product, raised to its
quantile 1 - r, and S_i = minmax(s_i). Then out = theta_0 + lambda sum(sgn(tau_i) a_i S_i) /
max(sum(S_i), 10**-12). minmax(x) = (x - least) / (largest - least).

The formula is that of the authors' code, where exp stands for the paper's softmax (as far
as we know: its denominator is a constant that minmax takes out). Ours: per tensor (the
authors: over the whole model at once); a contribution's weight, divided by the mean
weight, multiplies S_i (equal weights give the formula); minmax of equal items is 0; the
quantile q of N items is the one at place floor(q (N - 1)); exp(n (minmax^2 - 1)) stands
for exp(n minmax^2), of which minmax sees no difference but for roundings, so that no
number of models overflows. Sums over contributions are float64, sorted. mergekit has no
pcb.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    Data,
    Floats,
    Output,
    each_item,
    exp,
    largest,
    quantile,
    singles_of,
    sum_over,
    tanh,
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
from crdtmerge.strategies.ties import LAMBDA

NAME: Final = "pcb"
LEAST_SCORE: Final = 1e-12


@dataclass(frozen=True, slots=True)
class _Balance:
    """One contribution: what its magnitudes are clamped to, its weighted scores S_i."""

    least: float
    most: float
    scores: Floats


def _emit(inputs: Inputs) -> Data:
    refuse_negative(inputs.weights, NAME, inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    base, output = base_of(inputs), output_of(inputs)
    if not inputs.items or not terms:
        return each_item([base], output, lambda rows: rows[0])
    taus = [tau_of(inputs, term) for term in terms]
    total = np.frombuffer(each_item(taus, _whole(inputs), sum_over), "<f8")
    balances = [_balance(inputs, terms, term, total) for term in terms]
    scores = [vector_of(balance.scores) for balance in balances]
    return each_item([base, *taus, *scores], output, _merged(inputs, balances))


def _balance(
    inputs: Inputs, terms: Sequence[Term], term: Term, total: Floats
) -> _Balance:
    """Return the scores of one contribution, times its weight over the mean weight."""
    clamp, part = (inputs.values.units(name) for name in ("clamp", "r"))
    tau, count = tau_of(inputs, term), len(terms)
    magnitudes = np.abs(singles_of(tau))
    least = quantile(magnitudes, clamp, DECIMAL_UNIT)
    most = quantile(magnitudes, DECIMAL_UNIT - clamp, DECIMAL_UNIT)

    def score(rows: Floats) -> Floats:
        sizes = np.minimum(np.maximum(np.abs(rows[0]), least), most)
        intra = _stretched(sizes, least, most)
        return exp(count * (intra * intra - 1.0)) * tanh(rows[0] * rows[1])

    found = each_item([tau, vector_of(total)], _whole(inputs), score)
    scores = np.frombuffer(found, "<f8")
    cut = quantile(scores, DECIMAL_UNIT - part, DECIMAL_UNIT)
    scores = _stretched(np.maximum(scores, cut), cut, largest(scores))
    weight = count * term.weight / sum(other.weight for other in terms)
    scores *= weight
    return _Balance(least, most, scores)


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
        Parameter(
            "lambda",
            LAMBDA.kind,
            default="1.2",
            mergekit_default=None,
            help=LAMBDA.help,
            maximum=LAMBDA.maximum,
        ),
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
