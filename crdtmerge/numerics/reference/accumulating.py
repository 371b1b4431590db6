"""The sums that merges are made of, as planes that can be kept and gone on with.

Owns putting contributions on planes, and what is read off planes at the end. Does not own
the grid (`grid`), nor adding planes to planes: they are exact, so NumPy's + and - do.

A merge is `finish_*` of `*_planes` of all its contributions. A set that is one
contribution larger has these planes plus that one's.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics.reference.dtypes import TAU_BITS, Data, Floats
from crdtmerge.numerics.reference.grid import Grid, GridSum, divide, total_of
from crdtmerge.numerics.reference.reading import (
    parts_of,
    read,
    read_kept,
    step_of,
    stored,
)
from crdtmerge.numerics.vectors import Items, Output, Planes, Voter, Weighed

SIDES: Final = 2
"""Plus and minus."""


def sum_rows(grid: Grid) -> int:
    """Return how many planes a sum has."""
    return grid.limbs


def vote_rows(grid: Grid) -> int:
    """Return how many planes votes have: on each side the limbs, and the weights."""
    return SIDES * (grid.limbs + 1)


def sum_planes(terms: Sequence[Weighed], grid: Grid, part: range) -> Planes:
    """Return the planes of sum(weight * vector)."""
    planes = np.zeros((sum_rows(grid), len(part)))
    for block in parts_of(part):
        planes[:, _within(part, block)] = terms_on_grid(terms, grid, block)
    return planes


def thinned_planes(voters: Sequence[Voter], grid: Grid, part: range) -> Planes:
    """Return the planes of sum(coefficient * kept tau)."""
    planes = np.zeros((sum_rows(grid), len(part)))
    for block in parts_of(part, step_of(v.keep for v in voters)):
        planes[:, _within(part, block)] = thinned_on_grid(voters, grid, block)
    return planes


def vote_planes(voters: Sequence[Voter], grid: Grid, part: range) -> Planes:
    """Return the planes of what votes plus, what votes minus, and their weights."""
    planes = np.zeros((vote_rows(grid), len(part)))
    for block in parts_of(part, step_of(v.keep for v in voters)):
        planes[:, _within(part, block)] = votes_on_grid(voters, grid, block)
    return planes


def finish_sum(
    planes: Planes, terms: Sequence[Weighed], divisor: int, grid: Grid, output: Output
) -> Data:
    """Return the stored items of (the sum + sum(weight * vector)) / divisor."""

    def compute(block: range) -> Floats:
        more = terms_on_grid(terms, grid, block)
        return divide(total_of(planes[:, _within(output.part, block)] + more), divisor)

    return stored(compute, output)


def finish_thinned(
    base: Items, planes: Planes, divisor: int, grid: Grid, output: Output
) -> Data:
    """Return the stored items of base + the sum / divisor."""
    del grid  # its limbs are the planes

    def compute(block: range) -> Floats:
        total = total_of(planes[:, _within(output.part, block)])
        return read(base, block) + divide(total, divisor)

    return stored(compute, output)


def finish_votes(
    base: Items,
    planes: Planes,
    grid: Grid,
    output: Output,
    *,
    scale: float,
    normalize: bool,
) -> Data:
    """Return the stored items of base + scale * the disjoint mean of the votes."""

    def compute(block: range) -> Floats:
        cut = planes[:, _within(output.part, block)]
        return read(base, block) + disjoint(cut, grid, normalize=normalize) * scale

    return stored(compute, output)


def terms_on_grid(terms: Sequence[Weighed], grid: Grid, block: range) -> Planes:
    """Return the planes of sum(weight * vector), for one block."""
    planes = np.zeros((sum_rows(grid), len(block)))
    total = GridSum(grid, len(block), planes)
    for term in terms:
        vector = term.vector
        total.add(read(vector, block), term.weight, vector.significand_bits)
    return planes


def thinned_on_grid(voters: Sequence[Voter], grid: Grid, block: range) -> Planes:
    """Return the planes of sum(coefficient * kept tau), for one block."""
    planes = np.zeros((sum_rows(grid), len(block)))
    total = GridSum(grid, len(block), planes)
    for voter in voters:
        tau = read_kept(voter.tau, voter.keep, block)
        total.add(tau, voter.coefficient, TAU_BITS)
    return planes


def votes_on_grid(voters: Sequence[Voter], grid: Grid, block: range) -> Planes:
    """Return the planes of the votes, for one block."""
    planes = np.zeros((vote_rows(grid), len(block)))
    *limbs, weights = _sides(planes, grid)
    totals = [GridSum(grid, len(block), side) for side in limbs]
    for voter in voters:
        tau = read_kept(voter.tau, voter.keep, block)
        for total, weight, agrees in zip(
            totals, weights, _signs(tau, voter), strict=True
        ):
            total.add(np.where(agrees, tau, 0.0), voter.coefficient, TAU_BITS)
            np.add(weight, np.where(agrees, float(voter.weight), 0.0), out=weight)
    return planes


def disjoint(planes: Planes, grid: Grid, *, normalize: bool) -> Floats:
    """Return the mean (or sum) of what has the elected sign, for one block."""
    plus, minus, weights = _sides(planes, grid)
    positive = total_of(plus + minus) >= 0
    total = np.where(positive, total_of(plus), total_of(minus))
    if not normalize:
        return divide(total, DECIMAL_UNIT)
    weight = np.where(positive, weights[0], weights[1])
    mean: Floats = total / np.where(weight == 0, float(DECIMAL_UNIT), weight)
    return mean


def _sides(planes: Planes, grid: Grid) -> tuple[Planes, Planes, Planes]:
    """Return the limbs of plus, those of minus, and the weights of both."""
    limbs = grid.limbs
    return planes[:limbs], planes[limbs : SIDES * limbs], planes[SIDES * limbs :]


def _signs(tau: Floats, voter: Voter) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which items vote plus, and which minus: the sign is that of weight * tau."""
    return (tau > 0, tau < 0) if voter.weight > 0 else (tau < 0, tau > 0)


def _within(part: range, block: range) -> slice:
    return slice(block.start - part.start, block.stop - part.start)
