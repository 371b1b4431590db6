"""The merges that strategies end in, each one pass over its inputs.

Owns the weighted sum, the thinned sum, sign election with the disjoint mean, and the
weighted median: read, sum on the grid, divide, round once. Does not own which weights or
thresholds a strategy takes, nor the grid (`grid`).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics.reference.dtypes import TAU_BITS, Data, Floats, downcast
from crdtmerge.numerics.reference.grid import Grid, GridSum, divide
from crdtmerge.numerics.reference.reading import parts_of, read, read_kept
from crdtmerge.numerics.vectors import Items, Output, Vector, Voter, Weighed


def weighted_sum(
    terms: Sequence[Weighed], divisor: int, grid: Grid, output: Output
) -> Data:
    """Return the stored items of sum(weight * vector) / divisor."""

    def compute(block: range) -> Floats:
        total = GridSum(grid, len(block))
        for term in terms:
            vector = term.vector
            total.add(read(vector, block), term.weight, vector.significand_bits)
        return divide(total.total(), divisor)

    return _stored(compute, output)


def thinned_sum(
    base: Items,
    voters: Sequence[Voter],
    divisor: int,
    grid: Grid,
    output: Output,
) -> Data:
    """Return the stored items of base + sum(coefficient * kept tau) / divisor."""

    def compute(block: range) -> Floats:
        total = GridSum(grid, len(block))
        for voter in voters:
            tau = read_kept(voter.tau, voter.keep, block)
            total.add(tau, voter.coefficient, TAU_BITS)
        return read(base, block) + divide(total.total(), divisor)

    return _stored(compute, output)


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
        votes = [(read_kept(v.tau, v.keep, block), v) for v in voters]
        mean = _disjoint(grid, len(block), votes, normalize=normalize)
        mean *= scale
        return read(base, block) + mean

    return _stored(compute, output)


def _disjoint(
    grid: Grid, items: int, votes: Sequence[tuple[Floats, Voter]], *, normalize: bool
) -> Floats:
    """Return the mean (or sum) of what has the elected sign, for one block."""
    elected = GridSum(grid, items)
    for tau, voter in votes:
        elected.add(tau, voter.coefficient, TAU_BITS)
    positive = elected.total() >= 0
    agreed, weight = GridSum(grid, items), np.zeros(items)
    for tau, voter in votes:
        # The sign that counts is that of weight * tau.
        wanted = positive if voter.weight > 0 else ~positive
        agrees = np.where(wanted, tau > 0, tau < 0)
        agreed.add(np.where(agrees, tau, 0.0), voter.coefficient, TAU_BITS)
        weight += np.where(agrees, float(voter.weight), 0.0)  # exact integers
    total = agreed.total()
    if not normalize:
        return divide(total, DECIMAL_UNIT)
    mean: Floats = total / np.where(weight == 0, float(DECIMAL_UNIT), weight)
    return mean


def weighted_median(
    vectors: Sequence[Vector],
    weights: Sequence[int],
    output: Output,
) -> Data:
    """Return the stored items of the mean of the lower and the upper weighted median."""
    units = np.array(weights, dtype=np.int64)

    def compute(block: range) -> Floats:
        return _median(np.stack([read(vector, block) for vector in vectors]), units)

    return _stored(compute, output)


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


def _stored(compute: Callable[[range], Floats], output: Output) -> Data:
    """Return what is computed block by block, rounded once at the end.

    Raises:
        ContractError: a result is beyond the output dtype.
    """
    return b"".join(
        downcast(compute(block), output.dtype, output.name)
        for block in parts_of(output.part)
    )
