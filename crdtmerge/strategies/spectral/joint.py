"""drm and knots: task matrices side by side, merged in the basis that they share.

Owns `drm/1` and `knots/1`, the joint decomposition and the way back. Does not own trims,
draws, election and disjoint mean, which are those of `ties/1` and `dare_ties/1`, run on
coordinates as if these were task vectors; nor the decomposition (`numerics.svd`).

Both write [tau_1 | ... | tau_n] = U S V' and look at Z_i = S V_i', the coordinates of
tau_i in the columns of U; what the votes make of them is Z, and tau = U Z.

Formula (KnOTS, Stoica et al. 2024, arXiv:2410.19735), `knots/1`: singular values at or
below `cut` are dropped; Z is the TIES or the DARE-TIES of the Z_i, trimmed or drawn
separately for each i. The sign of a column of U is free, and turns a row of every Z_i with
it: this changes an election only where the sum is exactly zero. Where two singular values
are equal any two directions of their plane would do: `numerics` pins one pair.

Formula (DRM, Chaichana et al. 2025, arXiv:2505.23117), `drm/1`: singular values at or below
`cut` times the largest are dropped; each row of each V_i' is divided by its own length, and
of all their entries, of all contributions together, the share 1 - `p` of largest magnitudes
stays; the length goes back into the singular values, so what stays has its value in Z_i;
elect by mass, disjoint mean. `direction` v does the same to the transposed task matrices
(the vertical stack). The paper's p is a setting of each experiment; 0.5 is our choice.

Ours: the decomposition is of task matrices as they are, and weights are votes, as in `ties`
(in the authors' code of DRM coefficients scale what was elected without them). Coordinates
are rounded once to float32, as task vectors are; counts are rounded up, and what ties
with the last that stays, stays. `numerics.svd` leaves out what is below 2**-16 of the
largest singular value, whatever `cut` is. Tensors that are no matrices take the mean (in
the authors' code of DRM they are trimmed), times `lambda` too. mergekit has neither.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    Floats,
    Singles,
    at_least,
    inspect,
    matmul,
    rounded,
    row_sums,
    svd,
)
from crdtmerge.strategies import dare, ties
from crdtmerge.strategies.base import (
    TRUE,
    Inputs,
    Memory,
    Parameter,
    Parts,
    Strategy,
    Values,
)
from crdtmerge.strategies.forms import Votes
from crdtmerge.strategies.sparsify import trim
from crdtmerge.strategies.spectral.matrices import Matrices, emit_matrix
from crdtmerge.strategies.tensors import vector_of

_ONCE: Final = Values((("density", "1"), ("lambda", "1"), ("normalize", TRUE)))
"""Votes without a trim."""


@dataclass(frozen=True, slots=True)
class _Joint:
    """The shared directions, (rows, r), and each one's coordinates, (r, columns)."""

    basis: Floats
    coordinates: tuple[Floats, ...]


def _joint(taus: Sequence[Floats], least: Callable[[float], float]) -> _Joint:
    """Return the joint decomposition; values up to `least` of the largest are dropped."""
    found = svd(np.concatenate(taus, axis=1), taus[0].shape[0])
    rank = np.count_nonzero(found.sigma > least(float(found.sigma[0])))
    wide = found.vt[:rank] * found.sigma[:rank, np.newaxis]
    return _Joint(found.u[:, :rank], tuple(np.split(wide, len(taus), axis=1)))


def voted(
    inputs: Inputs,
    found: Matrices,
    coordinates: Sequence[Singles],
    votes: Votes,
    own: tuple[Values, ...] = (),
) -> Floats:
    """Return what the votes make of (r, columns) coordinates, in float64."""
    shape = coordinates[0].shape
    items = shape[0] * shape[1]
    inner = replace(
        inputs,
        dtype="F32",
        items=items,
        base=bytes(4 * items),
        contributions=tuple(each.reshape(-1) for each in coordinates),
        contents=tuple(term.content for term in found.terms),
        weights=tuple(term.weight for term in found.terms),
        values=own[0] if own else _ONCE,
        own=own,
        shape=shape,
        output_dtype="F64",
        exponent=max(inspect(each.data, "F32").exponent for each in coordinates),
    )
    merged = np.frombuffer(votes.emit(inner).whole(), "<f8")
    return merged.reshape(shape)


def _knots(inputs: Inputs, found: Matrices) -> Floats:
    """Return the task matrix that TIES or DARE-TIES makes in the shared basis."""
    cut = inputs.values.real("cut")
    joint = _joint(found.taus, lambda _largest: cut)
    if not joint.basis.shape[1]:
        return np.zeros((found.rows, found.columns))
    drawn = inputs.values.choice("votes") == "dare_ties"
    own = tuple(_unscaled(term.values) for term in found.terms)
    coordinates = [singles(each) for each in joint.coordinates]
    votes = dare.TIES_SUMS if drawn else ties.SUMS
    return matmul(joint.basis, voted(inputs, found, coordinates, votes, own))


def _unscaled(values: Values) -> Values:
    """Return a contribution's parameters for the votes; lambda scales the whole later."""
    pairs = dict(values.parameters) | {"lambda": "1"}
    return Values(tuple(sorted(pairs.items())))


def singles(values: Floats) -> Singles:
    """Return a matrix in float32."""
    return rounded(np.ascontiguousarray(values).reshape(-1)).reshape(values.shape)


def _drm(inputs: Inputs, found: Matrices) -> Floats:
    """Return the task matrix that votes make in the shared basis, lengths evened out."""
    lies = inputs.values.choice("direction") == "v"
    cut = inputs.values.real("cut")
    taus = [tau.T for tau in found.taus] if lies else found.taus
    joint = _joint(taus, lambda largest: cut * largest)
    pruned = _pruned(joint.coordinates, inputs.values.units("p"))
    del taus
    merged = matmul(joint.basis, voted(inputs, found, pruned, ties.SUMS))
    return np.ascontiguousarray(merged.T) if lies else merged


def _pruned(coordinates: Sequence[Floats], p: int) -> list[Singles]:
    """Return coordinates without those that are small beside their row's length.

    Which are small is told of all contributions together.
    """
    sizes = np.stack([singles(_evened(each)) for each in coordinates])
    least = trim(vector_of(sizes.reshape(-1)), DECIMAL_UNIT - p).least
    return [
        np.where(at_least(size, least), singles(each), np.float32(0))
        for size, each in zip(sizes, coordinates, strict=True)
    ]


def _evened(coordinates: Floats) -> Floats:
    """Return each row divided by its length; a row of zeros as it is."""
    lengths = np.sqrt(row_sums(coordinates * coordinates))[:, np.newaxis]
    evened: Floats = coordinates / np.where(lengths > 0, lengths, 1.0)
    return evened


def _emit_knots(inputs: Inputs) -> Parts:
    scale = inputs.values.real("lambda")
    return emit_matrix(inputs, "knots", _knots, scale, weighted=False)


def _emit_drm(inputs: Inputs) -> Parts:
    scale = inputs.values.real("lambda")
    return emit_matrix(inputs, "drm", _drm, scale, weighted=False)


_LAMBDA: Final = replace(ties.LAMBDA, mergekit_default=None)


def _of(strategy: Strategy, name: str) -> Parameter:
    """Return a parameter of another strategy, of which mergekit knows nothing here."""
    found = strategy.parameter(name)
    assert found is not None, "it is declared"
    return replace(found, mergekit_default=None)


DRM = Strategy(
    name="drm",
    version=1,
    summary="Elect and average in the joint singular basis, rows evened out first",
    paper="Chaichana et al. 2025, DRM, https://arxiv.org/abs/2505.23117",
    parameters=(
        Parameter(
            "cut",
            "decimal",
            default="0.01",
            mergekit_default=None,
            help="singular values up to this share of the largest are dropped",
            maximum=DECIMAL_UNIT - 1,
        ),
        Parameter(
            "direction",
            "choice",
            default="h",
            mergekit_default=None,
            help="task matrices lie side by side (h) or stand on each other (v)",
            choices=("h", "v"),
        ),
        _LAMBDA,
        Parameter(
            "p",
            "decimal",
            default="0.5",
            mergekit_default=None,
            help="share of the evened coordinates that is dropped, the smallest",
            maximum=DECIMAL_UNIT - 1,
        ),
    ),
    memory=Memory(each=300),
    emit=_emit_drm,
)

KNOTS = Strategy(
    name="knots",
    version=1,
    aliases=("svd_knot_tying",),
    summary="Merge by TIES or DARE-TIES in the joint singular basis of all changes",
    paper="Stoica et al. 2024, KnOTS, https://arxiv.org/abs/2410.19735",
    parameters=(
        Parameter(
            "cut",
            "decimal",
            default="0.00001",
            mergekit_default=None,
            help="singular values up to this are dropped",
            maximum=100 * DECIMAL_UNIT,
        ),
        _of(ties.TIES, "density"),
        _LAMBDA,
        _of(ties.TIES, "normalize"),
        _of(dare.DARE_TIES, "p"),
        _of(dare.DARE_TIES, "rescale"),
        Parameter(
            "votes",
            "choice",
            default="ties",
            mergekit_default=None,
            help="which small coordinates do not vote: trimmed ones, or drawn ones",
            choices=("dare_ties", "ties"),
        ),
    ),
    draws=True,
    memory=Memory(each=104, rows=200),
    emit=_emit_knots,
)
