"""Adam as strategies take its steps: in float64, with nothing that chance or time decides.

Owns its moments and one step. Does not own gradients, nor how many steps are taken.

Formula (Kingma and Ba 2014, arXiv:1412.6980): that of PyTorch at its defaults, decays 0.9
and 0.999 and epsilon 10**-8, with correction of the bias. The powers of the decays are
products, so that no pow is needed; the correction of the first moment is left to a
division of the step.
"""

import math
from typing import Final

import numpy as np

from crdtmerge.numerics import Floats

FIRST_DECAY: Final = 0.9
SECOND_DECAY: Final = 0.999
EPSILON: Final = 1e-8


class Adam:
    """The moments of one matrix, and the direction of a step of length one."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Begin with moments of zero."""
        self._first, self._second = np.zeros(shape), np.zeros(shape)
        self._fading_first, self._fading_second = 1.0, 1.0

    def next(self) -> None:
        """Begin the next step."""
        self._fading_first *= FIRST_DECAY
        self._fading_second *= SECOND_DECAY

    def step(self, gradient: Floats, rows: slice) -> Floats:
        """Return the step of some rows; their gradient is used up."""
        first, second, part = self._first[rows], self._second[rows], gradient[rows]
        first *= FIRST_DECAY
        first += part * (1.0 - FIRST_DECAY)
        second *= SECOND_DECAY
        part *= part
        part *= 1.0 - SECOND_DECAY
        second += part
        found: Floats = np.sqrt(second)
        found /= math.sqrt(1.0 - self._fading_second)
        found += EPSILON
        np.divide(first, found, out=found)
        found /= 1.0 - self._fading_first
        return found
