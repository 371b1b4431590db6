"""What is drawn: the keys and words of Philox, and the order of a fold.

Owns a second reading of how draws are keyed. Shares no code with the library.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import msgpack
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from tests.oracles.case import Case, Flags, Floats


def digest(context: str, value: list[object]) -> bytes:
    packed = msgpack.packb(value, use_bin_type=True)
    return blake3(packed, derive_key_context=context).digest()


def words(key: bytes, count: int) -> NDArray[np.uint64]:
    """The first words of a key: block i // 4 of Philox4x32-10, word i mod 4."""
    low = (1 << 32) - 1
    k0, k1 = int.from_bytes(key[:4], "little"), int.from_bytes(key[4:8], "little")
    found = []
    for block in range(-(-count // 4)):
        x, a, b = [block & low, block >> 32, 0, 0], k0, k1
        for _ in range(10):
            p, q = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
            x = [(q >> 32) ^ x[1] ^ a, q & low, (p >> 32) ^ x[3] ^ b, p & low]
            a, b = (a + 0x9E3779B9) & low, (b + 0xBB67AE85) & low
        found += x
    return np.array(found[:count], dtype=np.uint64)


def kept(case: Case, place: int, chances: Floats | float) -> Flags:
    """Which items of one model stay, each with its chance: word / 2**32 < chance."""
    value: list[object] = [
        case.seed, case.strategy, case.contents[place], case.tensor
    ]  # fmt: skip
    key = digest("crdtmerge v1 philox key", value)[:8]
    drawn = words(key, case.base.size).reshape(case.base.shape)
    limits = np.floor(np.asarray(chances) * 2.0**32)
    found: Flags = drawn.astype(np.float64) < limits
    return found


def drawn_order(case: Case) -> list[int]:
    """Places by digest of the tensor's seed and the content."""
    keys = [
        digest("crdtmerge v1 order of a fold", [case.seed, content])
        for content in case.contents
    ]
    return sorted(range(case.count), key=keys.__getitem__)
