"""Polar factor and truncated singular value decomposition, from exact products.

Owns which directions of a matrix count and how its factors are made of them. Does not own
products (`gemm`) or the eigenproblem (`eigen`). A faster backend brings its own of those
(`Parts`) and the same bits.

Method. The matrix, wide or turned to be wide, is scaled by a power of two to A. The
eigenvectors of A A', an exact two-slice product, are the left directions U; B = U' A holds
the rest: row i of B has the length sigma_i and the right direction for its own. So

    polar factor  U V' = U (S^-1 (U' A))       SVD  u = U, sigma = |rows of B|, v' = S^-1 B

Directions with sigma below `CUTOFF` of the largest do not count.

A A' squares the condition: it knows sigma^2 to some 2**-46 of sigma_1^2, which says little
of a sigma near the cutoff. So what lies below `STEP` of the largest is decomposed a second
time: with U2 those directions, A2 = U2' A has nothing large left in it, and the
eigenvectors of A2 A2' are found relative to its own largest value. One step reaches from 1
to 2**-12, the second from there to the cutoff; where nothing lies between 2**-17 and
2**-12 it is not made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from crdtmerge.errors import ContractError
from crdtmerge.numerics.reference import eigen, gemm
from crdtmerge.numerics.reference.dtypes import Floats, Singles
from crdtmerge.numerics.reference.eigen import (
    Places,
    Spectrum,
    check_finite,
    scaled_to_one,
    signs,
)

CUTOFF: Final = 2.0**-16
"""Singular values below this share of the largest count as none."""

STEP: Final = 2.0**-12
"""Below this share of the largest, directions are found in a second step."""

FLOOR: Final = 2.0**-17
"""What the eigenproblem says to lie below this lies below the cutoff."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the factors are made of; every backend's gives the same bits."""

    matmul: Callable[[Floats, Floats], Floats] = gemm.matmul
    row_products: Callable[[Floats], Floats] = gemm.row_products
    spectrum: Callable[[Floats], Spectrum] = eigen.spectrum
    vectors: Callable[[Spectrum, Places], Floats] = eigen.vectors
    row_lengths: Callable[[Floats], Floats] = eigen.row_lengths


REFERENCE: Final = Parts()


@dataclass(frozen=True, slots=True)
class Decomposition:
    """u @ diag(sigma) @ vt, the largest singular values first; only those that count.

    `beyond` is the next value, to a few digits: where it is close to the last of `sigma`
    the choice between the two hangs on rounding. It is 0 where nothing was left out.
    """

    u: Floats
    sigma: Floats
    vt: Floats
    beyond: float


def polar_factor(matrix: Singles | Floats, parts: Parts = REFERENCE) -> Floats:
    """Return U V' for (m, n) `matrix` = U S V', over the directions that count.

    It is the closest matrix with orthonormal rows or columns where the rank is full, and
    a partial isometry of the same row and column space where it is not. No sign is free.

    Raises:
        ContractError: the matrix holds NaN or infinity, or is too large.
    """
    wide, turned, _ = _prepared(matrix)
    left, _ = _directions(wide, len(wide), parts)
    right, lengths = _across(left, wide, parts)
    counts = lengths >= CUTOFF * lengths.max(initial=0.0)
    unit = right[counts] / lengths[counts, np.newaxis]
    product = _product(left[:, counts], unit, parts)
    return np.ascontiguousarray(product.T) if turned else product


def svd(matrix: Singles | Floats, rank: int, parts: Parts = REFERENCE) -> Decomposition:
    """Return the best approximation of `rank`, as singular vectors and values.

    Values fall; equal ones stand in the order in which they were found. The largest entry
    of each column of u is positive, the first of equals. Fewer than `rank` come back where
    fewer count.

    Raises:
        ContractError: the matrix holds NaN or infinity, or is too large, or the rank is
            negative.
    """
    if rank < 0:
        raise ContractError(f"a rank of {rank} is negative")
    wide, turned, exponent = _prepared(matrix)
    left, values = _directions(wide, min(rank, len(wide)), parts)
    right, lengths = _across(left, wide, parts)
    counts = lengths >= CUTOFF * lengths.max(initial=0.0)
    order = np.argsort(-lengths, kind="stable")
    order = order[counts[order]]
    sigma = lengths[order]
    u, v = left[:, order], (right[order] / sigma[:, np.newaxis]).T
    if turned:
        u, v = v, u
    sign = signs(u)
    beyond = values[order.size : order.size + 1].max(initial=0.0)
    return Decomposition(
        np.ascontiguousarray(u * sign + 0.0),
        np.ldexp(sigma, exponent),
        np.ascontiguousarray((v * sign + 0.0).T),
        float(np.ldexp(beyond, exponent)),
    )


def _prepared(matrix: Singles | Floats) -> tuple[Floats, bool, int]:
    """Return the matrix, wide and scaled; whether it was turned; its exponent."""
    if matrix.ndim != 2:
        raise ContractError(f"shape {matrix.shape} is not that of a matrix")
    check_finite(matrix.astype(np.float64, copy=False), "a matrix")
    turned = matrix.shape[0] > matrix.shape[1]
    wide = np.ascontiguousarray(matrix.T if turned else matrix, np.float64)
    scaled, exponent = scaled_to_one(wide)
    return scaled, turned, exponent


def _directions(wide: Floats, limit: int, parts: Parts) -> tuple[Floats, Floats]:
    """Return the first left directions, at most `limit`, in columns, and all values.

    Directions that surely do not count are left out.
    """
    if not wide.any():
        return np.zeros((len(wide), 0)), np.zeros(0)
    found = parts.spectrum(parts.row_products(wide))
    values, order = _values(found), found.order
    certain = int((values >= STEP * values[0]).sum())
    wanted = min(limit, int((values >= FLOOR * values[0]).sum()))
    if wanted <= certain:
        return parts.vectors(found, order[:wanted]), values
    every = parts.vectors(found, order)
    coarse, rest = every[:, :certain], np.ascontiguousarray(every[:, certain:])
    within, exponent = scaled_to_one(parts.matmul(rest.T, wide))
    again = parts.spectrum(parts.row_products(within))
    finer = np.ldexp(_values(again), exponent)
    more = min(limit - certain, int((finer >= FLOOR * values[0]).sum()))
    turned = _product(rest, parts.vectors(again, again.order[:more]), parts)
    every = np.concatenate([coarse, turned], axis=1)
    return every, np.concatenate([values[:certain], finer])


def _values(found: Spectrum) -> Floats:
    """Return the singular values that eigenvalues stand for, largest first."""
    return np.sqrt(np.maximum(found.falling, 0.0))


def _across(left: Floats, wide: Floats, parts: Parts) -> tuple[Floats, Floats]:
    """Return left' @ wide and the length of each of its rows."""
    right = _product(left.T, wide, parts)
    return right, parts.row_lengths(right)


def _product(left: Floats, right: Floats, parts: Parts) -> Floats:
    """Return left @ right, of zeros where there is nothing to add."""
    if not left.shape[1]:
        return np.zeros((left.shape[0], right.shape[1]))
    return parts.matmul(left, right)
