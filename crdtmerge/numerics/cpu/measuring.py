"""What strategies measure, in compiled loops: extremes, inner products, magnitudes.

Owns the compiled forms of `inspect`, `inner_products`, `magnitude_sum`, `settle` and
`kept_of`. Does not own the tree (`reference.reductions`): a block's lanes are summed here,
in its order, and the few sums of blocks by the reference.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics.cpu.compiling import at, compiled
from crdtmerge.numerics.cpu.drawing import fill_mask, keep_items
from crdtmerge.numerics.cpu.formats import BLOCK, Table, addresses_of, load, load_tau
from crdtmerge.numerics.cpu.thinning import load_kept, thinning
from crdtmerge.numerics.cpu.threads import on_threads
from crdtmerge.numerics.reference import measuring
from crdtmerge.numerics.reference.dtypes import (
    ITEM_BYTES,
    Data,
    Floats,
    Singles,
    TensorFacts,
    facts_of,
)
from crdtmerge.numerics.reference.masks import MASK_BYTES, MASK_ITEMS
from crdtmerge.numerics.reference.reductions import BLOCK_ITEMS, LANES, tree_sums
from crdtmerge.numerics.vectors import Items, Keep, Settled, Tau, Vector

STRIP_ITEMS: Final = 1024
"""Items of each vector that are loaded at once: whole rows of lanes."""

VECTORS_AT_ONCE: Final = 32
"""Vectors whose strips are held at once; pairs across groups load them again."""

_INSPECT_ITEMS: Final = 1 << 16


@compiled
def _largest_bits(width: int, address: Any, start: int, stop: int) -> Any:
    """Return the largest bit pattern without its sign."""
    found = np.uint64(0)
    if width == 8:
        longs = at(address, np.uint64, stop)[start:stop]
        for i in range(longs.size):
            found = max(found, np.uint64(longs[i] & np.uint64(0x7FFF_FFFF_FFFF_FFFF)))
    elif width == 4:
        words, most = at(address, np.uint32, stop)[start:stop], np.uint32(0)
        for i in range(words.size):
            most = max(most, np.uint32(words[i] & np.uint32(0x7FFF_FFFF)))
        found = np.uint64(most)
    elif width == 2:
        halves, top = at(address, np.uint16, stop)[start:stop], np.uint16(0)
        for i in range(halves.size):
            top = max(top, np.uint16(halves[i] & np.uint16(0x7FFF)))
        found = np.uint64(top)
    else:
        octets, peak = at(address, np.uint8, stop)[start:stop], np.uint8(0)
        for i in range(octets.size):
            peak = max(peak, np.uint8(octets[i] & np.uint8(0x7F)))
        found = np.uint64(peak)
    return found


def inspect(data: Data, dtype: str) -> TensorFacts:
    """Return whether all items are finite, and the exponent of the largest magnitude."""
    table, held = addresses_of([Items(data, dtype)])
    items = Items(data, dtype).count
    width, address = ITEM_BYTES[dtype], table[0, 2]

    def work(start: int, stop: int) -> int:
        return int(_largest_bits(width, address, start, stop))

    found = max(on_threads(work, range(items), _INSPECT_ITEMS))
    del held
    return facts_of(found, dtype)


@compiled
def _product_sums(
    table: NDArray[np.uint64],
    origin: int,
    items: int,
    scale: float,
    pairs: NDArray[np.int64],
    sums: NDArray[np.float64],
    start: int,
    stop: int,
) -> bool:
    """Fill sums[pair, block] for the blocks of items start to stop of one row.

    The row begins at item `origin` of each vector. Return whether a difference was
    beyond float32.
    """
    bad = False
    strips = np.empty((table.shape[0], STRIP_ITEMS))
    lanes = np.empty((pairs.shape[0], LANES))
    other = np.empty(STRIP_ITEMS)
    for begin in range(start, stop, BLOCK_ITEMS):
        lanes[:] = 0.0
        for first in range(begin, min(begin + BLOCK_ITEMS, items), STRIP_ITEMS):
            n = min(STRIP_ITEMS, items - first)
            rows = (n + LANES - 1) // LANES
            for v in range(table.shape[0]):
                bad |= load(table[v], origin + first, n, strips[v], other)
                _scale(strips[v], n, rows * LANES, scale)
            for p in range(pairs.shape[0]):
                _add_rows(strips[pairs[p, 0]], strips[pairs[p, 1]], rows, lanes[p])
        for p in range(pairs.shape[0]):
            sums[p, begin // BLOCK_ITEMS] = _halved(lanes[p])
    return bad


@compiled
def _scale(strip: NDArray[np.float64], n: int, padded: int, scale: float) -> None:
    """Scale n items, and fill up with zeros."""
    if scale != 1.0:
        for i in range(n):
            strip[i] = strip[i] * scale
    for i in range(n, padded):
        strip[i] = 0.0


@compiled
def _add_rows(left: Any, right: Any, rows: int, lanes: Any) -> None:
    """Add the products of whole rows to the lanes, row after row."""
    for row in range(rows):
        a = left[row * LANES : (row + 1) * LANES]
        b = right[row * LANES : (row + 1) * LANES]
        for lane in range(LANES):
            lanes[lane] += a[lane] * b[lane]


@compiled
def _halved(lanes: Any) -> float:
    """Return the sum of the lanes, halved to one."""
    half = LANES // 2
    while half:
        for lane in range(half):
            lanes[lane] = lanes[lane] + lanes[lane + half]
        half //= 2
    return lanes[0]  # type: ignore[no-any-return]


def inner_products(
    vectors: Sequence[Vector], length: int, sets: range, exponent: int
) -> Floats:
    """Return (sets, n, n) inner products of n vectors, each cut in rows of `length`."""
    table, held = addresses_of(vectors)
    count, scale = len(vectors), 2.0**-exponent
    matrices = np.empty((len(sets), count, count))
    blocks = -(-length // BLOCK_ITEMS)
    for group, pairs in _groups(count):
        sums = np.empty((len(sets), len(pairs), blocks))
        for place, row in enumerate(sets):

            def work(start: int, stop: int, place: int = place, row: int = row) -> bool:
                return bool(
                    _product_sums(
                        table[group],  # noqa: B023  used before the next group
                        row * length,
                        length,
                        scale,
                        _within(group, pairs),  # noqa: B023
                        sums[place],  # noqa: B023
                        start,
                        stop,
                    )
                )

            if any(on_threads(work, range(length), BLOCK_ITEMS)):
                return measuring.inner_products(vectors, length, sets, exponent)
        flat = sums.reshape(len(sets) * len(pairs), blocks)
        totals = tree_sums(flat).reshape(len(sets), len(pairs))
        for (i, j), column in zip(pairs, totals.T, strict=True):
            matrices[:, i, j] = matrices[:, j, i] = column
    del held
    return matrices


def _groups(count: int) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Return which vectors are held together, and the pairs that are then summed."""
    step = VECTORS_AT_ONCE // 2
    cuts = [
        list(range(start, min(start + step, count))) for start in range(0, count, step)
    ]
    found = []
    for i, left in enumerate(cuts):
        for right in cuts[i:]:
            group = left if left is right else left + right
            pairs = [(a, b) for a in left for b in right if a <= b]
            found.append((group, pairs))
    return found


def _within(group: list[int], pairs: list[tuple[int, int]]) -> NDArray[np.int64]:
    places = {vector: place for place, vector in enumerate(group)}
    found = [(places[i], places[j]) for i, j in pairs]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


@compiled
def _magnitude_sums(
    table: Any,
    rules: Any,
    items: int,
    mask: Any,
    sums: NDArray[np.float64],
    start: int,
    stop: int,
) -> bool:
    """Fill sums[0, block] with the magnitudes that stay, for items start to stop.

    With room for a mask it is filled, and sums[1, block] with all magnitudes: those of the
    second vector of the table, which is the first one as it was before any rank.
    """
    bad, both = False, mask.size > 0
    again = table[0, 2] != table[1, 2]
    strip, other = np.empty(STRIP_ITEMS), np.empty(STRIP_ITEMS)
    tau, lanes = np.empty(STRIP_ITEMS, np.float32), np.empty((2, LANES))
    words = np.empty(STRIP_ITEMS + 8, np.uint32)
    for begin in range(start, stop, BLOCK_ITEMS):
        lanes[:] = 0.0
        for first in range(begin, min(begin + BLOCK_ITEMS, items), STRIP_ITEMS):
            n = min(STRIP_ITEMS, items - first)
            for place in range(1 if both else 0, -1, -1):
                if place or again or not both:
                    bad |= load_tau(table[place], first, tau[:n], strip, other)
                if not place:
                    keep_items(rules[0], first, tau[:n], words)
                _add_magnitudes(tau, n, lanes[place])
            if both:
                block = first // MASK_ITEMS * MASK_BYTES
                fill_mask(tau.view(np.uint32), mask[block : block + MASK_BYTES])
        for place in range(sums.shape[0]):
            sums[place, begin // BLOCK_ITEMS] = _halved(lanes[place])
    return bad


@compiled
def _add_magnitudes(tau: Any, n: int, lanes: Any) -> None:
    """Add the magnitudes of n items to the lanes, row after row; the rest becomes +0."""
    tau[n:] = 0
    for r in range((n + LANES - 1) // LANES):
        part = tau[r * LANES : (r + 1) * LANES]
        for lane in range(LANES):
            lanes[lane] += np.float64(abs(part[lane]))


def magnitude_sum(tau: Tau, keep: Keep) -> float:
    """Return the sum of the magnitudes of the items that stay, along the tree."""
    sums = _magnitudes(tau, keep, np.empty(0, np.uint8))
    return measuring.magnitude_sum(tau, keep) if sums is None else float(sums[0])


def settle(tau: Tau, keep: Keep) -> Settled:
    """Return a rule with its answers, and the sums of magnitudes of all and of the kept."""
    if not tau.count:
        return Settled(keep, 0.0, 0.0)
    mask = np.empty(-(-tau.count // MASK_ITEMS) * MASK_BYTES, np.uint8)
    sums = _magnitudes(tau, keep, mask)
    if sums is None:
        return measuring.settle(tau, keep)
    after, before = map(float, sums)
    return Settled(replace(keep, mask=mask.tobytes()), before, after)


def _magnitudes(tau: Tau, keep: Keep, mask: NDArray[np.uint8]) -> Floats | None:
    """Return the sum of what stays, and with a mask that of all; None if one is wrong."""
    found, items = thinning([tau, tau], [keep, Keep()]), tau.count
    sums = np.zeros((2 if mask.size else 1, -(-items // BLOCK_ITEMS)))

    def loop(table: Table, start: int, stop: int) -> Any:
        return _magnitude_sums(table, found.rules, items, mask, sums, start, stop)

    def work(start: int, stop: int) -> bool:
        return found.run(loop, start, stop, BLOCK_ITEMS)

    bad = any(on_threads(work, range(items), BLOCK_ITEMS))
    return None if bad else tree_sums(sums)


@compiled
def _kept(
    row: Any, rule: Any, out: NDArray[np.float32], origin: int, start: int, stop: int
) -> bool:
    """Fill `out`, which begins at item `origin`, with what stays of start to stop."""
    bad = False
    x, other, words = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK + 8, np.uint32)
    for first in range(start, stop, BLOCK):
        n, place = min(BLOCK, stop - first), first - origin
        tau = out[place : place + n]
        bad |= load_kept(row, rule, first, tau, x, other, words)
        for i in range(n):
            tau[i] += np.float32(0)  # -0 + 0 = +0
    return bad


def kept_of(tau: Tau, keep: Keep, part: range) -> Singles:
    """Return the items of `part` that stay as float32, the others +0."""
    found, made = thinning([tau], [keep]), np.empty(len(part), np.float32)

    def loop(table: Table, start: int, stop: int) -> Any:
        return _kept(table[0], found.rules[0], made, part.start, start, stop)

    def work(start: int, stop: int) -> bool:
        return found.run(loop, start, stop)

    bad = any(on_threads(work, part, BLOCK))
    return measuring.kept_of(tau, keep, part) if bad else made
