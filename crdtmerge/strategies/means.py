"""Means of single items over contributions, by weight.

Owns weights as the smallest whole numbers, and means whose bytes no order changes. Does
not own which contributions or items a strategy averages.
"""

import math
from collections.abc import Sequence

import numpy as np

from crdtmerge.numerics import Floats, sum_over
from crdtmerge.strategies.tensors import Term


def whole_weights(terms: Sequence[Term]) -> Floats:
    """Return the weights, (n,), divided by what divides all: 1 each if they are equal.

    They are whole numbers that float64 holds, and so are all their sums.
    """
    common = math.gcd(*(term.weight for term in terms)) or 1
    return np.array([float(term.weight // common) for term in terms])


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Return the mean by weight of each column of (contributions, items).

    Products are added in the order of their size and divided once. `weights` are whole
    numbers, of each contribution or of each value.
    """
    return sum_over(weights * values) / total_of(weights)


def total_of(weights: Floats) -> Floats:
    """Return the sum over contributions of whole numbers: exact, in any order."""
    total = np.zeros(weights.shape[1:])
    for row in weights:
        total = total + row
    return total
