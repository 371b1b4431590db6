"""cabs: one contribution after another takes what those before it left.

Owns `cabs/1`. Does not own the choice of n of m (`numerics.keep_n_of_m`), nor the sum.

Formula (CABS, Yang et al. 2025, arXiv:2503.01874): a task vector is cut in groups of `m`
consecutive items, and keeps of each the `n` largest magnitudes among those that no earlier
task vector kept; then out = theta_0 + lambda sum(w_k tau'_k). Exact: the choice (of equal
magnitudes the lower index first) and the sum on the grid.

Ours: the order is drawn by the set's seed, so that nobody can choose a place in it (the
paper: as given); a last group of fewer than m items keeps n too (the authors' code drops
it, or fails); an item counts as taken only where it changes something. The authors' code
knows two models. Whoever comes when fewer than n items of a group are left has these, so
with 64 of 256 a fifth contribution has nothing of groups that four have shared out: n is
to be at most m / contributions. With `overlap` what then lacks are the largest of those
taken before (as there for a second model, if n is at least half of m); free items that a
contribution does not change come before these. mergekit has no cabs.
"""

from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics import (
    Keep,
    Singles,
    Voter,
    keep_n_of_m,
    singles_of,
    tau_grid,
    thinned_sum,
)
from crdtmerge.strategies.base import FALSE, Inputs, Memory, Parameter, Parts, Strategy
from crdtmerge.strategies.tensors import (
    base_of,
    in_drawn_order,
    in_parts,
    participants,
    tau_of,
    vector_of,
)
from crdtmerge.strategies.ties import LAMBDA

GROUP_MAX: Final = 1 << 16


def _emit(inputs: Inputs) -> Parts:
    n, m = inputs.values.count("n"), inputs.values.count("m")
    overlaps = inputs.values.flag("overlap")
    _check_group(inputs, n, m)
    exponent, terms = participants(inputs, inputs.weights)
    scale, voters = inputs.values.units("lambda"), []
    taken = np.zeros(inputs.items, dtype=np.bool_)
    for term in in_drawn_order(inputs, terms):
        given = singles_of(tau_of(inputs, term))
        tau = _free(given, taken, n, m)
        if overlaps:
            tau = _filled(tau, given, taken, n, m)
        taken |= tau != 0
        coefficient = round(term.weight * scale / DECIMAL_UNIT)
        voters.append(Voter(vector_of(tau), Keep(), term.weight, coefficient))
    grid = tau_grid(exponent, inputs.dtype)
    summed = partial(thinned_sum, base_of(inputs), voters, DECIMAL_UNIT, grid)
    return in_parts(inputs, summed)


def _check_group(inputs: Inputs, n: int, m: int) -> None:
    """Refuse a share of a group that is more than the group.

    Raises:
        ContractError: n is above m.
    """
    if n > m:
        message = f"tensor {inputs.tensor!r}: cabs cannot keep {n} of every {m} items"
        raise ContractError(message, hint="give an n of at most m")


def _free(tau: Singles, taken: NDArray[np.bool_], n: int, m: int) -> Singles:
    """Return the n largest of each group that nobody has taken."""
    free = np.where(taken, np.float32(0), tau)
    return np.where(keep_n_of_m(free, n, m), free, np.float32(0))


def _filled(
    kept: Singles, tau: Singles, taken: NDArray[np.bool_], n: int, m: int
) -> Singles:
    """Return what is kept, and the largest of those taken where a group had too few."""
    lacking = _lacking(taken, n, m)
    again = np.where(taken, tau, np.float32(0))
    for count in sorted(set(lacking.tolist()) - {0}):
        lacks = np.repeat(lacking == count, m)[: tau.size]
        kept = np.where(keep_n_of_m(again, count, m) & lacks & taken, tau, kept)
    return kept


def _lacking(taken: NDArray[np.bool_], n: int, m: int) -> NDArray[np.int64]:
    """Return how many of n items each group cannot give without an overlap."""
    groups = np.ones(-(-taken.size // m) * m, dtype=np.bool_)  # none beyond the end
    groups[: taken.size] = taken
    free = m - np.count_nonzero(groups.reshape(-1, m), axis=1)
    lacking: NDArray[np.int64] = np.maximum(n - free, 0)
    return lacking


CABS = Strategy(
    name="cabs",
    version=1,
    summary="Let one contribution after another keep n of m items that are still free",
    paper="Yang et al. 2025, CABS, https://arxiv.org/abs/2503.01874",
    parameters=(
        replace(LAMBDA, mergekit_default=None),
        Parameter(
            "m",
            "integer",
            default="256",
            mergekit_default=None,
            help="items of a group, consecutive in the tensor",
            minimum=DECIMAL_UNIT,
            maximum=GROUP_MAX * DECIMAL_UNIT,
        ),
        Parameter(
            "n",
            "integer",
            default="64",
            mergekit_default=None,
            help="items of a group that each contribution keeps",
            minimum=DECIMAL_UNIT,
            maximum=GROUP_MAX * DECIMAL_UNIT,
        ),
        Parameter(
            "overlap",
            "flag",
            default=FALSE,
            mergekit_default=None,
            help="fill up with items that others took where too few are free",
        ),
    ),
    order_dependent=True,
    memory=Memory(shared=36, each=4),
    emit=_emit,
)
