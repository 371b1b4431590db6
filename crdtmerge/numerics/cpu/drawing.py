"""Which items of a block stay: trims and draws, inside the loops that use them.

Owns the compiled form of `Keep`. Does not own the words (`philox`).
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics.cpu.compiling import compiled
from crdtmerge.numerics.cpu.philox import fill_words
from crdtmerge.numerics.reference.philox import key_words
from crdtmerge.numerics.vectors import KEEP_ALL_LIMIT, Keep

_ALL: Final = np.uint64(KEEP_ALL_LIMIT)


def keep_table(keeps: Sequence[Keep]) -> NDArray[np.uint64]:
    """Return one row a rule: the threshold's bits, the limit, and two key words."""
    table = np.zeros((len(keeps), 4), dtype=np.uint64)
    for row, keep in zip(table, keeps, strict=True):
        row[0] = np.float64(keep.least).view(np.uint64)
        row[1] = keep.limit
        if keep.draws:
            row[2:] = key_words(keep.key)
    return table


@compiled
def keep_items(
    rule: Any, first: int, tau: NDArray[np.float32], words: NDArray[np.uint32]
) -> None:
    """Set to +0 which items of `tau`, the first of them item `first`, do not stay.

    `words` is room for as many words and eight more.
    """
    least = np.float32(np.uint64(rule[0]).view(np.float64))
    if least > 0:
        _trim(tau, least)
    if rule[1] < _ALL:
        # All of the room is filled: of a loop over a part that it must work out, the code
        # generator makes no vector code.
        skipped = first % 4
        fill_words(words, np.uint64(first // 4), np.uint64(rule[2]), np.uint64(rule[3]))
        _draw(tau, words[skipped : skipped + tau.size], np.uint32(rule[1]))


# SUBTLE: by masks: `x if kept else 0` becomes a branch around a store of what is there
# already, and a random mask makes every other branch a wrong guess.


@compiled
def _trim(tau: Any, least: Any) -> None:
    bits, most = tau.view(np.uint32), np.float32(least).view(np.uint32)
    for i in range(bits.size):
        magnitude = np.uint32(bits[i] & np.uint32(0x7FFF_FFFF))
        bits[i] &= np.uint32(-np.int32(magnitude >= most))


@compiled
def _draw(tau: Any, words: Any, limit: Any) -> None:
    bits = tau.view(np.uint32)
    for i in range(bits.size):
        bits[i] &= np.uint32(-np.int32(words[i] < limit))
