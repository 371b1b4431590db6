"""mats: one system for all models' curvatures, solved by steps of conjugate gradients.

Owns `mats/1`. Does not own evidence (`given`), products (`numerics`), nor the plain mean
(`forms`).

Formula (MaTS, Tam, Bansal, Raffel 2023, arXiv:2312.04339): models are matched in the
subspaces that matter to each: sum C_i (theta - theta_i) = 0, with C_i the Gram matrix of
a linear layer's inputs, applied to each of its rows (`matrix=gram`), or the diagonal of
the Fisher matrix (`matrix=fisher`). The system (sum C_i) theta = sum C_i theta_i is
solved by a fixed number of steps of conjugate gradients (Hestenes and Stiefel 1952), from
a merged model: no inverse is needed, and directions of which the C_i tell little stay
near the start, as they would with a ridge.

Exact: steps are the same in any orthogonal basis, so those with Gram matrices are made in
the eigenvectors of their sum, where none costs a product of matrices.

Ours: the start is the weighted mean, and what is solved for the difference to it, each
tensor a system of its own. A Gram matrix has a trace of 1, a Fisher diagonal a mean of 1,
whatever their author gave; each is multiplied by its weight over the mean weight. Steps
end before their number is reached once the squared residual is 2**-80 of the first: what
is left then is rounding. Eigenvalues of at most 2**-32 of the largest count as zero. The
paper's blocks of K-FAC are no evidence here. Where nobody attaches the kind for a tensor,
it is the weighted mean. mergekit has no mats.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, dot, matmul, sum_of_squares, symmetric_eigen
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Parts, Strategy, Values
from crdtmerge.strategies.evidential.given import LACKING, Told, told
from crdtmerge.strategies.evidential.systems import away_of, mean_of, moved, shared
from crdtmerge.strategies.forms import emit_weighted
from crdtmerge.strategies.spectral.matrices import matrix_shape
from crdtmerge.strategies.tensors import participants, refuse_negative, refuse_zero

NAME: Final = "mats"
GRAM: Final = "gram"

ROUNDING: Final = 2.0**-80
"""A squared residual of this share of the first: products err by more than its root."""

CUTOFF: Final = 2.0**-32
"""An eigenvalue of at most this share of the largest is of no input: 2**-16 of its size."""


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, NAME, inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    kind, shape = inputs.values.choice("matrix"), matrix_shape(inputs.shape)
    known = inputs.items and (shape or kind != GRAM)
    found = told(inputs, terms, kind) if known else ()
    if not found:
        return emit_weighted(inputs, inputs.weights, 0, sum(inputs.weights))
    mean = mean_of(inputs, [one.term for one in found])
    count = inputs.values.count("iterations")
    if kind == GRAM:
        assert shape is not None, "only matrices have Gram matrices"
        return moved(inputs, mean, _by_grams(inputs, found, mean, shape, count))
    return moved(inputs, mean, _by_diagonals(inputs, found, mean, count))


def _by_grams(
    inputs: Inputs,
    found: Sequence[Told],
    mean: Floats,
    shape: tuple[int, int],
    count: int,
) -> Floats:
    """Return the difference to the mean, (items,), of which each row is one system.

    Columns of what is worked on are rows of the tensor: matrices stand on the left.
    """
    rows, columns = shape
    system, sides = np.zeros((columns, columns)), np.zeros((columns, rows))
    for one, share in shared(found):
        gram = one.array * share
        away = away_of(inputs, one.term, mean).reshape(shape)
        system += gram
        sides += matmul(gram, np.ascontiguousarray(away.T))
        del gram, away
    step = _in_eigenvectors(system, sides, count)
    return step.T.reshape(-1)


def _in_eigenvectors(system: Floats, sides: Floats, count: int) -> Floats:
    """Return what steps with `system` reach, made where it is a diagonal.

    SUBTLE: in directions that no input has, right sides are what products round; a step
    divides that by an eigenvalue of rounding, so both become zero.
    """
    values, vectors = symmetric_eigen(system)
    told = values > CUTOFF * values[0]
    curved = np.where(told, values, 0.0)[:, np.newaxis]
    begun = matmul(np.ascontiguousarray(vectors.T), sides)
    begun[~told] = 0.0
    return matmul(vectors, conjugate_gradients(curved, begun, count))


def _by_diagonals(
    inputs: Inputs, found: Sequence[Told], mean: Floats, count: int
) -> Floats:
    """Return the difference to the mean, (items,), where matrices are diagonals."""
    system, sides = np.zeros(inputs.items), np.zeros(inputs.items)
    for one, share in shared(found):
        curved = one.array.reshape(-1) * share
        system += curved
        curved *= away_of(inputs, one.term, mean)
        sides += curved
        del curved
    return conjugate_gradients(system, sides, count)


def conjugate_gradients(curved: Floats, sides: Floats, count: int) -> Floats:
    """Return x after `count` steps from zero towards `curved` * x = `sides`.

    `curved`, none of it below zero, is a diagonal: of all items, or one value a row.
    `sides` becomes the residual.
    """
    found, residual = np.zeros(sides.shape), sides
    direction = residual.copy()
    left = sum_of_squares(residual.reshape(-1))
    least = left * ROUNDING
    for _ in range(count):
        image = curved * direction
        rise = dot(direction.reshape(-1), image.reshape(-1))
        if left <= least or not rise > 0.0:
            break
        size = left / rise
        found += direction * size
        image *= size
        residual -= image
        before, left = left, sum_of_squares(residual.reshape(-1))
        direction *= left / before
        direction += residual
    return found


def _reads(values: Values) -> tuple[str, ...]:
    return (values.choice("matrix"),)


MATS = Strategy(
    name=NAME,
    version=1,
    summary="Match models where each is sure, by steps of conjugate gradients",
    paper="Tam et al. 2023, MaTS, https://arxiv.org/abs/2312.04339",
    parameters=(
        Parameter(
            "iterations",
            "integer",
            default="50",
            mergekit_default=None,
            help="steps of conjugate gradients; none leaves the weighted mean",
            maximum=1000 * DECIMAL_UNIT,
        ),
        LACKING,
        Parameter(
            "matrix",
            "choice",
            default="gram",
            mergekit_default=None,
            help="what tells where a model is sure: Gram matrices or Fisher diagonals",
            choices=("fisher", "gram"),
        ),
    ),
    needs_base=False,
    evidence=_reads,
    memory=Memory(shared=90, each=8, columns=190),
    emit=_emit,
)
