"""Bit patterns of items, and what is left of them once the base's are taken away.

Owns the steps and their inverses, exact for any bits. Does not own how the result is kept.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = bytes | bytearray | memoryview
Items: TypeAlias = NDArray[np.unsignedinteger[Any]]
Step: TypeAlias = Callable[[Items, Items], Items]


def items_of(data: Bytes, width: int) -> Items:
    """Return the whole items of `data` as bit patterns."""
    count = len(data) // width
    items: Items = np.frombuffer(data, f"<u{width}", count)
    return items


def xor(items: Items, base: Items) -> Items:
    """Return the bits in which items differ; its own inverse."""
    return items ^ base


def difference(items: Items, base: Items) -> Items:
    """Return the zigzag of the wrapping differences: 0, -1, 1, -2, ... as 0, 1, 2, 3."""
    moved = _ordered(items)
    moved -= _ordered(base)
    sign = _negated(shifted_right(moved, 8 * moved.itemsize - 1))
    moved += moved
    moved ^= sign
    return moved


def undo_difference(zigzag: Items, base: Items) -> Items:
    """Return the items of which `difference` made this."""
    sign = _negated(zigzag & zigzag.dtype.type(1))
    moved = shifted_right(zigzag, 1)
    moved ^= sign
    moved += _ordered(base)
    return _unordered(moved)


def grouped(items: Items, base: Items) -> Items:
    """Return the differences, sorted by the exponents of the base."""
    grouped: Items = difference(items, base)[_order(base)]
    return grouped


def undo_grouped(grouped: Items, base: Items) -> Items:
    """Return the items of which `grouped` made this."""
    zigzag = np.empty_like(grouped)
    zigzag[_order(base)] = grouped
    return undo_difference(zigzag, base)


def _order(base: Items) -> NDArray[np.intp]:
    """Return the stable order of items by the eight bits below their sign.

    They are the exponent of float32 and bfloat16, and its upper part in other floats.
    """
    bits = 8 * base.itemsize
    if bits == 8:
        return np.argsort(base & base.dtype.type(127), kind="stable")
    return np.argsort(shifted_right(base, bits - 9).astype(np.uint8), kind="stable")


def _ordered(items: Items) -> Items:
    """Return integers in the order of the floats: negative ones turned around."""
    top = items.dtype.type(1 << (8 * items.itemsize - 1))
    flips = _negated(shifted_right(items, 8 * items.itemsize - 1))
    flips |= top
    flips ^= items
    return flips


def _unordered(integers: Items) -> Items:
    """Undo `_ordered`."""
    top = integers.dtype.type(1 << (8 * integers.itemsize - 1))
    flips = shifted_right(integers, 8 * integers.itemsize - 1)
    flips -= integers.dtype.type(1)
    flips |= top
    flips ^= integers
    return flips


def _negated(items: Items) -> Items:
    """Return 0 - x with wrap-around, in place."""
    return np.subtract(items.dtype.type(0), items, out=items)


def shifted_right(items: Items, by: int) -> Items:
    """Return a new array of the items shifted right by `by` bits.

    Narrow items are shifted eight bytes at a time: NumPy has no fast form for them.
    """
    width = items.itemsize
    if width >= 4 or items.nbytes % 8 or not items.flags.c_contiguous:
        return items >> items.dtype.type(by)
    kept = ((1 << (8 * width)) - 1) >> by
    words = items.view("<u8") >> np.uint64(by)
    lanes = int.from_bytes(kept.to_bytes(width, "little") * (8 // width), "little")
    words &= np.uint64(lanes)
    shifted: Items = words.view(items.dtype)
    return shifted
