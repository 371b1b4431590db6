"""iso_c and iso_cts: a merged task matrix whose singular values are all alike.

Owns `iso_c/1` and `iso_cts/1`. Does not own polar factors, decompositions or products
(`numerics`), nor what becomes of weights (`matrices`).

Formula (Iso-C and Iso-CTS, Marczak et al. 2025, arXiv:2502.04959), s the shorter side of
M = sum tau_i = U S V': `iso_c` gives tau = mean(sigma) U V'. `iso_cts` keeps the first k
directions U_c, V_c of M only, and takes the first (s - k) / n singular directions of each
(I - U_c U_c') tau_i for the others; both collections are made orthonormal, as their polar
factors, and tau = mean(sigma) U V', over the singular values of all that were collected.
k is the share `common` of s, rounded down, then moved so that the rest divides by n: each
contribution has the whole number next to (s - k) / n, of two as near the even one. theta =
base + alpha tau.

Exact, and derived: U V' is the polar factor P of M, and sum(sigma) = <P, M>, so `iso_c`
needs no singular value. A sign turned in U and V alike is gone in both products.

Ours: directions below 2**-16 of the largest singular value count as none: where M has no
full rank (changes by adapters), theirs are filled up by whatever directions LAPACK
returns for zeros, with as large a singular value as all others; here they stay empty,
though the mean is over s. So it is with what is left of tau_i beside U_c where that is
below 2**-16 of its length, which is rounding. With more contributions than directions to
share out, no more than s directions are handed out, and none where (s - k) / n rounds to
none: then it is `iso_c`. A contribution counts in n where it changes the tensor. Tensors
that are no matrices take the mean task vector, times `alpha`. mergekit has neither.
"""

import math
from dataclasses import replace
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    Decomposition,
    Floats,
    dot,
    matmul,
    polar_factor,
    row_sums,
    sum_of_squares,
    svd,
)
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Parts, Strategy
from crdtmerge.strategies.spectral.matrices import Matrices, emit_matrix, side_by_side
from crdtmerge.strategies.spectral.scale import ALPHA

NOTHING: Final = 2.0**-16
"""What is left of a change below this share of its length is rounding."""

PAPER: Final = (
    "Marczak et al. 2025, Iso-C and Iso-CTS, https://arxiv.org/abs/2502.04959"
)


def _summed(found: Matrices) -> Floats:
    """Return the sum of the task matrices, added in canonical order."""
    total = np.zeros((found.rows, found.columns))
    for tau in found.taus:
        total += tau
    return total


def _isotropic(_inputs: Inputs, found: Matrices) -> Floats:
    """Return the polar factor of the sum, times the mean of its singular values."""
    total = _summed(found)
    polar = polar_factor(total)
    nuclear = dot(polar.reshape(-1), total.reshape(-1))
    flat: Floats = polar * (nuclear / min(total.shape))
    return flat


def _with_specific(inputs: Inputs, found: Matrices) -> Floats:
    """Return the isotropic matrix of common directions and of each one's own."""
    common = inputs.values.units("common")
    short = min(found.rows, found.columns)
    each = _own_directions(short, len(found.taus), common)
    if not each:
        return _isotropic(inputs, found)
    shared = svd(_summed(found), short - each * len(found.taus))
    parts = [_beside(tau, shared, each) for tau in found.taus] + [shared]
    all_of = side_by_side(parts)
    mean = float(row_sums(all_of.sigma[np.newaxis])[0]) / short
    return matmul(polar_factor(all_of.u), polar_factor(all_of.vt)) * mean


def _own_directions(short: int, count: int, common: int) -> int:
    """Return how many directions of its own each of `count` contributions has."""
    rest = short - short * common // DECIMAL_UNIT
    whole, over = divmod(rest, count)
    if 2 * over > count or (2 * over == count and whole % 2):
        whole += 1
    return min(whole, short // count)


def _beside(tau: Floats, shared: Decomposition, rank: int) -> Decomposition:
    """Return the first directions of what lies off the columns of the shared ones."""
    if not shared.sigma.size:
        return svd(tau, rank)
    found = svd(tau - matmul(shared.u, matmul(shared.u.T, tau)), rank)
    least = NOTHING * math.sqrt(sum_of_squares(tau.reshape(-1)))
    count = np.count_nonzero(found.sigma > least)
    return replace(
        found, u=found.u[:, :count], sigma=found.sigma[:count], vt=found.vt[:count]
    )


def _emit_common(inputs: Inputs) -> Parts:
    return emit_matrix(inputs, "iso_c", _isotropic, inputs.values.real("alpha"))


def _emit_specific(inputs: Inputs) -> Parts:
    return emit_matrix(inputs, "iso_cts", _with_specific, inputs.values.real("alpha"))


ISO_C = Strategy(
    name="iso_c",
    version=1,
    summary="Make all singular values of the summed changes alike",
    paper=PAPER,
    parameters=(ALPHA,),
    memory=Memory(shared=200, each=8),
    emit=_emit_common,
)

ISO_CTS = Strategy(
    name="iso_cts",
    version=1,
    summary="Make common and task-specific directions of the changes equally large",
    paper=PAPER,
    parameters=(
        ALPHA,
        Parameter(
            "common",
            "decimal",
            default="0.8",
            mergekit_default=None,
            help="share of the directions that are those of the summed changes",
            maximum=DECIMAL_UNIT,
        ),
    ),
    memory=Memory(shared=224, each=8),
    emit=_emit_specific,
)
