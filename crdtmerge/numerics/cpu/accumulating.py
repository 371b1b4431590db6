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
from crdtmerge.numerics.cpu.formats import (
    BLOCK,
    CODES,
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
from crdtmerge.numerics.cpu.sums import (
    add_block,
    add_product,
    bits_of,
    clear,
    count_weight,
    elect,
    limb_of,
    quotient,
    room,
    vote,
    vote_rest,
)
from crdtmerge.numerics.cpu.thinning import load_kept, thinning
from crdtmerge.numerics.cpu.threads import on_threads
from crdtmerge.numerics.reference import accumulating
from crdtmerge.numerics.reference.dtypes import TAU_BITS, Data
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
def _resume(plane: Array, shift: float, products: int, out: Array) -> None:
    """Fill `out` with a limb's plane, as integers to which so many products are added."""
    base = bits_of(shift)
    for i in range(out.size):
        out[i] = bits_of(plane[i] + shift) - base - products * base


@compiled
def _keep(steps: Array, shift: float, plane: Array) -> None:
    """Write the integers of a limb to its plane."""
    for i in range(steps.size):
        plane[i] = limb_of(steps[i], shift)


@compiled
def _minus(total: Array, plus: Array, out: Array) -> None:
    for i in range(out.size):
        out[i] = total[i] - plus[i]


@compiled
def _both(plus: Array, minus: Array, total: Array) -> None:
    for i in range(total.size):
        total[i] = plus[i] + minus[i]


@compiled
def _add_vectors(
    table: Array,
    vectors: Array,
    factors: Array,
    halves: Array,
    shifts: Array,
    begin: int,
    first: Array,
    second: Array,
    x: Array,
    other: Array,
) -> bool:
    """Add the products of a block of vectors; return whether something is wrong."""
    n, loaded, bad = first.size, -1, False
    for p in range(vectors.size):
        if loaded != vectors[p]:
            loaded = vectors[p]
            bad |= load(table[loaded], begin, n, x, other)
        if halves[p] == WHOLE:
            add_product(x, factors[p], shifts, first, second)
        else:
            halve(halves[p], x, n, other)
            add_product(other, factors[p], shifts, first, second)
    return bad


@compiled
def _sum_loop(
    table: Array,
    keeps: Array,
    thins: bool,
    vectors: Array,
    factors: Array,
    halves: Array,
    shifts: Array,
    planes: Array,
    origin: int,
    start: int,
    stop: int,
) -> bool:
    """Fill columns of a sum's planes; return whether something is wrong.

    With `thins` vectors are task vectors of which `keeps` says what stays.
    """
    first, second = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    x, other, tau = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK, np.float32)
    words = np.empty(BLOCK + 8, np.uint32)
    bad = False
    for begin in range(start, stop, BLOCK):
        n, at = min(BLOCK, stop - begin), begin - origin
        one, two, t = first[:n], second[:n], tau[:n]
        one[:] = -vectors.size * bits_of(shifts[0])
        two[:] = -vectors.size * bits_of(shifts[1])
        if thins:
            loaded = -1
            for p in range(vectors.size):
                if loaded != vectors[p]:
                    loaded = vectors[p]
                    bad |= load_kept(
                        table[loaded],
                        keeps[loaded],
                        begin,
                        t,
                        x,
                        other,
                        words,
                    )
                add_product(t, factors[p], shifts, one, two)
        else:
            bad |= _add_vectors(
                table, vectors, factors, halves, shifts, begin, one, two, x, other
            )
        _keep(one, shifts[0], planes[0, at : at + n])
        if planes.shape[0] > 1:
            _keep(two, shifts[1], planes[1, at : at + n])
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
        n, at = min(BLOCK, stop - begin), begin - origin
        one, two = first[:n], second[:n]
        _resume(planes[0, at : at + n], shifts[0], vectors.size, one)
        if planes.shape[0] > 1:
            _resume(planes[1, at : at + n], shifts[1], vectors.size, two)
        bad |= _add_vectors(
            table, vectors, factors, halves, shifts, begin, one, two, x, other
        )
        quotient(one, two, shifts, divisor, x)
        if on_base:
            load_stored(table[0, 1], table[0, 2], begin, n, other)
            add_block(x[:n], other)
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
    x, other, tau = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK, np.float32)
    words, minus = np.empty(BLOCK + 8, np.uint32), np.empty(BLOCK, np.int64)
    bad = False
    for begin in range(start, stop, BLOCK):
        n, at = min(BLOCK, stop - begin), begin - origin
        clear(sums, weights, n, limbs > 1, True)
        t = tau[:n]
        loaded = -1
        for p in range(vectors.size):
            if loaded != vectors[p]:
                loaded = vectors[p]
                bad |= load_kept(
                    table[loaded],
                    keeps[loaded],
                    begin,
                    t,
                    x,
                    other,
                    words,
                )
                weight = voter_weights[loaded]
                side = 0 if weight > 0 else 1
                count_weight(t, weight, weights[side, :n], weights[1 - side, :n])
            vote(t, factors[p], shifts[0], sums[0, :n], sums[1, :n])
            if limbs > 1:
                vote_rest(t, factors[p], shifts, sums[2, :n], sums[3, :n])
        for limb in range(limbs):
            total, plus = sums[2 * limb, :n], sums[2 * limb + 1, :n]
            _minus(total, plus, minus[:n])
            _keep(plus, shifts[limb], planes[limb, at : at + n])
            _keep(minus[:n], shifts[limb], planes[limbs + limb, at : at + n])
        for side in range(2):
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
    x, other, minus = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK, np.int64)
    bad = False
    for begin in range(start, stop, BLOCK):
        n, at = min(BLOCK, stop - begin), begin - origin
        for limb in range(limbs):
            total, plus = sums[2 * limb, :n], sums[2 * limb + 1, :n]
            _resume(planes[limb, at : at + n], shifts[limb], 0, plus)
            _resume(planes[limbs + limb, at : at + n], shifts[limb], 0, minus[:n])
            _both(plus, minus[:n], total)
        for side in range(2):
            weights[side, :n] = planes[2 * limbs + side, at : at + n]
        elect(sums, weights, n, shifts, scale, normalize, x)
        load_stored(table[0, 1], table[0, 2], begin, n, other)
        add_block(x[:n], other)
        bad |= store(code, out, begin - origin, n, x)
    return bad


def sum_planes(terms: Sequence[Weighed], grid: Grid, part: range) -> Planes:
    """Return the planes of sum(weight * vector)."""
    products = products_of(
        [(t.vector, t.weight, t.vector.significand_bits) for t in terms]
    )
    vectors = [term.vector for term in terms]
    keeps = [Keep()] * len(terms)
    planes, bad = _summed(vectors, keeps, products, grid, part, thins=False)
    return accumulating.sum_planes(terms, grid, part) if bad else planes


def thinned_planes(voters: Sequence[Voter], grid: Grid, part: range) -> Planes:
    """Return the planes of sum(coefficient * kept tau)."""
    products = products_of([(v.tau, v.coefficient, TAU_BITS) for v in voters])
    taus, keeps = [v.tau for v in voters], [v.keep for v in voters]
    planes, bad = _summed(taus, keeps, products, grid, part, thins=True)
    return accumulating.thinned_planes(voters, grid, part) if bad else planes


def _summed(
    vectors: Sequence[Tau],
    keeps: Sequence[Keep],
    products: Products,
    grid: Grid,
    part: range,
    *,
    thins: bool,
) -> tuple[Planes, bool]:
    """Return the planes of a sum of products, and whether something is wrong."""
    found, shifts = thinning(vectors, keeps), shifts_of(grid)
    planes = np.empty((accumulating.sum_rows(grid), len(part)))

    def loop(table: Array, start: int, stop: int) -> Any:
        return _sum_loop(
            table,
            found.rules,
            thins,
            products.vectors,
            products.factors,
            products.halves,
            shifts,
            planes,
            part.start,
            start,
            stop,
        )

    def work(start: int, stop: int) -> bool:
        return found.run(loop, start, stop)

    bad = any(on_threads(work, part, BLOCK))
    return planes, bad


def vote_planes(voters: Sequence[Voter], grid: Grid, part: range) -> Planes:
    """Return the planes of what votes plus, what votes minus, and their weights."""
    found = thinning([v.tau for v in voters], [v.keep for v in voters])
    products = products_of([(v.tau, v.coefficient, TAU_BITS) for v in voters])
    shifts = shifts_of(grid)
    weights = np.array([float(voter.weight) for voter in voters])
    planes = np.empty((accumulating.vote_rows(grid), len(part)))

    def loop(table: Array, start: int, stop: int) -> Any:
        return _vote_loop(
            table,
            found.rules,
            products.vectors,
            products.factors,
            weights,
            shifts,
            planes,
            part.start,
            start,
            stop,
        )

    def work(start: int, stop: int) -> bool:
        return found.run(loop, start, stop)

    bad = any(on_threads(work, part, BLOCK))
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
