"""mwa and lm_cocktail: averages of whole models, weighed by one number a model.

Owns `mwa/1` and `lm_cocktail/1`. Does not own the numbers (`figures`), nor the weighted sum
(`forms`).

Formula (MWA, Yu and Choi 2025, arXiv:2504.18580): out = sum(c_k theta_k) with c_k in
proportion to w_k m_k^p, m_k = 1 / loss, the training step, or a score (`by`). That the
penalty enters as a power is our reading (unsure: the paper has one factor for it); so is
that it is a whole number, which needs no pow. With p = 0 it is `linear/1`.

Formula (LM-Cocktail, Xiao et al. 2023, arXiv:2311.13534): out = alpha theta_0 + (1 - alpha)
sum(c_k theta_k), c_k = w_k exp(-loss_k / T) / sum_j(w_j exp(-loss_j / T)). The losses are
those on a few examples of the target task. The paper's T is not at hand (unsure: 1 to 5).

Ours: weights w_k multiply. The numbers are declared by those who win by them, so they are
bounded: in mwa m_k is at most `most` times the median of all m_k (of an even number the
lower one, so of two the smaller), which a minority of liars cannot raise; a loss, step or
score of zero or below is refused where it is divided by or made a power of (a score of
zero counts: it has no say). In lm_cocktail a loss below zero is refused, so that no lie
weighs more than exp(honest loss / T) times an honest model. A number as large as 10**300
only lessens a loss's say. NaN and infinities are refused where evidence is read.

Exact: powers and proportions, in rationals; they are rounded to 9 places of their sum
where no smaller whole numbers stand for them. exp is the contract's.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics import exp
from crdtmerge.strategies.averages import in_proportion
from crdtmerge.strategies.base import (
    Inputs,
    Measures,
    Memory,
    Parameter,
    Parts,
    Strategy,
    Whole,
    part_by_part,
)
from crdtmerge.strategies.evidential.figures import (
    DATA,
    METRIC,
    SOURCE,
    Figures,
    figures,
    named,
    reads_evaluations,
    reads_evidence,
    taking_part,
)
from crdtmerge.strategies.evidential.given import LACKING
from crdtmerge.strategies.forms import emit_weighted
from crdtmerge.strategies.tensors import refuse_negative

_POWER_MAX: Final = 16
_LESS_MAX: Final = Fraction(10**6)


def reduced(inputs: Inputs, strategy: str) -> tuple[int, ...]:
    """Return the coefficients that the reduce step has found.

    Raises:
        ContractError: it has not run.
    """
    if inputs.coefficients is None:
        message = f"{strategy} emits only after its reduce step"
        raise ContractError(message)
    return inputs.coefficients


def emit_mean(inputs: Inputs, strategy: str) -> Parts:
    """Return the mean of the contributions in proportion to the coefficients."""
    found = reduced(inputs, strategy)
    return emit_weighted(inputs, found, 0, sum(found))


def refuse_nobody(whole: Whole, strategy: str) -> None:
    """Refuse weights that weigh nothing, or less.

    Raises:
        ContractError: a weight is negative, or all are zero.
    """
    refuse_negative(whole.weights, strategy)
    if not any(whole.weights):
        message = "all weights are zero, so none averages"
        raise ContractError(message, hint="give a contribution a weight above zero")


def _reduce_mwa(_measures: Sequence[Measures], whole: Whole) -> tuple[int, ...]:
    refuse_nobody(whole, "mwa")
    by = whole.values.choice("by")
    name = _name(whole, by)
    found = figures(whole, name)
    places = taking_part(whole, found, name, "mwa")
    metrics = _bounded(whole, [_metric(whole, found, p, by) for p in places])
    power = whole.values.count("p")
    ratios = [Fraction(0)] * len(whole.weights)
    for place, metric in zip(places, metrics, strict=True):
        ratios[place] = whole.weights[place] * Fraction(metric) ** power
    if not any(ratios):
        message = f"mwa: every {name} is zero, so none averages"
        raise ContractError(message, hint="weigh by another number, or set p=0")
    return in_proportion(ratios)


def _name(whole: Whole, by: str) -> str:
    """Return what the numbers are called where they come from.

    Raises:
        ContractError: it needs a metric, and there is none.
    """
    metric = whole.values.choice(METRIC.name)
    if reads_evaluations(whole.values):
        return metric or by
    if by != "score":
        return by
    if not metric:
        message = "a score needs its category, and metric is empty"
        raise ContractError(message, hint="set metric to the category of the score")
    return f"score:{metric}"


def _metric(whole: Whole, found: Figures, place: int, by: str) -> Fraction:
    value = found[place]
    assert value is not None, "who takes part has its number"
    if value < 0 or (value == 0 and by != "score"):
        message = f"{named(whole, place)}: its {by} is {float(value)}, not above zero"
        hint = "leave the contribution out, or weigh by another number"
        raise ContractError(message, hint=hint)
    return 1 / value if by == "loss" else value


def _bounded(whole: Whole, metrics: Sequence[Fraction]) -> list[Fraction]:
    """Return the numbers, none more than `most` times the lower median."""
    most = Fraction(whole.values.units("most"), DECIMAL_UNIT)
    limit = most * sorted(metrics)[(len(metrics) - 1) // 2]
    return [min(metric, limit) if limit else metric for metric in metrics]


def _emit_mwa(inputs: Inputs) -> Parts:
    return emit_mean(inputs, "mwa")


def _reduce_cocktail(_measures: Sequence[Measures], whole: Whole) -> tuple[int, ...]:
    """Return (1 - alpha) times the softmax of what is lost, in units."""
    refuse_nobody(whole, "lm_cocktail")
    name = whole.values.choice(METRIC.name)
    name = name if name and reads_evaluations(whole.values) else "loss"
    found = figures(whole, name)
    places = taking_part(whole, found, name, "lm_cocktail")
    losses = [_loss(whole, found, place) for place in places]
    heat = Fraction(whole.values.units("temperature"), DECIMAL_UNIT)
    # SUBTLE: the difference is divided as a rational: float64 has no such large numbers.
    less = [min((loss - min(losses)) / heat, _LESS_MAX) for loss in losses]
    powers = exp(np.array([-float(number) for number in less])).tolist()
    shares = [
        whole.weights[place] * Fraction(power)
        for place, power in zip(places, powers, strict=True)
    ]
    left = DECIMAL_UNIT - whole.values.units("alpha")
    total, coefficients = sum(shares), [0] * len(whole.weights)
    for place, share in zip(places, shares, strict=True):
        coefficients[place] = round(share * left / total)
    return tuple(coefficients)


def _loss(whole: Whole, found: Figures, place: int) -> Fraction:
    value = found[place]
    assert value is not None, "who takes part has its number"
    if value < 0:
        message = f"{named(whole, place)}: its loss is {float(value)}, below zero"
        raise ContractError(message, hint="leave the contribution out")
    return value


def _emit_cocktail(inputs: Inputs) -> Parts:
    found = reduced(inputs, "lm_cocktail")
    return emit_weighted(inputs, found, DECIMAL_UNIT - sum(found), DECIMAL_UNIT)


MWA = Strategy(
    name="mwa",
    version=1,
    summary="Average models in proportion to a power of loss, step or score",
    paper="Yu and Choi 2025, MWA, https://arxiv.org/abs/2504.18580",
    parameters=(
        Parameter(
            "by",
            "choice",
            default="loss",
            mergekit_default=None,
            help="what weighs: one over the loss, the training step, or a score",
            choices=("loss", "score", "step"),
            whole=True,
        ),
        DATA,
        LACKING,
        METRIC,
        Parameter(
            "most",
            "decimal",
            default="10",
            mergekit_default=None,
            help="times the median that a number may count for, before the power",
            minimum=DECIMAL_UNIT,
            maximum=10**6 * DECIMAL_UNIT,
            whole=True,
        ),
        Parameter(
            "p",
            "integer",
            default="1",
            mergekit_default=None,
            help="the power of the number: 0 weighs all alike",
            maximum=_POWER_MAX * DECIMAL_UNIT,
            whole=True,
        ),
        SOURCE,
    ),
    needs_base=False,
    scalars=reads_evidence,
    scores=reads_evaluations,
    memory=Memory(shared=8),
    held=part_by_part,
    emit=_emit_mwa,
    reduce=_reduce_mwa,
)

LM_COCKTAIL = Strategy(
    name="lm_cocktail",
    version=1,
    summary="Average models by the softmax of their losses, and with the base",
    paper="Xiao et al. 2023, LM-Cocktail, https://arxiv.org/abs/2311.13534",
    parameters=(
        Parameter(
            "alpha",
            "decimal",
            default="0.5",
            mergekit_default=None,
            help="the share of the base",
            maximum=DECIMAL_UNIT,
            whole=True,
        ),
        DATA,
        LACKING,
        METRIC,
        SOURCE,
        Parameter(
            "temperature",
            "decimal",
            default="1",
            mergekit_default=None,
            help="what losses are divided by: the larger, the more alike they weigh",
            minimum=DECIMAL_UNIT // 1000,
            maximum=10**6 * DECIMAL_UNIT,
            whole=True,
        ),
    ),
    scalars=reads_evidence,
    scores=reads_evaluations,
    memory=Memory(shared=8),
    held=part_by_part,
    emit=_emit_cocktail,
    reduce=_reduce_cocktail,
)
