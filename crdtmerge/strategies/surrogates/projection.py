"""dual_projection: what a change says along the directions that are merged counts less.

Owns `dual_projection/1`. Does not own the order (`tensors.in_drawn_order`), the
decomposition or products (`numerics`).

Formula: M is the first task matrix; for each further tau let U and V be the top k singular
directions of M on both sides, P = U U' tau V V' the part of tau that lies in both subspaces
at once (the stable part, projected twice) and tau - P the part that is orthogonal to it.
Then M becomes M + (1 - s) P + (tau - P) = M + tau - s P, and the output is
theta_0 + lambda M. s is `stability`, k = ceil(rank * min(rows, columns)), 1 or more.

A surrogate for the name `dual_projection` in the registry of 26 strategies of Gillespie
2026 (arXiv:2605.19373). We are unsure of the details of the method that it stands for, so
all of this is our reading and ours: that the subspace is that of what is merged so far,
that both sides are projected, that the orthogonal part is whole, that M is a sum. With
s = 0 it is task arithmetic; with s = 1 nothing that comes later changes M within its own
top subspace.

Ours besides: the order is drawn by the set's seed, so that nobody can choose a place in it;
where M vanishes, the next task matrix is added whole; directions below 2**-16 of the
largest singular value count as none. A projector has no free sign; where singular values
at the cut are equal, which directions count is arbitrary but the same everywhere. Tensors
that are no matrices take the mean task vector, by the rule of all strategies on matrices.
mergekit has no such method.
"""

from dataclasses import replace
from typing import Final

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, keep_count, matmul, svd
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Parts, Strategy
from crdtmerge.strategies.spectral.matrices import Matrices, emit_matrix
from crdtmerge.strategies.tensors import in_drawn_order
from crdtmerge.strategies.ties import LAMBDA

NAME: Final = "dual_projection"


def _formula(inputs: Inputs, found: Matrices) -> Floats:
    """Return the sum of task matrices, each damped where the sum before it is strong."""
    by_place = {
        term.place: tau for term, tau in zip(found.terms, found.taus, strict=True)
    }
    ordered = in_drawn_order(inputs, found.terms)
    stability = inputs.values.real("stability")
    short = min(found.rows, found.columns)
    count = max(keep_count(short, inputs.values.units("rank")), 1)
    merged = by_place[ordered[0].place]
    for term in ordered[1:]:
        tau = by_place[term.place]
        added = tau
        if merged.any() and stability:
            added = tau - stability * _stable(tau, merged, count)
        merged = merged + added
    return merged


def _stable(tau: Floats, merged: Floats, count: int) -> Floats:
    """Return what of `tau` lies in both top subspaces of `merged`."""
    parts = svd(merged, count)
    core = matmul(matmul(parts.u.T, tau), parts.vt.T)
    return matmul(matmul(parts.u, core), parts.vt)


def _emit(inputs: Inputs) -> Parts:
    return emit_matrix(inputs, NAME, _formula, inputs.values.real("lambda"))


DUAL_PROJECTION = Strategy(
    name=NAME,
    version=1,
    summary="Add changes, each damped in the top subspace of those before (surrogate)",
    paper="Gillespie 2026, CRDT merging, https://arxiv.org/abs/2605.19373",
    parameters=(
        replace(LAMBDA, mergekit_default=None),
        Parameter(
            "rank",
            "decimal",
            "0.1",
            None,
            "share of the singular directions that are the top subspace, at least one",
            maximum=DECIMAL_UNIT,
        ),
        Parameter(
            "stability",
            "decimal",
            "0.5",
            None,
            "what is taken away of the part that lies in the top subspace",
            maximum=DECIMAL_UNIT,
        ),
    ),
    order_dependent=True,
    memory=Memory(shared=200, each=8),
    emit=_emit,
)
