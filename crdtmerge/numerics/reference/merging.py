"""The merges that strategies end in, each one pass over its inputs.

Owns the weighted sum, the thinned sum, sign election with the disjoint mean, and the
weighted median, each from its inputs to stored items. Does not own the sums that the
first three are made of (`accumulating`), nor which weights or thresholds a strategy
takes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics.reference.accumulating import (
    disjoint,
    terms_on_grid,
    thinned_on_grid,
    votes_on_grid,
)
from crdtmerge.numerics.reference.dtypes import Data, Floats
from crdtmerge.numerics.reference.grid import Grid, divide, total_of
from crdtmerge.numerics.reference.reading import read, step_of, stored
from crdtmerge.numerics.vectors import Items, Output, Vector, Voter, Weighed


def weighted_sum(
    terms: Sequence[Weighed], divisor: int, grid: Grid, output: Output
) -> Data:
    """Return the stored items of sum(weight * vector) / divisor."""

    def compute(block: range) -> Floats:
        return divide(total_of(terms_on_grid(terms, grid, block)), divisor)

    return stored(compute, output)


def thinned_sum(
    base: Items,
    voters: Sequence[Voter],
    divisor: int,
    grid: Grid,
    output: Output,
) -> Data:
    """Return the stored items of base + sum(coefficient * kept tau) / divisor."""

    def compute(block: range) -> Floats:
        planes = thinned_on_grid(voters, grid, block)
        return read(base, block) + divide(total_of(planes), divisor)

    return stored(compute, output, step_of(voter.keep for voter in voters))


def consensus(
    base: Items,
    voters: Sequence[Voter],
    grid: Grid,
    output: Output,
    *,
    scale: float,
    normalize: bool,
) -> Data:
    """Return the stored items of base + scale * the disjoint mean of the kept taus."""

    def compute(block: range) -> Floats:
        planes = votes_on_grid(voters, grid, block)
        mean = disjoint(planes, grid, normalize=normalize)
        return read(base, block) + mean * scale

    return stored(compute, output, step_of(voter.keep for voter in voters))


def weighted_median(
    vectors: Sequence[Vector],
    weights: Sequence[int],
    output: Output,
) -> Data:
    """Return the stored items of the mean of the lower and the upper weighted median."""
    units = np.array(weights, dtype=np.int64)

    def compute(block: range) -> Floats:
        return _median(np.stack([read(vector, block) for vector in vectors]), units)

    return stored(compute, output)


def _median(thetas: Floats, weights: NDArray[np.int64]) -> Floats:
    """Return the weighted median of each column.

    SUBTLE: which of two equal values comes first depends on the algorithm that sorts, but
    neither median does: both look at where the cumulated weight passes a value.
    """
    order = np.argsort(thetas, axis=0, kind="stable")
    values = np.take_along_axis(thetas, order, axis=0)
    doubled = 2 * np.cumsum(weights[order], axis=0)
    total = int(weights.sum())
    lower = np.argmax(doubled >= total, axis=0)[np.newaxis]
    upper = np.argmax(doubled > total, axis=0)[np.newaxis]
    least, most = (np.take_along_axis(values, at, axis=0)[0] for at in (lower, upper))
    middle: Floats = (least + most) * 0.5
    return middle
