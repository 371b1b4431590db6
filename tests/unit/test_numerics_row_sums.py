"""Sums of rows: the order of additions is fixed, and written down."""

import numpy as np
import pytest

from crdtmerge.numerics import row_sums


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


def test_no_sum_is_minus_zero() -> None:
    """Whether a zero is padding or an item cannot be seen."""
    for items in (1, 2, 3):
        assert not np.signbit(row_sums(np.full((1, items), -0.0)))[0]
