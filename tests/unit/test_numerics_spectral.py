"""The best factors of a rank: as good as LAPACK's, pinned, and never NaN."""

import numpy as np
import pytest

from crdtmerge.numerics import Floats, Singles, low_rank_factors

KEY = b"12345678"


def matrix(rows: int, columns: int, inner: int, seed: int = 0) -> Singles:
    generator = np.random.default_rng([seed, rows, columns])
    left = generator.standard_normal((rows, inner)) * 0.5 ** np.arange(inner)
    product: Floats = left @ generator.standard_normal((inner, columns))
    return product.astype(np.float32)


@pytest.mark.parametrize(
    ("rows", "columns", "inner", "rank"),
    [(90, 70, 12, 4), (64, 200, 30, 8), (5, 3, 3, 2), (1, 9, 1, 1), (40, 40, 6, 6)],
)
def test_factors_are_as_good_as_the_best(
    rows: int, columns: int, inner: int, rank: int
) -> None:
    """The error is that of LAPACK's truncation, the values are its singular values."""
    tau = matrix(rows, columns, inner)
    b, a, sigma = low_rank_factors(tau, rank, KEY)
    wide = tau.astype(np.float64)
    values = np.linalg.svd(wide, compute_uv=False)
    best = float(np.sqrt((values[rank:] ** 2).sum()))
    assert b.shape == (rows, rank)
    assert a.shape == (rank, columns)
    assert np.linalg.norm(wide - b @ a) <= best * (1 + 1e-3) + 1e-7 * values[0]
    assert np.allclose(sigma, values[:rank], rtol=1e-4, atol=1e-7 * values[0])


def test_a_flat_spectrum_costs_little() -> None:
    """Where no direction stands out, the factors are within 2% of the best."""
    tau = np.random.default_rng(3).standard_normal((96, 96)).astype(np.float32)
    b, a, _ = low_rank_factors(tau, 8, KEY)
    values = np.linalg.svd(tau.astype(np.float64), compute_uv=False)
    best = np.sqrt((values[8:] ** 2).sum())
    assert best <= np.linalg.norm(tau - b @ a) * (1 + 1e-12) < 1.02 * best


def test_what_a_matrix_does_not_have_is_zero() -> None:
    """Zeros, and ranks above the matrix's own, give +0 and no NaN."""
    b, a, sigma = low_rank_factors(np.zeros((6, 4), np.float32), 3, KEY)
    assert b.tobytes() == bytes(8 * 18)
    assert a.tobytes() == bytes(8 * 12)
    assert not sigma.any()
    one = np.outer(np.arange(1, 7), [1, -2, 0, 3]).astype(np.float32)
    b, a, sigma = low_rank_factors(one, 3, KEY)
    assert np.allclose(b @ a, one, rtol=1e-12)
    assert not b[:, 1:].any()
    assert not a[1:].any()
    assert sigma[1:].tolist() == [0, 0]


def test_the_largest_entry_of_each_left_vector_is_positive() -> None:
    """Signs of singular vectors are free, so they are pinned."""
    b, _, _ = low_rank_factors(matrix(30, 20, 9), 5, KEY)
    places = np.abs(b).argmax(axis=0)
    assert (b[places, np.arange(5)] > 0).all()


def test_the_key_draws_the_sketch() -> None:
    """The same key gives the same bits, another one the same factors but for rounding."""
    tau = matrix(50, 40, 20)
    one, again = (low_rank_factors(tau.copy(), 4, KEY) for _ in range(2))
    other = low_rank_factors(tau, 4, b"abcdefgh")
    assert [part.tobytes() for part in one] == [part.tobytes() for part in again]
    assert np.allclose(one[0] @ one[1], other[0] @ other[1], atol=1e-3)
    assert one[0].tobytes() != other[0].tobytes()
