"""The spectrum of a task vector's matrices: how much of it lies in one direction.

Owns what is measured and up to which size. Does not own products (`numerics`), nor what
stands out (`concentration`). Training spreads what it learns over many directions of a
matrix; what is put in by hand, a trigger for example, often lies in one.
"""

from typing import Final

import numpy as np

from crdtmerge.changes import Change, key_of
from crdtmerge.digest import Domain, digest_value
from crdtmerge.manifest import TensorEntry
from crdtmerge.numerics import (
    Floats,
    Tau,
    matmul,
    singles_of,
    sliced,
    sum_of_squares,
)
from crdtmerge.scrutiny.probing import draw
from crdtmerge.scrutiny.symmetries import shape_of

SPECTRUM_MAX: Final = 1 << 24
"""Items up to which a matrix's first direction is found; larger ones are left out."""

SIDE_MIN: Final = 8
"""Shorter side from which the share of one direction says anything."""

STEPS: Final = 8
"""Multiplications with the matrix and its transpose: a fixed number, whatever comes out.

A direction that holds half of the energy is found to a thousandth by fewer. Of a flat
spectrum the value is too low by up to a sixth, of everybody's alike."""


def has_spectrum(entry: TensorEntry) -> bool:
    """Tell whether a tensor's spectrum is looked at."""
    return (
        len(entry.shape) >= 2
        and min(shape_of(entry)) >= SIDE_MIN
        and entry.items <= SPECTRUM_MAX
    )


def first_energy(tau: Tau, entry: TensorEntry, change: Change) -> float:
    """Return the largest squared singular value of a task vector, or nearly.

    By power iteration with exact products of one slice. It starts from a vector that is
    drawn by the change's own digest, so that nobody can put something where the start
    does not see it.

    Raises:
        ContractError: a difference is beyond float32.
    """
    matrix = singles_of(tau).reshape(shape_of(entry)).astype(np.float64)
    if not np.any(matrix):
        return 0.0
    forth, back = sliced(matrix), sliced(np.ascontiguousarray(matrix.T))
    key = digest_value(Domain.SCRUTINY, ["start", key_of(change, entry)])
    across = draw(key[:8], matrix.shape[1])
    energy = 0.0
    for _ in range(STEPS):
        along = matmul(forth, _unit(across)[:, np.newaxis], 1)
        energy = sum_of_squares(along.reshape(-1))
        across = matmul(back, along, 1).reshape(-1)
    return energy


def _unit(vector: Floats) -> Floats:
    """Return a vector of length 1; one of zeros stays."""
    square = sum_of_squares(vector)
    return vector / np.sqrt(square) if square > 0.0 else vector
