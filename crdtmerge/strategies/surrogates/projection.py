"""dual_projection: one contribution after another, weaker where others lie already.

Owns `dual_projection/1`. Does not own the order (`tensors.in_drawn_order`), decompositions
or products (`numerics`).

A surrogate: the name is one of the CRDT paper's registry, and of its method no formula is
at hand. This one is ours, in the manner of gradient projection (Saha et al. 2021,
arXiv:2103.09762): of the task matrix S merged so far take the first k singular directions
on either side, U and V, k the share `rank` of the shorter side, at least 1; of the next
task matrix the stable part is P = U U' tau V V', what lies where others are. What is added
is tau - `stability` P: the plastic part whole, of the stable part 1 - `stability`. In the
end the sum is made as long as the mean of the lengths of theirs.

The order is drawn by the set's seed, so that nobody chooses a place in it. Task matrices
are multiplied by their weight over the mean weight; all else takes the mean task vector.
mergekit has no such method.
"""

import math

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, matmul, sum_of_squares, svd
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Parts, Strategy
from crdtmerge.strategies.spectral.matrices import Matrices, emit_matrix
from crdtmerge.strategies.tensors import in_drawn_order

NAME = "dual_projection"


def _formula(inputs: Inputs, found: Matrices) -> Floats:
    """Return the merged task matrix, as long as theirs are on average."""
    by_place = {t.place: tau for t, tau in zip(found.terms, found.taus, strict=True)}
    ordered = in_drawn_order(inputs, found.terms)
    short = min(found.rows, found.columns)
    rank = max(1, math.floor(short * inputs.values.units("rank") / DECIMAL_UNIT))
    stability = inputs.values.real("stability")
    merged = by_place[ordered[0].place]
    for term in ordered[1:]:
        tau = by_place[term.place]
        stable = _stable(tau, merged, rank) if merged.any() else tau * 0.0
        merged = merged + (tau - stability * stable)
    lengths = [math.sqrt(sum_of_squares(tau.reshape(-1))) for tau in found.taus]
    length = math.sqrt(sum_of_squares(merged.reshape(-1)))
    if not length:
        return merged
    return merged * (math.fsum(lengths) / len(lengths) / length)


def _stable(tau: Floats, merged: Floats, rank: int) -> Floats:
    """Return what of a task matrix lies in the first directions of the merged one."""
    parts = svd(merged, rank)
    core = matmul(matmul(parts.u.T, tau), parts.vt.T)
    return matmul(matmul(parts.u, core), parts.vt)


def _emit(inputs: Inputs) -> Parts:
    return emit_matrix(inputs, NAME, _formula)


DUAL_PROJECTION = Strategy(
    name=NAME,
    version=1,
    summary="Add changes in turn, weaker where others lie already: a surrogate",
    paper="Saha et al. 2021, Gradient projection, https://arxiv.org/abs/2103.09762",
    parameters=(
        Parameter(
            "rank",
            "decimal",
            default="0.25",
            mergekit_default=None,
            help="share of the directions that counts as where others lie",
            maximum=DECIMAL_UNIT,
        ),
        Parameter(
            "stability",
            "decimal",
            default="0.5",
            mergekit_default=None,
            help="share of what lies where others are that is taken away",
            maximum=DECIMAL_UNIT,
        ),
    ),
    order_dependent=True,
    memory=Memory(shared=200, each=8),
    emit=_emit,
)
