"""della and della_linear: drop items by chance, small ones sooner, and rescale the rest.

Owns `della/1`, `della_linear/1` and their rescale. Does not own the draw (`sparsify`), nor
sums, election and disjoint mean (`forms`).

Formula (DELLA-Merging, Deep et al. 2024, arXiv:2406.11617): an item of a task vector stays
with a chance q that is linear in the rank of its magnitude in its row, from d - epsilon
for the smallest to d + epsilon for the largest, and is divided by q; then the election and
disjoint mean of TIES (arXiv:2306.01708), or in della_linear the weighted sum, times
lambda, is added to the base. A row is what lies along the last dimension; a tensor of one
dimension is one row. `epsilon` is half of the paper's (and of its code's window size), as
in mergekit. A density of 1 keeps all whatever epsilon is, as there.

Exact: chances, as rationals, and the draw, from keyed Philox words; who is kept does not
depend on how a tensor is cut. Ours: which items the words drop; of equal magnitudes the
lower index has the lower rank; d + epsilon may be 1 (in mergekit below 1).
mergekit rescales to the sum of magnitudes before dropping (`rescale=l1`), the paper by
1/q (`paper`, our default); of a tensor of three dimensions and more it ranks along the
second, not the last; a row of one item breaks it, and has the chance d here.
"""

from typing import Final

from crdtmerge.codec import DECIMAL_UNIT, format_decimal
from crdtmerge.errors import ContractError
from crdtmerge.strategies.base import (
    TRUE,
    Inputs,
    Memory,
    Parameter,
    Strategy,
    masks_to_match,
)
from crdtmerge.strategies.forms import Sparsifier, ThinnedSum, Votes, with_lambda
from crdtmerge.strategies.sparsify import draw_key, matched, prune
from crdtmerge.strategies.sums import Thinned
from crdtmerge.strategies.task_arithmetic import NORMALIZE, divisor
from crdtmerge.strategies.tensors import (
    Term,
    check_tau_headroom,
    row_length,
    tau_of,
)
from crdtmerge.strategies.ties import LAMBDA, normalize_agreeing

_DENSITY = Parameter(
    "density",
    "decimal",
    default="0.5",
    mergekit_default="1",
    help="mean chance that an item is kept; 1 keeps all",
    maximum=DECIMAL_UNIT,
    per_model=True,
)
_EPSILON = Parameter(
    "epsilon",
    "decimal",
    default="0.15",
    mergekit_default="0.15",
    help="by how much the chances of the smallest and the largest differ from density",
    maximum=DECIMAL_UNIT // 2,
    per_model=True,
)
_RESCALE = Parameter(
    "rescale",
    "choice",
    default="paper",
    mergekit_default="l1",
    help="what is kept: each by 1/q, all to the sum of magnitudes before, or not",
    choices=("paper", "l1", "none"),
)
_PAPER = "Deep et al. 2024, DELLA-Merging, https://arxiv.org/abs/2406.11617"
_MEMORY = Memory(shared=60)
"""Rows are ranked whole, and a tensor may be one row; of short ones it is a tenth."""


def _pruned(strategy: str) -> Sparsifier:
    """Return what tells the items that a contribution keeps, and their factor."""

    def brings(inputs: Inputs, term: Term) -> Thinned:
        density, epsilon = (term.values.units(n) for n in ("density", "epsilon"))
        if density == DECIMAL_UNIT:
            return Thinned()
        check_chances(density, epsilon, term.label)
        if not inputs.items:
            return Thinned()
        rescale = inputs.values.choice("rescale")
        tau, row = tau_of(inputs, term), row_length(inputs)
        key, rescaled = draw_key(inputs, strategy, term), rescale == "paper"
        keep = prune(row, density, epsilon, key, rescaled=rescaled)
        if rescaled:
            check_tau_headroom(inputs, tau, keep, term.label)
        return Thinned(*matched(tau, keep)) if rescale == "l1" else Thinned(keep)

    return brings


def check_chances(density: int, epsilon: int, label: str) -> None:
    """Refuse chances of which some are none.

    Raises:
        ContractError: the smallest is not above 0, or the largest above 1.
    """
    if not epsilon < density <= DECIMAL_UNIT - epsilon:
        texts = (format_decimal(density), format_decimal(epsilon))
        message = (
            f"{label}: density {texts[0]} and epsilon {texts[1]} give chances that"
            " are not above 0 and at most 1"
        )
        hint = "della takes epsilon < density <= 1 - epsilon, or a density of 1"
        raise ContractError(message, hint=hint)


LINEAR_SUMS: Final = ThinnedSum(with_lambda(_pruned("della_linear/1")), divisor)
TIES_SUMS: Final = Votes(_pruned("della/1"))

DELLA = Strategy(
    name="della",
    version=1,
    summary="Drop items by chance, small ones sooner, elect a sign, average what agrees",
    paper=_PAPER,
    parameters=(_DENSITY, _EPSILON, LAMBDA, normalize_agreeing(TRUE), _RESCALE),
    draws=True,
    memory=_MEMORY,
    held=masks_to_match,
    emit=TIES_SUMS.emit,
)

DELLA_LINEAR = Strategy(
    name="della_linear",
    version=1,
    summary="Drop items by chance, small ones sooner, add what is left",
    paper=_PAPER,
    parameters=(_DENSITY, _EPSILON, LAMBDA, NORMALIZE, _RESCALE),
    draws=True,
    memory=_MEMORY,
    held=masks_to_match,
    emit=LINEAR_SUMS.emit,
)
