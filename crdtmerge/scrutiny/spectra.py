"""The spectrum of a task vector's matrices: how much of it lies in few directions.

Owns what is measured and up to which size. Does not own the factors (`numerics`), nor
what stands out (`judging`). Training spreads what it learns over many directions of a
matrix; what is put in by hand, a trigger for example, often lies in one.
"""

from typing import Final

import numpy as np

from crdtmerge.manifest import TensorEntry
from crdtmerge.numerics import Tau, low_rank_factors, singles_of
from crdtmerge.scrutiny.symmetries import shape_of

SPECTRUM_MAX: Final = 1 << 24
"""Items up to which directions of a matrix are found; larger ones are left out."""

SIDE_MIN: Final = 8
"""Shorter side from which the share of one direction says anything."""

DIRECTIONS: Final = 4
"""Directions that are found: by products with few columns, in a fixed number of steps."""

KEY: Final = b"spectrum"


def has_spectrum(entry: TensorEntry) -> bool:
    """Tell whether a tensor's spectrum is looked at."""
    return (
        len(entry.shape) >= 2
        and min(shape_of(entry)) >= SIDE_MIN
        and entry.items <= SPECTRUM_MAX
    )


def first_energies(tau: Tau, entry: TensorEntry) -> tuple[float, float]:
    """Return the energy (squared singular value) of the first direction, and the few.

    Raises:
        ContractError: a difference is beyond float32.
    """
    matrix = singles_of(tau).reshape(shape_of(entry))
    if not np.any(matrix):
        return 0.0, 0.0
    _, _, sigma = low_rank_factors(matrix, DIRECTIONS, KEY)
    squares = (sigma * sigma).tolist()
    total = 0.0
    for square in squares:
        total += square
    return squares[0], total
