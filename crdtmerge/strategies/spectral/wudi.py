"""wudi and optmerge: the task matrix that interferes least with what each task reads.

Owns `wudi/1` and `optmerge/1`. Does not own the solve (`regression`), Adam's step (`adam`),
nor decompositions (`numerics`).

Formula (WUDI, Cheng et al. 2025, arXiv:2503.08099): find tau that lessens
L(tau) = sum_i |(tau - tau_i) tau_i'|^2 / |tau_i|^2: the rows of tau_i stand for the inputs
of the layer. `solver` adam is what the authors release: `iterations` steps of length `lr`
from sum_i tau_i, which end early, at another point than the lowest. `solver` closed is that
lowest point: with G_i = tau_i' tau_i / |tau_i|^2 it is (sum tau_i G_i) (sum G_i)^+, which
is RegMean without data.

Formula (OptMerge, Wei et al. 2025, arXiv:2505.19892; its code calls it WUDI v2): with
r = s / n, s the shorter side, T_i = svd_r(tau_i - mean) + mean and R_i = svd_r(tau_i), the
lowest point of sum_i |(tau - T_i) R_i'|^2 / |tau_i|^2, which is the same system with
H_i = R_i' R_i / |tau_i|^2. Only the closed form is here: the released code takes 300 steps
of Adam from sum_i tau_i and ends elsewhere. `scale` is 0.1 there. What no R_i reads is zero
in the closed form, and stays as in sum_i tau_i there: no step moves it.

Ours: in place of the pseudo-inverse a ridge, `ridge` times the mean diagonal of the sum;
each task matrix is multiplied by its weight over the mean weight; of more contributions
than s, r is 1. G_i of a scaled task matrix is the same, so a weight moves targets alone.
Tensors that are no matrices take the mean task vector, times `scale` too. mergekit has
neither.

Cost: the system is as wide as the matrix has columns, or as the contributions have rows
together (r rows each for `optmerge`) where these are fewer.
"""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, matmul, sliced, sum_of_squares, svd
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Parts, Strategy
from crdtmerge.strategies.evidential.systems import RIDGE
from crdtmerge.strategies.spectral.adam import Adam
from crdtmerge.strategies.spectral.matrices import Matrices, emit_matrix
from crdtmerge.strategies.spectral.regression import fitted, gram_of

_ALL_ROWS: Final = slice(None)


def _wudi(inputs: Inputs, found: Matrices) -> Floats:
    """Return the task matrix of `wudi`."""
    if inputs.values.choice("solver") == "adam":
        return _descended(inputs, found)
    return fitted(inputs, found, _pairs(found), found.rows * len(found.taus))


def _pairs(found: Matrices) -> Iterator[tuple[Floats, Floats]]:
    """Yield each task matrix and what it reads: itself, of length 1."""
    for tau in found.taus:
        yield tau, tau / _length(tau)


def _length(tau: Floats) -> float:
    return math.sqrt(sum_of_squares(tau.reshape(-1)))


def _descended(inputs: Inputs, found: Matrices) -> Floats:
    """Return where Adam is after all its steps: the gradient is 2 (tau S - sides)."""
    count, rate = inputs.values.count("iterations"), inputs.values.real("lr")
    sides = np.zeros((found.columns, found.rows))
    system = np.zeros((found.columns, found.columns))
    turned = np.zeros((found.columns, found.rows))
    for tau, reads in _pairs(found):
        turned += tau.T
        gram = gram_of(reads)
        system += gram
        sides += matmul(gram, np.ascontiguousarray(tau.T))
    cut = sliced(system)
    adam = Adam(turned.shape)
    for _ in range(count):
        gradient = matmul(cut, turned)
        gradient -= sides
        gradient *= 2.0
        adam.next()
        turned -= adam.step(gradient, _ALL_ROWS) * rate
    return np.ascontiguousarray(turned.T)


def _optmerge(inputs: Inputs, found: Matrices) -> Floats:
    count = len(found.taus)
    rank = max(1, min(found.rows, found.columns) // count)
    return fitted(inputs, found, _denoised(found, rank), rank * count)


def _denoised(found: Matrices, rank: int) -> Iterator[tuple[Floats, Floats]]:
    """Yield each target, its distance to the mean cut to a rank, and what it reads."""
    mean = np.zeros((found.rows, found.columns))
    for tau in found.taus:
        mean += tau
    mean /= len(found.taus)
    for tau in found.taus:
        parts = svd(tau, rank)
        reads = parts.vt * (parts.sigma / _length(tau))[:, np.newaxis]
        yield mean + _cut(tau - mean, rank), reads


def _cut(matrix: Floats, rank: int) -> Floats:
    """Return the nearest matrix of a rank."""
    if not matrix.any():
        return matrix
    parts = svd(matrix, rank)
    return matmul(parts.u * parts.sigma, parts.vt)


def _emit_wudi(inputs: Inputs) -> Parts:
    return emit_matrix(inputs, "wudi", _wudi, inputs.values.real("scale"))


def _emit_optmerge(inputs: Inputs) -> Parts:
    return emit_matrix(inputs, "optmerge", _optmerge, inputs.values.real("scale"))


def _scale(default: str) -> Parameter:
    return Parameter(
        "scale",
        "decimal",
        default=default,
        mergekit_default=None,
        help="what the merged task vector is multiplied by",
        maximum=100 * DECIMAL_UNIT,
    )


WUDI = Strategy(
    name="wudi",
    version=1,
    summary="Find the task matrix that interferes least with every task's own",
    paper="Cheng et al. 2025, WUDI-Merging, https://arxiv.org/abs/2503.08099",
    parameters=(
        Parameter(
            "iterations",
            "integer",
            default="300",
            mergekit_default=None,
            help="steps of Adam, all of which are taken (solver=adam)",
            maximum=10_000 * DECIMAL_UNIT,
        ),
        Parameter(
            "lr",
            "decimal",
            default="0.00001",
            mergekit_default=None,
            help="length of Adam's steps (solver=adam)",
            maximum=DECIMAL_UNIT,
        ),
        RIDGE,
        _scale("1"),
        Parameter(
            "solver",
            "choice",
            default="closed",
            mergekit_default=None,
            help="the lowest point itself, or where the released code's steps end",
            choices=("adam", "closed"),
        ),
    ),
    memory=Memory(shared=120, each=8, columns=80),
    emit=_emit_wudi,
)

OPTMERGE = Strategy(
    name="optmerge",
    version=1,
    aliases=("wudi_v2",),
    summary="Denoise task matrices, then find the one that interferes least",
    paper="Wei et al. 2025, OptMerge, https://arxiv.org/abs/2505.19892",
    parameters=(RIDGE, _scale("0.1")),
    memory=Memory(shared=200, each=8, columns=80),
    emit=_emit_optmerge,
)
