"""What strategies measure, on the device: extremes, inner products, magnitudes.

Owns the device's forms of `inspect`, `inner_products`, `magnitude_sum`, `settle` and
`kept_of`. Does not own the tree (`reference.reductions`) nor its form here (`reductions`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement
from typing import Final

import numpy as np
import torch
from torch import Tensor

from crdtmerge.numerics.cuda.device import (
    blocks_of,
    current,
    moved,
    shared_step,
)
from crdtmerge.numerics.cuda.formats import Faults
from crdtmerge.numerics.cuda.reading import read, read_kept
from crdtmerge.numerics.cuda.reductions import block_sums, room_for
from crdtmerge.numerics.reference import measuring
from crdtmerge.numerics.reference.dtypes import (
    ITEM_BYTES,
    Data,
    Floats,
    Singles,
    TensorFacts,
    facts_of,
    item_count,
)
from crdtmerge.numerics.reference.masks import MASK_ITEMS, packed
from crdtmerge.numerics.reference.reductions import (
    BLOCK_ITEMS,
    tree_sums,
)
from crdtmerge.numerics.vectors import Keep, Settled, Tau, Vector

VECTORS_AT_ONCE: Final = 32
"""Vectors that are held at once; pairs across groups read them again."""

_MAGNITUDE_BUFFERS: Final = 4
"""What `magnitude_sum` holds of a vector: items, magnitudes, words, padding."""

_INTEGERS: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Pairs = list[tuple[int, int]]


def inspect(data: Data, dtype: str) -> TensorFacts:
    """Return whether all items are finite, and the exponent of the largest magnitude."""
    width = ITEM_BYTES[dtype]
    largest, mask = 0, (1 << (8 * width - 1)) - 1
    for block in blocks_of(range(item_count(data, dtype))):
        bits = moved(data, dtype, block).view(_INTEGERS[width]) & mask
        largest = max(largest, int(bits.amax()))
    return facts_of(largest, dtype)


def inner_products(
    vectors: Sequence[Vector], length: int, sets: range, exponent: int
) -> Floats:
    """Return (sets, n, n) inner products of n vectors, each cut in rows of `length`."""
    count, blocks = len(vectors), -(-length // BLOCK_ITEMS)
    matrices = np.empty((len(sets), count, count))
    faults = Faults()
    for group, pairs in _groups(count):
        sums = np.empty((len(sets), len(pairs), blocks))
        held = [vectors[place] for place in group]
        within = [(group.index(i), group.index(j)) for i, j in pairs]
        for rows, part in _cuts(len(sets), length, len(held) + len(pairs)):
            start = (sets.start + rows.start) * length + part.start
            items = range(start, start + len(rows) * len(part))
            values = [read(v, items, faults) * 2.0**-exponent for v in held]
            first = part.start // BLOCK_ITEMS
            found = _pair_sums(values, within, len(rows))
            sums[rows.start : rows.stop, :, first : first + found.shape[2]] = found
        totals = tree_sums(sums.reshape(len(sets) * len(pairs), blocks))
        columns = totals.reshape(len(sets), len(pairs)).T
        for (i, j), column in zip(pairs, columns, strict=True):
            matrices[:, i, j] = matrices[:, j, i] = column
    if faults.any():
        return measuring.inner_products(vectors, length, sets, exponent)
    return matrices


def _groups(count: int) -> Iterator[tuple[list[int], Pairs]]:
    """Yield which vectors are held together, and the pairs that are then summed."""
    step = VECTORS_AT_ONCE // 2
    cuts = [range(at, min(at + step, count)) for at in range(0, count, step)]
    for left, right in combinations_with_replacement(cuts, 2):
        group = list(left) if left == right else [*left, *right]
        yield group, [(i, j) for i in left for j in right if i <= j]


def _cuts(sets: int, length: int, held: int) -> Iterator[tuple[range, range]]:
    """Yield which rows, and which of their items, are worked on at once.

    These are several whole rows, or whole blocks of one.
    """
    room = room_for(held)
    if length <= room:
        for rows in blocks_of(range(sets), room // max(1, length)):
            yield rows, range(length)
        return
    for row in range(sets):
        for part in blocks_of(range(length), room):
            yield range(row, row + 1), part


def _pair_sums(values: Sequence[Tensor], pairs: Pairs, rows: int) -> Floats:
    """Return the sums of blocks of the products of pairs: (rows, pairs, blocks)."""
    products = torch.stack([values[i] * values[j] for i, j in pairs])
    sums = block_sums(products.view(len(pairs) * rows, -1))
    found: Floats = sums.view(len(pairs), rows, -1).transpose(0, 1).cpu().numpy()
    return found


def magnitude_sum(tau: Tau, keep: Keep) -> float:
    """Return the sum of the magnitudes of the items that stay, along the tree."""
    faults = Faults()
    sums = [torch.zeros((1, 0), dtype=torch.float64, device=current())]
    for part in blocks_of(range(tau.count), room_for(_MAGNITUDE_BUFFERS)):
        magnitudes = read_kept(tau, keep, part, faults).abs()
        sums.append(block_sums(magnitudes[None]))
    if faults.any():
        return measuring.magnitude_sum(tau, keep)
    return float(tree_sums(torch.cat(sums, dim=1).cpu().numpy())[0])


def settle(tau: Tau, keep: Keep) -> Settled:
    """Return a rule with its answers, and the sums of magnitudes of all and of the kept."""
    masks, faults = [], Faults()
    for part in blocks_of(range(tau.count), _step_of(keep)):
        kept = read_kept(tau, keep, part, faults)
        masks.append(packed((kept != 0).cpu().numpy()))
    if faults.any():
        return measuring.settle(tau, keep)
    decided = replace(keep, mask=b"".join(masks))
    return Settled(decided, magnitude_sum(tau, Keep()), magnitude_sum(tau, decided))


def kept_of(tau: Tau, keep: Keep, part: range) -> Singles:
    """Return the items of `part` that stay as float32, the others +0."""
    found, faults = np.empty(len(part), np.float32), Faults()
    for block in blocks_of(part, _step_of(keep)):
        cut = slice(block.start - part.start, block.stop - part.start)
        found[cut] = read_kept(tau, keep, block, faults).cpu().numpy()
    return measuring.kept_of(tau, keep, part) if faults.any() else found


def _step_of(keep: Keep) -> int:
    """Return how many items are read at once: blocks of masks, and about whole rows."""
    row = keep.chances.row if keep.chances is not None else 1
    items = max(shared_step(_MAGNITUDE_BUFFERS), row)
    return max(1, items // MASK_ITEMS) * MASK_ITEMS
