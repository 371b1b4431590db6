"""The k-th largest magnitude in about one pass, and medians across contributions.

Owns the compiled forms of `kth_largest` and `weighted_median`. Does not own the tie rules
(`reference.selection`, `reference.merging`).

The k-th largest: a sample brackets it; one pass counts what lies above the bracket and
collects what lies in it; among those few it is selected exactly. The value at a place is
unique, so neither the sample nor the order of threads can change it. Where the bracket
misses or holds too much (ties, adversaries), two passes of histograms over the upper and
the lower half of the bits find it.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics.cpu.compiling import compiled
from crdtmerge.numerics.cpu.formats import CODES, addresses_of, load, load_tau, store
from crdtmerge.numerics.cpu.sums import BLOCK, room
from crdtmerge.numerics.cpu.threads import on_threads
from crdtmerge.numerics.reference import measuring, merging
from crdtmerge.numerics.reference.dtypes import Data
from crdtmerge.numerics.vectors import Output, Tau, Vector

RUN_ITEMS: Final = 4
RUNS_MIN: Final = 1 << 11
RUNS_MAX: Final = 1 << 14
RUN_EVERY: Final = 1 << 9
"""The sample: a run of neighbours every so many items, at least and at most so many."""

MARGIN: Final = 4
"""The bracket reaches so many standard deviations of a rank beyond it."""

CHUNK: Final = 16
"""Items that are passed over together if none lies in the bracket."""

EXCHANGED_MAX: Final = 64
"""Contributions of equal weight that are sorted by exchanges, all items at once."""

_HALF_BITS: Final = 16
_U32: Final = np.uint32


@compiled
def _magnitudes(row: Any, first: int, bits: Any, x: Any, other: Any) -> bool:
    """Fill `bits` with magnitudes, as the bits of float32 without the sign."""
    bad = load_tau(row, first, bits.view(np.float32), x, other)
    for i in range(bits.size):
        bits[i] = _U32(bits[i] & _U32(0x7FFF_FFFF))
    return bad


@compiled
def _sample(row: Any, step: int, runs: int, out: NDArray[np.uint32]) -> bool:
    x, other = np.empty(RUN_ITEMS), np.empty(RUN_ITEMS)
    bad = False
    for run in range(runs):
        part = out[run * RUN_ITEMS : (run + 1) * RUN_ITEMS]
        bad |= _magnitudes(row, run * step, part, x, other)
    return bad


@compiled
def _bracket(
    row: Any, low: int, high: int, found: NDArray[np.uint32], start: int, stop: int
) -> Any:
    """Collect the magnitudes from low to high.

    Return how many lie above, how many were found (more than there is room for: at least
    that many), and whether a difference was beyond float32.
    """
    bits = np.empty(BLOCK, np.uint32)
    x, other = np.empty(BLOCK), np.empty(BLOCK)
    above: Any = 0
    held: Any = 0
    bad = False
    least, most = _U32(low), _U32(high)
    span = _U32(most - least)
    for begin in range(start, stop, BLOCK):
        n = min(BLOCK, stop - begin)
        bad |= _magnitudes(row, begin, bits[:n], x, other)
        if held + n > found.size:
            return above, found.size + 1, bad
        above += _count_above(bits[:n], most)
        for first in range(0, n, CHUNK):
            part = bits[first : min(first + CHUNK, n)]
            if _any_within(part, least, span):
                for i in range(part.size):
                    found[held] = part[i]
                    held += _U32(part[i] - least) <= span
    return above, held, bad


@compiled
def _count_above(bits: Any, most: Any) -> Any:
    count = _U32(0)
    for i in range(bits.size):
        count = _U32(count + _U32(bits[i] > most))
    return np.int64(count)


@compiled
def _any_within(bits: Any, least: Any, span: Any) -> bool:
    """Tell whether a few magnitudes are worth a closer look."""
    nearest = _U32(0xFFFF_FFFF)
    for i in range(bits.size):
        nearest = min(nearest, _U32(bits[i] - least))
    return bool(nearest <= span)


@compiled
def _histogram(
    row: Any, prefix: int, counts: NDArray[np.int64], start: int, stop: int
) -> bool:
    """Count magnitudes by the upper half of their bits, or those with it by the lower.

    `prefix` is that upper half, -1 to count by it.
    """
    bits = np.empty(BLOCK, np.uint32)
    x, other = np.empty(BLOCK), np.empty(BLOCK)
    bad = False
    for begin in range(start, stop, BLOCK):
        n = min(BLOCK, stop - begin)
        bad |= _magnitudes(row, begin, bits[:n], x, other)
        for i in range(n):
            upper = bits[i] >> _U32(_HALF_BITS)
            if prefix < 0:
                counts[upper] += 1
            elif upper == prefix:
                counts[bits[i] & _U32(0xFFFF)] += 1
    return bad


def kth_largest(tau: Tau, k: int) -> float:
    """Return the k-th largest magnitude of a task vector, counted from 1."""
    table, held = addresses_of([tau])
    items = tau.count
    if items < 8 * RUNS_MIN * RUN_ITEMS:
        return measuring.kth_largest(tau, k)
    found = _by_bracket(table[0], items, k)
    if found is None:
        found = _by_histogram(table[0], items, k)
    del held
    return measuring.kth_largest(tau, k) if found is None else _value(found)


def _by_bracket(row: Any, items: int, k: int) -> int | None:
    """Return the bits of the k-th largest, None if the bracket did not hold it."""
    runs = min(max(items // RUN_EVERY, RUNS_MIN), RUNS_MAX)
    sample = np.empty(runs * RUN_ITEMS, np.uint32)
    if _sample(row, (items - RUN_ITEMS) // (runs - 1), runs, sample):
        return None
    sample.sort()
    share = k / items
    spread = (share * (1 - share) / sample.size) ** 0.5 * MARGIN
    last = sample.size - 1
    low = int(sample[max(0, int((1 - share - spread) * last) - 2)])
    high = int(sample[min(last, int((1 - share + spread) * last) + 2)])
    room_for = items // 16 + BLOCK

    def work(start: int, stop: int) -> tuple[int, NDArray[np.uint32] | None]:
        found = np.empty(room_for, np.uint32)
        above, count, bad = _bracket(row, low, high, found, start, stop)
        return above, None if bad or count > room_for else found[:count]

    parts = on_threads(work, range(items), BLOCK)
    place = k - sum(above for above, _ in parts)
    collected = [found for _, found in parts if found is not None]
    if len(collected) < len(parts):
        return None
    candidates = np.concatenate(collected)
    if not 1 <= place <= candidates.size:
        return None
    candidates.partition(candidates.size - place)
    return int(candidates[candidates.size - place])


def _by_histogram(row: Any, items: int, k: int) -> int | None:
    """Return the bits of the k-th largest; None if a difference is beyond float32."""
    prefix, place = -1, k
    for _ in range(2):
        upper, by = prefix, place

        def work(start: int, stop: int, upper: int = upper) -> NDArray[np.int64] | None:
            counts = np.zeros(1 << _HALF_BITS, np.int64)
            return None if _histogram(row, upper, counts, start, stop) else counts

        parts = on_threads(work, range(items), BLOCK)
        whole = [part for part in parts if part is not None]
        if len(whole) < len(parts):
            return None
        counts = np.sum(whole, axis=0)[::-1]
        reached = int(np.searchsorted(np.cumsum(counts), by))
        place = by - int(counts[:reached].sum())
        digit = (1 << _HALF_BITS) - 1 - reached
        prefix = digit if upper < 0 else (upper << _HALF_BITS) | digit
    return prefix


def _value(bits: int) -> float:
    return float(np.array([bits], np.uint32).view(np.float32)[0])


@compiled
def _exchange(low: Any, high: Any) -> None:
    """Order two columns, item by item."""
    for i in range(low.size):
        a, b = low[i], high[i]
        low[i] = min(a, b)
        high[i] = max(b, a)


@compiled
def _plain_median(columns: NDArray[np.float64], n: int, values: Any) -> None:
    """Sort columns by exchanges of neighbours; take the middle two."""
    count = columns.shape[0]
    for turn in range(count):
        for v in range(turn % 2, count - 1, 2):
            _exchange(columns[v, :n], columns[v + 1, :n])
    low, high = columns[(count - 1) // 2], columns[count // 2]
    for i in range(n):
        values[i] = (low[i] + high[i]) * 0.5


@compiled
def _weighted(
    columns: Any, n: int, weights: Any, total: int, order: Any, values: Any
) -> None:
    """Sort each item's values by insertion; walk to where half of the weight is."""
    for i in range(n):
        for v in range(columns.shape[0]):
            x, place = columns[v, i], v
            while place > 0 and columns[order[place - 1], i] > x:
                order[place] = order[place - 1]
                place -= 1
            order[place] = v
        cumulated, place = 0, 0
        while 2 * (cumulated + weights[order[place]]) < total:
            cumulated += weights[order[place]]
            place += 1
        low = columns[order[place], i]
        while 2 * (cumulated + weights[order[place]]) <= total:
            cumulated += weights[order[place]]
            place += 1
        values[i] = (low + columns[order[place], i]) * 0.5


@compiled
def _median_loop(
    table: NDArray[np.uint64],
    weights: NDArray[np.int64],
    code: int,
    out: Any,
    origin: int,
    start: int,
    stop: int,
) -> bool:
    """Compute items start to stop of a weighted median."""
    count = table.shape[0]
    block = max(16, BLOCK // count)
    columns, other = np.empty((count, block)), np.empty(block)
    order, values = np.empty(count, np.int64), np.empty(block)
    total, bad = weights.sum(), False
    equal = weights.min() == weights.max() and count <= EXCHANGED_MAX
    for begin in range(start, stop, block):
        n = min(block, stop - begin)
        for v in range(count):
            bad |= load(table[v], begin, n, columns[v], other)
        if equal:
            _plain_median(columns, n, values)
        else:
            _weighted(columns, n, weights, total, order, values)
        bad |= store(code, out, begin - origin, n, values)
    return bad


def weighted_median(
    vectors: Sequence[Vector], weights: Sequence[int], output: Output
) -> Data:
    """Return the stored items of the mean of the lower and the upper weighted median."""
    table, held = addresses_of(vectors)
    units = np.array(weights, dtype=np.int64)
    made, address = room(output)

    def work(start: int, stop: int) -> bool:
        code, origin = CODES[output.dtype], output.part.start
        return bool(_median_loop(table, units, code, address, origin, start, stop))

    bad = any(on_threads(work, output.part, BLOCK))
    del held
    return merging.weighted_median(vectors, weights, output) if bad else made
