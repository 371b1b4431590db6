"""Sparsifiers: what stays of one task vector, by magnitude, by chance, or by both.

Owns their arithmetic, each a function of a task vector and of numbers: `trim` (TIES),
`drop` (DARE), `prune` (DELLA), `band` (Model Breadcrumbs); and the key that draws hang on.
Does not own parameters, nor what becomes of what stays (`forms`). The answer is a `Keep`:
what is found over the whole tensor is a few numbers, which items stay is told by the
kernels that use them.

Shares and chances are in units of 10**-9. Exact: all counts, which are integers, and all
thresholds, at which ties are kept, so that no order of items or models decides.
"""

import math
from fractions import Fraction

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    Chances,
    Keep,
    Tau,
    draw_limit,
    keep_count,
    kth_largest,
    philox_key,
    settle,
)
from crdtmerge.strategies.base import Inputs
from crdtmerge.strategies.tensors import Term


def draw_key(inputs: Inputs, strategy: str, term: Term) -> bytes:
    """Return the key of one contribution's draws.

    The tensor's seed enters in scope `set` only: with an empty seed a mask is the same
    in every set (and its author may grind it).
    """
    seed = inputs.seed if inputs.seed_scope == "set" else b""
    return philox_key(seed, strategy, term.content, inputs.tensor)


def trim(tau: Tau, density: int) -> Keep:
    """Keep the ceil(density * items) largest magnitudes, and all that tie with them."""
    k = keep_count(tau.count, density)
    if k == tau.count:
        return Keep()
    return Keep(kth_largest(tau, k)[0] if k else math.inf)


def drop(key: bytes, chance: int) -> Keep:
    """Keep each item with the same chance."""
    return Keep(key=key, limit=draw_limit(chance))


def band(tau: Tau, density: int, gamma: int) -> Keep:
    """Keep what is neither among the largest magnitudes nor among the smallest.

    ceil(density * items) stay: the largest that are left without the floor(gamma * items)
    largest of all, of which fewer go where there would be too few to stay. What ties with
    the first or the last that stays, stays too.
    """
    items = tau.count
    keep = keep_count(items, density)
    top = min(gamma * items // DECIMAL_UNIT, items - keep)
    if not keep:
        return Keep(math.inf)
    most, least = kth_largest(tau, top + 1, top + keep)
    return Keep(least, most=most)


def prune(row: int, density: int, epsilon: int, key: bytes, *, rescaled: bool) -> Keep:
    """Keep each item with a chance by its rank in its row.

    The chance of rank j of n, from 0 for the smallest magnitude, is q = (density -
    epsilon) + 2 epsilon j / (n - 1), and density in a row of one item. An item stays iff
    its random word is below floor(q * 2**32), by integers. `rescaled` divides it by q, in
    float64, and rounds once to float32. The caller sees to it that every q is above 0 and
    at most 1, and that the task vector is whole rows.
    """
    return Keep(key=key, chances=Chances(row, density, epsilon, rescaled))


def matched(tau: Tau, keep: Keep) -> tuple[Keep, Fraction]:
    """Return what stays, and the factor that gives it the sum of magnitudes of all.

    The factor is 1 where nothing is left.
    """
    found = settle(tau, keep)
    if not found.after:
        return found.keep, Fraction(1)
    return found.keep, Fraction(found.before) / Fraction(found.after)
