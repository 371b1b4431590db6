"""dc_merge: votes among coordinates in a basis that covers the first directions of all.

Owns `dc_merge/1`. Does not own which directions are collected (`task_singular`), trim,
election and disjoint mean (those of `ties/1`, run on coordinates as by `joint`), nor polar
factors or products (`numerics`).

Formula (DC-Merge, Zhang et al. 2026, arXiv:2603.06242), of n contributions, s being the
shorter side: of each tau_i the r = floor(s / n) largest singular values with their vectors
are T_i; U and V are the polar factors of all left and all right vectors side by side; M_i =
U' T_i V; of each M_i the share `top` of largest magnitudes stays; elect by mass, disjoint
mean: M. Of M the n blocks of r x r on the diagonal stay, where a contribution meets itself;
theta = base + alpha U M V'.

Unsure: how the paper smooths the singular values of each T_i, which it does first. For full
fine-tunes its authors leave that out, and so does the default; `smoothing=average` makes
those of one T_i all equal to their mean, and their linear smoothing is not here. The votes
and the mask are as in the authors' code, of which a description was all there was.
`mask=none` leaves out the mask.

Ours: weights are votes, as in `ties`. Coordinates are rounded once to float32, as task
vectors are; counts are rounded up, and what ties with the last that stays, stays. r is 1 at
least, and in a crowd the s largest values have a place, as in `tsv_m`; who has none does
not vote. A share of all coordinates keeps few of a small matrix: one of each where s is
below 32. Of a direction that two contributions share each has half, and the mask takes the
other. Tensors that are no matrices take the mean task vector, times `alpha`. mergekit has
no dc_merge.
"""

from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, matmul, polar_factor, row_sums
from crdtmerge.strategies import ties
from crdtmerge.strategies.base import (
    TRUE,
    Inputs,
    Memory,
    Parameter,
    Parts,
    Strategy,
    Values,
)
from crdtmerge.strategies.spectral.joint import singles, voted
from crdtmerge.strategies.spectral.matrices import Matrices, emit_matrix
from crdtmerge.strategies.spectral.scale import ALPHA
from crdtmerge.strategies.spectral.task_singular import Collected, collected

NAME: Final = "dc_merge"


def _formula(inputs: Inputs, found: Matrices) -> Floats:
    """Return the task matrix that votes make in the cover basis."""
    first = collected(found)
    left, right = polar_factor(first.u), polar_factor(first.vt)
    across, along = matmul(left.T, first.u), matmul(first.vt, right.T)
    sizes = _sizes(first, inputs.values.choice("smoothing"))
    coordinates = []
    for place in range(len(found.taus)):
        own = first.owners == place
        seen = matmul(across[:, own] * sizes[own], along[own]) if own.any() else 0.0
        coordinates.append(singles(seen + np.zeros((sizes.size, sizes.size))))
    del across, along
    top = dict(inputs.values.parameters)["top"]
    trimmed = Values((("density", top), ("lambda", "1"), ("normalize", TRUE)))
    own_values = (trimmed,) * len(found.taus)
    merged = voted(inputs, found, coordinates, ties.SUMS, own_values)
    if inputs.values.choice("mask") == "block":
        meets = first.owners[:, np.newaxis] == first.owners
        merged = np.where(meets, merged, 0.0)
    return matmul(matmul(left, merged), right)


def _sizes(first: Collected, smoothing: str) -> Floats:
    """Return the singular values, or for each the mean of its contribution's."""
    if smoothing == "none":
        return first.sigma
    same = first.owners[:, np.newaxis] == first.owners
    sums = row_sums(np.where(same, first.sigma, 0.0))
    means: Floats = sums / row_sums(same.astype(np.float64))
    return means


def _emit(inputs: Inputs) -> Parts:
    alpha = inputs.values.real("alpha")
    return emit_matrix(inputs, NAME, _formula, alpha, weighted=False)


DC_MERGE = Strategy(
    name=NAME,
    version=1,
    summary="Elect and average in a basis that covers the first directions of all",
    paper="Zhang et al. 2026, DC-Merge, https://arxiv.org/abs/2603.06242",
    parameters=(
        ALPHA,
        Parameter(
            "mask",
            "choice",
            default="block",
            mergekit_default=None,
            help="whether only coordinates of one contribution's directions stay",
            choices=("block", "none"),
        ),
        Parameter(
            "smoothing",
            "choice",
            default="none",
            mergekit_default=None,
            help="whether the singular values of a contribution become their mean",
            choices=("average", "none"),
        ),
        Parameter(
            "top",
            "decimal",
            default="0.001",
            mergekit_default=None,
            help="share of each contribution's coordinates that votes, the largest",
            maximum=DECIMAL_UNIT,
        ),
    ),
    memory=Memory(shared=200, each=40),
    emit=_emit,
)
