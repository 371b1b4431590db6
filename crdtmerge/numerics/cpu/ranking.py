"""Draws by rank in a row, of which few ranks need to be known.

Owns the compiled form of `Chances` on whole rows. Does not own chances
(`reference.chances`), nor the tie rule (`reference.selection`).

An item stays if its word is below the limit of its rank. Limits grow with ranks, so it is
enough to know between which ranks an item lies, unless its word lies between their limits.
Magnitudes are counted in buckets, by their upper bits: all of a bucket rank between those
below it and those above. The few items that this does not decide are ranked one by one,
by looking at the row; where they are not few, all are, by sorting.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics.cpu.compiling import compiled
from crdtmerge.numerics.cpu.drawing import trim
from crdtmerge.numerics.cpu.formats import BLOCK, load_tau
from crdtmerge.numerics.cpu.philox import random_words
from crdtmerge.numerics.cpu.selection import rank_in_row, rank_row
from crdtmerge.numerics.reference.chances import limits_of, quotients_of
from crdtmerge.numerics.vectors import Chances, Keep

BUCKETS_MIN: Final = 256
BUCKETS_MAX: Final = 4096
OCTAVES: Final = 16
"""Powers of two below the largest magnitude that buckets divide; the rest shares one."""

SHORT_ROW: Final = 96
"""Items up to which no bucket is made: ranks are counted for every open item."""

OPEN_MAX: Final = 160
"""Items of a row that are ranked one by one; where more are open, the row is sorted."""

_MAGNITUDE: Final = 0x7FFF_FFFF
_SINGLE_MAX: Final = 3.4028234663852886e38
_U32: Final = np.uint32
_I64: Final = np.int64


@dataclass(frozen=True, slots=True)
class Ranked:
    """A rule by rank with the limits of its ranks, and their chances if it rescales."""

    keep: Keep
    row: int
    limits: NDArray[np.int64]
    quotients: NDArray[np.float64] | None

    @classmethod
    def of(cls, keep: Keep, chances: Chances) -> "Ranked":
        """Return a rule ready for use."""
        quotients = quotients_of(chances) if chances.rescaled else None
        limits = limits_of(chances).astype(np.int64)
        return cls(keep, chances.row, limits, quotients)

    def rows(self, vector: Any, part: range) -> tuple[NDArray[np.float32], int, bool]:
        """Return the whole rows of a vector in which the items of `part` lie.

        What goes is +0. Return also which item is the first, and whether a difference,
        or what is rescaled, is beyond float32.
        """
        first = part.start // self.row * self.row
        tau = np.empty(-(-part.stop // self.row) * self.row - first, np.float32)
        bad = bool(_load(vector, first, tau))
        words = random_words(self.keep.key, tau.size, first)
        least, most = np.array([self.keep.least, self.keep.most], np.float32)
        band = (least.view(np.uint32), most.view(np.uint32))
        if self.quotients is None:
            _prune(tau, words, self.limits)
            trim(tau, *band)
            return tau, first, bad
        ranks = rank_in_row(tau, self.row)
        trim(tau, *band)
        bad |= bool(_rescale(tau, words, ranks, self.limits, self.quotients))
        return tau, first, bad


@compiled
def _load(vector: Any, first: int, tau: Any) -> bool:
    x, other, bad = np.empty(BLOCK), np.empty(BLOCK), False
    for begin in range(0, tau.size, BLOCK):
        part = tau[begin : min(begin + BLOCK, tau.size)]
        bad |= load_tau(vector, first + begin, part, x, other)
    return bad


@compiled
def _prune(tau: Any, words: Any, limits: Any) -> None:
    """Set to +0 what goes of whole rows."""
    length = limits.size
    keys, stays = np.empty(length, np.uint32), np.empty(length, np.uint32)
    room, ranks = np.empty((2, length + 1), np.uint32), np.empty(length, np.int64)
    buckets, starts = (
        np.empty(length, np.uint32),
        np.empty(_buckets(length) + 1, np.uint32),
    )
    for start in range(0, tau.size, length):
        row, drawn = tau[start : start + length], words[start : start + length]
        largest = _keys(row, keys)
        opened = room[
            0, : _decide(drawn, limits[0], limits[length - 1], stays, room[0])
        ]
        if length > SHORT_ROW:
            _bucket(keys, largest, buckets, starts)
            count = _decide_by_bucket(
                drawn, buckets, starts, limits, opened, stays, room[1]
            )
            opened = room[1, :count]
        if opened.size <= OPEN_MAX:
            _one_by_one(keys, drawn, limits, opened, stays)
        else:
            rank_row(keys, ranks)
            for i in range(length):
                stays[i] = _U32(_I64(drawn[i]) < limits[ranks[i]])
        _apply(row, stays)


@compiled
def _buckets(length: int) -> int:
    """Return how many buckets a row is counted in, a power of two."""
    size = BUCKETS_MIN
    while size < BUCKETS_MAX and 4 * size < length:
        size *= 2
    return size


@compiled
def _keys(row: Any, keys: Any) -> Any:
    """Fill `keys` with magnitudes as bits; return the largest."""
    bits, largest = row.view(np.uint32), _U32(0)
    for i in range(keys.size):
        key = _U32(bits[i] & _U32(_MAGNITUDE))
        keys[i] = key
        largest = max(largest, key)
    return largest


@compiled
def _decide(words: Any, low: Any, high: Any, stays: Any, opened: Any) -> Any:
    """Decide what no rank decides otherwise; return how many items `opened` lists."""
    least, span = _U32(low), _U32(high - low)
    for i in range(stays.size):
        opened[i] = _U32(_U32(words[i] - least) < span)
        stays[i] = _U32(words[i] < low)
    count = np.uint64(0)
    for i in range(stays.size):
        is_open = np.uint64(opened[i])  # read before its place is written to
        opened[count] = i
        count += is_open
    return _I64(count)


@compiled
def _bucket(keys: Any, largest: Any, buckets: Any, starts: Any) -> None:
    """Tell each item's bucket, and how many items are below each bucket.

    Bucket 0 is that of zeros, 1 of all that is tiny, the last one of the largest.
    """
    size = starts.size - 1
    each, shift = size // OCTAVES, _U32(23)
    while each > 1:
        each //= 2
        shift = _U32(shift - _U32(1))
    below = max(np.int32(largest >> shift) - np.int32(size - 1), np.int32(0))
    for i in range(keys.size):
        place = np.int32(keys[i] >> shift) - below
        buckets[i] = max(place, min(np.int32(keys[i]), np.int32(1)))
    starts[:] = _U32(0)
    for i in range(buckets.size):
        starts[buckets[i]] += _U32(1)
    total = _U32(0)
    for bucket in range(starts.size):
        count = starts[bucket]
        starts[bucket] = total
        total = _U32(total + count)


@compiled
def _decide_by_bucket(
    words: Any,
    buckets: Any,
    starts: Any,
    limits: Any,
    opened: Any,
    stays: Any,
    left: Any,
) -> Any:
    """Decide what all ranks of a bucket decide alike; return what is open still.

    Zeros are zero whether they stay or not: none is open.
    """
    count = np.uint64(0)
    for place in range(opened.size):
        item = opened[place]
        word, bucket = _I64(words[item]), buckets[item]
        least, beyond = _I64(starts[bucket]), _I64(starts[bucket + _U32(1)])
        is_in = word < limits[np.uint64(least)]
        is_out = word >= limits[np.uint64(beyond - 1)]
        stays[item] = _U32(is_in)
        left[count] = item
        count += np.uint64((bucket != 0) & ~(is_in | is_out))
    return _I64(count)


@compiled
def _one_by_one(keys: Any, words: Any, limits: Any, opened: Any, stays: Any) -> None:
    """Rank each open item: those below it, and the equal ones before it."""
    for place in range(opened.size):
        item = _I64(opened[place])
        key = keys[item]
        before, after = keys[:item], keys[item:]
        rank = _count_below(before, _U32(key + _U32(1))) + _count_below(after, key)
        stays[item] = _U32(_I64(words[item]) < limits[rank])


@compiled
def _count_below(keys: Any, key: Any) -> Any:
    count = _U32(0)
    for i in range(keys.size):
        count = _U32(count + _U32(keys[i] < key))
    return _I64(count)


@compiled
def _apply(row: Any, stays: Any) -> None:
    bits = row.view(np.uint32)
    for i in range(bits.size):
        bits[i] &= _U32(-np.int32(stays[i]))


@compiled
def _rescale(tau: Any, words: Any, ranks: Any, limits: Any, quotients: Any) -> bool:
    """Divide what stays by its chance, in float64; return whether one has no float32."""
    bad = False
    for i in range(tau.size):
        stays = _I64(words[i]) < limits[ranks[i]]
        value = np.float64(tau[i]) / quotients[ranks[i]] if stays else 0.0
        single = np.float32(value)
        tau[i] = single
        bad |= not abs(single) <= np.float32(_SINGLE_MAX)
    return bad
