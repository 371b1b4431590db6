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

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Final, TypeAlias

import numpy as np

from crdtmerge.manifest import TensorEntry
from crdtmerge.numerics import Floats, matmul, sliced
from crdtmerge.numerics.reference.gemm import Sliced
from crdtmerge.rules import split_layer
from crdtmerge.scrutiny.lines import LINES_MAX, lines_of
from crdtmerge.scrutiny.probing import columns, relative
from crdtmerge.scrutiny.subjects import Company, Weights

RUNS: Final = (1, 4, 8, 16, 32, 64, 80, 96, 112, 128, 160, 192, 256)
"""Lines that are repeated together where one side is longer: widths of heads."""

PART: Final = 1 << 21
"""Values of a tensor that are looked at along an axis: a part of each line of larger
ones.
"""

PAIRS_OF_LAYER_MAX: Final = 64
"""Pairs that one layer gives; models have up to 30."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two tensors that meet: rows of `first` with lines of `second` on `axis`."""

    first: TensorEntry
    second: TensorEntry
    axis: int


Both: TypeAlias = tuple[Weights, Weights]
"""A tensor of a contribution, and the base's own."""


@dataclass(frozen=True, slots=True)
class _View:
    """Lines as products need them: cut across for exact products, and times the draw."""

    count: int
    across: Sliced
    drawn: Floats


def pairs_of(company: Company) -> tuple[Pair, ...]:
    """Return the pairs of matrices of a base that may hide something between them."""
    layers: dict[tuple[str, int], list[TensorEntry]] = {}
    for entry in company.tensors:
        if len(entry.shape) >= 2 and max(entry.shape[:2]) <= LINES_MAX:
            layers.setdefault(_layer(entry.name), []).append(entry)
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


def _layer(name: str) -> tuple[str, int]:
    """Return the stack and number of a tensor's layer; those of none are one."""
    split = split_layer(name)
    return split[:2] if split else ("", 0)


def _meetings(one: TensorEntry, other: TensorEntry, *, rows: bool) -> Iterator[Pair]:
    """Yield how rows of `one` may meet rows or columns of `other`, by their sizes."""
    if rows and one.shape[0] and _fits(one.shape[0], other.shape[0]):
        yield Pair(one, other, 0)
    if _fits(one.shape[0], other.shape[1]):
        yield Pair(one, other, 1)


def _fits(one: int, other: int) -> bool:
    return min(one, other) > 1 and max(one, other) % min(one, other) == 0


def groups_of(pairs: Sequence[Pair], numbers: Iterable[int]) -> list[tuple[int, ...]]:
    """Return some of the pairs, by their numbers, in groups that share tensors."""
    groups: dict[tuple[tuple[str, int], ...], list[int]] = {}
    for number in numbers:
        pair = pairs[number]
        key = tuple(_layer(entry.name) for entry in (pair.first, pair.second))
        groups.setdefault(key, []).append(number)
    return [tuple(found) for found in groups.values()]


def changes_of_products(
    pairs: Iterable[Pair], read: Callable[[TensorEntry], Both]
) -> list[float]:
    """Return how far each product moved, over its length: least over ways to repeat.

    Each tensor is read once, and cut once along each axis that is asked for.
    """
    tensors: dict[str, Both] = {}
    views: dict[tuple[str, int], tuple[_View, _View]] = {}

    def view(entry: TensorEntry, axis: int) -> tuple[_View, _View]:
        if entry.name not in tensors:
            tensors[entry.name] = read(entry)
        key = entry.name, axis
        if key not in views:
            theirs, base = tensors[entry.name]
            views[key] = _view(theirs, entry, axis), _view(base, entry, axis)
        return views[key]

    return [_change(view(p.first, 0), view(p.second, p.axis)) for p in pairs]


def _view(weights: Weights, entry: TensorEntry, axis: int) -> _View:
    lines = lines_of(weights, entry, axis)[:, : max(1, PART // entry.shape[axis])]
    across = sliced(np.ascontiguousarray(lines.T))
    return _View(len(lines), across, matmul(lines, columns(lines.shape[1])))


def _change(first: tuple[_View, _View], second: tuple[_View, _View]) -> float:
    longer, shorter = first, second
    if first[0].count < second[0].count:
        longer, shorter = second, first
    return min(
        (
            relative(*map(partial(_probed, run=run), longer, shorter))
            for run in _runs(longer[0].count, shorter[0].count)
        ),
        default=np.inf,
    )


def _runs(one: int, other: int) -> Sequence[int]:
    shorter = min(one, other)
    return RUNS[:1] if one == other else [run for run in RUNS if shorter % run == 0]


def _probed(longer: _View, shorter: _View, *, run: int) -> Floats:
    """Return longer' (shorter @ random), the shorter side's lines repeated in runs."""
    drawn, times = shorter.drawn, longer.count // shorter.count
    if times > 1:
        table = drawn.reshape(-1, 1, run, drawn.shape[1])
        drawn = np.repeat(table, times, axis=1).reshape(longer.count, -1)
    return matmul(longer.across, drawn)
