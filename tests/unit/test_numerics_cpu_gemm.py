"""Compiled exact products: the bits of the reference, by halves and in one slice too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.numerics.cpu import gemm as cpu
from crdtmerge.numerics.cpu import spectral
from crdtmerge.numerics.reference import gemm
from crdtmerge.numerics.reference.spectral import low_rank_factors

SHAPES = [(1, 1, 1), (5, 7, 3), (33, 100, 65), (70, 31, 32), (0, 3, 2), (3, 4, 0)]


def operand(rows: int, columns: int, seed: int = 0, reach: int = 30) -> Floats:
    generator = np.random.default_rng([seed, rows, columns])
    scales = 2.0 ** generator.integers(-reach, reach + 1, size=(rows, 1))
    product: Floats = generator.standard_normal((rows, columns)) * scales
    return product


@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1.0, 2.0**450, 2.0**-450])
def test_products_have_the_bits_of_the_reference(
    shape: tuple[int, int, int], slices: int, scale: float
) -> None:
    """In every memory order, and for exponents near and far."""
    rows, inner, columns = shape
    left, right = operand(rows, inner) * scale, operand(inner, columns, 1)
    expected = gemm.matmul(left, right, slices).tobytes()
    turned = np.asfortranarray
    assert cpu.matmul(left, right, slices).tobytes() == expected
    assert cpu.matmul(turned(left), turned(right), slices).tobytes() == expected
    strided = np.repeat(right, 2, axis=1)[:, ::2]
    assert cpu.matmul(left, strided, slices).tobytes() == expected


@given(st.integers(0, 2**32), st.integers(1, 9))
def test_slices_round_ties_alike(seed: int, inner: int) -> None:
    """Halves of the last kept bit go to even, of the first slice and of the second."""
    generator = np.random.default_rng(seed)
    bits = gemm.slice_bits(inner)
    halves = generator.integers(-9, 10, size=(4, inner)) * 2.0 ** -(bits + 1)
    finer = generator.integers(-9, 10, size=(4, inner)) * 2.0 ** -(2 * bits + 1)
    rows = 1.0 - np.abs(halves + finer)
    found, expected = cpu.sliced(rows), gemm.sliced(rows)
    assert (found.high == expected.high).all()
    assert (found.low == expected.low).all()
    assert (found.exponents == expected.exponents).all()


@pytest.mark.parametrize("rows", [1, 5, 31, 33, 100])
@pytest.mark.parametrize("scale", [1.0, 2.0**450])
def test_products_of_rows_by_halves_are_those_of_matmul(
    rows: int, scale: float
) -> None:
    """The half that a library leaves out is the other's mirror, bit for bit."""
    table = operand(rows, 45) * scale
    expected = gemm.matmul(table, table.T)
    assert gemm.row_products(table).tobytes() == expected.tobytes()
    assert cpu.row_products(table).tobytes() == expected.tobytes()
    assert expected.tobytes() == expected.T.copy().tobytes()


def test_many_rows_are_multiplied_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held at once changes no bit."""
    table = operand(40, 20)
    whole = cpu.row_products(table).tobytes()
    monkeypatch.setattr(cpu, "HALVES_ROWS_MAX", 8)
    monkeypatch.setattr(gemm, "BLOCK_ITEMS", 200)
    assert cpu.row_products(table).tobytes() == whole


def test_one_slice_errs_as_stated() -> None:
    """It is within K 2**-b of the largest items, and is not the exact product."""
    left, right = operand(20, 64, reach=0), operand(64, 30, 1, reach=0)
    found = gemm.matmul(left, right, 1)
    largest = np.abs(left).max(1)[:, np.newaxis] * np.abs(right).max(0)
    error = np.abs(found - gemm.matmul(left, right)) / largest
    assert 0 < error.max() < 64 * 2.0 ** -gemm.slice_bits(64)


@pytest.mark.parametrize("form", [gemm, cpu])
def test_a_zero_is_positive(form: object) -> None:
    """Zeros of a product are +0, also from items of unlike signs and from underflow."""
    left = np.array([[-0.0, 1.0], [-1e-300, 0.0]])
    right = np.array([[1e-300, -1.0], [0.0, -0.0]])
    for slices in (1, 2):
        found = form.matmul(left, right, slices)  # type: ignore[attr-defined]
        assert not np.signbit(found[found == 0]).any()


@pytest.mark.parametrize("form", [gemm, cpu])
def test_an_inner_dimension_of_nothing_is_refused(form: object) -> None:
    """A product over no terms is no product."""
    with pytest.raises(ContractError, match="terms"):
        form.matmul(np.zeros((2, 0)), np.zeros((0, 2)))  # type: ignore[attr-defined]


@pytest.mark.parametrize("transposed", [False, True])
def test_task_vectors_of_factors_have_equal_bits(transposed: bool) -> None:
    """Also through the rounding to float32."""
    a, b = operand(8, 90, 2, 3), operand(70, 8, 3, 3)
    expected = gemm.low_rank(a, b, 0.3, transposed=transposed)
    found = cpu.low_rank(a, b, 0.3, transposed=transposed)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("rows", "columns", "rank"), [(90, 70, 4), (64, 200, 17), (1, 9, 1), (30, 30, 30)]
)
def test_factors_of_a_rank_have_equal_bits(rows: int, columns: int, rank: int) -> None:
    """The random projection, Gram-Schmidt and Jacobi are those of the reference."""
    inner = min(rows, 12)
    product = operand(rows, inner, 4, 0) @ operand(inner, columns, 5, 0)
    matrix = product.astype(np.float32)
    expected = low_rank_factors(matrix, rank, b"12345678")
    found = spectral.low_rank_factors(matrix, rank, b"12345678")
    assert [a.tobytes() for a in found] == [a.tobytes() for a in expected]
    nothing = spectral.low_rank_factors(matrix * 0, rank, b"12345678")
    assert not any(part.any() for part in nothing)
