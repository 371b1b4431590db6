"""Chances by rank in a row, as the numbers that draws and rescaling take.

Owns the exact limit of every rank, and its chance in float64. Does not own ranks
(`selection`) or words (`philox`).

A chance is a ratio of integers, so its limit floor(q * 2**32) is found by long division:
a few bits of the quotient at a time, as many as leave the rest within 64 bits.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics.reference.dtypes import Floats
from crdtmerge.numerics.reference.philox import WORD_BITS
from crdtmerge.numerics.vectors import Chances

ROW_MAX: Final = 1 << 32
"""A row has fewer items: the denominator of all chances stays below 2**62."""

_DIGITS: Final = (16, 8, 4, 2)


def check_chances(chances: Chances) -> None:
    """Refuse chances of which some are none.

    Raises:
        ContractError: one is not above 0 and at most 1, or the row is too long.
    """
    spread = 0 if chances.row == 1 else chances.epsilon
    least, most = chances.density - spread, chances.density + spread
    if not (0 < least <= most <= DECIMAL_UNIT and 0 < chances.row < ROW_MAX):
        message = (
            f"chances from {least} to {most} units in rows of {chances.row} are not above"
            f" 0 and at most 1, in rows below {ROW_MAX}"
        )
        raise ContractError(message)


def limits_of(chances: Chances) -> NDArray[np.uint64]:
    """Return floor(q * 2**32) of each rank: what a word must lie below."""
    rest, whole = _ratios(chances)
    digit = next(bits for bits in _DIGITS if whole.bit_length() + bits <= 2 * WORD_BITS)
    found, bits, divisor = np.zeros_like(rest), np.uint64(digit), np.uint64(whole)
    for _ in range(WORD_BITS // digit):
        rest = rest << bits
        found = (found << bits) + rest // divisor
        rest = rest % divisor
    return found


def quotients_of(chances: Chances) -> Floats:
    """Return the chance of each rank, one float64 division."""
    parts, whole = _ratios(chances)
    found: Floats = parts / np.float64(whole)
    return found


def _ratios(chances: Chances) -> tuple[NDArray[np.uint64], int]:
    """Return the chance of each rank: numerators, and the denominator of all."""
    row, density, epsilon = chances.row, chances.density, chances.epsilon
    if row == 1:
        return np.array([density], dtype=np.uint64), DECIMAL_UNIT
    steps, least = row - 1, (density - epsilon) * (row - 1)
    ranks = np.arange(row, dtype=np.uint64)
    return np.uint64(least) + np.uint64(2 * epsilon) * ranks, steps * DECIMAL_UNIT
