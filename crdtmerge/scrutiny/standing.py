"""Where a contribution stands among the others: distance, direction, and robust scores.

Owns statistics of a few numbers: medians, and distances in units of the median
deviation. Does not own the figures (`measuring`), nor from where on one is worth a word
(`judging`). Medians are of the others alone, so that who is judged does not move the
measure; they bear that nearly half of the others are as odd.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from crdtmerge.numerics import Floats, median
from crdtmerge.scrutiny.measuring import OTHERS_MIN, Measured

SPREAD_MIN: Final = 4
"""Others from which their spread is a measure; below, only the ratio is."""

DEVIATION: Final = 1.4826
"""Median deviation times this is the standard deviation of normally spread numbers."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One contribution over some tensors; None is what cannot be said with so few others.

    `relative` is the length of its task vector over the base's; `ratio` that over the
    median of the others' and `score` its distance from it in units of their spread.
    `agreement` is the median of its cosines with the others, `typical` that of theirs
    with one another.
    """

    relative: float
    ratio: float | None
    score: float | None
    agreement: float | None
    typical: float | None


@dataclass(frozen=True, slots=True)
class Among:
    """Products summed over some tensors, (n + 1, n + 1), and who counts.

    `lengths` (n) and `cosines` (n, n) of the task vectors follow from them; the cosine with
    one of zeros is zero.
    """

    products: Floats
    counted: tuple[int, ...]
    lengths: Floats
    cosines: Floats

    def cosine(self, one: int, other: int) -> float:
        """Return the cosine of two task vectors; zero where one is zero."""
        return float(self.cosines[one, other])

    def factor(self, one: int, other: int) -> float:
        """Return c of the multiple c * `other` that is nearest to `one`."""
        square = float(self.products[other + 1, other + 1])
        return float(self.products[one + 1, other + 1]) / square if square > 0 else 0.0

    def others(self, place: int) -> list[int]:
        """Return who else moved anything here."""
        counted = self.counted
        return [other for other in counted if other != place and self.lengths[other]]

    def standing(self, place: int) -> Standing:
        """Return where a contribution stands."""
        base = math.sqrt(float(self.products[0, 0]))
        own, others = float(self.lengths[place]), self.others(place)
        relative = own / base if base > 0.0 else (math.inf if own else 0.0)
        if len(others) < OTHERS_MIN:
            return Standing(relative, None, None, None, None)
        theirs = self.lengths[others].tolist()
        table = self.cosines[np.ix_(others, others)]
        pairs = table[np.triu_indices(len(others), 1)]
        return Standing(
            relative,
            own / middle(theirs),
            score(own, theirs),
            middle(self.cosines[place, others].tolist()) if own else None,
            middle(pairs.tolist()),
        )


def among(measured: Measured, tensors: Sequence[int]) -> Among:
    """Return what is known of all over some tensors, those not measured left out."""
    known = [t for t in tensors if not np.isnan(measured.products[t, 0, 0])]
    size = len(measured.company.subjects)
    table = np.zeros((size + 1, size + 1))
    counted = counted_of(measured)
    rows = [0, *(place + 1 for place in counted)]
    width = (size + 1) * (size + 1)
    columns = measured.products[known].reshape(len(known), width).T.tolist()
    for i in rows:
        for j in rows:
            table[i, j] = math.fsum(columns[i * (size + 1) + j])
    lengths = np.sqrt(np.diagonal(table)[1:])
    scale = lengths[:, np.newaxis] * lengths
    there = scale > 0.0
    cosines = np.where(there, table[1:, 1:] / np.where(there, scale, 1.0), 0.0)
    return Among(table, counted, lengths, cosines)


def counted_of(measured: Measured) -> tuple[int, ...]:
    """Return the places of those of whom there are figures."""
    subjects = enumerate(measured.company.subjects)
    return tuple(p for p, s in subjects if s.content not in measured.faulty)


def middle(values: Sequence[float]) -> float:
    """Return the median of some numbers."""
    return median(np.array(values, np.float64))


def score(value: float, others: Sequence[float]) -> float | None:
    """Return how far a number is from the others' median, in units of their spread.

    None where they are too few, or all alike.
    """
    centre = middle(others)
    spread = DEVIATION * middle([abs(other - centre) for other in others])
    if len(others) < SPREAD_MIN or spread == 0.0:
        return None
    return (value - centre) / spread
