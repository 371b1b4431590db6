"""star: the largest singular values of each change, made as heavy as all of them were.

Owns `star/1`. Does not own decompositions or products (`numerics`), nor what becomes of
weights (`matrices`).

Formula (STAR, Lee et al. 2025, arXiv:2502.10339): of each tau_i = U S V' the first r
singular values stay, r being the least with sigma_1 + ... + sigma_r >= eta * sum(sigma);
they are multiplied by sum(sigma) / (sigma_1 + ... + sigma_r), so that the nuclear norm is
as it was; theta = base + the mean of what is left of the tau_i.

Ours: the mean is by weight, and over the contributions that change the tensor. At least one
value stays, and with an `eta` of 1 all do. Values below 2**-16 of the largest count as
none, in the sums as well. Of two equal values at the cut the first that was found stays:
which directions these are is pinned, and arbitrary, as in LAPACK. Tensors that are no
matrices take the mean task vector. mergekit has no star.
"""

from itertools import accumulate
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, matmul, svd
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Parts, Strategy
from crdtmerge.strategies.spectral.matrices import Matrices, emit_matrix

NAME: Final = "star"


def _formula(inputs: Inputs, found: Matrices) -> Floats:
    """Return the mean of the changes, each without its small singular values."""
    eta = inputs.values.real("eta")
    total = np.zeros((found.rows, found.columns))
    for tau in found.taus:
        total += _cut(tau, eta, len(found.taus))
    return total


def _cut(tau: Floats, eta: float, count: int) -> Floats:
    """Return the first directions, as heavy as all of them, divided by `count`."""
    parts = svd(tau, min(tau.shape))
    sums = [*accumulate(parts.sigma.tolist())]
    limit = eta * sums[-1]
    rank = 1 + next(r for r, total in enumerate(sums) if total >= limit)
    sigma = parts.sigma[:rank] * (sums[-1] / sums[rank - 1] / count)
    return matmul(parts.u[:, :rank] * sigma, parts.vt[:rank])


def _emit(inputs: Inputs) -> Parts:
    return emit_matrix(inputs, NAME, _formula)


STAR = Strategy(
    name=NAME,
    version=1,
    summary="Average the changes without their small singular values, rescaled",
    paper="Lee et al. 2025, STAR, https://arxiv.org/abs/2502.10339",
    parameters=(
        Parameter(
            "eta",
            "decimal",
            default="0.4",
            mergekit_default=None,
            help="share of the sum of singular values that those that stay have",
            maximum=DECIMAL_UNIT,
        ),
    ),
    memory=Memory(shared=224, each=8),
    emit=_emit,
)
