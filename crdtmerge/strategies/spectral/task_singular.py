"""tsv_m: the first singular vectors of each change, made orthogonal to the others'.

Owns `tsv_m/1`, its task matrix, which others take as an anchor (`merged`), and the first
directions of all changes, which others merge in (`collected`). Does not own polar
factors, decompositions or products (`numerics`).

Formula (TSV-M, Gargiulo et al. 2025, arXiv:2412.00081), of n contributions, s being the
shorter side: of each tau_i the r = floor(s / n) largest singular values with their vectors,
U_i S_i V_i'; U and V are the polar factors of [U_1 | ... | U_n] and [V_1 | ... | V_n], the
nearest matrices with orthonormal columns; tau = U diag(S_1, ..., S_n) V', and theta =
base + alpha tau. A sign turned in a column of U_i and V_i alike is gone in tau.

Ours: r is 1 at least (floor(s / n) would be 0 with more contributions than directions, and
the result the base); then only the s largest singular values of all have a place, the
first in canonical order of equal ones, since no more columns can be orthonormal.
Directions below 2**-16 of the largest singular value count as none, of each tau_i and of
the collections: two contributions of one and the same direction share its column, where
LAPACK returns one of many complements. A contribution counts in n where it changes the
tensor. Tensors that are no matrices take the mean task vector, times `alpha`. mergekit has
no tsv_m.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics import Floats, matmul, polar_factor, svd
from crdtmerge.strategies.base import Inputs, Memory, Parts, Strategy
from crdtmerge.strategies.spectral.matrices import Matrices, emit_matrix, side_by_side
from crdtmerge.strategies.spectral.scale import ALPHA

NAME: Final = "tsv_m"


@dataclass(frozen=True, slots=True)
class Collected:
    """The first singular vectors of all task matrices, side by side, and whose they are.

    `u` is (rows, k) and `vt` (k, columns); `owners` are places among the task matrices.
    """

    u: Floats
    sigma: Floats
    vt: Floats
    owners: NDArray[np.int64]


def collected(found: Matrices) -> Collected:
    """Return the first directions of each, as many of each, and no more than fit."""
    short = min(found.rows, found.columns)
    rank = max(1, short // len(found.taus))
    parts = [svd(tau, rank) for tau in found.taus]
    owners = np.repeat(np.arange(len(parts)), [part.sigma.size for part in parts])
    all_of = side_by_side(parts)
    sigma = all_of.sigma
    kept = np.sort(np.argsort(-sigma, kind="stable")[:short])
    return Collected(all_of.u[:, kept], sigma[kept], all_of.vt[kept], owners[kept])


def _merged(_inputs: Inputs, found: Matrices) -> Floats:
    """Return the task matrix of `tsv_m` with an alpha of 1: (rows, columns)."""
    first = collected(found)
    return matmul(polar_factor(first.u) * first.sigma, polar_factor(first.vt))


def _emit(inputs: Inputs) -> Parts:
    return emit_matrix(inputs, NAME, _merged, inputs.values.real("alpha"))


TSV_M = Strategy(
    name=NAME,
    version=1,
    summary="Add the first singular vectors of all changes, made orthogonal",
    paper="Gargiulo et al. 2025, Task Singular Vectors, https://arxiv.org/abs/2412.00081",
    parameters=(ALPHA,),
    memory=Memory(shared=208, each=8),
    emit=_emit,
)
