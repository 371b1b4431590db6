"""Words, masks and normals of Philox4x32-10, block by block in compiled loops.

Owns the fast forms of `reference.philox` and the round function that fused loops take in.
Does not own what a word means.

Everything is uint64 with values below 2**32: what numba makes of two uint32 is a uint64
anyway, and the code generator sees from the masks that 32 bits by 32 bits are multiplied.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics.cpu.compiling import compiled, inlined
from crdtmerge.numerics.cpu.polynomials import cos_of, log_of, sin_of
from crdtmerge.numerics.reference.dtypes import Floats
from crdtmerge.numerics.reference.philox import (
    UNIFORM_SHIFT,
    UNIFORM_STEP,
    WORD_BITS,
    Words,
    key_words,
)
from crdtmerge.numerics.reference.polynomials import PI

_MASK: Final = np.uint64(0xFFFF_FFFF)
_SHIFT: Final = np.uint64(WORD_BITS)
_UNIFORM_SHIFT: Final = np.uint64(UNIFORM_SHIFT)
_MULTIPLIER_0: Final = np.uint64(0xD251_1F53)
_MULTIPLIER_1: Final = np.uint64(0xCD9E_8D57)
_KEY_STEP_0: Final = np.uint64(0x9E37_79B9)
_KEY_STEP_1: Final = np.uint64(0xBB67_AE85)

BUFFER_WORDS: Final = 4096
"""Words drawn at once by loops that use them up; no output bit depends on it."""


@inlined
def philox_block(c0: Any, c1: Any, k0: Any, k1: Any) -> Any:
    """Return the four words of the block with counter words (c0, c1, 0, 0).

    All eight numbers are uint64 below 2**32.
    """
    x0, x1, x2, x3 = c0, c1, np.uint64(0), np.uint64(0)
    for _ in range(10):
        p0 = x0 * _MULTIPLIER_0
        p1 = x2 * _MULTIPLIER_1
        x0 = (p1 >> _SHIFT) ^ x1 ^ k0
        x2 = (p0 >> _SHIFT) ^ x3 ^ k1
        x1 = p1 & _MASK
        x3 = p0 & _MASK
        k0 = (k0 + _KEY_STEP_0) & _MASK
        k1 = (k1 + _KEY_STEP_1) & _MASK
    return x0, x1, x2, x3


@compiled
def fill_words(words: Any, first: Any, k0: Any, k1: Any) -> None:
    """Fill an array of whole blocks with the words from block `first` on.

    `first`, `k0` and `k1` are uint64. Other loops call it on a buffer that stays in the
    cache: a loop over blocks and a loop over words are each turned into vector code,
    which one loop with four stores of another width is not.
    """
    for block in range(words.size // 4):
        index = first + np.uint64(block)
        w0, w1, w2, w3 = philox_block(index & _MASK, index >> _SHIFT, k0, k1)
        words[4 * block] = w0
        words[4 * block + 1] = w1
        words[4 * block + 2] = w2
        words[4 * block + 3] = w3


@compiled
def _fill_mask(mask: Any, first: Any, limit: Any, k0: Any, k1: Any) -> None:
    words = np.empty(BUFFER_WORDS, dtype=np.uint32)
    for start in range(0, mask.size, BUFFER_WORDS):
        stop = min(start + BUFFER_WORDS, mask.size)
        # SUBTLE: of slices, whose indices begin at 0, the loop becomes vector code; with
        # `start + i` numba looks at each for a negative index first.
        part = mask[start:stop]
        drawn = words[: part.size]
        fill_words(drawn, first + np.uint64(start // 4), k0, k1)
        for i in range(part.size):
            part[i] = drawn[i] < limit


@compiled
def _fill_normals(drawn: Any, first: Any, k0: Any, k1: Any) -> None:
    words = np.empty(BUFFER_WORDS, dtype=np.uint32)
    for start in range(0, drawn.size, BUFFER_WORDS // 2):
        part = drawn[start : start + BUFFER_WORDS // 2]
        fill_words(words[: 2 * part.size], first + np.uint64(start // 2), k0, k1)
        for j in range(part.size // 2):
            one = np.uint64(words[4 * j]) | (np.uint64(words[4 * j + 1]) << _SHIFT)
            two = np.uint64(words[4 * j + 2]) | (np.uint64(words[4 * j + 3]) << _SHIFT)
            radius = radius_of(one)
            angle = angle_of(two)
            sign = -1.0 if two & np.uint64(1) else 1.0
            part[2 * j] = radius * cos_of(angle) + 0.0
            part[2 * j + 1] = radius * sin_of(angle) * sign + 0.0


@inlined
def radius_of(bits: Any) -> Any:
    """Return the distance from the middle that 64 bits stand for."""
    uniform = (np.float64(np.int64(bits >> _UNIFORM_SHIFT)) + 1) * UNIFORM_STEP
    return np.sqrt(-2 * log_of(uniform))


@inlined
def angle_of(bits: Any) -> Any:
    """Return the angle from 0 to pi that 64 bits stand for."""
    return PI * (np.float64(np.int64(bits >> _UNIFORM_SHIFT)) * UNIFORM_STEP)


def random_words(key: bytes, count: int, start: int = 0) -> Words:
    """Return words `start` to `start + count` of `key` (8 bytes, two words, low first)."""
    first, blocks = _blocks(count, start)
    words = np.empty(4 * blocks, dtype=np.uint32)
    k0, k1 = key_words(key)
    fill_words(words, np.uint64(first), np.uint64(k0), np.uint64(k1))
    return words[start - 4 * first :][:count]


def bernoulli(
    key: bytes, count: int, keep_units: int, start: int = 0
) -> NDArray[np.bool_]:
    """Return a mask: an item is kept iff its word is below floor(keep * 2**32)."""
    limit = np.uint64(min((keep_units << WORD_BITS) // DECIMAL_UNIT, 1 << WORD_BITS))
    first, blocks = _blocks(count, start)
    mask = np.empty(4 * blocks, dtype=np.bool_)
    k0, k1 = key_words(key)
    _fill_mask(mask, np.uint64(first), limit, np.uint64(k0), np.uint64(k1))
    return mask[start - 4 * first :][:count]


def normals(key: bytes, count: int, start: int = 0) -> Floats:
    """Return standard normals `start` to `start + count` of `key`; zero is +0."""
    first, last = start // 2, -(-(start + count) // 2)
    drawn = np.empty(2 * (last - first))
    k0, k1 = key_words(key)
    _fill_normals(drawn, np.uint64(first), np.uint64(k0), np.uint64(k1))
    return drawn[start - 2 * first :][:count]


def _blocks(count: int, start: int) -> tuple[int, int]:
    """Return the first block that words come from, and how many blocks do."""
    first = start // 4
    return first, -(-(start + count) // 4) - first
