"""Single numbers as formulas read them: one a contribution, declared or evaluated.

Owns which number of a contribution counts, and who takes part where some have none. Does
not own what strategies make of the numbers, nor what is acceptable (`crdtmerge.evidence`).

A number is what a contribution's author declares of it (`evidence`), or what members say
who evaluated it (`evaluations`). Of evaluations every author has one voice: the median of
what it says of that contribution; and the median over authors counts, so that one who
lies among three cannot move it past what another says. Of an even number it is the mean of
the two in the middle. All is rational, and exact.

There is no fallback: where no contribution of weight has the number, the merge is refused.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final, TypeAlias

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.strategies.base import Parameter, Values, Whole
from crdtmerge.strategies.evidential.given import LACKING

Figures: TypeAlias = Sequence[Fraction | None]
"""A number of each contribution, in the order of `Whole.contents`; None if it has none."""

EVIDENCE: Final = "evidence"
EVALUATIONS: Final = "evaluations"
BY_EVALUATIONS: Final = "any member can say it: `crdtmerge evaluation add`"
BY_EVIDENCE: Final = (
    "its author can `crdtmerge contribute` it again with --evidence, or members can"
    " `crdtmerge evaluation add` what it is (source=evaluations)"
)

SOURCE: Final = Parameter(
    "source",
    "choice",
    default=EVIDENCE,
    mergekit_default=None,
    help="whose numbers count: the contributors' own, or those of evaluations",
    choices=(EVALUATIONS, EVIDENCE),
    whole=True,
)

DATA: Final = Parameter(
    "data",
    "label",
    default="",
    mergekit_default=None,
    help="the data whose evaluations count; empty: those on any data",
    whole=True,
)

METRIC: Final = Parameter(
    "metric",
    "label",
    default="",
    mergekit_default=None,
    help="the metric, or the category of a score; empty: the loss or step as such",
    whole=True,
)


def reads_evidence(values: Values) -> bool:
    """Tell whether the numbers are the contributors' own."""
    return values.choice(SOURCE.name) == EVIDENCE


def reads_evaluations(values: Values) -> bool:
    """Tell whether the numbers are those of evaluations."""
    return values.choice(SOURCE.name) == EVALUATIONS


def figures(whole: Whole, name: str) -> Figures:
    """Return what there is under one name: a single number's, or a metric's."""
    if reads_evaluations(whole.values):
        return evaluated(whole, name)
    return [
        Fraction(declared[name]) if name in declared else None
        for declared in whole.scalars or ({},) * len(whole.contents)
    ]


def evaluated(whole: Whole, metric: str) -> Figures:
    """Return the median over authors of what evaluations say under one metric."""
    data = whole.values.choice(DATA.name)
    found: dict[bytes, dict[bytes, list[Fraction]]] = {}
    for score in whole.scores:
        if score.metric == metric and data in {"", score.data}:
            of_author = found.setdefault(score.content, {})
            value = Fraction(score.value, DECIMAL_UNIT)
            of_author.setdefault(score.author, []).append(value)
    return [
        middle([middle(said) for said in found[content].values()])
        if content in found
        else None
        for content in whole.contents
    ]


def middle(values: Sequence[Fraction]) -> Fraction:
    """Return the median; of an even number the mean of the two in the middle."""
    ordered, half = sorted(values), len(values) // 2
    return (ordered[half] + ordered[-half - 1]) / 2


def taking_part(whole: Whole, found: Figures, what: str, strategy: str) -> list[int]:
    """Return the places of those that have weight and their number.

    Raises:
        ContractError: nobody has it, or one lacks it and `lacking` is `refuse`.
    """
    weighing = [place for place, weight in enumerate(whole.weights) if weight]
    having = [place for place in weighing if found[place] is not None]
    lacking = [place for place in weighing if found[place] is None]
    refused = whole.values.choice(LACKING.name) == "refuse"
    if lacking and (refused or not having):
        from_members = reads_evaluations(whole.values)
        said = "no evaluation tells" if from_members else "it has no"
        message = (
            f"{named(whole, lacking[0])}: {strategy} needs its {what}, and {said} one"
        )
        do = BY_EVALUATIONS if from_members else BY_EVIDENCE
        raise ContractError(message, hint=f"{do}; or set lacking=leave_out")
    return having


def named(whole: Whole, place: int) -> str:
    """Return what errors call a contribution."""
    return f"contribution {whole.contents[place].hex()[:12]}"
