"""Sums on the grid and what ends in them, block by block on the device.

Owns the device's forms of `weighted_sum`, `thinned_sum` and `consensus`, and storing a
result. Does not own their meaning (`reference.merging`).

Votes are two sums, of the products of either sign, so that each vector is read and drawn
once: what is elected is the sign of both together, what agrees is one of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics.contract import LIMB_BITS
from crdtmerge.numerics.cuda.device import (
    blocks_of,
    current,
    divided,
    number,
)
from crdtmerge.numerics.cuda.formats import Faults, downcast
from crdtmerge.numerics.cuda.reading import read, read_kept
from crdtmerge.numerics.reference import merging
from crdtmerge.numerics.reference.dtypes import ITEM_BYTES, TAU_BITS, Data
from crdtmerge.numerics.reference.grid import (
    ROUNDING_SHIFT,
    VALUE_SPLIT_MASK,
    Grid,
    pieces,
    split_weight,
)
from crdtmerge.numerics.vectors import Items, Output, Voter, Weighed

_SPLIT: Final = int(VALUE_SPLIT_MASK) - (1 << 64)
"""The mask as a signed number."""


def stored(
    compute: Callable[[range, Faults], Tensor], output: Output, step: int = 0
) -> memoryview | None:
    """Return what is computed block by block, rounded once; None if something is wrong."""
    width = ITEM_BYTES[output.dtype]
    made = np.empty(len(output.part) * width, np.uint8)
    faults, origin = Faults(), output.part.start
    for block in blocks_of(output.part, step):
        items = downcast(compute(block, faults), output.dtype, faults)
        place = (block.start - origin) * width
        made[place : place + len(block) * width] = items.cpu().numpy()
    return None if faults.any() else made.data


@dataclass(frozen=True, slots=True)
class _Sum:
    """A sum on the grid: C of each limb, and the limbs."""

    shifts: list[float]
    limbs: list[Tensor]

    def put(self, parts: Sequence[Tensor]) -> None:
        """Add what `on_grid` made."""
        for limb, part in zip(self.limbs, parts, strict=True):
            limb.add_(part)  # exact

    def total(self) -> Tensor:
        """Return the sum: the limbs added with one rounding."""
        return self.limbs[0] if len(self.limbs) == 1 else self.limbs[0] + self.limbs[1]


def _empty(grid: Grid, items: int) -> _Sum:
    device = current()
    return _Sum(
        [
            ROUNDING_SHIFT * 2.0 ** (grid.step_exponent - LIMB_BITS * limb)
            for limb in range(grid.limbs)
        ],
        [
            torch.zeros(items, dtype=torch.float64, device=device)
            for _ in range(grid.limbs)
        ],
    )


def _on_grid(values: Tensor, factor: int, shifts: Sequence[float]) -> list[Tensor]:
    """Return the parts of values * factor that each limb takes."""
    rest, parts = values * float(factor), []
    for shift in shifts:
        parts.append((rest + shift) - shift)
        if len(parts) < len(shifts):
            rest = rest - parts[-1]  # exact: what the limb left over
    return parts


def _products(
    values: Tensor, weight: int, significand_bits: int
) -> Iterator[tuple[Tensor, int]]:
    """Yield the exact products that weight * values is a sum of, as `GridSum` has them."""
    number = pieces(weight, significand_bits)
    factors = (weight,) if number == 1 else split_weight(weight)
    halves = [values]
    if number == 4:
        high = (values.view(torch.int64) & _SPLIT).view(torch.float64)
        halves = [high, values - high]
    for half in halves:
        yield from ((half, factor) for factor in factors if factor)


def weighted_sum(
    terms: Sequence[Weighed], divisor: int, grid: Grid, output: Output
) -> Data:
    """Return the stored items of sum(weight * vector) / divisor."""

    def compute(block: range, faults: Faults) -> Tensor:
        total = _empty(grid, len(block))
        for term in terms:
            bits = term.vector.significand_bits
            values = read(term.vector, block, faults)
            for half, factor in _products(values, term.weight, bits):
                total.put(_on_grid(half, factor, total.shifts))
        return divided(total.total(), float(divisor))

    made = stored(compute, output)
    return merging.weighted_sum(terms, divisor, grid, output) if made is None else made


def thinned_sum(
    base: Items, voters: Sequence[Voter], divisor: int, grid: Grid, output: Output
) -> Data:
    """Return the stored items of base + sum(coefficient * kept tau) / divisor."""

    def compute(block: range, faults: Faults) -> Tensor:
        total = _empty(grid, len(block))
        for voter in voters:
            tau = read_kept(voter.tau, voter.keep, block, faults)
            for half, factor in _products(tau, voter.coefficient, TAU_BITS):
                total.put(_on_grid(half, factor, total.shifts))
        return read(base, block, faults) + divided(total.total(), float(divisor))

    made = stored(compute, output)
    if made is None:
        return merging.thinned_sum(base, voters, divisor, grid, output)
    return made


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

    def compute(block: range, faults: Faults) -> Tensor:
        votes = _Votes.none(grid, len(block))
        for voter in voters:
            votes.add(read_kept(voter.tau, voter.keep, block, faults), voter)
        return read(base, block, faults) + votes.elected(normalize=normalize) * scale

    made = stored(compute, output)
    if made is None:
        return merging.consensus(
            base, voters, grid, output, scale=scale, normalize=normalize
        )
    return made


@dataclass(slots=True)
class _Votes:
    """What counts as + and as -: sums of products, and the weights that went into each."""

    plus: _Sum
    minus: _Sum
    plus_weight: Tensor
    minus_weight: Tensor

    @classmethod
    def none(cls, grid: Grid, items: int) -> "_Votes":
        """Return the state before any vote."""
        plus, minus = _empty(grid, items), _empty(grid, items)
        weights = [torch.zeros_like(plus.limbs[0]) for _ in range(2)]
        return cls(plus, minus, *weights)

    def add(self, tau: Tensor, voter: Voter) -> None:
        """Add a voter: the side of an item is the sign of weight * tau.

        A voter whose coefficient is 0 adds its weight all the same.
        """
        above, below = tau > 0, tau < 0
        if voter.weight <= 0:
            above, below = below, above
        for half, factor in _products(tau, voter.coefficient, TAU_BITS):
            parts = _on_grid(half, factor, self.plus.shifts)
            self.plus.put([torch.where(above, part, 0.0) for part in parts])
            self.minus.put([torch.where(below, part, 0.0) for part in parts])
        weight = number(float(voter.weight))
        self.plus_weight += torch.where(above, weight, 0.0)
        self.minus_weight += torch.where(below, weight, 0.0)

    def elected(self, *, normalize: bool) -> Tensor:
        """Return the mean (or sum) of what has the elected sign."""
        both = [a + b for a, b in zip(self.plus.limbs, self.minus.limbs, strict=True)]
        positive = _Sum(self.plus.shifts, both).total() >= 0
        total = torch.where(positive, self.plus.total(), self.minus.total())
        if not normalize:
            return divided(total, float(DECIMAL_UNIT))
        weight = torch.where(positive, self.plus_weight, self.minus_weight)
        return total / torch.where(weight == 0, number(DECIMAL_UNIT), weight)
