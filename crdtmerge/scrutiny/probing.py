"""Products of large matrices seen through a few random columns, and compared.

Owns the draw and the comparison. Does not own which products (`lines`, `partners`). A
product is never made: what it does to random columns has, in the mean, its own length,
so that two products are compared at the cost of a few columns; some 20% off, by the
luck of the draw.
"""

from typing import Final

import numpy as np

from crdtmerge.numerics import Floats, random_words, row_sums

PROBES: Final = 16
"""Random columns."""

KEY: Final = b"partners"
"""What they are drawn from; they are the same everywhere."""


def columns(count: int) -> Floats:
    """Return random columns of `count` items, the same for all tensors."""
    return draw(KEY, count * PROBES).reshape(count, PROBES)


def draw(key: bytes, count: int) -> Floats:
    """Return random numbers that follow from `key`: odd multiples of 2**-32 in (-1, 1)."""
    words = random_words(key, count).astype(np.float64)
    drawn: Floats = (2.0 * words - (2.0**32 - 1)) * 2.0**-32
    return drawn


def relative(theirs: Floats, base: Floats) -> float:
    """Return the length of the difference over that of the base's; infinite over none."""
    away = theirs - base
    lengths = row_sums(np.stack([(away * away).reshape(-1), (base * base).reshape(-1)]))
    return float(np.sqrt(lengths[0] / lengths[1])) if lengths[1] > 0.0 else np.inf
