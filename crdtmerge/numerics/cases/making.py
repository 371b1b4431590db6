"""What cases are made of: numbers from nothing but hashes, stored in every dtype.

Owns the type of a case and its inputs. Does not own any case. Sizes cross the blocks of
every backend and of the sums' tree; values include both zeros, subnormals, ties, and
magnitudes that leave the first limb.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics.reference import measuring
from crdtmerge.numerics.reference.dtypes import ITEM_BYTES, Floats, downcast
from crdtmerge.numerics.reference.philox import draw_limit, random_words
from crdtmerge.numerics.vectors import (
    Chances,
    Difference,
    Items,
    Keep,
    Output,
    Tau,
    Voter,
)

DTYPES: Final = tuple(ITEM_BYTES)
SIZES: Final = (0, 1, 7, 2049, 5003)
TREE_ITEMS: Final = 70_001
"""More than one block of the tree."""

SAMPLED_ITEMS: Final = 140_001
"""Enough for a backend to look at a sample first."""

WEIGHTS: Final = (DECIMAL_UNIT, DECIMAL_UNIT // 3, -DECIMAL_UNIT // 7, 123_456_789_012)
INFINITY: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Case:
    """One call of one kernel: `run` makes it on a backend's module, as bytes."""

    kernel: str
    title: str
    run: Callable[[Any], bytes]


def numbers(label: int, count: int, scale: float = 1.0) -> Floats:
    """Return `count` numbers below `scale`: about a fifth zeros, some of them tiny."""
    words = random_words(label.to_bytes(8, "little"), count)
    drawn = (words.astype(np.float64) - 2.0**31) * (2.0**-31 * scale)
    tiny = np.where(words % 7 == 1, drawn * 2.0**-30, drawn)
    return np.where(words % 5 == 0, np.copysign(0.0, drawn), tiny)


def stored(label: int, count: int, dtype: str, scale: float = 1.0) -> bytes:
    """Return such numbers as items of `dtype`; some zeros are -0."""
    values = numbers(label, count, scale)
    width = ITEM_BYTES[dtype]
    items = np.frombuffer(downcast(values, dtype), np.uint8).reshape(count, width)
    negative = np.zeros((count, width), np.uint8)
    negative[::11, -1] = np.where(values[::11] == 0, 0x80, 0)
    return (items | negative).tobytes()


def subnormal(count: int, dtype: str) -> bytes:
    """Return the smallest magnitudes that a dtype has, of both signs."""
    width = ITEM_BYTES[dtype]
    signs = (1 << (8 * width - 1), 0)
    items = ((i % 5) | signs[i % 2] for i in range(count))
    return b"".join(item.to_bytes(width, "little") for item in items)


def model(label: int, count: int, dtype: str) -> Items:
    """Return a model's tensor."""
    return Items(stored(label, count, dtype), dtype)


def taus_of(count: int, dtype: str, number: int) -> list[Tau]:
    """Return task vectors: differences to one base, and one given as such."""
    base = stored(1, count, dtype)
    found: list[Tau] = [
        Difference(stored(2 + i, count, dtype), base, dtype) for i in range(number - 1)
    ]
    return [*found, Items(stored(90, count, "F32", 0.5), "F32")]


def mixed_taus(count: int, dtype: str) -> list[Tau]:
    """Return differences of models of every dtype to one base of `dtype`."""
    base = stored(1, count, dtype)
    return [
        Difference(stored(2 + i, count, other), base, other, base_dtype=dtype)
        for i, other in enumerate(DTYPES)
    ]


def mixed_voters(count: int, dtype: str) -> list[Voter]:
    """Return voters of every dtype over a base of one."""
    return [
        Voter(tau, Keep(), DECIMAL_UNIT // 3, DECIMAL_UNIT // 3)
        for tau in mixed_taus(count, dtype)
    ]


def whole(count: int, dtype: str) -> Output:
    """Return an output of all items."""
    return Output(dtype, range(count), "a case")


def keeps_of_cases() -> list[Keep]:
    """Return a trim, a draw, everything, both, and nothing."""
    half = draw_limit(DECIMAL_UNIT // 2)
    drawn = Keep(key=b"\x01\x02\x03\x04\x05\x06\x07\x08", limit=half)
    return [Keep(0.25), drawn, Keep(), Keep(0.125, b"8 bytes!", half), Keep(INFINITY)]


def rules_of_cases(row: int) -> dict[str, Keep]:
    """Return a band, and chances by rank in rows of so many items."""
    third, fifth = DECIMAL_UNIT // 3, DECIMAL_UNIT // 5
    made = {
        "a band": Keep(2.0**-20, most=0.5),
        "chances": Keep(key=b"8 bytes?", chances=Chances(row, third, fifth)),
        "even chances": Keep(key=b"8 bytes!", chances=Chances(row, third, 0)),
        "sure of the largest": Keep(
            key=b"bytes: 8", chances=Chances(row, DECIMAL_UNIT - fifth, fifth)
        ),
    }
    rescaled = Chances(row, third, fifth, rescaled=True)
    return made | {"rescaled": Keep(0.125, b"8 bytes.", chances=rescaled)}


def voters_of(count: int, dtype: str) -> list[Voter]:
    """Return voters of every kind of `Keep`, one of them with a negative weight."""
    keeps = keeps_of_cases()
    taus = taus_of(count, dtype, len(keeps))
    weights = (DECIMAL_UNIT, DECIMAL_UNIT // 3, -DECIMAL_UNIT // 7, 5, 7)
    return [
        Voter(tau, keep, weight, weight * 3)
        for tau, keep, weight in zip(taus, keeps, weights, strict=True)
    ]


def ranked_voters(row: int, count: int, dtype: str) -> list[Voter]:
    """Return voters of whole rows: by chances, by a band, and by a mask."""
    keeps = list(rules_of_cases(row).values())
    taus = taus_of(count, dtype, len(keeps) + 1)
    masked = measuring.settle(taus[0], keeps[1]).keep
    return [
        Voter(tau, keep, DECIMAL_UNIT // (2 + place), DECIMAL_UNIT // 3)
        for place, (tau, keep) in enumerate(zip(taus, [*keeps, masked], strict=True))
    ]


def parts(count: int, dtype: str) -> Iterator[tuple[str, Output]]:
    """Yield the outputs of so many items, with titles: all, and of the longest a part."""
    yield f"{dtype} {count}", whole(count, dtype)
    if count > 5000:
        yield f"{dtype} a part", Output("BF16", range(1003, 4997), "a case")
