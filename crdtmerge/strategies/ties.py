"""ties: trim, elect a sign, average what agrees.

Owns `ties/1` and its trim. Does not own election and mean (`consensus`).

Formula (TIES-Merging, Yadav et al. 2023, arXiv:2306.01708): keep the `density` share of
largest magnitudes of each task vector, elect signs, take the disjoint mean, add `lambda`
times it to the base. Ours, as in mergekit: the trim is per tensor (the paper's is over
the whole model), and votes are weighted. Exact: k = ceil(density * items) by integers,
the k-th magnitude, and keeping all that tie with it.
"""

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Singles, at_least, keep_count, threshold
from crdtmerge.strategies.base import TRUE, Inputs, Parameter, Strategy
from crdtmerge.strategies.blocks import Term, participants, whole_task_vector
from crdtmerge.strategies.consensus import Keep, Voter, emit_consensus

LAMBDA = Parameter(
    "lambda",
    "decimal",
    default="1",
    mergekit_default="1",
    help="scale of the merged task vector",
    maximum=100 * DECIMAL_UNIT,
)


def _trim(inputs: Inputs, term: Term, density: int) -> Keep:
    """Return the rule that keeps the largest magnitudes of one task vector."""
    k = keep_count(inputs.items, density)
    least = 0.0 if k == inputs.items else float("inf")
    if 0 < k < inputs.items:
        least = threshold(whole_task_vector(inputs, term), k)

    def keep(tau: Singles, _: range) -> NDArray[np.bool_]:
        return at_least(tau, least)

    return keep


def _emit(inputs: Inputs) -> bytes:
    exponent, terms = participants(inputs, inputs.weights)
    return emit_consensus(
        inputs,
        exponent,
        [
            Voter(term, _trim(inputs, term, term.values.units("density")), term.weight)
            for term in terms
        ],
        scale=inputs.values.units("lambda") / DECIMAL_UNIT,
        normalize=inputs.values.flag("normalize"),
    )


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
    emit=_emit,
)
