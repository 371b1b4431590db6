"""soce: whole models weighed by the categories that they are the best at.

Owns `soce/1`. Does not own the numbers (`figures`), nor the weighted sum (`metrics`).

Formula (SoCE, Maiti et al. 2025, arXiv:2511.13254): categories whose scores correlate
little with others' over the models tell models apart; of each of these the best model is an
expert, and the soup is of experts. The paper then searches weights on a grid by the score
of the soup; no merge here runs models, so that is not in it: an expert's weight is in
proportion to the number of such categories in which it is the best (the static variant).

Ours: a category is what at least two contributions have a score of (one's own invention
wins nothing; of a single contribution, all). Two categories correlate by Pearson over those
that have both, 0 where one does not vary; a category counts if the mean of its correlations
is below `threshold`, and all count where none is. Equal best scores share a category. The
number of categories won multiplies the weight; who wins none takes no part. Numbers are the
contributors' own, or the median of evaluations (`source`), of which each metric is a
category but `loss`, `samples` and `step`: of these the largest is not the best. Those who
agree to declare categories that nobody else has win these: evaluations by members say
more. Sums are exact, in rationals; a correlation is rounded once to float64.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import sqrt
from typing import Final, TypeAlias

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.evidence.kinds import SCALARS, SCORE
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
    evaluated,
    reads_evaluations,
    reads_evidence,
    taking_part,
)
from crdtmerge.strategies.evidential.given import LACKING
from crdtmerge.strategies.evidential.metrics import emit_mean, refuse_nobody

NAME: Final = "soce"

Scores: TypeAlias = Mapping[int, Fraction]
"""The scores of one category, by the place of who has one."""


def _reduce(_measures: Sequence[Measures], whole: Whole) -> tuple[int, ...]:
    refuse_nobody(whole, NAME)
    told = _categories(whole)
    having = [
        next((scores[place] for scores in told.values() if place in scores), None)
        for place in range(len(whole.weights))
    ]
    taking_part(whole, having, "scores", NAME)
    limit = whole.values.real("threshold")
    apart = [c for c in sorted(told) if _mean_correlation(told, c) < limit]
    won = [Fraction(0)] * len(whole.weights)
    for category in apart or sorted(told):
        best = max(told[category].values())
        winners = [p for p, score in told[category].items() if score == best]
        for place in winners:
            won[place] += Fraction(1, len(winners))
    ratios = [w * count for w, count in zip(whole.weights, won, strict=True)]
    if not any(ratios):
        message = "soce: no contribution of weight is the best at anything"
        raise ContractError(message)
    return in_proportion(ratios)


def _categories(whole: Whole) -> Mapping[str, Scores]:
    """Return the scores of those that weigh, of all categories that count."""
    weighing = [place for place, weight in enumerate(whole.weights) if weight]
    found: dict[str, dict[int, Fraction]] = {}
    for name, place, score in _told(whole):
        if place in weighing:
            found.setdefault(name, {})[place] = score
    least = min(2, len(weighing))
    return {name: scores for name, scores in found.items() if len(scores) >= least}


def _told(whole: Whole) -> Iterable[tuple[str, int, Fraction]]:
    """Yield category, place and score of all that is said."""
    if reads_evaluations(whole.values):
        only = whole.values.choice(METRIC.name)
        for metric in sorted({score.metric for score in whole.scores} - {*SCALARS}):
            if only in {"", metric}:
                for place, value in enumerate(evaluated(whole, metric)):
                    if value is not None:
                        yield metric, place, value
        return
    only = f"{SCORE}{whole.values.choice(METRIC.name)}"
    for place, declared in enumerate(whole.scalars):
        for name, number in sorted(declared.items()):
            if name.startswith(SCORE) and only in {SCORE, name}:
                yield name, place, Fraction(number)


def _mean_correlation(told: Mapping[str, Scores], category: str) -> float:
    """Return the mean of a category's correlations with all others; 0 of one alone."""
    others = [name for name in sorted(told) if name != category]
    found = [Fraction(_correlation(told[category], told[name])) for name in others]
    return float(sum(found) / len(found)) if found else 0.0


def _correlation(one: Scores, other: Scores) -> float:
    """Return Pearson's correlation over those that have both."""
    both = [(one[place], other[place]) for place in sorted(one) if place in other]
    if not both:
        return 0.0
    means = [sum(column) / Fraction(len(both)) for column in zip(*both, strict=True)]
    away = [(a - means[0], b - means[1]) for a, b in both]
    spread = sum(a * a for a, _ in away) * sum(b * b for _, b in away)
    if not spread:
        return 0.0
    shared = sum(a * b for a, b in away)
    square = float(shared * shared / Fraction(spread))
    return sqrt(square) if shared > 0 else -sqrt(square)


def _emit(inputs: Inputs) -> Parts:
    return emit_mean(inputs, NAME)


SOCE = Strategy(
    name=NAME,
    version=1,
    summary="Average the experts of categories that tell the models apart",
    paper="Maiti et al. 2025, Souper-Model, https://arxiv.org/abs/2511.13254",
    parameters=(
        DATA,
        LACKING,
        METRIC,
        SOURCE,
        Parameter(
            "threshold",
            "decimal",
            default="0.5",
            mergekit_default=None,
            help="categories whose mean correlation with others is below it count",
            minimum=-2 * DECIMAL_UNIT,
            maximum=2 * DECIMAL_UNIT,
            whole=True,
        ),
    ),
    needs_base=False,
    scalars=reads_evidence,
    scores=reads_evaluations,
    memory=Memory(shared=8),
    held=part_by_part,
    emit=_emit,
    reduce=_reduce,
)
