"""wsm and pma: means of checkpoints of one training run, weighed by their order.

Owns `wsm/1`, `pma/1` and the order by `step`. Does not own the mean (`averages`).

The checkpoints of weight are ordered by their own `step`, 0 to k; N = k + 1. Both papers
take them at equal intervals: steps tell the order, and not how far apart checkpoints are.
A contribution's weight multiplies its coefficient, and these are divided by their sum.

wsm (WSM, Tian et al. 2025, arXiv:2507.17634) merges checkpoints of a constant learning
rate to what a decay would have reached: out = sum(c_j theta_j), c_j = w_j - w_{j+1} with
w_0 = 1, w_{k+1} = 0 and w_j the decayed rate of the updates before checkpoint j. Ours: how
decays are laid on checkpoints, w_j = d(j / N): linear d(x) = 1 - x, which is the uniform
mean; cosine d(x) = (1 + cos(pi x)) / 2; sqrt d(x) = 1 - sqrt(x). So the first checkpoint
has 1 - w_1, and none is left out. Which grid the paper has was not at hand.

pma (Pre-trained Model Average, Li et al. 2025, arXiv:2505.12082): sma all alike; wma in
proportion to 1, 2, ..., N; ema M_n = (1 - alpha) M_{n-1} + alpha theta_n from M_0 =
theta_0, so the first has (1 - alpha)^k and not alpha times that. That WMA grows linearly
is from secondary sources; the paper tried alpha 0.1 and 0.2.

Exact: the mean, on the grid. So are the coefficients of linear, sma and wma, as integers
in proportion; the others are found in float64 with the contract's cosine and rounded to
9 places.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final, TypeAlias

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics import cos
from crdtmerge.strategies.averages import JOINING, mean_in
from crdtmerge.strategies.base import (
    Inputs,
    Parameter,
    Parts,
    Strategy,
    Values,
    part_by_part,
)
from crdtmerge.strategies.tensors import (
    FOR_ONE,
    Term,
    participants,
    refuse_negative,
    refuse_zero,
)

STEP_MAX: Final = 999_999_999
PI: Final = 3.141592653589793

Series: TypeAlias = Callable[[int, Values], Sequence[Fraction]]
"""From the number of checkpoints to the coefficient of each, in proportion."""


def _emit(inputs: Inputs, name: str, series: Series) -> Parts:
    refuse_negative(inputs.weights, name, inputs.tensor)
    exponent, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    ordered = _in_order_of_step(terms, name)
    found = series(len(ordered), inputs.values)
    pairs = zip(ordered, found, strict=True)
    ratios = [term.weight * coefficient for term, coefficient in pairs]
    return mean_in(inputs, exponent, ordered, ratios)


def _in_order_of_step(terms: Sequence[Term], name: str) -> list[Term]:
    """Return the checkpoints, the earliest first.

    Raises:
        ContractError: one has no step, or two have the same.
    """
    ordered = sorted(terms, key=_step)
    for before, term in zip([None, *ordered], ordered, strict=False):
        if not _step(term):
            message = f"{term.label}: {name} needs its step, and it has none"
            hint = f"give every contribution step=1 or above, {FOR_ONE}"
            raise ContractError(message, hint=hint)
        if before is not None and _step(before) == _step(term):
            message = f"{term.label}: its step {_step(term)} is that of another one"
            hint = f"give every contribution its own step, {FOR_ONE}"
            raise ContractError(message, hint=hint)
    return ordered


def _step(term: Term) -> int:
    return term.values.count("step")


def _wsm(count: int, values: Values) -> Sequence[Fraction]:
    decay = values.choice("decay")
    if decay == "linear":
        return [Fraction(1)] * count
    way = np.arange(1, count) / count
    if decay == "cosine":
        between = ((1 + cos(PI * way)) / 2).tolist()
    else:
        between = (1 - np.sqrt(way)).tolist()
    rates = [1.0, *between, 0.0]
    return [Fraction(rates[j]) - Fraction(rates[j + 1]) for j in range(count)]


def _pma(count: int, values: Values) -> Sequence[Fraction]:
    average = values.choice("average")
    if average == "sma":
        return [Fraction(1)] * count
    if average == "wma":
        return [Fraction(j) for j in range(1, count + 1)]
    alpha, left, found = values.real("alpha"), 1.0, []
    for _ in range(count - 1):
        found.append(Fraction(alpha * left))
        left = left * (1 - alpha)
    return [*reversed([*found, Fraction(left)])]


def _emit_wsm(inputs: Inputs) -> Parts:
    return _emit(inputs, "wsm", _wsm)


def _emit_pma(inputs: Inputs) -> Parts:
    return _emit(inputs, "pma", _pma)


_STEP: Final = Parameter(
    "step",
    "integer",
    "0",
    None,
    "the training step of this checkpoint, from 1; 0 is none",
    maximum=STEP_MAX * DECIMAL_UNIT,
    per_model=True,
)

WSM = Strategy(
    name="wsm",
    version=1,
    summary="Average checkpoints to what a decay of the learning rate would have reached",
    paper="Tian et al. 2025, WSM, https://arxiv.org/abs/2507.17634",
    parameters=(
        Parameter(
            "decay",
            "choice",
            "linear",
            None,
            "the decay that the merge stands for",
            choices=("linear", "cosine", "sqrt"),
        ),
        _STEP,
    ),
    needs_base=False,
    memory=JOINING,
    held=part_by_part,
    emit=_emit_wsm,
)

PMA = Strategy(
    name="pma",
    version=1,
    summary="Average checkpoints: alike, growing with their order, or exponentially",
    paper="Li et al. 2025, Model Merging in Pre-training, https://arxiv.org/abs/2505.12082",
    parameters=(
        Parameter(
            "alpha",
            "decimal",
            "0.2",
            None,
            "the share of each later checkpoint in ema",
            minimum=1,
            maximum=DECIMAL_UNIT,
        ),
        Parameter(
            "average",
            "choice",
            "sma",
            None,
            "all alike, linearly growing, or exponential",
            choices=("sma", "wma", "ema"),
        ),
        _STEP,
    ),
    needs_base=False,
    memory=JOINING,
    held=part_by_part,
    emit=_emit_pma,
)
