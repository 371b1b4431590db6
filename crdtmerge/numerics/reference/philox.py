"""Randomness that depends on a key and an index, and on nothing else.

Owns Philox4x32-10, the words, masks and normals drawn from it, and how its keys are
derived. Does not own seeds. Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers:
as easy as 1, 2, 3", SC 2011; tested against the known answers published with Random123.

Word i of a key is word (i mod 4) of the block with counter (i div 4), a 64-bit number in
counter words 0 (low) and 1 (high), words 2 and 3 zero. So a draw does not depend on how
a tensor is cut, on threads, or on the order of visits.

Normals 2j and 2j + 1 come from the words 4j to 4j + 3, which is block j (Box and Muller,
"A note on the generation of random normal deviates", 1958). Words 4j (low) and 4j + 1 are
64 bits, of which the upper 53 and one more make u in (0, 1]: the radius is
sqrt(-2 log u), at most 8.6. Words 4j + 2 (low) and 4j + 3 are 64 bits, of which the upper
53 make v in [0, 1) and the lowest a sign: normal 2j is radius * cos(pi v), normal 2j + 1
is radius * sin(pi v) with that sign, so that the two stand for any angle.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT, Value
from crdtmerge.digest import Domain, digest_value
from crdtmerge.numerics.reference.dtypes import Floats
from crdtmerge.numerics.reference.polynomials import PI, cos, log, sin

KEY_BYTES: Final = 8
WORD_BITS: Final = 32
ROUNDS: Final = 10

_MASK: Final = 0xFFFF_FFFF
_MULTIPLIERS: Final = (np.uint64(0xD251_1F53), np.uint64(0xCD9E_8D57))
_KEY_STEPS: Final = (0x9E37_79B9, 0xBB67_AE85)

UNIFORM_SHIFT: Final = 11
UNIFORM_STEP: Final = 2.0**-53

Words = NDArray[np.uint32]


def philox_key(seed: bytes, strategy: str, content: bytes, tensor: str) -> bytes:
    """Return the key of one contribution's draws for one tensor.

    `seed` is empty where masks are to depend on the contribution alone.
    """
    value: Value = [seed, strategy, content, tensor]
    return digest_value(Domain.PHILOX, value)[:KEY_BYTES]


def key_words(key: bytes) -> tuple[int, int]:
    """Return the two words that a key's 8 bytes are, low first."""
    return int.from_bytes(key[:4], "little"), int.from_bytes(key[4:], "little")


def philox4x32(counters: Words, key: tuple[int, int]) -> Words:
    """Return the block of four words of each counter (n rows of four words)."""
    shift, mask = np.uint64(WORD_BITS), np.uint64(_MASK)
    x0, x1, x2, x3 = counters.astype(np.uint64).T
    k0, k1 = key
    for _ in range(ROUNDS):
        p0 = x0 * _MULTIPLIERS[0]
        p1 = x2 * _MULTIPLIERS[1]
        x0 = (p1 >> shift) ^ x1 ^ np.uint64(k0)
        x2 = (p0 >> shift) ^ x3 ^ np.uint64(k1)
        x1 = p1 & mask
        x3 = p0 & mask
        k0 = (k0 + _KEY_STEPS[0]) & _MASK
        k1 = (k1 + _KEY_STEPS[1]) & _MASK
    return np.stack([x0, x1, x2, x3], axis=1).astype(np.uint32)


def random_words(key: bytes, count: int, start: int = 0) -> Words:
    """Return words `start` to `start + count` of `key` (8 bytes, two words, low first)."""
    first, last = start // 4, -(-(start + count) // 4)
    index = np.arange(first, last, dtype=np.uint64)
    counters = np.zeros((index.size, 4), dtype=np.uint32)
    counters[:, 0] = index & np.uint64(_MASK)
    counters[:, 1] = index >> np.uint64(WORD_BITS)
    words = philox4x32(counters, key_words(key)).reshape(-1)
    return words[start - 4 * first :][:count]


def bernoulli(
    key: bytes, count: int, keep_units: int, start: int = 0
) -> NDArray[np.bool_]:
    """Return a mask: an item is kept iff its word is below floor(keep * 2**32).

    `keep_units` is the chance to be kept, in units of 10**-9; 1 keeps all, 0 none.
    """
    limit = (keep_units << WORD_BITS) // DECIMAL_UNIT
    if limit > _MASK:
        return np.ones(count, dtype=np.bool_)
    kept: NDArray[np.bool_] = random_words(key, count, start) < np.uint32(limit)
    return kept


def normals(key: bytes, count: int, start: int = 0) -> Floats:
    """Return standard normals `start` to `start + count` of `key`; zero is +0."""
    first, last = start // 2, -(-(start + count) // 2)
    words = random_words(key, 4 * (last - first), 4 * first).astype(np.uint64)
    pairs = words[0::2] | (words[1::2] << np.uint64(WORD_BITS))
    numbers = (pairs >> np.uint64(UNIFORM_SHIFT)).astype(np.float64)
    radius = np.sqrt(-2 * log((numbers[0::2] + 1) * UNIFORM_STEP))
    angle = PI * (numbers[1::2] * UNIFORM_STEP)
    drawn = np.empty((last - first, 2))
    drawn[:, 0] = radius * cos(angle)
    drawn[:, 1] = radius * sin(angle) * np.where(pairs[1::2] & np.uint64(1), -1, 1)
    drawn += 0.0  # -0 + 0 = +0
    return drawn.reshape(-1)[start - 2 * first :][:count]
