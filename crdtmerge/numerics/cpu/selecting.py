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
from crdtmerge.numerics.cpu.formats import (
    BLOCK,
    CODES,
    addresses_of,
    load,
    load_tau,
    store,
)
from crdtmerge.numerics.cpu.sums import room
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

EXCHANGED_MAX: Final = 64
"""Contributions of equal weight that are sorted by exchanges, all items at once."""

ROOM_SHARE: Final = 32
"""One of so many items may lie in brackets: of all others histograms are made."""

_BEYOND: Final = 0x7FFF_FFFF
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
    row: Any,
    brackets: NDArray[np.uint32],
    counts: NDArray[np.int64],
    found: NDArray[np.uint32],
    start: int,
    stop: int,
) -> Any:
    """Collect the magnitudes inside of any bracket, and count those at its values.

    Return how many were found (more than there is room for: at least that many), and
    whether a difference was beyond float32.
    """
    bits, inside = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.uint32)
    x, other = np.empty(BLOCK), np.empty(BLOCK)
    held = np.uint64(0)
    bad = False
    for begin in range(start, stop, BLOCK):
        n = min(BLOCK, stop - begin)
        bad |= _magnitudes(row, begin, bits[:n], x, other)
        if np.int64(held) + n > found.size:
            return found.size + 1, bad
        inside[:n] = _U32(0)
        for place in range(len(brackets)):
            low, middle, high = brackets[place]
            _mark(bits[:n], low, middle, high, inside[:n], counts[place])
        for i in range(n):
            found[held] = bits[i]
            held += np.uint64(inside[i])
    return np.int64(held), bad


@compiled
def _mark(
    bits: Any, low: Any, middle: Any, high: Any, inside: Any, counts: Any
) -> None:
    """Mark magnitudes from low to high, but none of the three; count above and at each."""
    above, first, second, third = _U32(0), _U32(0), _U32(0), _U32(0)
    span = _U32(high - low)
    for i in range(bits.size):
        x = bits[i]
        at_high, at_middle, at_low = x == high, x == middle, x == low
        above = _U32(above + _U32(x > high))
        first = _U32(first + _U32(at_high))
        second = _U32(second + _U32(at_middle))
        third = _U32(third + _U32(at_low))
        within = _U32(x - low) <= span
        inside[i] |= _U32(within & ~(at_high | at_middle | at_low))
    counts[0] += above
    counts[1] += first
    counts[2] += second
    counts[3] += third


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


def kth_largest(tau: Tau, places: Sequence[int]) -> list[float]:
    """Return the k-th largest magnitude of a task vector for each k, counted from 1."""
    table, held = addresses_of([tau])
    items = tau.count
    if items < 8 * RUNS_MIN * RUN_ITEMS:
        return measuring.kth_largest(tau, places)
    found = _by_brackets(table[0], items, places)
    if found is None:
        found = [_by_histogram(table[0], items, k) for k in places]
    del held
    if None in found:
        return measuring.kth_largest(tau, places)
    return [_value(bits) for bits in found if bits is not None]


def _by_brackets(
    row: Any, items: int, places: Sequence[int]
) -> list[int | None] | None:
    """Return the bits of each k-th largest, None if a bracket did not hold it."""
    runs = min(max(items // RUN_EVERY, RUNS_MIN), RUNS_MAX)
    sample = np.empty(runs * RUN_ITEMS, np.uint32)
    if _sample(row, (items - RUN_ITEMS) // (runs - 1), runs, sample):
        return None
    sample.sort()
    brackets = np.array([_bracket_of(sample, k / items) for k in places], np.uint32)
    room_for = items // ROOM_SHARE + BLOCK

    def work(start: int, stop: int) -> tuple[Any, NDArray[np.uint32] | None]:
        found, counts = np.empty(room_for, np.uint32), np.zeros((len(places), 4), int)
        count, bad = _bracket(row, brackets, counts, found, start, stop)
        return counts, None if bad or count > room_for else found[:count]

    parts = on_threads(work, range(items), BLOCK)
    collected = [found for _, found in parts if found is not None]
    if len(collected) < len(parts):
        return None
    candidates, totals = np.concatenate(collected), sum(counts for counts, _ in parts)
    made = [
        _place(candidates, bracket, counts, k)
        for bracket, counts, k in zip(brackets, totals, places, strict=True)
    ]
    return None if None in made else made


def _bracket_of(sample: NDArray[np.uint32], share: float) -> list[int]:
    """Return what is next to the magnitude at this share from above: below, at, above.

    Beyond the ends of the sample it may be anything.
    """
    spread = (share * (1 - share) / sample.size) ** 0.5 * MARGIN
    last = sample.size - 1
    below = int((1 - share - spread) * last) - 2
    above = int((1 - share + spread) * last) + 2
    low = int(sample[below]) if below >= 0 else 0
    high = int(sample[above]) if above <= last else _BEYOND
    return [low, int(sample[int((1 - share) * last)]), high]


def _place(
    candidates: NDArray[np.uint32], bracket: Any, counts: Any, k: int
) -> int | None:
    """Return the k-th largest of all, None if it is not from low to high.

    `counts` are those above the bracket, and at each of its three values.

    SUBTLE: these may be one value, which is counted for each; what is at it is found
    before it would be looked for twice.
    """
    low, middle, high = (int(bits) for bits in bracket)
    rest = k - int(counts[0])
    if rest < 1:
        return None
    steps = ((middle, high, high), (low, middle, middle))
    for number, (under, over, value) in enumerate(steps, start=1):
        if rest <= counts[number]:
            return value
        rest -= int(counts[number])
        between = candidates[(candidates > under) & (candidates < over)]
        if rest <= between.size:
            between.partition(between.size - rest)
            return int(between[between.size - rest])
        rest -= between.size
        if under == over:
            rest += int(counts[number + 1])
    return low if rest <= counts[3] else None


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
