"""dare_linear and dare_ties: drop items at random, rescale what is left, add it up.

Owns `dare_linear/1`, `dare_ties/1`, their masks and the rescale. Does not own election
and disjoint sum (`consensus`).

Formula (DARE, Yu et al. 2023, arXiv:2311.03099): each item of a task vector is dropped
with chance `p`, the rest is scaled by 1 / (1 - p); then out = theta_0 + lambda *
sum(w_k tau'_k), or the election of TIES (arXiv:2306.01708) without its trim, as in
mergekit. `rescale=l1` is what mergekit does today: the rest is scaled so that its sum of
magnitudes is the one before dropping; `none` scales nothing. Exact: the masks, from keyed
Philox words. Ours: which items they drop; sums of magnitudes along the tree; a rescale
common to all is applied once, with lambda, else it is multiplied into the weight (in
dare_linear always, with lambda), which is rounded half-even to 9 places.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    TAU_BITS,
    Floats,
    GridSum,
    Singles,
    bernoulli,
    divide,
    philox_key,
    tau_grid,
    tree_sum,
)
from crdtmerge.strategies.base import FALSE, Inputs, Parameter, Strategy
from crdtmerge.strategies.blocks import (
    Term,
    base_block,
    emit_blocks,
    participants,
    tau_block,
    whole_task_vector,
)
from crdtmerge.strategies.consensus import Keep, Voter, emit_consensus
from crdtmerge.strategies.task_arithmetic import NORMALIZE, divisor_of
from crdtmerge.strategies.ties import LAMBDA

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


def _keep_units(term: Term) -> int:
    return DECIMAL_UNIT - term.values.units("p")


def _mask(inputs: Inputs, strategy: str, term: Term) -> Keep:
    """Return the rule that draws one contribution's mask.

    The tensor's seed enters in scope `set` only: with an empty seed a mask is the same
    in every set (and its author may grind it).
    """
    seed = inputs.seed if inputs.seed_scope == "set" else b""
    key = philox_key(seed, strategy, term.content, inputs.tensor)
    keep_units = _keep_units(term)

    def keep(tau: Singles, part: range) -> NDArray[np.bool_]:
        return bernoulli(key, tau.size, keep_units, part.start)

    return keep


def _rescale(inputs: Inputs, term: Term, keep: Keep) -> Fraction:
    """Return the factor of what is left of one task vector."""
    rescale = inputs.values.choice("rescale")
    if rescale == "paper":
        return Fraction(DECIMAL_UNIT, _keep_units(term))
    if rescale == "none":
        return Fraction(1)
    before, after = _magnitudes(whole_task_vector(inputs, term), keep)
    return Fraction(before) / Fraction(after) if after else Fraction(1)


def _magnitudes(tau: Singles, keep: Keep) -> tuple[float, float]:
    """Return the sums of the magnitudes of all items, and of those that are kept."""

    def whole(part: range) -> Floats:
        return np.abs(tau[part.start : part.stop]).astype(np.float64)

    def kept(part: range) -> Floats:
        return np.where(keep(tau[part.start : part.stop], part), whole(part), 0.0)

    return tree_sum(tau.size, whole), tree_sum(tau.size, kept)


def _thinned(
    inputs: Inputs, strategy: str
) -> tuple[int, list[tuple[Term, Keep, Fraction]]]:
    """Return the exponent, and who takes part with mask and factor."""
    exponent, terms = participants(inputs, inputs.weights)
    masks = [_mask(inputs, strategy, term) for term in terms]
    pairs = list(zip(terms, masks, strict=True))
    return exponent, [(t, keep, _rescale(inputs, t, keep)) for t, keep in pairs]


def _emit_ties(inputs: Inputs) -> bytes:
    exponent, thinned = _thinned(inputs, "dare_ties/1")
    scale = Fraction(inputs.values.units("lambda"), DECIMAL_UNIT)
    factors = {factor for _, _, factor in thinned}
    if len(factors) == 1:
        scale *= factors.pop()
        thinned = [(term, keep, Fraction(1)) for term, keep, _ in thinned]
    return emit_consensus(
        inputs,
        exponent,
        [Voter(t, keep, round(t.weight * factor)) for t, keep, factor in thinned],
        scale=float(scale),
        normalize=inputs.values.flag("normalize"),
    )


def _emit_linear(inputs: Inputs) -> bytes:
    exponent, thinned = _thinned(inputs, "dare_linear/1")
    scale = Fraction(inputs.values.units("lambda"), DECIMAL_UNIT)
    scaled = [
        (t, keep, round(scale * t.weight * factor)) for t, keep, factor in thinned
    ]
    divisor = divisor_of(inputs.weights, normalize=inputs.values.flag("normalize"))
    return _emit_sum(inputs, exponent, scaled, divisor)


def _emit_sum(
    inputs: Inputs,
    exponent: int,
    scaled: Sequence[tuple[Term, Keep, int]],
    divisor: int,
) -> bytes:
    """Return the base plus the sum of the thinned task vectors over the divisor."""
    grid = tau_grid(exponent, inputs.dtype)

    def compute(part: range) -> Floats:
        base, total = base_block(inputs, part), GridSum(grid, len(part))
        for term, keep, coefficient in scaled:
            tau = tau_block(inputs, term, base, part)
            kept = np.where(keep(tau, part), tau.astype(np.float64), 0.0)
            total.add(kept, coefficient, TAU_BITS)
        return base + divide(total.total(), divisor)

    return emit_blocks(inputs, compute)


DARE_LINEAR = Strategy(
    name="dare_linear",
    version=1,
    aliases=("dare",),
    summary="Drop items at random and rescale, add what is left",
    paper="Yu et al. 2023, DARE, https://arxiv.org/abs/2311.03099",
    parameters=(_P, LAMBDA, NORMALIZE, _RESCALE),
    draws=True,
    emit=_emit_linear,
)

DARE_TIES = Strategy(
    name="dare_ties",
    version=1,
    summary="Drop items at random and rescale, elect a sign, add what agrees",
    paper="Yu et al. 2023, DARE, https://arxiv.org/abs/2311.03099",
    parameters=(
        _P,
        LAMBDA,
        Parameter(
            "normalize",
            "flag",
            FALSE,
            FALSE,
            "divide by the sum of the weights that agree",
        ),
        _RESCALE,
    ),
    draws=True,
    emit=_emit_ties,
)
