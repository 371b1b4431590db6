"""Sparsifiers: what stays of one task vector, by magnitude, by chance, or by both.

Owns their arithmetic, each a function of a task vector and of numbers: `trim` (TIES),
`drop` (DARE), `magprune` (DELLA), `band` (Model Breadcrumbs); and the key that draws
hang on. Does not own parameters, nor what becomes of what stays (`forms`). Where kernels
can tell by themselves what stays, the answer is a `Keep`, else a changed task vector.

Shares and chances are in units of 10**-9. Exact: all counts, which are integers, and all
thresholds, at which ties are kept, so that no order of items or models decides.
"""

import math
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    Keep,
    Singles,
    Tau,
    draw_limit,
    keep_count,
    kth_largest,
    magnitude_sum,
    philox_key,
    random_words,
    rank_in_row,
    rounded,
)
from crdtmerge.strategies.base import Inputs
from crdtmerge.strategies.tensors import Term, vector_of

_DIGIT_BITS: Final = 2
_DIGITS: Final = 16
"""A random word's 32 bits in digits so short that 64 bits hold a row's chances."""


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
    return Keep(kth_largest(tau, k) if k else math.inf)


def drop(key: bytes, chance: int) -> Keep:
    """Keep each item with the same chance."""
    return Keep(key=key, limit=draw_limit(chance))


def magnitude_ratio(tau: Tau, left: Tau, keep: Keep) -> Fraction:
    """Return what `left` is multiplied with to have the sum of magnitudes of `tau`.

    It is 1 where nothing is left.
    """
    before, after = magnitude_sum(tau, Keep()), magnitude_sum(left, keep)
    return Fraction(before) / Fraction(after) if after else Fraction(1)


def band(tau: Singles, density: int, gamma: int) -> Singles:
    """Return what is neither among the largest magnitudes nor among the smallest.

    ceil(density * items) stay: the largest that are left without the floor(gamma * items)
    largest of all, of which fewer go where there would be too few to stay. What ties with
    the first or the last that stays, stays too.
    """
    keep = keep_count(tau.size, density)
    top = min(gamma * tau.size // DECIMAL_UNIT, tau.size - keep)
    if not keep:
        return np.zeros_like(tau)
    vector = vector_of(tau)
    most = np.float32(kth_largest(vector, top + 1))
    least = np.float32(kth_largest(vector, top + keep))
    magnitudes = np.abs(tau)
    stays = (magnitudes <= most) & (magnitudes >= least)
    return np.where(stays, tau, np.float32(0))


def magprune(
    tau: Singles,
    row: int,
    density: int,
    epsilon: int,
    key: bytes,
    *,
    rescaled: bool,
    label: str = "",
) -> Singles:
    """Return `tau` where each item stays with a chance by its rank in its row.

    The chance of rank j of n, from 0 for the smallest magnitude, is q = (density -
    epsilon) + 2 epsilon j / (n - 1), and density in a row of one item. An item stays iff
    its random word is below floor(q * 2**32), by integers. `rescaled` divides it by q, in
    float64, and rounds once to float32. The caller sees to it that every q is above 0 and
    at most 1, and that `tau` is whole rows.

    Raises:
        ContractError: a rescaled item is beyond float32; `label` says whose.
    """
    if not tau.size:
        return tau
    ranks = rank_in_row(tau, row)
    parts, whole = _chances(row, density, epsilon)
    stays = random_words(key, tau.size) < _limits(parts, whole)[ranks]
    if not rescaled:
        return np.where(stays, tau, np.float32(0))
    chances = parts / np.float64(whole)
    return rounded(np.where(stays, tau / chances[ranks], 0.0), label)


def _chances(row: int, density: int, epsilon: int) -> tuple[NDArray[np.uint64], int]:
    """Return the chance of each rank: numerators, and the denominator of all."""
    if row == 1:
        return np.array([density], dtype=np.uint64), DECIMAL_UNIT
    steps, least = row - 1, (density - epsilon) * (row - 1)
    ranks = np.arange(row, dtype=np.uint64)
    return np.uint64(least) + np.uint64(2 * epsilon) * ranks, steps * DECIMAL_UNIT


def _limits(parts: NDArray[np.uint64], whole: int) -> NDArray[np.uint64]:
    """Return floor(part * 2**32 / whole) of each, by long division.

    Nothing overflows in rows of fewer than 2**32 items: their whole is below 2**62.
    """
    bits, divisor = np.uint64(_DIGIT_BITS), np.uint64(whole)
    found, rest = np.zeros_like(parts), parts
    for _ in range(_DIGITS):
        rest = rest << bits
        found = (found << bits) + rest // divisor
        rest = rest % divisor
    return found
