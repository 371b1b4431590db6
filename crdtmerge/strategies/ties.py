"""ties: trim, elect a sign, average what agrees.

Owns `ties/1` and its trim. Does not own election and mean (`forms`).

Formula (TIES-Merging, Yadav et al. 2023, arXiv:2306.01708): keep the `density` share of
largest magnitudes of each task vector, elect signs, take the disjoint mean, add `lambda`
times it to the base. Ours, as in mergekit: the trim is per tensor (the paper's is over
the whole model), and votes are weighted. Exact: k = ceil(density * items) by integers,
the k-th magnitude, and keeping all that tie with it.
"""

from typing import Final

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Keep, keep_count, kth_largest
from crdtmerge.strategies.base import TRUE, Inputs, Memory, Parameter, Strategy
from crdtmerge.strategies.forms import Votes
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


def _trim(inputs: Inputs, term: Term) -> Thinned:
    """Return which magnitudes of a contribution are large enough to vote."""
    k = keep_count(inputs.items, term.values.units("density"))
    least = 0.0 if k == inputs.items else float("inf")
    if 0 < k < inputs.items:
        least = kth_largest(tau_of(inputs, term), k)
    return Thinned(Keep(least))


SUMS: Final = Votes(_trim)

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
        Parameter(
            "normalize",
            "flag",
            TRUE,
            TRUE,
            "divide by the sum of the weights that agree",
        ),
    ),
    memory=Memory(shared=14),
    emit=SUMS.emit,
)
