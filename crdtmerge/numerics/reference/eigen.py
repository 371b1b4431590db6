"""The symmetric eigenproblem, in one fixed order of single IEEE operations.

Owns `symmetric_eigen`, and its two halves `spectrum` and `vectors` for callers that want
few of the vectors. Does not own what a matrix's singular values are made of (`factors`).

Method: Householder tridiagonalisation in panels (Dongarra, Sorensen, Hammarling, "Block
reduction of matrices to condensed forms", 1989), implicit QL with Wilkinson's shift
(Wilkinson and Reinsch, "Handbook for Automatic Computation", II/4), its rotations kept and
applied backwards to the unit vectors that are wanted. What is ours is the order:

* A is scaled by a power of two so that its largest entry lies in [1/2, 1).
* Every item of a product A v, and of a panel's update, is a sum over k from the first to
  the last, one product and one addition at a time. Inner products of two vectors follow the
  tree of `reductions`. So items may be computed side by side, but none in another order.
* An update subtracts (V_k W_k' + W_k V_k') as one sum, which keeps A symmetric bit for bit.
* `PANEL` columns are reduced before the rest is updated: which operations an item sees
  hangs on it, so it is part of the contract.
* An off-diagonal entry of at most 2**-54 of the scaled matrix counts as zero. A relative
  test alone does not converge where the rank is deficient.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.errors import ContractError
from crdtmerge.numerics.reference.dtypes import Floats, fault_of
from crdtmerge.numerics.reference.reductions import dot

Places = NDArray[np.int64]

PANEL: Final = 32
DEFLATION: Final = 2.0**-54
ITERATIONS_MAX: Final = 64
"""Sweeps of QL for one value; two are the rule."""

SIDE_MAX: Final = 1 << 14
"""Largest side of a matrix: rotations are kept, 15 bytes for each of its items."""

NEGLIGIBLE: Final = 2.0**-140
"""A column whose rest has a sum of squares of at most this needs no reflection."""

VANISHED: Final = 2.0**-900
"""A squared length below this is no length: the rotation ends there."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The eigenvalues of a matrix, each at its place, and what its vectors are made of.

    Value i is `scaled[i]` * 2**`exponent`.

    Reflection k is I - `taus[k]` v v' with v = `reflectors[k]`. Sweep q made the rotations
    that end before `sweeps[q, 0]`, in rows `sweeps[q, 1]` to `sweeps[q, 2]`, from the last
    row to the first.
    """

    scaled: Floats
    exponent: int
    reflectors: Floats
    taus: Floats
    cosines: Floats
    sines: Floats
    sweeps: Places

    @property
    def order(self) -> Places:
        """The places by falling value, the lowest place first among equals."""
        return np.argsort(-self.scaled, kind="stable")

    @property
    def falling(self) -> Floats:
        """The values in this order; beyond float64 they are infinite."""
        with np.errstate(over="ignore", under="ignore"):
            return np.ldexp(self.scaled[self.order], self.exponent)


def symmetric_eigen(matrix: Floats) -> tuple[Floats, Floats]:
    """Return the eigenvalues, largest first, and the eigenvectors in columns.

    Equal values stand in the order in which they were found. The largest entry of each
    vector is positive, the first of equals.

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
    scaled, exponent = prepared(matrix)
    diagonal, beside, reflectors, taus = _tridiagonal(scaled)
    cosines, sines, sweeps = _implicit_ql(diagonal, beside)
    values = np.array(diagonal)
    return Spectrum(values, exponent, reflectors, taus, cosines, sines, sweeps)


def vectors(found: Spectrum, places: Places) -> Floats:
    """Return the eigenvectors of the values at some places, in columns; zeros are +0."""
    table = np.zeros((found.scaled.size, places.size))
    table[places, np.arange(places.size)] = 1.0
    for last, first, stop in found.sweeps[::-1].tolist():
        for row in range(first, stop):
            turn = last - 1 - (row - first)
            c, s = found.cosines[turn], found.sines[turn]
            upper, lower = table[row], table[row + 1]
            table[row], table[row + 1] = c * upper + s * lower, c * lower - s * upper
    for k in range(found.scaled.size - 2, -1, -1):
        v = found.reflectors[k]
        along = np.zeros(places.size)
        for row in range(k + 1, v.size):
            along += v[row] * table[row]
        along *= found.taus[k]
        table -= np.multiply.outer(v, along)
    return table + 0.0


def row_lengths(rows: Floats) -> Floats:
    """Return the Euclidean length of each row: the root of its sum along the tree."""
    return np.sqrt(np.array([dot(row, row) for row in rows], np.float64))


def prepared(matrix: Floats) -> tuple[Floats, int]:
    """Return the matrix with its largest entry in [1/2, 1), and the exponent taken out.

    Raises:
        ContractError: the matrix is not square, symmetric and finite, or too large.
    """
    checked(matrix)
    return scaled_to_one(matrix)


def checked(matrix: Floats) -> None:
    """Refuse what is no symmetric matrix.

    Raises:
        ContractError: the matrix is not square, symmetric and finite, or too large.
    """
    if matrix.ndim != 2 or len(set(matrix.shape)) != 1 or len(matrix) > SIDE_MAX:
        message = f"shape {matrix.shape} is not that of a square of at most {SIDE_MAX}"
        raise ContractError(message)
    check_finite(matrix, "a matrix")
    if not np.array_equal(matrix, matrix.T):
        raise ContractError("a matrix is not symmetric")


def check_finite(table: Floats, word: str) -> None:
    """Refuse NaN and infinity, naming the first by its flat index.

    Raises:
        ContractError: there is one.
    """
    if not np.isfinite(table).all():
        fault = fault_of(np.ascontiguousarray(table).data.cast("B"), "F64")
        raise ContractError(f"{word} holds NaN or infinity: {fault}")


def scaled_to_one(matrix: Floats) -> tuple[Floats, int]:
    """Return a matrix with its largest entry in [1/2, 1), and the exponent taken out.

    Two multiplications by powers of two: one alone may be beyond float64. Exact, but for
    items below 2**-1020 of the largest.
    """
    exponent = math.frexp(float(np.abs(matrix).max(initial=0.0)))[1]
    half = -exponent // 2
    return matrix * 2.0**half * 2.0 ** (-exponent - half), exponent


def not_converged() -> ContractError:
    """Return the error of a value that needs more sweeps than any we know of."""
    message = f"an eigenvalue was not found within {ITERATIONS_MAX} sweeps"
    return ContractError(message, hint="please report the matrix: none is known")


def pinned(columns: Floats) -> Floats:
    """Return the columns, each with a sign that makes its largest entry positive."""
    return columns * signs(columns) + 0.0


def signs(columns: Floats) -> Floats:
    """Return the sign of each column's largest entry, the first of equals."""
    if not columns.size:
        return np.ones(columns.shape[1])
    places = np.abs(columns).argmax(axis=0)
    largest = columns[places, np.arange(columns.shape[1])]
    return np.where(largest < 0, -1.0, 1.0)


def _tridiagonal(scaled: Floats) -> tuple[list[float], list[float], Floats, Floats]:
    """Return the diagonal, what stands beside it, and the reflections that lead there."""
    side = len(scaled)
    rest = scaled.copy()
    taus, reflectors, others = (
        np.zeros(side),
        np.zeros((side, side)),
        np.zeros((side, side)),
    )
    diagonal, beside = [0.0] * side, [0.0] * side
    for first in range(0, side, PANEL):
        stop = min(first + PANEL, side)
        for i in range(first, stop):
            column = rest[i].copy()
            for k in range(first, i):
                column -= reflectors[k] * others[k, i] + others[k] * reflectors[k, i]
            diagonal[i] = float(column[i])
            if i + 1 < side:
                below = slice(i + 1, side)
                v, w = (
                    reflectors[first : below.start, below],
                    others[first : below.start, below],
                )
                beside[i], taus[i] = _reflection(column[below], v[-1])
                _companion(rest[below, below], v, w, taus[i])
        for k in range(first, stop):
            v, w = reflectors[k, stop:], others[k, stop:]
            rest[stop:, stop:] -= np.multiply.outer(v, w) + np.multiply.outer(w, v)
    return diagonal, beside, reflectors, taus


def _reflection(column: Floats, v: Floats) -> tuple[float, float]:
    """Write into `v` the reflection that leaves of a column its first entry alone.

    Returns that entry and tau. A column that is done gives a `v` of zeros and tau 0.
    """
    top, below = float(column[0]), dot(column[1:], column[1:])
    if below <= NEGLIGIBLE:
        return top, 0.0
    length = math.sqrt(top * top + below)
    end = -length if top >= 0 else length
    v[0] = 1.0
    v[1:] = column[1:] / (top - end)
    return end, (end - top) / end


def _companion(rest: Floats, reflectors: Floats, others: Floats, tau: float) -> None:
    """Write the last of `others`: the w with which rest - v w' - w v' is H rest H.

    v is the last of `reflectors`, the rows before are those of the panel so far; `rest` is
    as it was when the panel began. All begin below the column that is reduced.
    """
    v, w = reflectors[-1], others[-1]
    if tau == 0.0:
        return
    for k, row in enumerate(rest):
        w += row * v[k]
    for earlier, companion in zip(reflectors[:-1], others[:-1], strict=True):
        w -= earlier * dot(companion, v) + companion * dot(earlier, v)
    w *= tau
    w -= 0.5 * tau * dot(w, v) * v


def _implicit_ql(
    diagonal: list[float], beside: list[float]
) -> tuple[Floats, Floats, Places]:
    """Turn `diagonal` into the eigenvalues; return the rotations and the sweeps."""
    turns: list[tuple[float, float]] = []
    sweeps: list[tuple[int, int, int]] = []
    for first in range(len(diagonal)):
        for iteration in range(ITERATIONS_MAX + 1):
            stop = first
            while stop < len(diagonal) - 1 and abs(beside[stop]) > DEFLATION:
                stop += 1
            if stop == first:
                break
            if iteration == ITERATIONS_MAX:
                raise not_converged()
            begun = _sweep(diagonal, beside, first, stop, turns)
            sweeps.append((len(turns), begun, stop))
    table = np.array(turns).reshape(-1, 2)
    places = np.array(sweeps, np.int64).reshape(-1, 3)
    return table[:, 0].copy(), table[:, 1].copy(), places


def _sweep(
    d: list[float],
    e: list[float],
    first: int,
    stop: int,
    turns: list[tuple[float, float]],
) -> int:
    """Chase one bulge from row `stop` up to row `first`; return the last row reached."""
    slope = (d[first + 1] - d[first]) / (2.0 * e[first])
    root = math.sqrt(slope * slope + 1.0)
    g = d[stop] - d[first] + e[first] / (slope + root if slope >= 0 else slope - root)
    s, c, p = 1.0, 1.0, 0.0
    for i in range(stop - 1, first - 1, -1):
        f, b = s * e[i], c * e[i]
        squared = f * f + g * g
        if squared < VANISHED:
            e[i + 1] = 0.0
            d[i + 1] -= p
            e[stop] = 0.0
            return i + 1
        r = math.sqrt(squared)
        e[i + 1] = r
        s, c = f / r, g / r
        g = d[i + 1] - p
        r = (d[i] - g) * s + 2.0 * c * b
        p = s * r
        d[i + 1] = g + p
        g = c * r - b
        turns.append((c, s))
    d[first] -= p
    e[first] = g
    e[stop] = 0.0
    return first
