"""Exact products: the same bits in every order, close to the true product."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats, low_rank, matmul
from crdtmerge.numerics.reference import gemm

INNER = st.integers(1, 40)


def operands(seed: int, inner: int, rows: int = 5, columns: int = 7) -> list[Floats]:
    generator = np.random.default_rng([seed, inner])
    scales = 2.0 ** generator.integers(-30, 30, size=rows)
    left = generator.standard_normal((rows, inner)) * scales[:, np.newaxis]
    return [left, generator.standard_normal((inner, columns))]


def by_the_definition(left: Floats, right: Floats) -> Floats:
    """The module's formula in rationals and Python integers: no array, no BLAS."""
    inner = left.shape[1]
    bits = (53 - (inner - 1).bit_length()) // 2

    def slices(row: list[float]) -> tuple[int, list[int], list[int]]:
        largest = max(abs(Fraction(x)) for x in row)
        exponent = 0
        while largest and largest >= Fraction(2) ** exponent:
            exponent += 1
        while largest and largest < Fraction(2) ** (exponent - 1):
            exponent -= 1
        scaled = [Fraction(x) * Fraction(2) ** (bits - exponent) for x in row]
        high = [round(x) for x in scaled]  # to nearest, ties to even
        low = [round((x - h) * 2**bits) for x, h in zip(scaled, high, strict=True)]
        return exponent, high, low

    out = np.empty((left.shape[0], right.shape[1]))
    for i, row in enumerate(left.tolist()):
        e, high, low = slices(row)
        for j, column in enumerate(right.T.tolist()):
            f, other_high, other_low = slices(column)
            dots = [
                sum(a * b for a, b in zip(one, two, strict=True))
                for one, two in (
                    (high, other_high),
                    (high, other_low),
                    (low, other_high),
                    (low, other_low),
                )
            ]
            total = float(dots[3]) * 2.0**-bits + float(dots[1] + dots[2])
            total = total * 2.0**-bits + float(dots[0])
            out[i, j] = np.ldexp(total, e + f - 2 * bits)
    return out


@given(st.integers(0, 2**32), INNER)
def test_a_product_is_what_its_definition_says(seed: int, inner: int) -> None:
    """Bit for bit, computed again without arrays."""
    left, right = operands(seed, inner)
    assert matmul(left, right).tobytes() == by_the_definition(left, right).tobytes()


@given(st.integers(0, 2**32), st.integers(2, 3000), st.randoms(use_true_random=False))
def test_the_order_of_the_terms_changes_no_bit(
    seed: int, inner: int, rng: object
) -> None:
    """A sum over the inner dimension is exact, so any order gives it."""
    left, right = operands(seed, inner)
    order = np.random.default_rng(seed).permutation(inner)
    assert (
        matmul(left[:, order], right[order]).tobytes() == matmul(left, right).tobytes()
    )


def test_a_product_is_close_to_the_true_one() -> None:
    """What the slices cut off is below 2**-40 of the largest terms here."""
    left, right = operands(1, 512, 20, 30)
    found = matmul(left, right)
    largest = np.abs(left).max(1)[:, np.newaxis] * np.abs(right).max(0)
    for i in range(0, 20, 7):
        for j in range(0, 30, 11):
            terms = zip(left[i].tolist(), right[:, j].tolist(), strict=True)
            true = sum(Fraction(a) * Fraction(b) for a, b in terms)
            error = abs(Fraction(found[i, j].item()) - true)
            assert error < Fraction(largest[i, j].item()) * 512 / 2**41


def test_blocks_of_rows_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """How much is made at once is nobody's business."""
    left, right = operands(3, 17, 40, 9)
    whole = matmul(left, right)
    monkeypatch.setattr(gemm, "BLOCK_ITEMS", 20)
    assert matmul(left, right).tobytes() == whole.tobytes()


def test_extreme_scales_do_not_overflow_on_the_way() -> None:
    """Rows and columns are scaled by powers of two, each by its own."""
    left = np.array([[1e300, -3e300], [1e-300, 0.0], [0.0, 0.0]])
    right = np.array([[1e-300], [2e-300]])
    expected = [-5.0, 1e-600, 0.0]
    assert np.allclose(matmul(left, right)[:, 0], expected, rtol=1e-12)


def test_an_inner_dimension_outside_the_contract_is_refused() -> None:
    """No terms at all, or so many that a slice has too few bits."""
    for inner in (0, gemm.INNER_MAX + 1):
        with pytest.raises(ContractError, match="terms"):
            gemm.slice_bits(inner)
    assert gemm.slice_bits(gemm.INNER_MAX) == 16
    for inner in (1, 2, 3, 8, 16, 17, 4096):
        bits = gemm.slice_bits(inner)
        assert inner * 4**bits <= 2**53 < inner * 4 ** (bits + 1) * 2


def test_a_task_vector_of_factors_is_rounded_once() -> None:
    """Scale * B @ A, and its transpose where layers keep (in, out); no -0."""
    a = np.array([[1.0, 2.0, -3.0]])
    b = np.array([[0.5], [-0.25]])
    tau = low_rank(a, b, 0.1, transposed=False)
    exact = [[0.05, 0.1, -0.15], [-0.025, -0.05, 0.075]]
    assert tau.tolist() == np.array(exact, dtype=np.float32).reshape(-1).tolist()
    turned = low_rank(a, b, 0.1, transposed=True)
    assert turned.reshape(3, 2).T.tolist() == tau.reshape(2, 3).tolist()
    nothing = low_rank(a, -b, 0.0, transposed=False)
    assert nothing.tobytes() == bytes(4 * 6)


@pytest.mark.parametrize(
    ("a", "scale", "said"),
    [(np.nan, 1.0, "NaN"), (1.0, np.inf, "NaN or inf"), (1e30, 1e30, "beyond float32")],
)
def test_factors_that_have_no_task_vector_are_refused(
    a: float, scale: float, said: str
) -> None:
    """NaN, infinity, and products that float32 cannot hold."""
    with pytest.raises(ContractError, match=said):
        low_rank(np.array([[a]]), np.ones((2, 1)), scale, transposed=False, name="w")
