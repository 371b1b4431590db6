"""Which items stay, one bit an item, in an order that loops unpack side by side.

Owns the order. Does not own who stays (`reading`).

Items go in blocks of 1,024, which are 128 bytes: bit b of byte j stands for item 128 b + j
of the block. So 128 items in a row are one bit of 128 bytes. Bits beyond the last item
are 0.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

MASK_BYTES: Final = 128
"""Bytes of a block."""

MASK_ITEMS: Final = 8 * MASK_BYTES
"""Items of a block."""


def packed(stays: NDArray[np.bool_]) -> bytes:
    """Return the mask of items, the first of which begins a block."""
    padded = np.zeros(-(-stays.size // MASK_ITEMS) * MASK_ITEMS, np.bool_)
    padded[: stays.size] = stays
    columns = padded.reshape(-1, 8, MASK_BYTES)
    return np.packbits(columns, axis=1, bitorder="little").tobytes()


def unpacked(mask: bytes, part: range) -> NDArray[np.bool_]:
    """Return which items of a range stay."""
    first, last = part.start // MASK_ITEMS, -(-part.stop // MASK_ITEMS)
    octets = np.frombuffer(mask[first * MASK_BYTES : last * MASK_BYTES], np.uint8)
    columns = octets.reshape(-1, 1, MASK_BYTES)
    items = np.unpackbits(columns, axis=1, bitorder="little").reshape(-1)
    return items[part.start - first * MASK_ITEMS :][: len(part)].astype(np.bool_)
