"""Philox4x32-10 on the device, and what is drawn from it.

Owns the device's form of `reference.philox`. Does not own keys or their meaning. Words
are int64, which every device has; their values are those of unsigned 32 bits.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crdtmerge.numerics.cuda.device import blocks_of, current, square_root
from crdtmerge.numerics.cuda.polynomials import cos_of, log_of, sin_of
from crdtmerge.numerics.reference.dtypes import Floats
from crdtmerge.numerics.reference.philox import (
    ROUNDS,
    UNIFORM_SHIFT,
    UNIFORM_STEP,
    WORD_BITS,
    Words,
    draw_limit,
    key_words,
)
from crdtmerge.numerics.reference.polynomials import PI

_MASK: Final = 0xFFFF_FFFF
_MULTIPLIER_0: Final = 0xD251_1F53
_MULTIPLIER_1: Final = 0xCD9E_8D57
_KEY_STEP_0: Final = 0x9E37_79B9
_KEY_STEP_1: Final = 0xBB67_AE85


def words(key: bytes, count: int, start: int = 0) -> Tensor:
    """Return words `start` to `start + count` of `key`, on the device."""
    first, last = start // 4, -(-(start + count) // 4)
    drawn = _blocks(key, first, last).reshape(-1)
    return drawn[start - 4 * first :][:count]


def _blocks(key: bytes, first: int, last: int) -> Tensor:
    """Return the blocks of four words with counters `first` to `last`, one a row."""
    index = torch.arange(first, last, dtype=torch.int64, device=current())
    x0, x1 = index & _MASK, index >> WORD_BITS
    x2, x3 = torch.zeros_like(x0), torch.zeros_like(x0)
    k0, k1 = key_words(key)
    for _ in range(ROUNDS):
        high0, low0 = _product(x0, _MULTIPLIER_0)
        high1, low1 = _product(x2, _MULTIPLIER_1)
        x0, x1 = high1 ^ x1 ^ k0, low1
        x2, x3 = high0 ^ x3 ^ k1, low0
        k0, k1 = (k0 + _KEY_STEP_0) & _MASK, (k1 + _KEY_STEP_1) & _MASK
    return torch.stack([x0, x1, x2, x3], dim=1)


def _product(x: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """Return the upper and the lower word of x * multiplier, both of 32 bits.

    SUBTLE: the product may need 64 bits, int64 has 63. With 2**32 taken from the
    multiplier it stays below 2**62 in magnitude; the lower word is the same, and the
    upper one is what is left by x.
    """
    less = x * (multiplier - (1 << WORD_BITS))
    return (less >> WORD_BITS) + x, less & _MASK


def random_words(key: bytes, count: int, start: int = 0) -> Words:
    """Return words `start` to `start + count` of `key` (8 bytes, two words, low first)."""
    found = np.empty(count, dtype=np.uint32)
    for part in blocks_of(range(count)):
        drawn = words(key, len(part), start + part.start)
        found[part.start : part.stop] = drawn.cpu().numpy()
    return found


def bernoulli(
    key: bytes, count: int, keep_units: int, start: int = 0
) -> NDArray[np.bool_]:
    """Return a mask: an item is kept iff its word is below floor(keep * 2**32)."""
    limit = draw_limit(keep_units)
    found = np.empty(count, dtype=np.bool_)
    for part in blocks_of(range(count)):
        drawn = words(key, len(part), start + part.start)
        found[part.start : part.stop] = (drawn < limit).cpu().numpy()
    return found


def normals(key: bytes, count: int, start: int = 0) -> Floats:
    """Return standard normals `start` to `start + count` of `key`; zero is +0."""
    first, last = start // 2, -(-(start + count) // 2)
    found = np.empty(2 * (last - first))
    for part in blocks_of(range(last - first)):
        drawn = _normals(key, first + part.start, first + part.stop)
        found[2 * part.start : 2 * part.stop] = drawn.cpu().numpy()
    return found[start - 2 * first :][:count]


def _normals(key: bytes, first: int, last: int) -> Tensor:
    """Return the pairs of normals of blocks `first` to `last`."""
    x0, x1, x2, x3 = _blocks(key, first, last).unbind(1)
    radius = square_root(-2 * log_of((_upper(x0, x1) + 1) * UNIFORM_STEP))
    angle = PI * (_upper(x2, x3) * UNIFORM_STEP)
    cosine, sine = radius * cos_of(angle), radius * sin_of(angle)
    sine = torch.where((x2 & 1) != 0, -sine, sine)
    return torch.stack([cosine, sine], dim=1).reshape(-1) + 0.0


def _upper(low: Tensor, high: Tensor) -> Tensor:
    """Return the upper 53 of the 64 bits that two words are."""
    bits = (high << (WORD_BITS - UNIFORM_SHIFT)) | (low >> UNIFORM_SHIFT)
    return bits.to(torch.float64)
