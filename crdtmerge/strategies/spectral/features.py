"""stf: the strongest features of every task, weighed so that each keeps its response.

Owns `stf/1`. Does not own decompositions and the solve (`numerics`).

Formula (STF, Qiu et al. 2025, arXiv:2502.10698): of each task matrix the first r singular
triples (u, sigma, v) are its features. The merged task matrix is tau = sum_k alpha_k u_k
v_k' over the features of all tasks, with alpha such that each feature keeps its response,
u_k' tau v_k = sigma_k: with U and V of all columns, ((U'U) * (V'V)) alpha = sigma, * item
by item. No sign is free: u and v turn together.

Ours, where the paper's text does not say: r is the shorter side over the number of
contributions, at least 1, and `ridge` is added to the diagonal of the system, which is 1
everywhere: equal features of two tasks share one response, in equal parts. Task matrices
are multiplied by their weights over the mean weight. Biases and all that is no matrix take
the mean task vector (the paper: its own system for a bias beside its weight). mergekit has
no stf.
"""

from dataclasses import replace

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, matmul, row_products, solve_spd, svd
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Parts, Strategy
from crdtmerge.strategies.spectral.matrices import Matrices, emit_matrix, side_by_side
from crdtmerge.strategies.ties import LAMBDA


def _formula(inputs: Inputs, found: Matrices) -> Floats:
    """Return the task matrix in which every feature keeps its response."""
    rank = max(1, min(found.rows, found.columns) // len(found.taus))
    all_of = side_by_side([svd(tau, rank) for tau in found.taus])
    overlaps = row_products(np.ascontiguousarray(all_of.u.T)) * row_products(all_of.vt)
    alpha = solve_spd(overlaps, all_of.sigma, inputs.values.real("ridge"))
    return matmul(all_of.u * alpha, all_of.vt)


def _emit(inputs: Inputs) -> Parts:
    return emit_matrix(inputs, "stf", _formula, inputs.values.real(LAMBDA.name))


STF = Strategy(
    name="stf",
    version=1,
    summary="Superpose the strongest features so that each keeps its response",
    paper="Qiu et al. 2025, STF, https://arxiv.org/abs/2502.10698",
    parameters=(
        replace(LAMBDA, mergekit_default=None),
        Parameter(
            "ridge",
            "decimal",
            default="0.000001",
            mergekit_default=None,
            help="added to the diagonal of the features' system, which is 1",
            minimum=1,
            maximum=DECIMAL_UNIT,
        ),
    ),
    memory=Memory(shared=200, each=8, short=100),
    emit=_emit,
)
