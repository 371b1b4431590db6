"""The symmetric eigenproblem as compiled loops, the bits of `reference.eigen`.

Owns loops that run over memory in a better order; every item still sees the operations of
the reference in the order of the reference. Does not own the method or its constants.

Where the time goes: products A v read the rest of the matrix once for each column, eight
rows at a time; updates run over tiles of the panel that stay in the first cache; rotations
and reflections run over strips of `WIDTH` vectors, contiguous, so that four rotations read
and write each row once. Strips do not see each other, nor do rows of an update.
"""

from functools import partial
from typing import Final

import numpy as np

from crdtmerge.numerics.cpu.compiling import compiled
from crdtmerge.numerics.cpu.threads import on_threads
from crdtmerge.numerics.reference import eigen as reference
from crdtmerge.numerics.reference.dtypes import Floats
from crdtmerge.numerics.reference.eigen import (
    DEFLATION,
    ITERATIONS_MAX,
    NEGLIGIBLE,
    PANEL,
    VANISHED,
    Places,
    Spectrum,
    not_converged,
    pinned,
    prepared,
)
from crdtmerge.numerics.reference.reductions import BLOCK_ITEMS, LANES

WIDTH: Final = 32
TILE: Final = 128
CHUNK: Final = 64
"""Vectors of a strip, columns of a tile, rows of a thread's cut; no bit hangs on them."""


def symmetric_eigen(matrix: Floats) -> tuple[Floats, Floats]:
    """Return the eigenvalues, largest first, and the eigenvectors in columns.

    Raises:
        ContractError: the matrix is not square, symmetric and finite, or too large.
    """
    found = spectrum(matrix)
    return found.falling, pinned(vectors(found, found.order))


def spectrum(matrix: Floats) -> Spectrum:
    """Return the eigenvalues of a symmetric matrix, and what its vectors are made of.

    Raises:
        ContractError: the matrix is not square, symmetric and finite, or too large; or QL
            did not converge within `ITERATIONS_MAX` sweeps a value.
    """
    rest, exponent = prepared(matrix)
    side = len(rest)
    reflectors, others = np.zeros((side, side)), np.zeros((PANEL, side))
    taus, diagonal, beside = np.zeros(side), np.zeros(side), np.zeros(side)
    for first in range(0, side, PANEL):
        stop = min(first + PANEL, side)
        panel = reflectors[first:stop]
        _panel(rest, panel, others, taus, diagonal, beside, first)

        update = partial(_update, rest, panel, others, stop)
        on_threads(update, range(stop, side), CHUNK)
    cosines, sines, sweeps, found = _implicit_ql(diagonal, beside, ITERATIONS_MAX)
    if not found:
        raise not_converged()
    return Spectrum(diagonal, exponent, reflectors, taus, cosines, sines, sweeps)


def vectors(found: Spectrum, places: Places) -> Floats:
    """Return the eigenvectors of the values at some places, in columns; zeros are +0."""
    side, wanted = found.scaled.size, places.size
    ranked = np.argsort(places, kind="stable")
    strips = np.zeros((-(-wanted // WIDTH), side, WIDTH))
    column = np.arange(wanted)
    strips[column // WIDTH, places[ranked], column % WIDTH] = 1.0

    def turn(start: int, stop: int) -> None:
        for strip in range(start, stop):
            last = places[ranked[min((strip + 1) * WIDTH, wanted) - 1]]
            _rotate(strips[strip], found.cosines, found.sines, found.sweeps, last)
            _reflect(strips[strip], found.reflectors, found.taus)

    on_threads(turn, range(len(strips)), 1)
    table = np.empty((side, wanted))
    for strip, part in enumerate(strips):
        into = ranked[strip * WIDTH : (strip + 1) * WIDTH]
        table[:, into] = part[:, : into.size]
    table += 0.0
    return table


def row_lengths(rows: Floats) -> Floats:
    """Return the Euclidean length of each row: the root of its sum along the tree."""
    if rows.shape[1] > BLOCK_ITEMS:
        return reference.row_lengths(rows)
    return np.sqrt(_row_squares(np.ascontiguousarray(rows)))


@compiled
def _dot(left: Floats, right: Floats, start: int) -> float:
    """Return the inner product from `start` on, along the tree of `reductions`."""
    lanes = np.zeros(LANES)
    row = start
    while row + LANES <= left.size:
        for lane in range(LANES):
            lanes[lane] += left[row + lane] * right[row + lane]
        row += LANES
    for lane in range(left.size - row):
        lanes[lane] += left[row + lane] * right[row + lane]
    half = LANES // 2
    while half:
        for lane in range(half):
            lanes[lane] += lanes[lane + half]
        half //= 2
    return float(lanes[0])


@compiled
def _row_squares(rows: Floats) -> Floats:
    """Return each row's sum of squares; a row is one block of the tree at most."""
    squares = np.empty(rows.shape[0])
    for row in range(rows.shape[0]):
        squares[row] = _dot(rows[row], rows[row], 0)
    return squares


@compiled
def _times(rest: Floats, v: Floats, product: Floats, start: int) -> None:
    """Write rest @ v into `product`, both from `start` on, adding row after row."""
    side = v.size
    product[start:] = 0.0
    k = start
    while k + 8 <= side:
        r0, r1, r2, r3 = rest[k], rest[k + 1], rest[k + 2], rest[k + 3]
        r4, r5, r6, r7 = rest[k + 4], rest[k + 5], rest[k + 6], rest[k + 7]
        v0, v1, v2, v3 = v[k], v[k + 1], v[k + 2], v[k + 3]
        v4, v5, v6, v7 = v[k + 4], v[k + 5], v[k + 6], v[k + 7]
        for j in range(start, side):
            total = product[j] + r0[j] * v0
            total = total + r1[j] * v1
            total = total + r2[j] * v2
            total = total + r3[j] * v3
            total = total + r4[j] * v4
            total = total + r5[j] * v5
            total = total + r6[j] * v6
            product[j] = total + r7[j] * v7
        k += 8
    while k < side:
        for j in range(start, side):
            product[j] += rest[k, j] * v[k]
        k += 1


@compiled
def _panel(
    rest: Floats,
    reflectors: Floats,
    others: Floats,
    taus: Floats,
    diagonal: Floats,
    beside: Floats,
    first: int,
) -> None:
    """Reduce the columns of a panel, against `rest` as it was when the panel began."""
    side = taus.size
    for t in range(reflectors.shape[0]):
        i = first + t
        column = rest[i].copy()
        for k in range(t):
            v, w = reflectors[k], others[k]
            for j in range(i, side):
                column[j] -= v[j] * w[i] + w[j] * v[i]
        diagonal[i] = column[i]
        others[t] = 0.0
        if i + 1 == side:
            break
        top, below = column[i + 1], _dot(column, column, i + 2)
        if below <= NEGLIGIBLE:
            beside[i] = top
            continue
        length = np.sqrt(top * top + below)
        end = -length if top >= 0 else length
        beside[i], taus[i] = end, (end - top) / end
        v = reflectors[t]
        v[i + 1] = 1.0
        for j in range(i + 2, side):
            v[j] = column[j] / (top - end)
        _times(rest, v, others[t], i + 1)
        _companion(reflectors, others, t, taus[i], i + 1)


@compiled
def _companion(
    reflectors: Floats, others: Floats, t: int, tau: float, start: int
) -> None:
    """Make row t of `others`, from `start` on: it holds rest @ v when called."""
    v, w = reflectors[t], others[t]
    for k in range(t):
        earlier, companion = reflectors[k], others[k]
        g, h = _dot(companion, v, start), _dot(earlier, v, start)
        for j in range(start, w.size):
            w[j] -= earlier[j] * g + companion[j] * h
    for j in range(start, w.size):
        w[j] *= tau
    half = 0.5 * tau * _dot(w, v, start)
    for j in range(start, w.size):
        w[j] -= half * v[j]


@compiled
def _update(
    rest: Floats, reflectors: Floats, others: Floats, left: int, start: int, stop: int
) -> None:
    """Subtract a panel's v w' + w v' from rows of `rest`, from column `left` on.

    SUBTLE: the panel's part that a tile needs is copied to one run of memory with fixed
    distances, or the compiler cannot prove that rows do not overlap and gives up vectors.
    """
    count = reflectors.shape[0] // 4 * 4
    packed = np.empty(2 * PANEL * TILE)
    for begin in range(left, rest.shape[0], TILE):
        width = min(TILE, rest.shape[0] - begin)
        for k in range(reflectors.shape[0]):
            for j in range(width):
                packed[2 * k * TILE + j] = reflectors[k, begin + j]
                packed[(2 * k + 1) * TILE + j] = others[k, begin + j]
        for row in range(start, stop):
            into = rest[row, begin : begin + width]
            for k in range(0, count, 4):
                p = packed[2 * k * TILE : (2 * k + 8) * TILE]
                v0, v1 = reflectors[k, row], reflectors[k + 1, row]
                v2, v3 = reflectors[k + 2, row], reflectors[k + 3, row]
                w0, w1 = others[k, row], others[k + 1, row]
                w2, w3 = others[k + 2, row], others[k + 3, row]
                for j in range(width):
                    item = into[j] - (v0 * p[TILE + j] + w0 * p[j])
                    item = item - (v1 * p[3 * TILE + j] + w1 * p[2 * TILE + j])
                    item = item - (v2 * p[5 * TILE + j] + w2 * p[4 * TILE + j])
                    into[j] = item - (v3 * p[7 * TILE + j] + w3 * p[6 * TILE + j])
            for k in range(count, reflectors.shape[0]):
                v, w = reflectors[k, row], others[k, row]
                for j in range(width):
                    one = v * packed[(2 * k + 1) * TILE + j]
                    into[j] -= one + w * packed[2 * k * TILE + j]


@compiled
def _twice(table: Floats, used: int) -> Floats:
    """Return a copy of what is used, with twice the room."""
    larger = np.empty(2 * table.size)
    for place in range(used):
        larger[place] = table[place]
    return larger


@compiled
def _implicit_ql(
    d: Floats, e: Floats, limit: int
) -> tuple[Floats, Floats, Places, bool]:
    """Turn `d` into the eigenvalues; return the rotations, the sweeps, and success."""
    side = d.size
    cosines, sines = np.empty(4 * side), np.empty(4 * side)
    sweeps = np.empty((limit * side, 3), np.int64)
    used = count = 0
    for first in range(side):
        iteration = 0
        while True:
            stop = first
            while stop < side - 1 and abs(e[stop]) > DEFLATION:
                stop += 1
            if stop == first:
                break
            if iteration == limit:
                return cosines, sines, sweeps, False
            iteration += 1
            if used + side > cosines.size:
                cosines, sines = _twice(cosines, used), _twice(sines, used)
            slope = (d[first + 1] - d[first]) / (2.0 * e[first])
            root = np.sqrt(slope * slope + 1.0)
            g = (
                d[stop]
                - d[first]
                + e[first] / (slope + root if slope >= 0 else slope - root)
            )
            s, c, p = 1.0, 1.0, 0.0
            reached = stop
            for i in range(stop - 1, first - 1, -1):
                f, b = s * e[i], c * e[i]
                squared = f * f + g * g
                if squared < VANISHED:
                    break
                r = np.sqrt(squared)
                e[i + 1] = r
                s, c = f / r, g / r
                g = d[i + 1] - p
                r = (d[i] - g) * s + 2.0 * c * b
                p = s * r
                d[i + 1] = g + p
                g = c * r - b
                cosines[used], sines[used] = c, s
                used += 1
                reached = i
            d[reached] -= p
            e[reached] = g if reached == first else 0.0
            e[stop] = 0.0
            sweeps[count, 0], sweeps[count, 1], sweeps[count, 2] = used, reached, stop
            count += 1
    return cosines[:used], sines[:used], sweeps[:count], True


@compiled
def _rotate(
    strip: Floats, cosines: Floats, sines: Floats, sweeps: Places, last: int
) -> None:
    """Apply all sweeps backwards to a strip of unit vectors of places up to `last`.

    What is done before a sweep reaches the last place would turn zeros alone.
    """
    x = strip.reshape(-1)
    sweep = sweeps.shape[0] - 1
    while sweep >= 0 and sweeps[sweep, 1] > last:
        sweep -= 1
    while sweep >= 0:
        at, row, stop = sweeps[sweep, 0] - 1, sweeps[sweep, 1], sweeps[sweep, 2]
        while row + 4 <= stop:
            c0, c1, c2, c3 = (
                cosines[at],
                cosines[at - 1],
                cosines[at - 2],
                cosines[at - 3],
            )
            s0, s1, s2, s3 = sines[at], sines[at - 1], sines[at - 2], sines[at - 3]
            y = x[row * WIDTH : (row + 5) * WIDTH]
            for j in range(WIDTH):
                upper, lower = y[j], y[WIDTH + j]
                y[j] = c0 * upper + s0 * lower
                upper, lower = c0 * lower - s0 * upper, y[2 * WIDTH + j]
                y[WIDTH + j] = c1 * upper + s1 * lower
                upper, lower = c1 * lower - s1 * upper, y[3 * WIDTH + j]
                y[2 * WIDTH + j] = c2 * upper + s2 * lower
                upper, lower = c2 * lower - s2 * upper, y[4 * WIDTH + j]
                y[3 * WIDTH + j] = c3 * upper + s3 * lower
                y[4 * WIDTH + j] = c3 * lower - s3 * upper
            at -= 4
            row += 4
        while row < stop:
            y = x[row * WIDTH : (row + 2) * WIDTH]
            for j in range(WIDTH):
                upper, lower = y[j], y[WIDTH + j]
                y[j] = cosines[at] * upper + sines[at] * lower
                y[WIDTH + j] = cosines[at] * lower - sines[at] * upper
            at -= 1
            row += 1
        sweep -= 1


@compiled
def _reflect(strip: Floats, reflectors: Floats, taus: Floats) -> None:
    """Apply all reflections, the last first, to a strip of vectors.

    One pass a reflection: a row is changed by one and at once added to the inner products
    that the next one needs.
    """
    side = taus.size
    x = strip.reshape(-1)
    along, onward = np.zeros(WIDTH), np.zeros(WIDTH)
    for k in range(side - 1, -1, -1):
        # The last row's reflection is none: it only begins the inner products.
        v, u = reflectors[k], reflectors[max(k - 1, 0)]
        y = x[k * WIDTH : (k + 1) * WIDTH]
        for j in range(WIDTH):
            along[j] = onward[j] * taus[k]
            onward[j] = u[k] * y[j]
        row = k + 1
        while row + 4 <= side:
            v0, v1, v2, v3 = v[row], v[row + 1], v[row + 2], v[row + 3]
            u0, u1, u2, u3 = u[row], u[row + 1], u[row + 2], u[row + 3]
            y = x[row * WIDTH : (row + 4) * WIDTH]
            for j in range(WIDTH):
                item = y[j] - v0 * along[j]
                y[j] = item
                total = onward[j] + u0 * item
                item = y[WIDTH + j] - v1 * along[j]
                y[WIDTH + j] = item
                total = total + u1 * item
                item = y[2 * WIDTH + j] - v2 * along[j]
                y[2 * WIDTH + j] = item
                total = total + u2 * item
                item = y[3 * WIDTH + j] - v3 * along[j]
                y[3 * WIDTH + j] = item
                onward[j] = total + u3 * item
            row += 4
        while row < side:
            y = x[row * WIDTH : (row + 1) * WIDTH]
            for j in range(WIDTH):
                y[j] -= v[row] * along[j]
                onward[j] += u[row] * y[j]
            row += 1
