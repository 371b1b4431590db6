"""Pairs of matrices whose product is what counts: it stands still while both are far off.

Owns which pairs of a base's tensors there are, and how far a product moved. Does not own
single matrices (`symmetries`), nor what follows (`judging`).

Between two matrices that meet in one dimension any invertible matrix may be slipped in
and taken out again: queries and keys meet in their rows, so Wq' Wk counts; values and
the output, the two halves of an MLP, one layer and the next meet in rows of the first
and columns of the second, so Wo Wv counts. (Between the halves of an MLP a permutation
or, with ReLU, a positive scale.) Pairs are found by shapes within one numbered layer,
and from one layer to the next; names give them a word and no more. Where one side is a
multiple of the other (grouped queries, a flattened convolution), each line or run of
lines of the shorter is repeated.

No product is made: both are seen through a few random columns (`probing`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Final

import numpy as np

from crdtmerge.manifest import TensorEntry
from crdtmerge.numerics import Data, Floats, Items, matmul
from crdtmerge.rules import split_layer
from crdtmerge.scrutiny.lines import LINES_MAX, lines_of
from crdtmerge.scrutiny.probing import columns, relative
from crdtmerge.scrutiny.subjects import Company, Weights

RUNS: Final = (1, 4, 8, 16, 32, 64, 80, 96, 112, 128, 160, 192, 256)
"""Lines that are repeated together where one side is longer: widths of heads."""

PAIRS_OF_LAYER_MAX: Final = 64
"""Pairs that one layer gives; models have up to 30."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two tensors that meet: rows of `first` with lines of `second` on `axis`."""

    first: TensorEntry
    second: TensorEntry
    axis: int


@dataclass(frozen=True, slots=True)
class Side:
    """Both tensors of a pair, of one model."""

    first: Weights
    second: Weights


def pairs_of(company: Company) -> tuple[Pair, ...]:
    """Return the pairs of matrices of a base that may hide something between them."""
    layers: dict[tuple[str, int], list[TensorEntry]] = {}
    for entry in company.tensors:
        if len(entry.shape) >= 2 and max(entry.shape[:2]) <= LINES_MAX:
            stack, number, _ = split_layer(entry.name) or ("", 0, "")
            layers.setdefault((stack, number), []).append(entry)
    found: list[Pair] = []
    for (stack, number), entries in sorted(layers.items()):
        inside = [
            pair
            for one, other in permutations(entries, 2)
            for pair in _meetings(one, other, rows=one.name < other.name)
        ]
        found += inside[:PAIRS_OF_LAYER_MAX]
        following = layers.get((stack, number + 1), [])
        across = [
            pair
            for one in entries
            for other in following
            for pair in _meetings(one, other, rows=False)
        ]
        found += across[:PAIRS_OF_LAYER_MAX]
    return tuple(found)


def _meetings(one: TensorEntry, other: TensorEntry, *, rows: bool) -> Iterator[Pair]:
    """Yield how rows of `one` may meet rows or columns of `other`, by their sizes."""
    if rows and one.shape[0] and _fits(one.shape[0], other.shape[0]):
        yield Pair(one, other, 0)
    if _fits(one.shape[0], other.shape[1]):
        yield Pair(one, other, 1)


def _fits(one: int, other: int) -> bool:
    return min(one, other) > 1 and max(one, other) % min(one, other) == 0


def change_of(pair: Pair, theirs: Side, base: Side) -> float:
    """Return how far the product moved, over its length: the least over ways to repeat."""
    first, second = (_lines(pair, side) for side in (theirs, base))
    return min(
        (
            relative(_probed(*first, run), _probed(*second, run))
            for run in _runs(len(first[0]), len(first[1]))
        ),
        default=np.inf,
    )


def base_side(pair: Pair, first: Data, second: Data) -> Side:
    """Return a pair of the base's own tensors."""
    return Side(Items(first, pair.first.dtype), Items(second, pair.second.dtype))


def _lines(pair: Pair, side: Side) -> tuple[Floats, Floats]:
    return (
        lines_of(side.first, pair.first, 0),
        lines_of(side.second, pair.second, pair.axis),
    )


def _runs(one: int, other: int) -> Sequence[int]:
    shorter = min(one, other)
    return RUNS[:1] if one == other else [run for run in RUNS if shorter % run == 0]


def _probed(one: Floats, other: Floats, run: int) -> Floats:
    """Return one' (other @ random), the shorter side's lines repeated in runs."""
    if len(one) > len(other):
        one, other = other, one
    inner = matmul(one, columns(one.shape[1]))
    times = len(other) // len(one)
    if times > 1:
        table = inner.reshape(-1, 1, run, inner.shape[1])
        inner = np.repeat(table, times, axis=1).reshape(len(other), -1)
    return matmul(np.ascontiguousarray(other.T), inner)
