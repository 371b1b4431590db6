"""Compiled reductions and selections against the readable ones: equal bytes."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crdtmerge.errors import ContractError
from crdtmerge.numerics.cpu import reductions as fast_reductions
from crdtmerge.numerics.cpu import selection as fast_selection
from crdtmerge.numerics.reference import reductions, selection

SIZES = [1, 2, 63, 64, 65, 4095, 4097, 65_535, 65_536, 65_537, 5 * 65_536 + 1]
KINDS = ["spread", "ties", "equal", "zeros", "subnormal"]


def values(items: int, kind: str, dtype: type) -> NDArray[Any]:
    """Return numbers of a kind that selection might trip over."""
    generator = np.random.default_rng(items)
    spread = generator.standard_normal(items)
    signs = np.where(generator.random(items) < 0.5, -1.0, 1.0)
    least = 1e-45 if dtype is np.float32 else 5e-324
    found = {
        "spread": spread * np.exp(3 * spread),
        "ties": np.round(spread * 3) / 4,
        "equal": signs / 2,
        "zeros": signs * 0.0,
        "subnormal": np.round(spread * 5) * least,
    }[kind]
    return found.astype(dtype)


def bits(value: float) -> bytes:
    return np.float64(value).tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("items", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_reductions_have_the_bytes_of_the_reference(
    items: int, kind: str, dtype: type
) -> None:
    """Sums, products, mean and variance, around the blocks of the tree."""
    x, y = values(items, kind, dtype), values(items, "spread", dtype)
    for name, given in (
        ("dot", (x, y)),
        ("sum_of_squares", (x,)),
        ("mean", (x,)),
        ("variance", (x,)),
    ):
        got = getattr(fast_reductions, name)(*given)
        assert bits(got) == bits(getattr(reductions, name)(*given)), name


def test_compiled_reductions_take_strides_mixed_types_and_nothing() -> None:
    """What is not contiguous, a product of float32 and float64, no items."""
    x, y = values(5000, "spread", np.float32), values(5000, "spread", np.float64)
    assert bits(fast_reductions.dot(x[::2], y[::2])) == bits(
        reductions.dot(x[::2], y[::2])
    )
    assert bits(fast_reductions.dot(x[:0], y[:0])) == bits(0.0)
    for name in ("mean", "variance"):
        with pytest.raises(ContractError, match=f"{name} of no items"):
            getattr(fast_reductions, name)(x[:0])


def test_compiled_reductions_refuse_what_the_reference_refuses() -> None:
    """Sums beyond float64; unequal lengths are no product."""
    large = np.array([1.0, -1.0]) * 1e300
    with pytest.raises(ContractError, match="beyond float64"):
        fast_reductions.variance(large)
    with pytest.raises(ContractError, match="vectors of 2 and 3 items"):
        fast_reductions.dot(large, np.zeros(3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("items", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_order_statistics_have_the_bytes_of_the_reference(
    items: int, kind: str, dtype: type
) -> None:
    """Quantiles and the median, negative values and ties included."""
    x = values(items, kind, dtype)
    for q in ((0, 1), (1, 4), (1, 3), (3, 4), (1, 1)):
        assert bits(fast_selection.quantile(x, *q)) == bits(selection.quantile(x, *q))
    assert bits(fast_selection.median(x)) == bits(selection.median(x))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("items", SIZES)
def test_compiled_ranks_and_groups_have_the_bytes_of_the_reference(
    items: int, kind: str
) -> None:
    """For rows and groups of several lengths."""
    x = values(items, kind, np.float32)
    for length in {1, items, next(n for n in (5, 4, 3, 2, 1) if items % n == 0)}:
        got = fast_selection.rank_in_row(x, length)
        assert got.tobytes() == selection.rank_in_row(x, length).tobytes()
    for n, m in ((2, 4), (0, 3), (3, 3), (7, 16), (7, 17), (0, 17), (64, 256)):
        kept = fast_selection.keep_n_of_m(x, n, m)
        assert kept.tobytes() == selection.keep_n_of_m(x, n, m).tobytes()


def test_compiled_selections_refuse_what_the_reference_refuses() -> None:
    """Half rows, counts that no group has, quantiles of nothing."""
    x = np.zeros(5, dtype=np.float32)
    with pytest.raises(ContractError, match="whole rows"):
        fast_selection.rank_in_row(x, 2)
    with pytest.raises(ContractError, match="5 of 4 items"):
        fast_selection.keep_n_of_m(x, 5, 4)
    with pytest.raises(ContractError, match="of no items"):
        fast_selection.median(x[:0])
    assert fast_selection.rank_in_row(x[:0], 3).size == 0
    assert fast_selection.keep_n_of_m(x[:0], 1, 3).size == 0
