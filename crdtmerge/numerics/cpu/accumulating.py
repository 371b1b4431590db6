"""Sums that stop halfway, in compiled loops: onto planes, and from planes to items.

Owns the compiled forms of `*_planes` and `finish_*`. Does not own their meaning
(`reference.accumulating`), nor what is done to one block (`sums`).

Planes are float64; in a loop a limb is the integer that `sums` describes, so a plane is
read as such and written back as a float64, both exact.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from crdtmerge.numerics.cpu.compiling import compiled
from crdtmerge.numerics.cpu.drawing import keep_items, keep_table
from crdtmerge.numerics.cpu.formats import (
    CODES,
    addresses_of,
    load,
    load_stored,
    store,
)
from crdtmerge.numerics.cpu.sums import (
    BLOCK,
    WHOLE,
    Array,
    Products,
    add_product,
    bits_of,
    divide_limbs,
    elect,
    halve,
    limb_of,
    products_of,
    room,
    shifts_of,
    vote,
)
from crdtmerge.numerics.cpu.threads import on_threads
from crdtmerge.numerics.reference import accumulating
from crdtmerge.numerics.reference.dtypes import Data
from crdtmerge.numerics.reference.grid import Grid
from crdtmerge.numerics.vectors import (
    Items,
    Keep,
    Output,
    Planes,
    Tau,
    Voter,
    Weighed,
)


@compiled
def _resume(plane: Array, at: int, n: int, shift: float, out: Array) -> None:
    """Fill `out` with n items of a limb's plane, as integers."""
    base = bits_of(shift)
    for i in range(n):
        out[i] = bits_of(plane[at + i] + shift) - base


@compiled
def _keep(sums: Array, n: int, shift: float, plane: Array, at: int) -> None:
    """Write n integers of a limb to its plane."""
    for i in range(n):
        plane[at + i] = limb_of(sums[i], shift)


@compiled
def _sum_loop(
    table: Array,
    keeps: Array,
    vectors: Array,
    factors: Array,
    halves: Array,
    shifts: Array,
    planes: Array,
    origin: int,
    start: int,
    stop: int,
) -> bool:
    """Fill columns of a sum's planes; return whether something is wrong."""
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
                bad |= load(table[loaded], begin, n, x, other)
                keep_items(keeps[loaded], begin, n, x, words)
            if halves[p] == WHOLE:
                add_product(x, n, factors[p], shifts, first, second)
            else:
                halve(halves[p], x, n, other)
                add_product(other, n, factors[p], shifts, first, second)
        _keep(first, n, shifts[0], planes[0], begin - origin)
        if planes.shape[0] > 1:
            _keep(second, n, shifts[1], planes[1], begin - origin)
    return bad


@compiled
def _finish_sum_loop(
    table: Array,
    vectors: Array,
    factors: Array,
    halves: Array,
    shifts: Array,
    planes: Array,
    on_base: bool,
    divisor: float,
    code: int,
    out: Any,
    origin: int,
    start: int,
    stop: int,
) -> bool:
    """Make items from a sum's planes; return whether something is wrong.

    With `on_base` the first vector is added to the quotient, and no product is made.
    """
    first, second = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    x, other = np.empty(BLOCK), np.empty(BLOCK)
    bad = False
    for begin in range(start, stop, BLOCK):
        n = min(BLOCK, stop - begin)
        _resume(planes[0], begin - origin, n, shifts[0], first)
        if planes.shape[0] > 1:
            _resume(planes[1], begin - origin, n, shifts[1], second)
        loaded = -1
        for p in range(vectors.size):
            if loaded != vectors[p]:
                loaded = vectors[p]
                bad |= load(table[loaded], begin, n, x, other)
            if halves[p] == WHOLE:
                add_product(x, n, factors[p], shifts, first, second)
            else:
                halve(halves[p], x, n, other)
                add_product(other, n, factors[p], shifts, first, second)
        divide_limbs(first, second, n, shifts, divisor, x)
        if on_base:
            load_stored(table[0, 1], table[0, 2], begin, n, other)
            for i in range(n):
                x[i] = other[i] + x[i]
        bad |= store(code, out, begin - origin, n, x)
    return bad


@compiled
def _vote_loop(
    table: Array,
    keeps: Array,
    vectors: Array,
    factors: Array,
    voter_weights: Array,
    shifts: Array,
    planes: Array,
    origin: int,
    start: int,
    stop: int,
) -> bool:
    """Fill columns of the planes of votes; return whether something is wrong."""
    limbs = planes.shape[0] // 2 - 1
    sums, weights = np.empty((4, BLOCK), np.int64), np.empty((2, BLOCK))
    x, other = np.empty(BLOCK), np.empty(BLOCK)
    words = np.empty(BLOCK + 8, np.uint32)
    bad = False
    for begin in range(start, stop, BLOCK):
        n, at = min(BLOCK, stop - begin), begin - origin
        sums[:, :n] = 0
        weights[:, :n] = 0.0
        loaded = -1
        for p in range(vectors.size):
            counts = loaded != vectors[p]
            if counts:
                loaded = vectors[p]
                bad |= load(table[loaded], begin, n, x, other)
                keep_items(keeps[loaded], begin, n, x, words)
            weight = voter_weights[loaded]
            vote(x, n, factors[p], weight, counts, shifts, sums, weights)
        for side in range(2):
            for limb in range(limbs):
                plane = planes[side * limbs + limb]
                _keep(sums[2 * side + limb], n, shifts[limb], plane, at)
            planes[2 * limbs + side, at : at + n] = weights[side, :n]
    return bad


@compiled
def _finish_vote_loop(
    table: Array,
    shifts: Array,
    planes: Array,
    scale: float,
    normalize: bool,
    code: int,
    out: Any,
    origin: int,
    start: int,
    stop: int,
) -> bool:
    """Make items from the planes of votes; return whether something is wrong."""
    limbs = planes.shape[0] // 2 - 1
    sums, weights = np.zeros((4, BLOCK), np.int64), np.empty((2, BLOCK))
    x, other = np.empty(BLOCK), np.empty(BLOCK)
    bad = False
    for begin in range(start, stop, BLOCK):
        n, at = min(BLOCK, stop - begin), begin - origin
        for side in range(2):
            for limb in range(limbs):
                plane = planes[side * limbs + limb]
                _resume(plane, at, n, shifts[limb], sums[2 * side + limb])
            weights[side, :n] = planes[2 * limbs + side, at : at + n]
        elect(sums, weights, n, shifts, scale, normalize, x)
        load_stored(table[0, 1], table[0, 2], begin, n, other)
        for i in range(n):
            x[i] = other[i] + x[i]
        bad |= store(code, out, begin - origin, n, x)
    return bad


def sum_planes(terms: Sequence[Weighed], grid: Grid, part: range) -> Planes:
    """Return the planes of sum(weight * vector)."""
    products = products_of(
        [(t.vector, t.weight, t.vector.significand_bits) for t in terms]
    )
    vectors = [term.vector for term in terms]
    keeps = [Keep()] * len(terms)
    planes, bad = _summed(vectors, keeps, products, grid, part)
    return accumulating.sum_planes(terms, grid, part) if bad else planes


def thinned_planes(voters: Sequence[Voter], grid: Grid, part: range) -> Planes:
    """Return the planes of sum(coefficient * kept tau)."""
    products = products_of(
        [(v.tau, v.coefficient, v.tau.significand_bits) for v in voters]
    )
    taus, keeps = [v.tau for v in voters], [v.keep for v in voters]
    planes, bad = _summed(taus, keeps, products, grid, part)
    return accumulating.thinned_planes(voters, grid, part) if bad else planes


def _summed(
    vectors: Sequence[Tau],
    keeps: Sequence[Keep],
    products: Products,
    grid: Grid,
    part: range,
) -> tuple[Planes, bool]:
    """Return the planes of a sum of products, and whether something is wrong."""
    table, held = addresses_of(vectors)
    rules, shifts = keep_table(keeps), shifts_of(grid)
    planes = np.empty((accumulating.sum_rows(grid), len(part)))

    def work(start: int, stop: int) -> bool:
        return bool(
            _sum_loop(
                table,
                rules,
                products.vectors,
                products.factors,
                products.halves,
                shifts,
                planes,
                part.start,
                start,
                stop,
            )
        )

    bad = any(on_threads(work, part, BLOCK))
    del held
    return planes, bad


def vote_planes(voters: Sequence[Voter], grid: Grid, part: range) -> Planes:
    """Return the planes of what votes plus, what votes minus, and their weights."""
    table, held = addresses_of([voter.tau for voter in voters])
    products = products_of(
        [(v.tau, v.coefficient, v.tau.significand_bits) for v in voters]
    )
    rules, shifts = keep_table([voter.keep for voter in voters]), shifts_of(grid)
    weights = np.array([float(voter.weight) for voter in voters])
    planes = np.empty((accumulating.vote_rows(grid), len(part)))

    def work(start: int, stop: int) -> bool:
        return bool(
            _vote_loop(
                table,
                rules,
                products.vectors,
                products.factors,
                weights,
                shifts,
                planes,
                part.start,
                start,
                stop,
            )
        )

    bad = any(on_threads(work, part, BLOCK))
    del held
    return accumulating.vote_planes(voters, grid, part) if bad else planes


def finish_sum(
    planes: Planes, terms: Sequence[Weighed], divisor: int, grid: Grid, output: Output
) -> Data:
    """Return the stored items of (the sum + sum(weight * vector)) / divisor."""
    made = _finished(planes, terms, None, divisor, grid, output)
    if made is None:
        return accumulating.finish_sum(planes, terms, divisor, grid, output)
    return made


def finish_thinned(
    base: Items, planes: Planes, divisor: int, grid: Grid, output: Output
) -> Data:
    """Return the stored items of base + the sum / divisor."""
    made = _finished(planes, [], base, divisor, grid, output)
    if made is None:
        return accumulating.finish_thinned(base, planes, divisor, grid, output)
    return made


def _finished(
    planes: Planes,
    terms: Sequence[Weighed],
    base: Items | None,
    divisor: int,
    grid: Grid,
    output: Output,
) -> Data | None:
    """Return the stored items that a sum's planes end in; None if something is wrong."""
    vectors = [term.vector for term in terms] if base is None else [base]
    table, held = addresses_of(vectors)
    products = products_of(
        [(t.vector, t.weight, t.vector.significand_bits) for t in terms]
    )
    shifts, code = shifts_of(grid), CODES[output.dtype]

    def loop(out: Any, start: int, stop: int) -> bool:
        return bool(
            _finish_sum_loop(
                table,
                products.vectors,
                products.factors,
                products.halves,
                shifts,
                planes,
                base is not None,
                float(divisor),
                code,
                out,
                output.part.start,
                start,
                stop,
            )
        )

    made = _made(loop, output)
    del held
    return made


def finish_votes(
    base: Items,
    planes: Planes,
    grid: Grid,
    output: Output,
    *,
    scale: float,
    normalize: bool,
) -> Data:
    """Return the stored items of base + scale * the disjoint mean of the votes."""
    table, held = addresses_of([base])
    shifts, code = shifts_of(grid), CODES[output.dtype]

    def loop(out: Any, start: int, stop: int) -> bool:
        return bool(
            _finish_vote_loop(
                table,
                shifts,
                planes,
                scale,
                normalize,
                code,
                out,
                output.part.start,
                start,
                stop,
            )
        )

    made = _made(loop, output)
    del held
    if made is None:
        return accumulating.finish_votes(
            base, planes, grid, output, scale=scale, normalize=normalize
        )
    return made


def _made(loop: Callable[[Any, int, int], bool], output: Output) -> Data | None:
    """Return the items that a loop stores; None if something is wrong."""
    made, address = room(output)
    bad = any(
        on_threads(lambda start, stop: loop(address, start, stop), output.part, BLOCK)
    )
    return None if bad else made
