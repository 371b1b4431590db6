"""Ranks, n of m and order statistics: against sorted lists, ties included."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crdtmerge.errors import ContractError
from crdtmerge.numerics.reference import selection
from crdtmerge.numerics.reference.dtypes import Singles

Floating = type[np.float32] | type[np.float64]


def drawn(items: int) -> Singles:
    """Return values with many ties, zeros of both signs and subnormals."""
    generator = np.random.default_rng(items)
    values = generator.integers(-5, 6, items).astype(np.float32) / np.float32(4)
    values[generator.random(items) < 0.1] = -0.0
    values[generator.random(items) < 0.1] = -1e-45
    return values


@pytest.mark.parametrize(
    ("rows", "length"), [(0, 1), (1, 1), (1, 97), (97, 1), (5, 33)]
)
def test_a_rank_counts_the_smaller_and_the_equal_before_it(
    rows: int, length: int
) -> None:
    """Within its row, by magnitude; of equals the lower index ranks lower."""
    values = drawn(rows * length)
    found = selection.rank_in_row(values, length)
    for row, ranks in zip(
        values.reshape(rows, length).tolist(), found.reshape(rows, length), strict=True
    ):
        keys = [(abs(value), place) for place, value in enumerate(row)]
        assert ranks.tolist() == [sum(k < key for k in keys) for key in keys]


def test_equal_magnitudes_rank_by_index_whatever_their_signs() -> None:
    """-0 is as small as +0, and -1 as large as 1."""
    values = np.array([1, 0, -1, -0.0, 1, 0], dtype=np.float32)
    assert selection.rank_in_row(values, 6).tolist() == [3, 0, 4, 1, 5, 2]


@pytest.mark.parametrize(("items", "length"), [(5, 2), (5, 0), (5, -1)])
def test_items_that_are_not_whole_rows_are_refused(items: int, length: int) -> None:
    """Nothing is ranked within half a row."""
    with pytest.raises(ContractError, match=f"{items} items are not whole rows"):
        selection.rank_in_row(np.zeros(items, dtype=np.float32), length)


@pytest.mark.parametrize(
    ("n", "m"), [(2, 4), (0, 4), (4, 4), (1, 1), (7, 16), (64, 256)]
)
@pytest.mark.parametrize("items", [0, 1, 255, 1027])
def test_n_of_m_keeps_the_first_of_each_group_in_order_of_size(
    items: int, n: int, m: int
) -> None:
    """Exactly n of each whole group; of the shorter last one n, if it has as many."""
    values = drawn(items)
    expected = [False] * items
    for start in range(0, items, m):
        group = range(start, min(start + m, items))
        for place in sorted(group, key=lambda i: (-abs(float(values[i])), i))[:n]:
            expected[place] = True
    assert selection.keep_n_of_m(values, n, m).tolist() == expected


@pytest.mark.parametrize(("n", "m"), [(5, 4), (-1, 4), (0, 0)])
def test_a_count_that_no_group_has_is_refused(n: int, m: int) -> None:
    """A count is 0 to m, and a group has an item at least."""
    with pytest.raises(ContractError, match=f"{n} of {m} items"):
        selection.keep_n_of_m(np.zeros(8, dtype=np.float32), n, m)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("items", [1, 2, 3, 10, 101, 4097])
def test_a_quantile_is_an_item_at_the_exact_place(items: int, dtype: Floating) -> None:
    """Place floor(q (N - 1)) by rationals; no float error moves it."""
    values: NDArray[Any] = drawn(items).astype(dtype)
    ordered = sorted(values.tolist())
    for numerator, denominator in ((0, 1), (1, 4), (1, 3), (7, 10), (3, 4), (5, 5)):
        place = math.floor(Fraction(numerator, denominator) * (items - 1))
        found = selection.quantile(values, numerator, denominator)
        assert found == ordered[place]
        assert found or math.copysign(1, found) > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("items", [1, 2, 3, 4, 101, 4096])
def test_the_median_is_the_middle_or_the_mean_of_two(
    items: int, dtype: Floating
) -> None:
    """As an exact rational, rounded once."""
    values: NDArray[Any] = (drawn(items) * np.float32(1 / 3)).astype(dtype)
    exact = sorted(Fraction(value) for value in values.tolist())
    middle = (exact[(items - 1) // 2] + exact[items // 2]) / 2
    assert selection.median(values) == float(middle)


def test_the_median_of_the_extreme_numbers_is_rounded_once() -> None:
    """Two of the largest do not overflow; the smallest, halved, go to the even side."""
    large, tiny = 1.7e308, 5e-324
    assert selection.median(np.array([large, large])) == large
    assert selection.median(np.array([tiny, 2 * tiny])) == 2 * tiny
    assert selection.median(np.array([0.0, tiny])) == 0.0
    assert math.copysign(1, selection.median(np.array([-0.0, -0.0]))) == 1
    assert math.copysign(1, selection.median(np.array([-tiny, 0.0]))) == 1


@pytest.mark.parametrize(
    ("items", "q", "words"),
    [
        (0, (1, 2), "no quantile of no items"),
        (3, (3, 2), "3/2 is not from 0 to 1"),
        (3, (-1, 2), "-1/2 is not"),
        (3, (0, 0), "0/0 is not"),
    ],
)
def test_a_quantile_that_is_not_there_is_refused(
    items: int, q: tuple[int, int], words: str
) -> None:
    """No items, or a share outside of 0 to 1."""
    with pytest.raises(ContractError, match=words):
        selection.quantile(np.zeros(items), *q)
    with pytest.raises(ContractError, match="of no items"):
        selection.median(np.zeros(0))
