"""breadcrumbs and breadcrumbs_ties: drop the largest changes and the smallest.

Owns `breadcrumbs/1` and `breadcrumbs_ties/1`. Does not own the band (`sparsify`), nor sums,
election and disjoint mean (`forms`).

Formula (Model Breadcrumbs, Davari and Belilovsky 2023, arXiv:2312.06795): of each task
vector the floor(gamma * n) largest magnitudes become zero, and so many of the smallest that
ceil(density * n) stay; then out = theta_0 + lambda * sum(w_k tau'_k), or the election and
disjoint mean of TIES (arXiv:2306.01708), as in mergekit. Exact: the counts, by integers,
and both thresholds; what ties with one is kept. Ours, as in mergekit: per tensor (the
authors' code: per row of the last dimension), density goes before gamma where both cannot
be had, and their names (we have not compared them with the paper's). mergekit truncates
density * n, and up to 0.1.4 kept nothing of a tensor of which gamma drops nothing.
"""

from typing import Final

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.strategies.base import (
    FALSE,
    Inputs,
    Memory,
    Parameter,
    Strategy,
    Values,
    always,
    part_by_part,
)
from crdtmerge.strategies.forms import ThinnedSum, Votes, with_lambda
from crdtmerge.strategies.sparsify import band
from crdtmerge.strategies.sums import Thinned
from crdtmerge.strategies.task_arithmetic import NORMALIZE, divisor
from crdtmerge.strategies.tensors import Term, tau_of
from crdtmerge.strategies.ties import LAMBDA, normalize_agreeing

_DENSITY = Parameter(
    "density",
    "decimal",
    default="0.9",
    mergekit_default="1",
    help="share of each task vector's items that is kept, per tensor",
    maximum=DECIMAL_UNIT,
    per_model=True,
)
_GAMMA = Parameter(
    "gamma",
    "decimal",
    default="0.01",
    mergekit_default="0.01",
    help="share of the largest magnitudes that is dropped, per tensor",
    maximum=DECIMAL_UNIT,
    per_model=True,
)
_PAPER = "Davari, Belilovsky 2023, Model Breadcrumbs, https://arxiv.org/abs/2312.06795"
_MEMORY = Memory(shared=8)


def _in_band(inputs: Inputs, term: Term) -> Thinned:
    """Return the items of one contribution between the largest and the smallest."""
    density, gamma = (term.values.units(name) for name in ("density", "gamma"))
    if density == DECIMAL_UNIT:
        return Thinned()
    return Thinned(band(tau_of(inputs, term), density, gamma))


LINEAR_SUMS: Final = ThinnedSum(with_lambda(_in_band), divisor)
TIES_SUMS: Final = Votes(_in_band)


def _passes_over(values: Values) -> bool:
    """Tell whether no divisor counts those who change nothing."""
    return not values.flag("normalize")


BREADCRUMBS = Strategy(
    name="breadcrumbs",
    version=1,
    aliases=("model_breadcrumbs",),
    summary="Drop the largest and the smallest changes, add what is left",
    paper=_PAPER,
    parameters=(_DENSITY, _GAMMA, LAMBDA, NORMALIZE),
    memory=_MEMORY,
    held=part_by_part,
    nameless=True,
    passes_over=_passes_over,
    emit=LINEAR_SUMS.emit,
)

BREADCRUMBS_TIES = Strategy(
    name="breadcrumbs_ties",
    version=1,
    summary="Drop the largest and the smallest changes, elect a sign, add what agrees",
    paper=_PAPER,
    parameters=(_DENSITY, _GAMMA, LAMBDA, normalize_agreeing(FALSE)),
    memory=_MEMORY,
    held=part_by_part,
    nameless=True,
    passes_over=always,
    emit=TIES_SUMS.emit,
)
