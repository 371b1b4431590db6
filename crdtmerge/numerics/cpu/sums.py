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
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics.contract import LIMB_BITS
from crdtmerge.numerics.cpu.compiling import at, compiled, inlined
from crdtmerge.numerics.cpu.drawing import keep_items, keep_table
from crdtmerge.numerics.cpu.formats import (
    BF16,
    CODES,
    F32,
    ITEMS,
    addresses_of,
    load,
    load_stored,
    store,
)
from crdtmerge.numerics.cpu.threads import on_threads
from crdtmerge.numerics.reference import merging
from crdtmerge.numerics.reference.dtypes import ITEM_BYTES, Data
from crdtmerge.numerics.reference.grid import (
    ROUNDING_SHIFT,
    VALUE_SPLIT_MASK,
    Grid,
    pieces,
    split_weight,
)
from crdtmerge.numerics.vectors import Items, Output, Vector, Voter, Weighed

BLOCK: Final = 2048
"""Items in flight: all buffers of a block stay in the first cache."""

Array: TypeAlias = NDArray[Any]

WHOLE: Final = 0
_HIGH: Final = 1
_LOW: Final = 2
_I64: Final = np.int64
_U32: Final = np.uint32
_SPLIT: Final = np.uint64(VALUE_SPLIT_MASK)


@dataclass(frozen=True, slots=True)
class Products:
    """The exact products of a sum: which vector, times what, and which part of it."""

    vectors: Array
    factors: Array
    halves: Array


def products_of(terms: Sequence[tuple[Vector, int, int]]) -> Products:
    """Return the products of (vector, weight, significand bits), as `GridSum` has them."""
    rows: list[tuple[int, float, int]] = []
    for place, (_, weight, bits) in enumerate(terms):
        number = pieces(weight, bits)
        factors = [weight] if number == 1 else split_weight(weight)
        halves = [_HIGH, _LOW] if number == 4 else [WHOLE]
        used = [float(factor) for factor in factors if factor or number == 1]
        rows += [(place, factor, half) for half in halves for factor in used]
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    vectors, factors_, halves_ = columns
    return Products(
        np.array(vectors, dtype=np.int64),
        np.array(factors_, dtype=np.float64),
        np.array(halves_, dtype=np.int64),
    )


def shifts_of(grid: Grid) -> Array:
    """Return C of each limb; that of a limb that is not there is zero."""
    shifts = np.zeros(2)
    for limb in range(grid.limbs):
        shifts[limb] = ROUNDING_SHIFT * 2.0 ** (grid.step_exponent - LIMB_BITS * limb)
    return shifts


@inlined
def bits_of(x: float) -> Any:
    """Return the pattern of a float64 as an integer."""
    return np.float64(x).view(np.int64)


@inlined
def limb_of(total: int, shift: float) -> float:
    """Return a limb's sum from its integer."""
    return _I64(total + bits_of(shift)).view(np.float64) - shift


@compiled
def add_product(
    x: Array, n: int, factor: float, shifts: Array, first: Array, second: Array
) -> None:
    """Put n products on the grid, one limb or two."""
    c, d = shifts[0], shifts[1]
    base, fine = bits_of(c), bits_of(d)
    if d == 0.0:
        for i in range(n):
            first[i] += bits_of(x[i] * factor + c) - base
        return
    for i in range(n):
        v = x[i] * factor
        t = v + c
        first[i] += bits_of(t) - base
        second[i] += bits_of((v - (t - c)) + d) - fine


@compiled
def _add_stored(
    code: int,
    address: Any,
    start: int,
    n: int,
    factor: float,
    shift: float,
    sums: Array,
) -> None:
    """Put n products of stored bf16 or fp32 items on a grid of one limb."""
    base = bits_of(shift)
    if code == BF16:
        words = at(address, np.uint16, start + n)[start : start + n]
        for i in range(n):
            x = np.float64(_U32(_U32(words[i]) << _U32(16)).view(np.float32))
            sums[i] += bits_of(x * factor + shift) - base
    else:
        singles = at(address, np.float32, start + n)[start : start + n]
        for i in range(n):
            sums[i] += bits_of(np.float64(singles[i]) * factor + shift) - base


@compiled
def halve(half: int, x: Array, n: int, out: Array) -> None:
    """Fill `out` with the high or the low part of n values."""
    for i in range(n):
        high = np.uint64(np.float64(x[i]).view(np.uint64) & _SPLIT).view(np.float64)
        out[i] = high if half == _HIGH else x[i] - high


@compiled
def _sum_loop(
    table: Array,
    vectors: Array,
    factors: Array,
    halves: Array,
    shifts: Array,
    divisor: float,
    code: int,
    out: Any,
    origin: int,
    start: int,
    stop: int,
) -> bool:
    """Compute items start to stop of a weighted sum; return whether something is wrong."""
    first, second = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    x, other = np.empty(BLOCK), np.empty(BLOCK)
    bad = False
    for begin in range(start, stop, BLOCK):
        n = min(BLOCK, stop - begin)
        first[:n] = 0
        second[:n] = 0
        loaded = -1
        for p in range(vectors.size):
            row = table[vectors[p]]
            plain = row[0] == ITEMS and halves[p] == WHOLE and shifts[1] == 0.0
            if plain and (row[1] == BF16 or row[1] == F32):
                _add_stored(row[1], row[2], begin, n, factors[p], shifts[0], first)
                continue
            if loaded != vectors[p]:
                loaded = vectors[p]
                bad |= load(row, begin, n, x, other)
            if halves[p] == WHOLE:
                add_product(x, n, factors[p], shifts, first, second)
            else:
                halve(halves[p], x, n, other)
                add_product(other, n, factors[p], shifts, first, second)
        divide_limbs(first, second, n, shifts, divisor, x)
        bad |= store(code, out, begin - origin, n, x)
    return bad


@compiled
def divide_limbs(
    first: Array, second: Array, n: int, shifts: Array, divisor: float, out: Array
) -> None:
    """Fill `out` with n sums, each divided once."""
    c, d = shifts[0], shifts[1]
    if d == 0.0:
        for i in range(n):
            out[i] = limb_of(first[i], c) / divisor
        return
    for i in range(n):
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

    def work(start: int, stop: int) -> bool:
        return bool(
            _sum_loop(
                table,
                products.vectors,
                products.factors,
                products.halves,
                shifts_of(grid),
                float(divisor),
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

    table: Array
    held: list[Any]
    keeps: Array
    products: Products
    weights: Array


def _votes(base: Items, voters: Sequence[Voter]) -> _Votes:
    table, held = addresses_of([base, *(voter.tau for voter in voters)])
    return _Votes(
        table,
        held,
        keep_table([voter.keep for voter in voters]),
        products_of([(v.tau, v.coefficient, v.tau.significand_bits) for v in voters]),
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
    x, other = np.empty(BLOCK), np.empty(BLOCK)
    words = np.empty(BLOCK + 8, np.uint32)
    bad = False
    for begin in range(start, stop, BLOCK):
        n = min(BLOCK, stop - begin)
        first[:n] = 0
        second[:n] = 0
        loaded = -1
        for p in range(vectors.size):
            if loaded != vectors[p]:
                loaded = vectors[p]
                bad |= load(table[loaded + 1], begin, n, x, other)
                keep_items(keeps[loaded], begin, n, x, words)
            add_product(x, n, factors[p], shifts, first, second)
        divide_limbs(first, second, n, shifts, divisor, x)
        load_stored(table[0, 1], table[0, 2], begin, n, other)
        for i in range(n):
            x[i] = other[i] + x[i]
        bad |= store(code, out, begin - origin, n, x)
    return bad


def thinned_sum(
    base: Items, voters: Sequence[Voter], divisor: int, grid: Grid, output: Output
) -> Data:
    """Return the stored items of base + sum(coefficient * kept tau) / divisor."""
    votes = _votes(base, voters)
    made, address = room(output)

    def work(start: int, stop: int) -> bool:
        return bool(
            _thin_loop(
                votes.table,
                votes.keeps,
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
        )

    bad = any(on_threads(work, output.part, BLOCK))
    return merging.thinned_sum(base, voters, divisor, grid, output) if bad else made


@compiled
def vote(
    x: Array,
    n: int,
    factor: float,
    weight: float,
    counts: bool,
    shifts: Array,
    sums: Array,
    weights: Array,
) -> None:
    """Add a voter's products to the side, plus or minus, that each item is on.

    `sums` are rows: first and second limb of plus, then of minus. The sign that counts is
    that of weight * tau; `counts` tells whether the weight is added too.
    """
    c, d = shifts[0], shifts[1]
    base, fine = bits_of(c), bits_of(d)
    plus, minus = (0, 2) if weight > 0 else (2, 0)
    up, up_fine, down, down_fine = (
        sums[plus], sums[plus + 1], sums[minus], sums[minus + 1]
    )  # fmt: skip
    if d == 0.0:
        for i in range(n):
            put = bits_of(x[i] * factor + c) - base
            side = -_I64(x[i] > 0)
            up[i] += put & side
            down[i] += put & ~side
    else:
        for i in range(n):
            v = x[i] * factor
            t = v + c
            put = bits_of(t) - base
            rest = bits_of((v - (t - c)) + d) - fine
            side = -_I64(x[i] > 0)
            up[i] += put & side
            down[i] += put & ~side
            up_fine[i] += rest & side
            down_fine[i] += rest & ~side
    if counts:
        more, less = weights[plus // 2], weights[minus // 2]
        for i in range(n):
            more[i] += weight if x[i] > 0 else 0.0
            less[i] += weight if x[i] < 0 else 0.0


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
    """Fill `out` with scale times what agrees with the elected sign."""
    c, d = shifts[0], shifts[1]
    for i in range(n):
        elected = limb_of(sums[0, i] + sums[2, i], c)
        if d != 0.0:
            elected = elected + limb_of(sums[1, i] + sums[3, i], d)
        side = 0 if elected >= 0 else 2
        total = limb_of(sums[side, i], c)
        if d != 0.0:
            total = total + limb_of(sums[side + 1, i], d)
        weight = weights[side // 2, i]
        divides = normalize and weight != 0
        out[i] = total / (weight if divides else float(DECIMAL_UNIT)) * scale


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
    x, other = np.empty(BLOCK), np.empty(BLOCK)
    words = np.empty(BLOCK + 8, np.uint32)
    bad = False
    for begin in range(start, stop, BLOCK):
        n = min(BLOCK, stop - begin)
        sums[:, :n] = 0
        weights[:, :n] = 0.0
        loaded = -1
        for p in range(vectors.size):
            counts = loaded != vectors[p]
            if counts:
                loaded = vectors[p]
                bad |= load(table[loaded + 1], begin, n, x, other)
                keep_items(keeps[loaded], begin, n, x, words)
            weight = voter_weights[loaded]
            vote(x, n, factors[p], weight, counts, shifts, sums, weights)
        elect(sums, weights, n, shifts, scale, normalize, x)
        load_stored(table[0, 1], table[0, 2], begin, n, other)
        for i in range(n):
            x[i] = other[i] + x[i]
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

    def work(start: int, stop: int) -> bool:
        return bool(
            _vote_loop(
                votes.table,
                votes.keeps,
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
        )

    if any(on_threads(work, output.part, BLOCK)):
        return merging.consensus(
            base, voters, grid, output, scale=scale, normalize=normalize
        )
    return made
