"""Sums of rows and over contributions: in an order that is written down."""

from itertools import permutations

import numpy as np
import pytest

from crdtmerge.numerics import row_sums, sorted_over, sum_over, sums_in_order


def halved(items: list[float]) -> float:
    """The rule of the docstring, on a list."""
    width = 1
    while width < len(items):
        width *= 2
    left = items + [0.0] * (width - len(items))
    while len(left) > 1:
        half = len(left) // 2
        left = [a + b for a, b in zip(left[:half], left[half:], strict=True)]
    return left[0]


@pytest.mark.parametrize("items", [0, 1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 1000])
def test_rows_are_summed_by_halves(items: int) -> None:
    """Every row has the bits of its own sum, whatever rows are beside it."""
    generator = np.random.default_rng(items)
    rows = (
        generator.standard_normal((5, items))
        * 10.0 ** generator.integers(-9, 9, 5)[:, np.newaxis]
    )
    before = rows.copy()
    expected = [halved(row.tolist()) for row in rows]
    assert row_sums(rows).tolist() == expected
    assert row_sums(rows[2:3]).tolist() == expected[2:3]
    assert np.array_equal(rows, before)


@pytest.mark.parametrize("items", [1, 2, 7, 8, 9, 129, 1000])
def test_sums_in_order_take_one_term_after_the_other(items: int) -> None:
    """The bits of a loop; and a row in two pieces is a row."""
    generator = np.random.default_rng(items)
    rows = (
        generator.standard_normal((5, items))
        * 10.0 ** generator.integers(-9, 9, 5)[:, np.newaxis]
    )
    begun, expected = generator.standard_normal(5), []
    for first, row in zip(begun.tolist(), rows.tolist(), strict=True):
        total = first
        for term in row:
            total = total + term
        expected.append(total)
    assert sums_in_order(rows, begun).tolist() == expected
    half = items // 2
    if half:
        before = sums_in_order(rows[:, :half], begun)
        assert sums_in_order(rows[:, half:], before).tolist() == expected


def test_no_sum_is_minus_zero() -> None:
    """Whether a zero is padding or an item cannot be seen."""
    for items in (1, 2, 3):
        assert not np.signbit(row_sums(np.full((1, items), -0.0)))[0]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 13, 16, 31, 32, 33, 40])
def test_contributions_are_sorted_item_by_item(count: int) -> None:
    """By whatever way, with +0 for every zero, and equal values next to each other."""
    generator = np.random.default_rng(count)
    rows = np.round(generator.standard_normal((count, 300)) * 3) / 2
    rows[generator.random(rows.shape) < 0.1] = -0.0
    found = np.stack(sorted_over(rows)) if count else rows
    columns = [sorted(0.0 if x == 0 else x for x in column) for column in rows.T]
    assert found.T.tolist() == columns
    assert not np.signbit(found[found == 0]).any()


def test_zeros_and_ones_are_sorted_by_every_network() -> None:
    """Which proves it for all values: a network that sorts these sorts anything."""
    for count in range(2, 13):
        rows = (np.arange(2**count) >> np.arange(count)[:, np.newaxis]) & 1
        found = np.stack(sorted_over(rows.astype(np.float64)))
        assert (np.diff(found, axis=0) >= 0).all()
        assert (found.sum(axis=0) == rows.sum(axis=0)).all()


def test_no_order_of_contributions_changes_a_sum() -> None:
    """Values of many sizes, whose plain sums differ in all orders."""
    generator = np.random.default_rng(7)
    rows = generator.standard_normal((5, 50)) * 10.0 ** generator.integers(
        -9, 9, (5, 50)
    )
    orders = list(permutations(range(5)))
    assert len({sum_over(rows[list(order)]).tobytes() for order in orders}) == 1
    plain = {sum(rows[i] for i in order).tobytes() for order in orders}
    assert len(plain) > 1
