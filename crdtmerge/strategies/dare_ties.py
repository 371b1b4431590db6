"""dare_ties: drop items at random, elect a sign, add what agrees.

Owns `dare_ties/1` and its masks. Does not own election and sum (`consensus`).

Formula (DARE, Yu et al. 2023, arXiv:2311.03099): each item of a task vector is dropped
with chance `p`, the rest is scaled by 1 / (1 - p); then the election of TIES (arXiv:
2306.01708) without its trim, as in mergekit. Exact: the masks, from keyed Philox words.
Ours: the rescale is common to all, so it is applied once, with lambda, as one division
lambda / (1 - p); and the masks, which no other implementation draws alike.
"""

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Singles, bernoulli, philox_key
from crdtmerge.strategies.base import FALSE, Inputs, Parameter, Strategy
from crdtmerge.strategies.blocks import Term, participants
from crdtmerge.strategies.consensus import Keep, Voter, emit_consensus
from crdtmerge.strategies.ties import LAMBDA

NAME = "dare_ties"
VERSION = 1


def _mask(inputs: Inputs, term: Term, keep_units: int) -> Keep:
    """Return the rule that draws one contribution's mask.

    The tensor's seed enters in scope `set` only: with an empty seed a mask is the same
    in every set (and its author may grind it).
    """
    seed = inputs.seed if inputs.seed_scope == "set" else b""
    key = philox_key(seed, f"{NAME}/{VERSION}", term.content, inputs.tensor)

    def keep(tau: Singles, part: range) -> NDArray[np.bool_]:
        return bernoulli(key, tau.size, keep_units, part.start)

    return keep


def _emit(inputs: Inputs) -> bytes:
    exponent, terms = participants(inputs, inputs.weights)
    keep_units = DECIMAL_UNIT - inputs.values.units("p")
    return emit_consensus(
        inputs,
        exponent,
        [Voter(term, _mask(inputs, term, keep_units)) for term in terms],
        scale=inputs.values.units("lambda") / keep_units,
        normalize=inputs.values.flag("normalize"),
    )


DARE_TIES = Strategy(
    name=NAME,
    version=VERSION,
    summary="Drop items at random and rescale, elect a sign, add what agrees",
    paper="Yu et al. 2023, DARE, https://arxiv.org/abs/2311.03099",
    parameters=(
        Parameter(
            "p",
            "decimal",
            default="0.9",
            mergekit_default="0",
            help="chance that an item is dropped; mergekit's density is 1 - p",
            maximum=DECIMAL_UNIT - 1,
        ),
        LAMBDA,
        Parameter(
            "normalize",
            "flag",
            FALSE,
            FALSE,
            "divide by the sum of the weights that agree",
        ),
    ),
    draws=True,
    emit=_emit,
)
