"""Sums over elements: the stated tree, on sizes around its blocks."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats, Singles
from crdtmerge.numerics.reference import reductions

Floating = type[np.float32] | type[np.float64]
SIZES = [0, 1, 63, 64, 65, 129, 65_535, 65_536, 65_537, 200_001]


def tree(left: list[float], right: list[float]) -> float:
    """The tree of the module's docstring, one Python float at a time."""
    block_sums = []
    for start in range(0, len(left), 65_536):
        lanes = [0.0] * 64
        pairs = zip(
            left[start : start + 65_536], right[start : start + 65_536], strict=True
        )
        for i, (a, b) in enumerate(pairs):
            lanes[i % 64] += a * b
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [lanes[j] + lanes[j + half] for j in range(half)]
        block_sums.append(lanes[0])
    while len(block_sums) & (len(block_sums) - 1) or not block_sums:
        block_sums.append(0.0)
    while len(block_sums) > 1:
        block_sums = [
            block_sums[j] + block_sums[j + 1] for j in range(0, len(block_sums), 2)
        ]
    return block_sums[0]


def vector(items: int, seed: int) -> Singles:
    return np.random.default_rng(seed).standard_normal(items).astype(np.float32)


@pytest.mark.parametrize("items", SIZES)
def test_sums_follow_the_stated_tree(items: int) -> None:
    """Norm and inner product are those of plain loops along the tree, bit for bit."""
    a, b = vector(items, 1), vector(items, 2)
    x, y = a.tolist(), b.tolist()
    assert numerics.sum_of_squares(a) == tree(x, x)
    assert numerics.dot(a, b) == tree(x, y)


@pytest.mark.parametrize("items", [0, 1, 65, 65_536, 70_001])
@pytest.mark.parametrize("sets", [1, 3])
def test_a_gram_matrix_holds_the_inner_products(
    items: int, sets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entry is that of `dot`, for float64 and many sets at once, in any cut."""
    table = np.random.default_rng(4).standard_normal((sets, 3, items))

    def values(part: range) -> list[Floats]:
        return [table[:, i, part.start : part.stop] for i in range(3)]

    for blocks in (16, 1):
        monkeypatch.setattr(reductions, "_GROUP_BLOCKS", blocks)
        found = numerics.gram(items, 3, values)
        assert found.shape == (sets, 3, 3)
        for one, matrix in zip(table, found, strict=True):
            expected = [[numerics.dot(a, b) for b in one] for a in one]
            assert matrix.tolist() == expected
    x = table[0, 0].tolist()
    assert numerics.dot(table[0, 0], table[0, 0]) == tree(x, x)


def test_groups_of_blocks_do_not_change_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many blocks are worked on at once is no part of the result."""
    tau = vector(5 * 65_536 + 77, 3)
    expected = numerics.sum_of_squares(tau)
    for blocks in (1, 2, 3):
        monkeypatch.setattr(reductions, "_GROUP_BLOCKS", blocks)
        assert numerics.sum_of_squares(tau) == expected


def test_products_do_not_overflow_or_vanish() -> None:
    """Squares of the largest and smallest float32 are exact in float64."""
    limits = np.finfo(np.float32)
    assert numerics.sum_of_squares(np.array([limits.max])) == float(limits.max) ** 2
    tiny = limits.smallest_subnormal
    assert numerics.sum_of_squares(np.array([tiny])) == 2.0**-298


def test_block_sums_are_added_in_neighbouring_pairs() -> None:
    """(1 + 2**53) + (-2**53 + 0) loses the 1; any other pairing would keep it."""
    left, right = np.zeros((2, 4 * 65_536), dtype=np.float32)
    left[::65_536] = (1, 2.0**27, 2.0**27, 0)
    right[::65_536] = (1, 2.0**26, -(2.0**26), 0)
    assert numerics.dot(left, right) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("items", SIZES[1:])
def test_mean_and_variance_are_sums_along_the_tree(items: int, dtype: Floating) -> None:
    """Two passes of plain loops: the mean, then the squared deviations from it."""
    values: NDArray[Any] = (vector(items, 6) * 3 + 100).astype(dtype)
    x = values.astype(np.float64).tolist()
    middle = tree(x, [1.0] * items) / items
    away = [value - middle for value in x]
    assert reductions.mean(values) == middle
    assert reductions.variance(values) == tree(away, away) / items


def test_the_variance_is_that_of_exact_rationals() -> None:
    """To the last places, where one pass would cancel: values far from 0."""
    values = vector(4000, 7).astype(np.float64) + 1e6
    exact = [Fraction(value) for value in values.tolist()]
    middle = sum(exact) / len(exact)
    expected = sum((value - middle) ** 2 for value in exact) / len(exact)
    assert reductions.variance(values) == pytest.approx(float(expected), rel=1e-13)
    assert reductions.variance(np.full(77, 0.1)) < 1e-30


@pytest.mark.parametrize("name", ["mean", "variance", "largest"])
def test_no_items_have_none_of_these(name: str) -> None:
    """Instead of NaN there is an error; the sum and the largest magnitude are +0."""
    with pytest.raises(ContractError, match=f"{name} of no items"):
        getattr(reductions, name)(np.zeros(0))
    assert reductions.largest_magnitude(np.zeros(0)).hex() == "0x0.0p+0"


def test_what_float64_cannot_hold_is_refused() -> None:
    """The sum of the largest numbers, and squares of large deviations."""
    large = np.array([1.0, -1.0]) * 1e300
    with pytest.raises(ContractError, match="variance of 2 items is beyond float64"):
        reductions.variance(large)
    with pytest.raises(ContractError, match="mean of 2 items is beyond float64"):
        reductions.mean(np.full(2, 1.5e308))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_items_are_exact_and_zero_is_positive(dtype: Floating) -> None:
    """By value and by magnitude, wherever they stand."""
    values: NDArray[Any] = np.linspace(-3, 2, 1001).astype(dtype)
    assert reductions.largest(values[::-1].copy()) == 2
    assert reductions.largest_magnitude(values) == 3
    assert reductions.largest_magnitude(-values) == 3
    zeros: NDArray[Any] = np.array([-0.0, -0.0]).astype(dtype)
    for function in (reductions.largest, reductions.largest_magnitude):
        assert function(zeros).hex() == "0x0.0p+0"
