"""Exact selection by magnitude and by value, on what cannot be rounded.

Owns thresholds and what they keep, ranks within a row, n of m, and order statistics. Does
not own why a strategy trims. The tie rules: at a threshold all items are kept, so the
outcome does not depend on any order of indices; where a count must be exact (ranks, n of
m), the lower index comes first. The bits of a float32 without the sign order as the
magnitudes do, and -0 equals +0. Items are finite; whoever takes them in has seen to that.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics.reference.dtypes import Floats, Singles

_MAGNITUDE: Final = np.uint32(0x7FFF_FFFF)


def keep_count(items: int, density_units: int) -> int:
    """Return ceil(density * items), exactly; the density is in units of 10**-9."""
    return -(-density_units * items // DECIMAL_UNIT)


def kth_magnitude(tau: Singles, k: int) -> float:
    """Return the k-th largest magnitude of `tau`, counted from 1.

    Raises:
        ContractError: `tau` has no k-th item.
    """
    check_place(k, tau.size)
    place = tau.size - k
    bits = tau.view(np.uint32) & _MAGNITUDE
    bits.partition(place)  # the value at a place is unique, whatever the algorithm
    return float(bits[place : place + 1].view(np.float32)[0])


def check_place(k: int, items: int) -> None:
    """Refuse a place that so many items do not have.

    Raises:
        ContractError: k is not 1 to `items`.
    """
    if not 1 <= k <= items:
        message = f"there is no {k}-th largest of {items} items"
        raise ContractError(message)


def digit_of(counts: NDArray[np.int64], k: int) -> tuple[int, int]:
    """Return the digit of the k-th largest, and its place among those with this digit.

    `counts` says how many have each digit.
    """
    above = np.cumsum(counts[::-1])
    reached = int(np.searchsorted(above, k))
    before = int(above[reached - 1]) if reached else 0
    return counts.size - 1 - reached, k - before


def threshold(tau: Singles, k: int) -> float:
    """Return the magnitude from which items are kept; infinity if k is 0."""
    return kth_magnitude(tau, k) if k else float("inf")


def at_least(tau: Singles, magnitude: float) -> NDArray[np.bool_]:
    """Tell which items have this magnitude or more; both sides are exact float32."""
    kept: NDArray[np.bool_] = np.abs(tau) >= np.float32(magnitude)
    return kept


def keep_top(tau: Singles, k: int) -> Singles:
    """Return `tau` with all but its k largest magnitudes set to +0, ties kept.

    Raises:
        ContractError: k is negative or above the number of items.
    """
    return np.where(at_least(tau, threshold(tau, k)), tau, np.float32(0))


def rank_in_row(tau: Singles, row_length: int) -> NDArray[np.int64]:
    """Return each item's rank among the magnitudes of its row, from 0 for the smallest.

    Rows are runs of `row_length` items. Of equal magnitudes the lower index ranks lower.

    Raises:
        ContractError: the items are not whole rows.
    """
    rows = row_count(tau.size, row_length)
    bits = (tau.view(np.uint32) & _MAGNITUDE).reshape(rows, row_length)
    order = np.argsort(bits, axis=1, kind="stable")
    ranks = np.empty((rows, row_length), dtype=np.int64)
    np.put_along_axis(ranks, order, np.arange(row_length)[np.newaxis], axis=1)
    return ranks.reshape(-1)


def row_count(items: int, row_length: int) -> int:
    """Return how many rows the items are.

    Raises:
        ContractError: they are not whole rows of at least one item.
    """
    if row_length < 1 or items % row_length:
        message = f"{items} items are not whole rows of {row_length}"
        raise ContractError(message)
    return items // row_length


def keep_n_of_m(tau: Singles, n: int, m: int) -> NDArray[np.bool_]:
    """Tell which items are among the n largest magnitudes of their group of m.

    Groups are runs of m items; the last may be shorter, of which n stay as well, if it
    has as many. Of equal magnitudes the lower index is kept first.

    Raises:
        ContractError: not 0 <= n <= m, or m is 0.
    """
    check_n_of_m(n, m)
    kept = np.zeros(-(-tau.size // m) * m, dtype=np.bool_)
    smallness = np.full(kept.size, _MAGNITUDE + np.uint32(1))  # padding comes last
    smallness[: tau.size] = _MAGNITUDE - (tau.view(np.uint32) & _MAGNITUDE)
    order = np.argsort(smallness.reshape(-1, m), axis=1, kind="stable")
    np.put_along_axis(kept.reshape(-1, m), order[:, :n], values=True, axis=1)
    return kept[: tau.size]


def check_n_of_m(n: int, m: int) -> None:
    """Refuse a count that groups of m do not have.

    Raises:
        ContractError: not 0 <= n <= m, or m is 0.
    """
    if not 0 <= n <= m or not m:
        message = f"{n} of {m} items cannot be kept"
        raise ContractError(message)


def quantile(values: Singles | Floats, numerator: int, denominator: int) -> float:
    """Return the item at place floor(q (N - 1)) of the sorted values, from place 0.

    q is numerator / denominator; nothing is interpolated. Zero is +0.

    Raises:
        ContractError: there are no items, or q is not from 0 to 1.
    """
    return item_at(values, quantile_place(values.size, numerator, denominator))


def quantile_place(items: int, numerator: int, denominator: int) -> int:
    """Return floor(q (items - 1)).

    Raises:
        ContractError: there are no items, or q is not from 0 to 1.
    """
    if not items:
        message = "there is no quantile of no items"
        raise ContractError(message)
    if denominator < 1 or not 0 <= numerator <= denominator:
        message = f"a quantile of {numerator}/{denominator} is not from 0 to 1"
        raise ContractError(message)
    return numerator * (items - 1) // denominator


def median(values: Singles | Floats) -> float:
    """Return the middle item, or the mean of the middle two with one rounding.

    Zero is +0.

    Raises:
        ContractError: there are no items.
    """
    lower, upper = (quantile_place(values.size, 1, 2), values.size // 2)
    return middle_of(item_at(values, lower), item_at(values, upper))


def middle_of(lower: float, upper: float) -> float:
    """Return (lower + upper) / 2, rounded once; zero is +0."""
    total = lower + upper
    if math.isinf(total):  # halves are exact where sums are beyond float64
        return lower / 2 + upper / 2
    return total / 2 + 0.0


def item_at(values: Singles | Floats, place: int) -> float:
    """Return the item at a place of the sorted values; zero is +0."""
    return float(np.partition(values, place)[place]) + 0.0
