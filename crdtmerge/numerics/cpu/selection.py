"""Ranks, n of m and order statistics in compiled loops.

Owns the fast forms of `reference.selection`. Does not own tie rules.

Ranks are a radix sort of each row, which is stable: lower indices stay first. An order
statistic counts the upper 16 bits of all items, gathers those that share the bits of the
one looked for, and sorts among them. n of m finds its threshold bit by bit.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics.cpu.compiling import compiled
from crdtmerge.numerics.reference.dtypes import Floats, Singles
from crdtmerge.numerics.reference.selection import (
    check_n_of_m,
    middle_of,
    quantile_place,
    row_count,
)
from crdtmerge.numerics.reference.selection import item_at as reference_item_at

_MAGNITUDE: Final = np.uint32(0x7FFF_FFFF)
_DIGITS: Final = 256
_BUCKETS: Final = 1 << 16
_SMALL_GROUP: Final = 16

_U32: Final = np.uint32


@compiled
def _rank(bits: Any, row_length: int, ranks: Any) -> None:
    keys = np.empty(row_length, np.uint32)
    for first in range(0, bits.size, row_length):
        for i in range(row_length):
            keys[i] = bits[first + i] & _MAGNITUDE
        rank_row(keys, ranks[first : first + row_length])


@compiled
def rank_row(magnitudes: Any, ranks: Any) -> None:
    """Fill `ranks` with the ranks of one row's magnitudes, given as bits."""
    items = magnitudes.size
    keys, other = magnitudes.copy(), np.empty(items, np.uint32)
    places, spare = np.empty(items, np.uint32), np.empty(items, np.uint32)
    for i in range(items):
        places[i] = i
    for shift in range(0, 32, 8):
        if _sort_digit(keys, places, _U32(shift), other, spare):
            keys, other = other, keys
            places, spare = spare, places
    for rank in range(items):
        ranks[places[rank]] = rank


@compiled
def _sort_digit(
    keys: Any, places: Any, shift: Any, keys_to: Any, places_to: Any
) -> bool:
    """Sort by one digit, stably; return whether anything was moved."""
    starts = np.zeros(_DIGITS, np.int64)
    for i in range(keys.size):
        starts[(keys[i] >> shift) & 255] += 1
    if starts[(keys[0] >> shift) & 255] == keys.size:
        return False
    total = 0
    for digit in range(_DIGITS):
        count = starts[digit]
        starts[digit] = total
        total += count
    for i in range(keys.size):
        digit = (keys[i] >> shift) & 255
        to = starts[digit]
        starts[digit] = to + 1
        keys_to[to] = keys[i]
        places_to[to] = places[i]
    return True


@compiled
def _keep(bits: Any, n: int, m: int, kept: Any) -> None:
    group = np.empty(m, np.uint32)
    for first in range(0, bits.size, m):
        part, out = bits[first : first + m], kept[first : first + m]
        for i in range(part.size):
            group[i] = part[i] & _MAGNITUDE
        if m <= _SMALL_GROUP:
            _keep_small(group, part.size, n, out)
        else:
            _keep_group(group[: part.size], min(n, part.size), out)


@compiled
def _keep_small(group: Any, items: int, n: int, kept: Any) -> None:
    """Count for each item those that come before it."""
    for i in range(items):
        before = 0
        for j in range(items):
            before += group[j] > group[i] or (group[j] == group[i] and j < i)
        kept[i] = before < n


@compiled
def _keep_group(group: Any, n: int, kept: Any) -> None:
    if not n:
        kept[:] = False
        return
    least = _U32(0)  # the largest number that n items are at least
    for bit in range(30, -1, -1):
        tried, count = _U32(least | _U32(1 << bit)), _U32(0)
        for i in range(group.size):
            count = _U32(count + _U32(group[i] >= tried))
        if count >= n:
            least = tried
    room = n
    for i in range(group.size):
        room -= group[i] > least
    for i in range(group.size):
        tied = group[i] == least and room > 0
        room -= tied
        kept[i] = tied or group[i] > least


@compiled
def _count(bits: Any, shift: Any, counts: Any) -> None:
    for i in range(bits.size):
        counts[np.int64(bits[i] >> shift)] += 1


@compiled
def _gather(bits: Any, shift: Any, upper: Any, found: Any) -> None:
    to = 0
    for i in range(bits.size):
        if bits[i] >> shift == upper:
            found[to] = bits[i]
            to += 1


def rank_in_row(tau: Singles, row_length: int) -> NDArray[np.int64]:
    """Return each item's rank among the magnitudes of its row, from 0 for the smallest."""
    row_count(tau.size, row_length)
    ranks = np.empty(tau.size, dtype=np.int64)
    _rank(np.ascontiguousarray(tau).view(np.uint32), row_length, ranks)
    return ranks


def keep_n_of_m(tau: Singles, n: int, m: int) -> NDArray[np.bool_]:
    """Tell which items are among the n largest magnitudes of their group of m."""
    check_n_of_m(n, m)
    kept = np.empty(tau.size, dtype=np.bool_)
    _keep(np.ascontiguousarray(tau).view(np.uint32), n, m, kept)
    return kept


def quantile(values: Singles | Floats, numerator: int, denominator: int) -> float:
    """Return the item at place floor(q (N - 1)) of the sorted values, from place 0."""
    return item_at(values, quantile_place(values.size, numerator, denominator))


def median(values: Singles | Floats) -> float:
    """Return the middle item, or the mean of the middle two with one rounding."""
    lower, upper = (quantile_place(values.size, 1, 2), values.size // 2)
    return middle_of(item_at(values, lower), item_at(values, upper))


def item_at(values: Singles | Floats, place: int) -> float:
    """Return the item at a place of the sorted values; zero is +0."""
    kind, bits = _unsigned(values)
    shift = bits.dtype.type(8 * bits.itemsize - 16)
    counts = np.zeros(_BUCKETS, dtype=np.int64)
    _count(bits, shift, counts)
    # Buckets in the order of the values: negative ones stand last and turned round.
    order = np.concatenate(
        [np.arange(_BUCKETS - 1, _BUCKETS // 2 - 1, -1), np.arange(_BUCKETS // 2)]
    )
    below = np.cumsum(counts[order])
    bucket = int(np.searchsorted(below, place, side="right"))
    upper = int(order[bucket])
    found = np.empty(counts[upper], dtype=bits.dtype)
    _gather(bits, shift, bits.dtype.type(upper), found)
    rest = place - int(below[bucket] - counts[upper])
    return reference_item_at(found.view(kind), rest)


def _unsigned(values: Singles | Floats) -> tuple[Any, NDArray[Any]]:
    """Return the float type and the bits of items."""
    made = np.ascontiguousarray(values).reshape(-1)
    return made.dtype, made.view(f"<u{made.itemsize}")
