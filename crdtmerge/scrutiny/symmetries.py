"""Transforms that keep a model's function and make it unmergeable, seen in weights.

Owns what is measured of a tensor that lies far from the base's: whether its lines are
other lines of the base, or scaled ones, and whether its singular values are still the
base's. Does not own products of two tensors (`partners`), nor when a figure is worth a
word (`judging`).

Known transforms. Rearranged hidden units of an MLP and scaled attention heads: Junhao,
Zhe, Sakuma, "Disrupting Model Merging: A Parameter-Level Defense Without Sacrificing
Accuracy" (PaRaMS), arXiv:2503.07661. Invertible matrices between query and key, value
and output: Wang et al., "Model Unmerging: Making Your Models Unmergeable for Secure
Model Sharing" (MergeLock), arXiv:2509.01548. Each keeps what the model computes, and
moves its weights where an average with others is of no use. None hides: what a layer
computes with its partner stands still while each lies far off.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from crdtmerge.manifest import TensorEntry
from crdtmerge.numerics import Data, Floats, Items, row_products, symmetric_eigen
from crdtmerge.scrutiny.lines import (
    LENGTH_MIN,
    LINES_MAX,
    VALUES_MAX,
    LineFacts,
    compare,
    lines_of,
)
from crdtmerge.scrutiny.subjects import Weights

SHORT_MAX: Final = 1024
"""Shorter side up to which singular values are compared."""

NOT_MEASURED: Final = LineFacts(0, 0, 0, 0.0)
FIGURES: Final = 9
"""Numbers that `Symmetry.numbers` gives."""


@dataclass(frozen=True, slots=True)
class Symmetry:
    """What became of a matrix: of its rows, of what lies across, of its spectrum.

    `spectrum` is the length of the difference of squared singular values over the
    length of the base's; infinite where it was not looked at.
    """

    rows: LineFacts
    across: LineFacts
    spectrum: float

    @property
    def numbers(self) -> tuple[float, ...]:
        """It as numbers, to be kept."""
        sides = (self.rows, self.across)
        told = [(s.count, s.moved, s.scaled, s.found) for s in sides]
        return (*map(float, told[0]), *map(float, told[1]), self.spectrum)


def symmetry_of_numbers(numbers: tuple[float, ...]) -> Symmetry:
    """Return what `Symmetry.numbers` gave."""
    rows, across = (
        LineFacts(int(n[0]), int(n[1]), int(n[2]), n[3])
        for n in (numbers[:4], numbers[4:8])
    )
    return Symmetry(rows, across, numbers[8])


def symmetry_of(weights: Weights, entry: TensorEntry, base: Data) -> Symmetry:
    """Return what became of a matrix, or of a larger tensor as one."""
    ours = Items(base, entry.dtype)
    sides = [
        compare(lines_of(weights, entry, axis), lines_of(ours, entry, axis))
        if _has_lines(entry, axis)
        else NOT_MEASURED
        for axis in (0, 1)
    ]
    spectrum = np.inf
    if min(shape_of(entry)) <= SHORT_MAX and entry.items <= VALUES_MAX:
        theirs, before = _spectrum(weights, entry), _spectrum(ours, entry)
        spectrum = _length(theirs - before) / max(_length(before), np.nextafter(0, 1))
    return Symmetry(sides[0], sides[1], float(spectrum))


def shape_of(entry: TensorEntry) -> tuple[int, int]:
    """Return the shape of a tensor as a matrix of its rows."""
    return entry.shape[0], entry.items // entry.shape[0]


def _has_lines(entry: TensorEntry, axis: int) -> bool:
    """Tell whether lines are long enough to be told apart, and not too many."""
    count = entry.shape[axis]
    return entry.items // count >= LENGTH_MIN and count <= LINES_MAX


def _spectrum(weights: Weights, entry: TensorEntry) -> Floats:
    """Return the squared singular values, largest first."""
    rows = lines_of(weights, entry, 0)
    wide = rows if rows.shape[0] <= rows.shape[1] else np.ascontiguousarray(rows.T)
    values, _ = symmetric_eigen(row_products(wide))
    return values


def _length(values: Floats) -> float:
    total = 0.0
    for value in values.tolist():
        total += value * value
    return float(np.sqrt(total))
