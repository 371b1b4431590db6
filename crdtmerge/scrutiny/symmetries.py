"""Transforms that keep a model's function and make it unmergeable, seen in weights.

Owns what is measured of a tensor that lies far from the base's: whether its lines are
other lines of the base, scaled ones, or all of them turned into one another. Does not own
products of two tensors (`partners`), nor when a figure is worth a word (`disguises`).

Known transforms. Rearranged hidden units of an MLP and scaled attention heads: Junhao,
Zhe, Sakuma, "Disrupting Model Merging: A Parameter-Level Defense Without Sacrificing
Accuracy" (PaRaMS), arXiv:2503.07661. Invertible matrices between query and key, value
and output: Wang et al., "Model Unmerging: Making Your Models Unmergeable for Secure
Model Sharing" (MergeLock), arXiv:2509.01548. Each keeps what the model computes, and
moves its weights where an average with others is of no use. None hides: what a layer
computes with its partner stands still while each lies far off.

A matrix that is turned from one side, R W with R orthogonal, has W' W unchanged, and so
its singular values. These alone are not looked at: another draw of the same random matrix
has nearly the same.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from crdtmerge.manifest import TensorEntry
from crdtmerge.numerics import Data, Items
from crdtmerge.scrutiny.lines import (
    LENGTH_MIN,
    LINES_MAX,
    LineFacts,
    compare,
    lines_of,
)
from crdtmerge.scrutiny.subjects import Weights

NOT_MEASURED: Final = LineFacts(0, 0, 0, 0.0, np.inf)
FIGURES: Final = 10
"""Numbers that `Symmetry.numbers` gives."""


@dataclass(frozen=True, slots=True)
class Symmetry:
    """What became of a matrix: of its rows, and of what lies across."""

    rows: LineFacts
    across: LineFacts

    @property
    def numbers(self) -> tuple[float, ...]:
        """It as numbers, to be kept."""
        return tuple(
            float(number)
            for side in (self.rows, self.across)
            for number in (side.count, side.moved, side.scaled, side.found, side.mixed)
        )


def symmetry_of_numbers(numbers: tuple[float, ...]) -> Symmetry:
    """Return what `Symmetry.numbers` gave."""
    rows, across = (
        LineFacts(int(n[0]), int(n[1]), int(n[2]), n[3], n[4])
        for n in (numbers[:5], numbers[5:])
    )
    return Symmetry(rows, across)


def symmetry_of(weights: Weights, entry: TensorEntry, base: Data) -> Symmetry:
    """Return what became of a matrix, or of a larger tensor as one."""
    ours = Items(base, entry.dtype)
    sides = [
        compare(lines_of(weights, entry, axis), lines_of(ours, entry, axis))
        if _has_lines(entry, axis)
        else NOT_MEASURED
        for axis in (0, 1)
    ]
    return Symmetry(*sides)


def shape_of(entry: TensorEntry) -> tuple[int, int]:
    """Return the shape of a tensor as a matrix of its rows."""
    return entry.shape[0], entry.items // entry.shape[0]


def _has_lines(entry: TensorEntry, axis: int) -> bool:
    """Tell whether lines are long enough to be told apart, and not too many."""
    count = entry.shape[axis]
    return entry.items // count >= LENGTH_MIN and count <= LINES_MAX
