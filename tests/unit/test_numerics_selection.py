"""Selection by magnitude: exact counts, exact thresholds, ties kept."""

from fractions import Fraction
from math import ceil

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError

UNIT = 10**9


def test_threshold_is_the_kth_of_the_sorted_magnitudes() -> None:
    """For every k, on values with ties, subnormals, zeros and both signs."""
    generator = np.random.default_rng(4)
    tau = generator.integers(-6, 7, 97).astype(np.float32) / np.float32(8)
    tau[:4] = (0.0, -0.0, 1e-45, -3e38)
    ordered = sorted((abs(float(v)) for v in tau), reverse=True)
    for k in range(1, 98):
        assert numerics.kth_magnitude(tau, k) == ordered[k - 1]
        kept = numerics.keep_top(tau, k)
        assert kept.tolist() == [
            v if abs(v) >= ordered[k - 1] else 0 for v in tau.tolist()
        ]


def test_ties_at_the_threshold_are_all_kept() -> None:
    """No index decides: three equal magnitudes stay although one was asked for."""
    tau = np.array([1, -1, 0.5, 1, 0], dtype=np.float32)
    assert numerics.keep_top(tau, 1).tolist() == [1, -1, 0, 1, 0]


def test_density_zero_keeps_nothing_and_one_everything() -> None:
    """The ends of the range are exact."""
    tau = np.array([3, -0.0, 1], dtype=np.float32)
    assert numerics.keep_top(tau, numerics.keep_count(3, 0)).tolist() == [0, 0, 0]
    kept = numerics.keep_top(tau, numerics.keep_count(3, UNIT))
    assert kept.tobytes() == tau.tobytes()


@pytest.mark.parametrize("items", [0, 1, 5, 10, 64, 999_999_937])
@pytest.mark.parametrize("units", [0, 1, UNIT // 5, UNIT // 3, UNIT - 1, UNIT])
def test_count_is_the_exact_ceiling(items: int, units: int) -> None:
    """No float error adds or loses an item."""
    assert numerics.keep_count(items, units) == ceil(Fraction(units, UNIT) * items)


@pytest.mark.parametrize("k", [0, 4, -1])
def test_a_rank_that_is_not_there_is_refused(k: int) -> None:
    """The k-th magnitude exists for 1 to n only."""
    with pytest.raises(ContractError, match="largest of 3"):
        numerics.kth_magnitude(np.ones(3, dtype=np.float32), k)
