"""dare_linear and dare_ties: drop items at random, rescale what is left, add it up.

Owns `dare_linear/1`, `dare_ties/1` and their rescale. Does not own the draw (`sparsify`),
nor sums, election and disjoint mean (`forms`).

Formula (DARE, Yu et al. 2023, arXiv:2311.03099): each item of a task vector is dropped
with chance `p`, the rest is scaled by 1 / (1 - p); then out = theta_0 + lambda *
sum(w_k tau'_k), or the election of TIES (arXiv:2306.01708) without its trim, as in
mergekit. `rescale=l1` is what mergekit does today: the rest is scaled so that its sum of
magnitudes is the one before dropping; `none` scales nothing. Exact: the masks, from keyed
Philox words. Ours: which items they drop; sums of magnitudes along the tree; a rescale
common to all is applied once, with lambda, else it is multiplied into the weight (in
dare_linear always, with lambda), which is rounded half-even to 9 places.
"""

from fractions import Fraction
from typing import Final

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.strategies.base import (
    FALSE,
    Inputs,
    Memory,
    Parameter,
    Strategy,
    masks_to_match,
)
from crdtmerge.strategies.forms import Sparsifier, ThinnedSum, Votes, with_lambda
from crdtmerge.strategies.sparsify import draw_key, drop, matched
from crdtmerge.strategies.sums import Thinned
from crdtmerge.strategies.task_arithmetic import NORMALIZE, divisor
from crdtmerge.strategies.tensors import Term, tau_of
from crdtmerge.strategies.ties import LAMBDA, normalize_agreeing

_P = Parameter(
    "p",
    "decimal",
    default="0.9",
    mergekit_default="0",
    help="chance that an item is dropped; mergekit's density is 1 - p",
    maximum=DECIMAL_UNIT - 1,
    per_model=True,
)
_RESCALE = Parameter(
    "rescale",
    "choice",
    default="paper",
    mergekit_default="l1",
    help="of what is kept: by 1/(1-p), to the sum of magnitudes before, or not",
    choices=("paper", "l1", "none"),
)


def _drawn(strategy: str) -> Sparsifier:
    """Return what tells mask and factor of one contribution."""

    def brings(inputs: Inputs, term: Term) -> Thinned:
        chance = DECIMAL_UNIT - term.values.units("p")
        keep = drop(draw_key(inputs, strategy, term), chance)
        match inputs.values.choice("rescale"):
            case "paper":
                return Thinned(keep, Fraction(DECIMAL_UNIT, chance))
            case "l1":
                return Thinned(*matched(tau_of(inputs, term), keep))
            case _:
                return Thinned(keep)

    return brings


LINEAR_SUMS: Final = ThinnedSum(with_lambda(_drawn("dare_linear/1")), divisor)
TIES_SUMS: Final = Votes(_drawn("dare_ties/1"))

DARE_LINEAR = Strategy(
    name="dare_linear",
    version=1,
    aliases=("dare",),
    summary="Drop items at random and rescale, add what is left",
    paper="Yu et al. 2023, DARE, https://arxiv.org/abs/2311.03099",
    parameters=(_P, LAMBDA, NORMALIZE, _RESCALE),
    draws=True,
    memory=Memory(shared=8),
    held=masks_to_match,
    emit=LINEAR_SUMS.emit,
)

DARE_TIES = Strategy(
    name="dare_ties",
    version=1,
    summary="Drop items at random and rescale, elect a sign, add what agrees",
    paper="Yu et al. 2023, DARE, https://arxiv.org/abs/2311.03099",
    parameters=(
        _P,
        LAMBDA,
        normalize_agreeing(FALSE),
        _RESCALE,
    ),
    draws=True,
    memory=Memory(shared=8),
    held=masks_to_match,
    emit=TIES_SUMS.emit,
)
