"""Which items of a block stay: trims, draws and masks, inside the loops that use them.

Owns the table in which loops find their rules, and what needs no look at other items.
Does not own the words (`philox`), nor draws by rank in a row (`ranking`).
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics.cpu.compiling import at, compiled
from crdtmerge.numerics.cpu.philox import fill_words
from crdtmerge.numerics.reference.masks import MASK_BYTES, MASK_ITEMS
from crdtmerge.numerics.reference.philox import key_words
from crdtmerge.numerics.vectors import KEEP_ALL_LIMIT, Keep

LEAST: Final = 0
MOST: Final = 1
LIMIT: Final = 2
KEY: Final = 3
MASK: Final = 5
_COLUMNS: Final = 6
"""What a row of the table of rules holds: numbers, and an address (0: none)."""

_ALL: Final = np.uint64(KEEP_ALL_LIMIT)
_INFINITY: Final = 0x7F80_0000
_U32: Final = np.uint32


def keep_table(keeps: Sequence[Keep]) -> tuple[NDArray[np.uint64], list[Any]]:
    """Return one row a rule, and what must live as long as the table is used.

    Rules by rank are in it as if they kept everything.
    """
    table = np.zeros((len(keeps), _COLUMNS), dtype=np.uint64)
    held: list[Any] = []
    for row, keep in zip(table, keeps, strict=True):
        row[LEAST], row[MOST], row[LIMIT] = 0, _INFINITY, KEEP_ALL_LIMIT
        if keep.mask:
            held.append(np.frombuffer(keep.mask, np.uint8))
            row[MASK] = held[-1].ctypes.data
        elif keep.chances is None:
            row[:2] = np.array([keep.least, keep.most], np.float32).view(np.uint32)
            row[LIMIT] = keep.limit
            row[KEY : KEY + 2] = key_words(keep.key)
    return table, held


@compiled
def keep_items(
    rule: Any, first: int, tau: NDArray[np.float32], words: NDArray[np.uint32]
) -> None:
    """Set to +0 which items of `tau`, the first of them item `first`, do not stay.

    `words` is room for as many words and eight more.
    """
    if rule[MASK] != 0:
        _mask(rule[MASK], first, tau.view(np.uint32))
        return
    trim(tau, _U32(rule[LEAST]), _U32(rule[MOST]))
    if rule[LIMIT] < _ALL:
        # All of the room is filled: of a loop over a part that it must work out, the code
        # generator makes no vector code.
        skipped = first % 4
        fill_words(
            words, np.uint64(first // 4), np.uint64(rule[KEY]), np.uint64(rule[KEY + 1])
        )
        _draw(tau, words[skipped : skipped + tau.size], _U32(rule[LIMIT]))


# SUBTLE: by masks: `x if kept else 0` becomes a branch around a store of what is there
# already, and a random mask makes every other branch a wrong guess.


@compiled
def trim(tau: Any, least: Any, most: Any) -> None:
    """Set to +0 what is not from least to most, both bits of magnitudes."""
    if least == 0 and most >= _INFINITY:
        return
    bits, span = tau.view(np.uint32), _U32(most - least)
    for i in range(bits.size):
        above = _U32(_U32(bits[i] & _U32(0x7FFF_FFFF)) - least)
        bits[i] &= _U32(-np.int32(above <= span))


@compiled
def _draw(tau: Any, words: Any, limit: Any) -> None:
    bits = tau.view(np.uint32)
    for i in range(bits.size):
        bits[i] &= _U32(-np.int32(words[i] < limit))


@compiled
def _mask(address: Any, first: int, bits: Any) -> None:
    """Keep what a mask says, block by block; items of a part of a block one by one."""
    end = (first + bits.size + MASK_ITEMS - 1) // MASK_ITEMS * MASK_BYTES
    mask = at(address, np.uint8, end)
    done = 0
    while done < bits.size:
        start = (first + done) // MASK_ITEMS * MASK_BYTES
        block, skipped = mask[start : start + MASK_BYTES], (first + done) % MASK_ITEMS
        n = min(bits.size - done, MASK_ITEMS - skipped)
        part = bits[done : done + n]
        if n == MASK_ITEMS:
            for b in range(8):
                run = part[b * MASK_BYTES : (b + 1) * MASK_BYTES]
                _mask_run(block, _U32(b), run)
        else:
            for i in range(n):
                bit = block[(skipped + i) % MASK_BYTES] >> ((skipped + i) // MASK_BYTES)
                part[i] &= _U32(-np.int32(bit & 1))
        done += n


@compiled
def _mask_run(block: Any, bit: Any, run: Any) -> None:
    for j in range(run.size):
        stays = np.int32(_U32(_U32(block[j]) >> bit) & _U32(1))
        run[j] &= _U32(-stays)


@compiled
def fill_mask(tau: Any, mask: Any) -> None:
    """Fill a block of a mask with which of its items, given as bits, are not zero."""
    mask[:] = np.uint8(0)
    for b in range(8):
        run = tau[b * MASK_BYTES : (b + 1) * MASK_BYTES]
        _mark_run(run, np.uint8(1 << b), mask)


@compiled
def _mark_run(run: Any, bit: Any, mask: Any) -> None:
    for j in range(mask.size):
        stays = _U32(run[j] & _U32(0x7FFF_FFFF)) != 0
        mask[j] |= np.uint8(bit * np.uint8(stays))
