"""Assignments: the least cost, and the first of those that have it."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from crdtmerge.errors import ContractError
from crdtmerge.numerics.cpu import assignment as fast
from crdtmerge.numerics.reference import assignment as reference
from crdtmerge.numerics.reference.assignment import Costs

BACKENDS = pytest.mark.parametrize(
    "backend", [reference, fast], ids=["reference", "cpu"]
)


def first_of_the_best(costs: Costs) -> list[int]:
    """Try all of them in lexicographic order."""
    rows, columns = costs.shape
    table = costs.tolist()
    found = min(
        permutations(range(columns), rows),
        key=lambda chosen: sum(table[i][j] for i, j in enumerate(chosen)),
    )
    return list(found)


@BACKENDS
@pytest.mark.parametrize("spread", [0, 1, 3, 1000, 10**16])
def test_the_first_of_the_best_is_found(backend: Any, spread: int) -> None:
    """Against all permutations: negative costs, ties, fewer rows than columns."""
    generator = np.random.default_rng(spread)
    for _ in range(60):
        columns = int(generator.integers(0, 7))
        shape = (int(generator.integers(0, columns + 1)), columns)
        costs = generator.integers(-spread, spread + 1, shape)
        assert backend.assign(costs).tolist() == first_of_the_best(costs)


@BACKENDS
def test_all_seven_rows_of_seven_find_the_first_of_the_best(backend: Any) -> None:
    """The largest that can be tried out, with many ties."""
    generator = np.random.default_rng(7)
    for spread in (1, 2, 50):
        costs = generator.integers(0, spread + 1, (7, 7))
        assert backend.assign(costs).tolist() == first_of_the_best(costs)


@pytest.mark.parametrize(
    ("rows", "columns", "spread"),
    [
        (1, 1, 9),
        (1, 80, 2),
        (60, 60, 10**9),
        (60, 60, 2),
        (50, 90, 10**15),
        (129, 129, 30),
    ],
)
def test_the_cost_is_the_least_and_both_forms_agree(
    rows: int, columns: int, spread: int
) -> None:
    """Scipy's cost, no column twice, and equal columns from both forms."""
    costs = np.random.default_rng(rows).integers(-spread, spread + 1, (rows, columns))
    found = reference.assign(costs)
    assert found.tolist() == fast.assign(costs).tolist()
    assert len(set(found.tolist())) == rows
    best = linear_sum_assignment(costs)
    assert costs[np.arange(rows), found].sum() == costs[best].sum()


@BACKENDS
def test_equal_costs_leave_everything_in_place(backend: Any) -> None:
    """Of all permutations the first is the identity."""
    for value in (0, -5, 2**62):
        costs = np.full((9, 12), value)
        assert backend.assign(costs).tolist() == list(range(9))


@BACKENDS
def test_costs_up_to_the_limit_are_exact(backend: Any) -> None:
    """One unit decides between sums that float64 could not tell apart."""
    large = 2**58
    costs = np.array([[0, large, large - 1], [large, large, large], [0, large, large]])
    assert backend.assign(costs).tolist() == [2, 1, 0]
    costs[0, 2] += 2
    assert backend.assign(costs).tolist() == [0, 1, 2]


@BACKENDS
def test_costs_that_might_overflow_are_refused(backend: Any) -> None:
    """It is their spread that counts, times the number of columns."""
    for low, high in ((-(2**62), 2**62), (0, 2**60)):
        costs = np.array([[low, high], [high, low]])
        with pytest.raises(ContractError, match="apart are too far for 2 columns"):
            backend.assign(costs)
        with pytest.raises(ContractError, match="apart are too far for 4 columns"):
            backend.assign(np.tile(costs, (2, 2)))


@BACKENDS
def test_more_rows_than_columns_are_refused(backend: Any) -> None:
    """Some row would go without."""
    with pytest.raises(ContractError, match="3 rows cannot have a column each of 2"):
        backend.assign(np.zeros((3, 2), dtype=np.int64))
