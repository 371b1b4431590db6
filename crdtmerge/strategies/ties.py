"""ties: trim, elect a sign, average what agrees.

Owns `ties/1`, and the words that others share with it. Does not own the trim
(`sparsify`), nor election and mean (`forms`).

Formula (TIES-Merging, Yadav et al. 2023, arXiv:2306.01708): keep the `density` share of
largest magnitudes of each task vector, elect signs, take the disjoint mean, add `lambda`
times it to the base. Ours, as in mergekit: the trim is per tensor (the paper's is over
the whole model), and votes are weighted. Exact: k = ceil(density * items) by integers,
the k-th magnitude, and keeping all that tie with it.
"""

from typing import Final

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.strategies.base import (
    TRUE,
    Inputs,
    Memory,
    Parameter,
    Strategy,
    always,
    part_by_part,
)
from crdtmerge.strategies.forms import Votes
from crdtmerge.strategies.sparsify import trim
from crdtmerge.strategies.sums import Thinned
from crdtmerge.strategies.tensors import Term, tau_of

LAMBDA = Parameter(
    "lambda",
    "decimal",
    default="1",
    mergekit_default="1",
    help="scale of the merged task vector",
    maximum=100 * DECIMAL_UNIT,
)


def normalize_agreeing(default: str) -> Parameter:
    """Return the parameter that makes the sum of what agrees a mean, as in mergekit."""
    text = "divide by the sum of the weights that agree"
    return Parameter("normalize", "flag", default, default, text)


def _trimmed(inputs: Inputs, term: Term) -> Thinned:
    """Return which magnitudes of a contribution are large enough to vote."""
    return Thinned(trim(tau_of(inputs, term), term.values.units("density")))


SUMS: Final = Votes(_trimmed)

TIES = Strategy(
    name="ties",
    version=1,
    summary="Trim small changes, elect a sign for each item, average what agrees",
    paper="Yadav et al. 2023, TIES-Merging, https://arxiv.org/abs/2306.01708",
    parameters=(
        Parameter(
            "density",
            "decimal",
            default="0.2",
            mergekit_default="1",
            help="share of each task vector's items that is kept, per tensor",
            maximum=DECIMAL_UNIT,
            per_model=True,
        ),
        LAMBDA,
        normalize_agreeing(TRUE),
    ),
    memory=Memory(shared=8),
    held=part_by_part,
    nameless=True,
    passes_over=always,
    emit=SUMS.emit,
)
