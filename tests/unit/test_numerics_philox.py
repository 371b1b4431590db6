"""Philox: the published answers, the counters, exact chances, normals."""

import math

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.digest import Domain, digest_value
from crdtmerge.numerics.reference import philox

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


def normals_of(block: list[int]) -> tuple[float, float]:
    """Return the two normals of a block, by the formula and the system's functions."""
    one, two = block[0] | block[1] << 32, block[2] | block[3] << 32
    radius = math.sqrt(-2 * math.log(((one >> 11) + 1) / 2**53))
    angle = math.pi * (two >> 11) / 2**53
    return radius * math.cos(angle), radius * math.sin(angle) * (-1) ** (two & 1)


def test_normals_are_those_of_box_and_muller() -> None:
    """Block j makes normals 2j and 2j + 1, to the last places of a library's functions."""
    words = philox.random_words(KEY, 4000).tolist()
    blocks = [words[i : i + 4] for i in range(0, 4000, 4)]
    expected = [normal for block in blocks for normal in normals_of(block)]
    assert philox.normals(KEY, 2000) == pytest.approx(expected, rel=1e-13, abs=1e-13)


def test_a_normal_depends_on_its_index_alone() -> None:
    """Any cut of the index range draws the same bits."""
    whole = philox.normals(KEY, 1000)
    for start, stop in ((0, 1), (1, 2), (3, 4), (4, 9), (5, 1000), (999, 1000), (8, 8)):
        part = philox.normals(KEY, stop - start, start)
        assert part.tobytes() == whole[start:stop].tobytes()


def test_normals_have_the_moments_and_tails_of_the_normal_distribution() -> None:
    """Within five standard deviations of each estimate, pairs included."""
    items = 1 << 20
    drawn = philox.normals(philox.philox_key(b"seed", "x/1", b"c" * 32, "w"), items)
    even, odd = drawn[0::2], drawn[1::2]
    spreads = {1: 1, 2: 2, 3: 15, 4: 96}  # variances of the powers
    for power, variance in spreads.items():
        expected = {1: 0, 2: 1, 3: 0, 4: 3}[power]
        spread = 5 * math.sqrt(variance / items)
        assert abs(float((drawn**power).mean()) - expected) < spread
    for product in (even * odd, (even**2 - 1) * (odd**2 - 1) / 2):
        assert abs(float(product.mean())) < 5 * math.sqrt(2 / items)
    for bound in (0.0, 0.5, 1.0, 2.0, 3.0, 4.0):
        share = math.erfc(bound / math.sqrt(2)) / 2
        for tail in (drawn > bound, drawn < -bound):
            kept = int(tail.sum())
            assert abs(kept - share * items) < 5 * math.sqrt(share * items)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ([0, 0, 0, 0], (math.sqrt(106 * math.log(2)), 0.0)),
        ([0, 0, 1, 0], (math.sqrt(106 * math.log(2)), 0.0)),
        ([0xFFFF_FFFF] * 4, (0.0, 0.0)),
        ([0xFFFF_FFFF] * 2 + [0, 0], (0.0, 0.0)),
    ],
)
def test_the_extreme_words_make_finite_normals(
    block: list[int], expected: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least and the greatest u and v: a radius of 8.57, and of 0, which is +0."""
    drawn = np.array(block, dtype=np.uint32)
    monkeypatch.setattr(philox, "random_words", lambda *_: drawn)
    got = philox.normals(KEY, 2)
    assert got == pytest.approx(expected, rel=1e-15)
    assert not np.signbit(got).any()
