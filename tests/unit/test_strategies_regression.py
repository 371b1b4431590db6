"""The fit to what task matrices read, in the form that few rows ask for."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs, Values
from crdtmerge.strategies.spectral.matrices import Matrices
from crdtmerge.strategies.spectral.regression import fitted, gram_of
from tests.strategies import task

LEAST = "0.000000001"
"""The smallest ridge that there is."""


def inputs_of(ridge: str) -> Inputs:
    inputs = task("wudi", "F64", [np.ones((2, 3))], np.zeros((2, 3)))
    values = dict(inputs.values.parameters) | {"ridge": ridge}
    return replace(inputs, values=Values(tuple(sorted(values.items()))))


def drawn(rows: int, reads: int, columns: int, count: int) -> list[tuple[Floats, ...]]:
    generator = np.random.default_rng(7)
    return [
        (generator.standard_normal((rows, columns)), each / np.linalg.norm(each))
        for each in generator.standard_normal((count, reads, columns))
    ]


def fit(pairs: list[tuple[Floats, ...]], ridge: str, rows: int = 0) -> Floats:
    shape = pairs[0][0].shape
    found = Matrices((), (), *shape)
    total = rows or sum(len(reads) for _, reads in pairs)
    return fitted(inputs_of(ridge), found, ((t, a) for t, a in pairs), total)


def expected(pairs: list[tuple[Floats, ...]], ridge: float) -> Floats:
    """Least squares with the ridge as rows of their own: no product of Gram matrices."""
    columns = pairs[0][0].shape[1]
    reads = np.concatenate([a for _, a in pairs])
    sides = np.concatenate([a @ t.T for t, a in pairs])
    rho = ridge * (reads * reads).sum() / columns
    design = np.concatenate([reads, np.sqrt(rho) * np.eye(columns)])
    sides = np.concatenate([sides, np.zeros((columns, sides.shape[1]))])
    found: Floats = np.linalg.lstsq(design, sides, rcond=None)[0].T
    return found


def off(found: Floats, expected: Floats) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("ridge", ["0.000001", LEAST])
@pytest.mark.parametrize("reads", [1, 2, 20])
def test_few_rows_are_exact_whatever_the_ridge(reads: int, ridge: str) -> None:
    """Gram matrices of columns would lose 10**-3 here: rounding over the ridge.

    What is left is the square root of that: 2**-53 * sqrt(columns / ridge).
    """
    pairs = drawn(3, reads, 200, 3)
    assert off(fit(pairs, ridge), expected(pairs, float(ridge))) < 1e-8


@pytest.mark.parametrize("columns", [12, 30, 31])
def test_both_forms_are_one_fit(columns: int) -> None:
    """With a ridge at which both are exact."""
    pairs = drawn(4, 10, columns, 3)
    few, many = fit(pairs, "0.1", 1), fit(pairs, "0.1", columns + 1)
    assert off(few, many) < 1e-12
    assert off(few, expected(pairs, 0.1)) < 1e-12


def test_what_nobody_reads_is_zero() -> None:
    """Exactly: a result of few rows is a sum of these rows."""
    pairs = drawn(3, 2, 9, 2)
    for _, reads in pairs:
        reads[:, 4:7] = 0
    assert not fit(pairs, LEAST)[:, 4:7].any()
    assert fit(pairs, LEAST)[:, :4].any()


def test_equal_readers_meet_halfway() -> None:
    """Their rows are dependent, and the ridge alone makes the system solvable."""
    (first, reads), (second, _) = drawn(3, 2, 8, 2)
    found = fit([(first, reads), (second, reads)], "0.000001")
    assert off(found @ reads.T, (first + second) / 2 @ reads.T) < 1e-4


def test_a_ridge_below_rounding_is_refused_with_a_way_out() -> None:
    """Two equal rows of 10000 columns; the error names the tensor."""
    pairs = drawn(1, 1, 10_000, 1) * 2
    with pytest.raises(ContractError, match="cannot be solved for") as refused:
        fit(pairs, LEAST)
    assert "ridge" in str(refused.value.hint)
    assert fit(pairs, "0.000001").any()


def test_a_gram_matrix_is_of_columns_and_symmetric() -> None:
    """To the last bit, as the solve asks."""
    ((_, reads),) = drawn(1, 5, 7, 1)
    gram = gram_of(reads)
    assert np.array_equal(gram, gram.T)
    assert np.allclose(gram, reads.T @ reads, rtol=1e-14, atol=1e-16)
