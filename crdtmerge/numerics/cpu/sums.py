"""Sums on the grid and what ends in them: one pass over the inputs, block by block.

Owns the compiled forms of `weighted_sum`, `thinned_sum` and `consensus`. Does not own
their meaning (`reference.merging`) or conversions (`formats`).

The grid as integers: v + C has the bits of C plus round(v / g), since float64 has spacing
g all around C. So a limb is an int64 sum of such bits less those of C, exact like the
float64 sum of the reference, and C plus the limb, read as float64 again, less C is that
sum. It saves a subtraction a product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics.cpu.compiling import at, compiled, inlined
from crdtmerge.numerics.cpu.formats import (
    BF16,
    BLOCK,
    CODES,
    F32,
    ITEMS,
    addresses_of,
    load,
    load_stored,
    store,
)
from crdtmerge.numerics.cpu.products import (
    WHOLE,
    Array,
    Products,
    halve,
    products_of,
    shifts_of,
)
from crdtmerge.numerics.cpu.short_sums import is_short, short_of, short_sum
from crdtmerge.numerics.cpu.thinning import Thinning, load_kept, thinning
from crdtmerge.numerics.cpu.threads import on_threads
from crdtmerge.numerics.reference import merging
from crdtmerge.numerics.reference.dtypes import ITEM_BYTES, TAU_BITS, Data
from crdtmerge.numerics.reference.grid import (
    Grid,
)
from crdtmerge.numerics.vectors import Items, Output, Voter, Weighed

_I64: Final = np.int64
_U32: Final = np.uint32


@inlined
def bits_of(x: float) -> Any:
    """Return the bits of a float64 as an integer."""
    return np.float64(x).view(np.int64)


@inlined
def limb_of(total: int, shift: float) -> float:
    """Return a limb's sum from its integer."""
    return _I64(total + bits_of(shift)).view(np.float64) - shift


@compiled
def add_product(
    x: Array, factor: float, shifts: Array, first: Array, second: Array
) -> None:
    """Add the bits of products on the grid, one limb or two."""
    c, d = shifts[0], shifts[1]
    if d == 0.0:
        for i in range(first.size):
            first[i] += bits_of(np.float64(x[i]) * factor + c)
        return
    for i in range(first.size):
        v = np.float64(x[i]) * factor
        t = v + c
        first[i] += bits_of(t)
        second[i] += bits_of((v - (t - c)) + d)


@compiled
def _add_bf16(
    words: Array, factor: float, shifts: Array, first: Array, second: Array
) -> None:
    """Do the same with stored bfloat16 items, on two limbs."""
    c, d = shifts[0], shifts[1]
    for i in range(first.size):
        v = np.float64(_U32(_U32(words[i]) << _U32(16)).view(np.float32)) * factor
        t = v + c
        first[i] += bits_of(t)
        second[i] += bits_of((v - (t - c)) + d)


@compiled
def _sum_loop(
    table: Array,
    vectors: Array,
    factors: Array,
    halves: Array,
    shifts: Array,
    divisor: float,
    short: Any,
    code: int,
    out: Any,
    origin: int,
    start: int,
    stop: int,
) -> bool:
    """Compute items start to stop of a weighted sum; return whether something is wrong.

    `short` has the parts of `short_sums.Short`.
    """
    weights, rest, reciprocal, spread, least = short
    first, second = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    x, other = np.empty(BLOCK), np.empty(BLOCK)
    c, d, bad = shifts[0], shifts[1], False
    for begin in range(start, stop, BLOCK):
        n = min(BLOCK, stop - begin)
        if weights.size and is_short(table, begin, n, spread, least):
            short_sum(table, weights, begin, n, rest, reciprocal, x)
            bad |= store(code, out, begin - origin, n, x)
            continue
        one, two = first[:n], second[:n]
        one[:] = -vectors.size * bits_of(c)
        two[:] = -vectors.size * bits_of(d)
        loaded = -1
        for p in range(vectors.size):
            row = table[vectors[p]]
            plain = row[0] == ITEMS and halves[p] == WHOLE
            if plain and row[1] == BF16:
                words = at(row[2], np.uint16, begin + n)[begin:]
                _add_bf16(words, factors[p], shifts, one, two)
                continue
            if plain and row[1] == F32:
                singles = at(row[2], np.float32, begin + n)[begin:]
                add_product(singles, factors[p], shifts, one, two)
                continue
            if loaded != vectors[p]:
                loaded = vectors[p]
                bad |= load(row, begin, n, x, other)
            if halves[p] == WHOLE:
                add_product(x, factors[p], shifts, one, two)
            else:
                halve(halves[p], x, n, other)
                add_product(other, factors[p], shifts, one, two)
        quotient(one, two, shifts, divisor, x)
        bad |= store(code, out, begin - origin, n, x)
    return bad


@compiled
def quotient(
    first: Array, second: Array, shifts: Array, divisor: float, out: Array
) -> None:
    """Fill `out` with the sums that limbs of steps stand for, divided."""
    c, d = shifts[0], shifts[1]
    if d == 0.0:
        for i in range(first.size):
            out[i] = limb_of(first[i], c) / divisor
        return
    for i in range(first.size):
        out[i] = (limb_of(first[i], c) + limb_of(second[i], d)) / divisor


def weighted_sum(
    terms: Sequence[Weighed], divisor: int, grid: Grid, output: Output
) -> Data:
    """Return the stored items of sum(weight * vector) / divisor."""
    table, held = addresses_of([term.vector for term in terms])
    products = products_of(
        [(t.vector, t.weight, t.vector.significand_bits) for t in terms]
    )
    made, address = room(output)
    short = short_of(terms, divisor, grid)
    parts = (
        short.weights, short.divisor, short.reciprocal, short.spread, short.least
    )  # fmt: skip

    def work(start: int, stop: int) -> bool:
        return bool(
            _sum_loop(
                table,
                products.vectors,
                products.factors,
                products.halves,
                shifts_of(grid),
                float(divisor),
                parts,
                CODES[output.dtype],
                address,
                output.part.start,
                start,
                stop,
            )
        )

    bad = any(on_threads(work, output.part, BLOCK))
    del held
    return merging.weighted_sum(terms, divisor, grid, output) if bad else made


def room(output: Output) -> tuple[memoryview, Any]:
    """Return fresh bytes for the output, and where they lie."""
    made = np.empty(len(output.part) * ITEM_BYTES[output.dtype], np.uint8)
    return made.data, np.uint64(made.ctypes.data)


@dataclass(frozen=True, slots=True)
class _Votes:
    """What the loops of thinned sums and elections see of their voters."""

    thinning: Thinning
    products: Products
    weights: Array


def _votes(base: Items, voters: Sequence[Voter]) -> _Votes:
    return _Votes(
        thinning([v.tau for v in voters], [v.keep for v in voters], base),
        products_of([(v.tau, v.coefficient, TAU_BITS) for v in voters]),
        np.array([float(voter.weight) for voter in voters]),
    )


@compiled
def _thin_loop(
    table: Array,
    keeps: Array,
    vectors: Array,
    factors: Array,
    shifts: Array,
    divisor: float,
    code: int,
    out: Any,
    origin: int,
    start: int,
    stop: int,
) -> bool:
    """Compute items start to stop of a thinned sum; return whether something is wrong."""
    first, second = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    x, other, tau = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK, np.float32)
    words = np.empty(BLOCK + 8, np.uint32)
    c, d, bad = shifts[0], shifts[1], False
    for begin in range(start, stop, BLOCK):
        n = min(BLOCK, stop - begin)
        one, two, t = first[:n], second[:n], tau[:n]
        one[:] = -vectors.size * bits_of(c)
        two[:] = -vectors.size * bits_of(d)
        loaded = -1
        for p in range(vectors.size):
            if loaded != vectors[p]:
                loaded = vectors[p]
                bad |= load_kept(
                    table[loaded + 1],
                    keeps[loaded],
                    begin,
                    t,
                    x,
                    other,
                    words,
                )
            add_product(t, factors[p], shifts, one, two)
        quotient(one, two, shifts, divisor, x)
        load_stored(table[0, 1], table[0, 2], begin, n, other)
        add_block(x[:n], other)
        bad |= store(code, out, begin - origin, n, x)
    return bad


def thinned_sum(
    base: Items, voters: Sequence[Voter], divisor: int, grid: Grid, output: Output
) -> Data:
    """Return the stored items of base + sum(coefficient * kept tau) / divisor."""
    votes = _votes(base, voters)
    made, address = room(output)

    def loop(table: Array, start: int, stop: int) -> Any:
        return _thin_loop(
            table,
            votes.thinning.rules,
            votes.products.vectors,
            votes.products.factors,
            shifts_of(grid),
            float(divisor),
            CODES[output.dtype],
            address,
            output.part.start,
            start,
            stop,
        )

    def work(start: int, stop: int) -> bool:
        return votes.thinning.run(loop, start, stop)

    bad = any(on_threads(work, output.part, BLOCK))
    return merging.thinned_sum(base, voters, divisor, grid, output) if bad else made


@compiled
def vote(tau: Array, factor: float, shift: float, total: Array, plus: Array) -> None:
    """Add steps of the first limb to the total, and those above zero to the plus side."""
    base = bits_of(shift)
    for i in range(total.size):
        steps = bits_of(np.float64(tau[i]) * factor + shift) - base
        total[i] += steps
        plus[i] += max(steps, _I64(0))


@compiled
def vote_rest(
    tau: Array, factor: float, shifts: Array, total: Array, plus: Array
) -> None:
    """Add what the first limb leaves to the side that the whole product is on."""
    c, d = shifts[0], shifts[1]
    base = bits_of(d)
    for i in range(total.size):
        v = np.float64(tau[i]) * factor
        steps = bits_of((v - ((v + c) - c)) + d) - base
        total[i] += steps
        plus[i] += steps if v > 0 else _I64(0)


@compiled
def count_weight(tau: Array, weight: float, up: Array, down: Array) -> None:
    """Add a weight to the side that items above, and those below, zero are on."""
    for i in range(tau.size):
        more, less = up[i], down[i]
        up[i] = more + (weight if tau[i] > 0 else 0.0)
        down[i] = less + (weight if tau[i] < 0 else 0.0)


@compiled
def elect(
    sums: Array,
    weights: Array,
    n: int,
    shifts: Array,
    scale: float,
    normalize: bool,
    out: Array,
) -> None:
    """Fill `out` with scale times the mean, or the sum, of the elected side.

    `sums` are steps: of the first limb in all and on the plus side, then of the second.
    """
    c, d, unit = shifts[0], shifts[1], float(DECIMAL_UNIT)
    total, plus, up, down = sums[0, :n], sums[1, :n], weights[0, :n], weights[1, :n]
    if d != 0.0:
        _elect_fine(sums, weights, n, shifts, scale, normalize, out)
        return
    for i in range(n):
        wins, ours, more, less = total[i] >= 0, plus[i], up[i], down[i]
        theirs = total[i] - ours
        weight = more if wins else less
        divides = normalize and weight != 0
        found = limb_of(ours if wins else theirs, c)
        out[i] = found / (weight if divides else unit) * scale


@compiled
def _elect_fine(
    sums: Array,
    weights: Array,
    n: int,
    shifts: Array,
    scale: float,
    normalize: bool,
    out: Array,
) -> None:
    """Do the same on two limbs."""
    c, d, unit = shifts[0], shifts[1], float(DECIMAL_UNIT)
    total, plus, fine, plus_fine = sums[0, :n], sums[1, :n], sums[2, :n], sums[3, :n]
    up, down = weights[0, :n], weights[1, :n]
    for i in range(n):
        wins = limb_of(total[i], c) + limb_of(fine[i], d) >= 0
        ours, rest, more, less = plus[i], plus_fine[i], up[i], down[i]
        theirs, others = total[i] - ours, fine[i] - rest
        found = limb_of(ours if wins else theirs, c)
        found = found + limb_of(rest if wins else others, d)
        weight = more if wins else less
        divides = normalize and weight != 0
        out[i] = found / (weight if divides else unit) * scale


@compiled
def add_block(x: Array, y: Array) -> None:
    """Add `y` to `x`, item by item."""
    for i in range(x.size):
        x[i] = y[i] + x[i]


@compiled
def clear(sums: Array, weights: Array, n: int, fine: bool, weighs: bool) -> None:
    """Set n columns of both tables to zero, those rows that are used."""
    for row in range(4 if fine else 2):
        sums[row, :n] = 0
    if weighs:
        weights[0, :n] = 0.0
        weights[1, :n] = 0.0


@compiled
def _vote_loop(
    table: Array,
    keeps: Array,
    vectors: Array,
    factors: Array,
    voter_weights: Array,
    shifts: Array,
    scale: float,
    normalize: bool,
    code: int,
    out: Any,
    origin: int,
    start: int,
    stop: int,
) -> bool:
    """Compute items start to stop of a consensus; return whether something is wrong."""
    sums, weights = np.empty((4, BLOCK), np.int64), np.empty((2, BLOCK))
    x, other, tau = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK, np.float32)
    words = np.empty(BLOCK + 8, np.uint32)
    c, d, bad = shifts[0], shifts[1], False
    for begin in range(start, stop, BLOCK):
        n = min(BLOCK, stop - begin)
        clear(sums, weights, n, d != 0.0, normalize)
        t = tau[:n]
        loaded = -1
        for p in range(vectors.size):
            if loaded != vectors[p]:
                loaded = vectors[p]
                bad |= load_kept(
                    table[loaded + 1],
                    keeps[loaded],
                    begin,
                    t,
                    x,
                    other,
                    words,
                )
                weight = voter_weights[loaded]
                # The sign that counts is that of weight * tau.
                side = 0 if weight > 0 else 1
                if normalize:
                    count_weight(t, weight, weights[side, :n], weights[1 - side, :n])
            vote(t, factors[p], c, sums[0, :n], sums[1, :n])
            if d != 0.0:
                vote_rest(t, factors[p], shifts, sums[2, :n], sums[3, :n])
        elect(sums, weights, n, shifts, scale, normalize, x)
        load_stored(table[0, 1], table[0, 2], begin, n, other)
        add_block(x[:n], other)
        bad |= store(code, out, begin - origin, n, x)
    return bad


def consensus(
    base: Items,
    voters: Sequence[Voter],
    grid: Grid,
    output: Output,
    *,
    scale: float,
    normalize: bool,
) -> Data:
    """Return the stored items of base + scale * the disjoint mean of the kept taus."""
    votes = _votes(base, voters)
    made, address = room(output)

    def loop(table: Array, start: int, stop: int) -> Any:
        return _vote_loop(
            table,
            votes.thinning.rules,
            votes.products.vectors,
            votes.products.factors,
            votes.weights,
            shifts_of(grid),
            scale,
            normalize,
            CODES[output.dtype],
            address,
            output.part.start,
            start,
            stop,
        )

    def work(start: int, stop: int) -> bool:
        return votes.thinning.run(loop, start, stop)

    if any(on_threads(work, output.part, BLOCK)):
        return merging.consensus(
            base, voters, grid, output, scale=scale, normalize=normalize
        )
    return made
