"""The compiled Philox against the readable one: equal bytes at every cut."""

import numpy as np
import pytest

from crdtmerge.numerics.cpu import philox as fast
from crdtmerge.numerics.reference import philox as reference

UNIT = 10**9
KEY = bytes(range(200, 208))

CUTS = [
    (count, start)
    for count in (0, 1, 5, 4095, 4096, 4097, 10_001)
    for start in (0, 1, 7, 4 * 2**32 - 9, 2**36 + 5)
]


@pytest.mark.parametrize(("count", "start"), CUTS)
def test_compiled_words_have_the_bytes_of_the_reference(count: int, start: int) -> None:
    """At any start, across buffers and across the counter's low word."""
    got = fast.random_words(KEY, count, start)
    expected = reference.random_words(KEY, count, start)
    assert (got.dtype, got.tobytes()) == (expected.dtype, expected.tobytes())


@pytest.mark.parametrize(("count", "start"), CUTS)
@pytest.mark.parametrize("units", [0, 1, UNIT // 3, UNIT - 1, UNIT])
def test_compiled_masks_have_the_bytes_of_the_reference(
    units: int, count: int, start: int
) -> None:
    """For chances from none to all, at any start."""
    got = fast.bernoulli(KEY, count, units, start)
    expected = reference.bernoulli(KEY, count, units, start)
    assert (got.dtype, got.tobytes()) == (expected.dtype, expected.tobytes())


@pytest.mark.parametrize(("count", "start"), CUTS)
def test_compiled_normals_have_the_bytes_of_the_reference(
    count: int, start: int
) -> None:
    """At any start, odd ones included, across buffers and the counter's low word."""
    got = fast.normals(KEY, count, start)
    expected = reference.normals(KEY, count, start)
    assert (got.dtype, got.tobytes()) == (expected.dtype, expected.tobytes())


def test_a_word_at_the_limit_is_dropped_by_the_compiled_mask_too() -> None:
    """Below means below, for chances whose limit is a drawn word."""
    drawn = reference.random_words(KEY, 200).tolist()
    chances = [(i, -(-word * UNIT // 2**32)) for i, word in enumerate(drawn)]
    exact = [(i, u) for i, u in chances if u * 2**32 // UNIT == drawn[i]]
    assert len(exact) > 5
    for index, units in exact:
        assert not fast.bernoulli(KEY, 200, units)[index]
        assert fast.bernoulli(KEY, 200, units + 1)[index]


def test_the_round_function_gives_the_published_answer() -> None:
    """The first known answer of Random123, without the reference in between."""
    words = np.zeros(4, dtype=np.uint32)
    fast.fill_words(words, np.uint64(0), np.uint64(0), np.uint64(0))
    assert words.tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
