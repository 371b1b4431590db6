"""Sign election and the disjoint mean, shared by TIES and all that end like it.

Owns what happens after each contribution has dropped some of its task vector. Does not
own how it drops.

Formula (TIES-Merging, Yadav et al. 2023, arXiv:2306.01708, section 4, in mergekit's
weighted form): the sign of an item is that of sum(w_k tau_k), zero counts as +; q is
sum(w_k tau_k) / sum(w_k) over the k whose w_k tau_k has this sign, 0 if none has; where
negative weights make that sum of weights zero it counts as 1, as in mergekit. out =
theta_0 + scale * q. With `normalize=false` q is the sum itself. A voter whose task vector
is rescaled by a factor of its own has a coefficient in place of w_k in the sums of
w_k tau_k. Exact: both sums and the sum of weights, on the grid. Ours: the task vectors
are rounded to float32, and the order of the roundings (q, scale * q, the sum with the
base, the dtype).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    TAU_BITS,
    Floats,
    Grid,
    GridSum,
    Singles,
    divide,
    tau_grid,
)
from crdtmerge.strategies.base import Inputs
from crdtmerge.strategies.blocks import Term, base_block, emit_blocks, tau_block

Keep: TypeAlias = Callable[[Singles, range], NDArray[np.bool_]]
"""Tells which items of a block of a task vector stay."""


@dataclass(frozen=True, slots=True)
class Voter:
    """A contribution with the rule by which its task vector was thinned.

    `coefficient` stands for its weight, in units, wherever its task vector is summed.
    """

    term: Term
    keep: Keep
    coefficient: int


def emit_consensus(
    inputs: Inputs,
    exponent: int,
    voters: Sequence[Voter],
    *,
    scale: float,
    normalize: bool,
) -> bytes:
    """Return the base plus `scale` times the disjoint mean (or sum) of the voters.

    Raises:
        ContractError: an input or a result breaks the contract.
    """
    grid = tau_grid(exponent, inputs.dtype)

    def compute(part: range) -> Floats:
        base = base_block(inputs, part)
        votes = [(_vote(inputs, voter, base, part), voter) for voter in voters]
        mean = _disjoint(grid, len(part), votes, normalize=normalize)
        mean *= scale
        return base + mean

    return emit_blocks(inputs, compute)


def _vote(inputs: Inputs, voter: Voter, base: Floats, part: range) -> Floats:
    """Return the thinned task vector of one block, +0 where it was dropped."""
    tau = tau_block(inputs, voter.term, base, part)
    return np.where(voter.keep(tau, part), tau.astype(np.float64), 0.0)


def _disjoint(
    grid: Grid, items: int, votes: Sequence[tuple[Floats, Voter]], *, normalize: bool
) -> Floats:
    elected = GridSum(grid, items)
    for tau, voter in votes:
        elected.add(tau, voter.coefficient, TAU_BITS)
    positive = elected.total() >= 0
    agreed, weight = GridSum(grid, items), np.zeros(items)
    for tau, voter in votes:
        # The sign that counts is that of weight * tau.
        wanted = positive if voter.term.weight > 0 else ~positive
        agrees = np.where(wanted, tau > 0, tau < 0)
        agreed.add(np.where(agrees, tau, 0.0), voter.coefficient, TAU_BITS)
        weight += np.where(agrees, float(voter.term.weight), 0.0)  # exact integers
    total = agreed.total()
    if not normalize:
        return divide(total, DECIMAL_UNIT)
    mean: Floats = total / np.where(weight == 0, float(DECIMAL_UNIT), weight)
    return mean
