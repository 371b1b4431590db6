"""task_arithmetic: add the task vectors to the base.

Owns `task_arithmetic/1`. Does not own the weighted sum (`forms`).

Formula (Ilharco et al. 2023, arXiv:2212.04089): out = theta_0 + lambda * sum(w_k tau_k).
With `normalize=true` the sum is divided by sum(w_k), as in mergekit; a sum of weights
below 10**-8 divides by 1 there and here. Exact: the sum on the grid, where the base is
one more term, so that a task vector is never rounded by itself. Ours: lambda * w_k may
have 18 places and is rounded half-even to 9.
"""

from fractions import Fraction
from typing import Final

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.strategies.base import (
    FALSE,
    Inputs,
    Memory,
    Parameter,
    Strategy,
    Values,
    Weights,
    part_by_part,
)
from crdtmerge.strategies.forms import TensorSum
from crdtmerge.strategies.ties import LAMBDA

DIVISOR_MIN: Final = 10
"""Units below which a sum of weights does not divide: mergekit's 10**-8."""

NORMALIZE: Final = Parameter(
    "normalize", "flag", FALSE, FALSE, "divide by the sum of the weights"
)


def divisor_of(weights: Weights, *, normalize: bool) -> int:
    """Return what the weighted sum of task vectors is divided by, in units."""
    total = sum(weights)
    return total if normalize and abs(total) >= DIVISOR_MIN else DECIMAL_UNIT


def divisor(inputs: Inputs) -> int:
    """Return it for the parameter `normalize`."""
    return divisor_of(inputs.weights, normalize=inputs.values.flag("normalize"))


def _lambda(values: Values) -> Fraction:
    return Fraction(values.units("lambda"), DECIMAL_UNIT)


SUMS: Final = TensorSum(divisor, _lambda, adds_to_base=True)

TASK_ARITHMETIC = Strategy(
    name="task_arithmetic",
    version=1,
    summary="Add the weighted sum of the task vectors to the base",
    paper="Ilharco et al. 2023, Task arithmetic, https://arxiv.org/abs/2212.04089",
    parameters=(LAMBDA, NORMALIZE),
    memory=Memory(shared=8),
    held=part_by_part,
    nameless=True,
    emit=SUMS.emit,
)
