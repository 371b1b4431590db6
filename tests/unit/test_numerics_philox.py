"""Philox: the published answers, the counters, exact chances."""

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.digest import Domain, digest_value

UNIT = 10**9
KEY = bytes(range(8))

KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_the_published_answers_hold(counter: str, key: str, answer: str) -> None:
    """The known-answer vectors of Random123 for philox4x32, 10 rounds."""
    k0, k1 = words(key)
    counters = np.array([words(counter)] * 2, dtype=np.uint32)
    got = numerics.philox4x32(counters, (k0, k1))
    assert got.tolist() == [words(answer)] * 2


def test_a_word_depends_on_its_index_alone() -> None:
    """Any cut of the index range draws the same words."""
    whole = numerics.random_words(KEY, 1000)
    for start, stop in ((0, 1), (3, 4), (4, 9), (5, 1000), (997, 1000), (8, 8)):
        part = numerics.random_words(KEY, stop - start, start)
        assert part.tolist() == whole[start:stop].tolist()


def test_the_counter_has_64_bits() -> None:
    """Word i of an index beyond 2**34 takes its high counter word into account."""
    index = (5 << 34) + 4 * 7 + 2
    halves = (int.from_bytes(KEY[:4], "little"), int.from_bytes(KEY[4:], "little"))
    block = numerics.philox4x32(np.array([[7, 5, 0, 0]], dtype=np.uint32), halves)
    assert numerics.random_words(KEY, 1, index)[0] == block[0, 2]


def test_a_chance_is_compared_exactly() -> None:
    """An item is kept iff its word is below floor(keep * 2**32), with integers."""
    drawn = numerics.random_words(KEY, 5000)
    for units in (0, 1, UNIT // 10, UNIT // 3, UNIT - 1):
        expected = [
            int(word) * UNIT < units * 2**32 - units * 2**32 % UNIT for word in drawn
        ]
        assert numerics.bernoulli(KEY, 5000, units).tolist() == expected
    assert numerics.bernoulli(KEY, 5000, UNIT).all()


def test_a_word_at_the_limit_is_dropped() -> None:
    """Below means below: a chance whose limit is a drawn word does not keep it."""
    drawn = numerics.random_words(KEY, 100).tolist()
    chances = [(i, -(-word * UNIT // 2**32)) for i, word in enumerate(drawn)]
    exact = [(i, u) for i, u in chances if u * 2**32 // UNIT == drawn[i]]
    assert len(exact) > 5
    for index, units in exact:
        assert not numerics.bernoulli(KEY, 100, units)[index]
        assert numerics.bernoulli(KEY, 100, units + 1)[index]


@pytest.mark.parametrize("units", [UNIT // 10, UNIT // 2])
def test_masks_keep_the_stated_share(units: int) -> None:
    """The share kept is within five standard deviations, key by key."""
    items, chance = 200_000, units / UNIT
    for number in range(5):
        key = numerics.philox_key(b"seed", "dare_ties/1", bytes([number] * 32), "w")
        kept = int(numerics.bernoulli(key, items, units).sum())
        assert abs(kept - chance * items) < 5 * (items * chance * (1 - chance)) ** 0.5


def test_a_key_changes_with_each_of_its_parts() -> None:
    """Seed, strategy, contribution and tensor all enter, under their own domain."""
    parts = (b"seed", "dare_ties/1", b"c" * 32, "w")
    key = numerics.philox_key(*parts)
    assert key == digest_value(Domain.PHILOX, list(parts))[:8]
    others = {
        numerics.philox_key(b"", *parts[1:]),
        numerics.philox_key(b"seed", "dare_ties/2", b"c" * 32, "w"),
        numerics.philox_key(b"seed", "dare_ties/1", b"d" * 32, "w"),
        numerics.philox_key(*parts[:3], "v"),
    }
    assert len(others | {key}) == 5
