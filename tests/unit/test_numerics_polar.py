"""Polar factors and truncated SVDs: LAPACK's within 1e-7, in one set of bits."""

import numpy as np
import pytest

from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats, backends
from crdtmerge.numerics.cpu import factors as cpu
from crdtmerge.numerics.reference import factors

ERROR_MAX = 1e-7
"""What the contract promises against LAPACK in float64, both cut at 2**-16."""

ORTHONORMAL = 1e-7


def drawn(rows: int, columns: int, seed: int = 0) -> Floats:
    return np.random.default_rng([seed, rows, columns]).standard_normal((rows, columns))


def with_values(rows: int, columns: int, sigma: Floats) -> Floats:
    left = np.linalg.qr(drawn(rows, sigma.size, 1))[0]
    right = np.linalg.qr(drawn(columns, sigma.size, 2))[0]
    product: Floats = (left * sigma) @ right.T
    return product


def like_a_task(rows: int, columns: int, noise: float = 0.05) -> Floats:
    """A few strong directions, and noise that decays over the columns, as float32."""
    inner = 16
    strong = (drawn(rows, inner, 3) * 0.8 ** np.arange(inner)) @ drawn(
        inner, columns, 4
    )
    weak = drawn(rows, columns, 5) * (np.arange(columns) + 1.0) ** -0.3
    return (1e-3 * (strong + noise * weak)).astype(np.float32).astype(np.float64)


def hilbert(side: int) -> Floats:
    places = np.arange(float(side))
    table: Floats = 1.0 / (places[:, np.newaxis] + places + 1.0)
    return table


KINDS = {
    "task, square": like_a_task(70, 70),
    "task, wide": like_a_task(40, 140),
    "task, tall": like_a_task(140, 40),
    "task, little noise": like_a_task(66, 66, 1e-3),
    "task, noise at the cutoff": like_a_task(66, 66, 1e-4),
    "task, float32 noise alone": like_a_task(66, 66, 0.0),
    "normal": drawn(66, 66),
    "rank 7": drawn(70, 7) @ drawn(7, 60),
    "falls to 1e-4": with_values(60, 60, np.logspace(0, -4, 60)),
    "falls through the cutoff": with_values(60, 70, np.logspace(0, -7, 60)),
    "falls far below": with_values(70, 60, np.logspace(0, -13, 60)),
    "half just within": with_values(
        50, 50, np.r_[np.ones(25), 2.0**-15.9 * np.linspace(1, 1.02, 25)]
    ),
    "half just above a step": with_values(
        50, 50, np.r_[np.ones(25), 2.0**-11.9 * np.linspace(1, 1.02, 25)]
    ),
    "half just below a step": with_values(
        50, 50, np.r_[np.ones(25), 2.0**-12.1 * np.linspace(1, 1.02, 25)]
    ),
    "hilbert": hilbert(40),
    "rows of many sizes": drawn(50, 50) * 2.0 ** -(np.arange(50)[:, np.newaxis] % 14),
    "columns of many sizes": drawn(50, 50) * 2.0 ** -(np.arange(50) % 14),
    "identity": np.eye(30),
    "orthogonal": np.linalg.qr(drawn(50, 50))[0],
    "equal pairs": with_values(40, 60, np.repeat(np.arange(20.0, 0.0, -1.0), 2)),
    "ones": np.ones((40, 30)),
    "zeros": np.zeros((5, 8)),
    "one item": np.full((1, 1), -3.0),
    "a row": drawn(1, 9),
    "a column": drawn(9, 1),
    "tiny": drawn(20, 20) * 2.0**-1000,
    "huge": drawn(20, 20) * 2.0**1000,
    "no rows": np.zeros((0, 3)),
    "no columns": np.zeros((3, 0)),
}


def lapack(matrix: Floats) -> tuple[Floats, Floats, Floats]:
    """LAPACK's factors in float64, cut at 2**-16."""
    scale = np.abs(matrix).max(initial=0.0) or 1.0
    u, sigma, vt = np.linalg.svd(matrix / scale, full_matrices=False)
    counts = sigma >= sigma.max(initial=0.0) * 2.0**-16
    counts &= sigma > 0
    return u[:, counts], sigma[counts] * scale, vt[counts]


def relative(found: Floats, expected: Floats) -> float:
    scale = np.abs(expected).max(initial=0.0) or 1.0
    norm = np.linalg.norm(expected / scale) or 1.0
    return float(np.linalg.norm(found / scale - expected / scale) / norm)


@pytest.mark.parametrize("matrix", KINDS.values(), ids=KINDS.keys())
def test_polar_factor_is_lapacks(matrix: Floats) -> None:
    """The relative error against float64 LAPACK is at most 1e-7 on every kind."""
    u, _, vt = lapack(matrix)
    found = factors.polar_factor(matrix)
    assert found.shape == matrix.shape
    assert relative(found, u @ vt) <= ERROR_MAX


@pytest.mark.parametrize("matrix", KINDS.values(), ids=KINDS.keys())
def test_all_singular_values_are_lapacks(matrix: Floats) -> None:
    """As many count, each within 1e-7 of itself, and the product is the matrix's."""
    u, sigma, vt = lapack(matrix)
    found = cpu.svd(matrix, max(1, *matrix.shape))
    assert found.sigma.size == sigma.size
    assert np.allclose(found.sigma, sigma, rtol=1e-7, atol=0)
    scale = np.abs(matrix).max(initial=0.0) or 1.0
    product = (found.u * (found.sigma / scale)) @ found.vt
    assert relative(product, (u * (sigma / scale)) @ vt) <= ERROR_MAX
    identity = np.eye(sigma.size)
    assert np.abs(found.u.T @ found.u - identity).max(initial=0) <= ORTHONORMAL
    assert np.abs(found.vt @ found.vt.T - identity).max(initial=0) <= ORTHONORMAL


@pytest.mark.parametrize("rank", [1, 5, 16])
@pytest.mark.parametrize(
    "name", ["task, square", "task, wide", "task, tall", "rank 7", "falls to 1e-4"]
)
def test_truncated_product_is_lapacks(name: str, rank: int) -> None:
    """Where there is a gap the best product of a rank is the same within 1e-7."""
    matrix = KINDS[name]
    u, sigma, vt = lapack(matrix)
    found = cpu.svd(matrix, rank)
    kept = min(rank, sigma.size)
    assert found.sigma.size == kept
    best = (u[:, :kept] * sigma[:kept]) @ vt[:kept]
    assert relative((found.u * found.sigma) @ found.vt, best) <= ERROR_MAX
    beyond = sigma[kept] if kept < sigma.size else 0.0
    assert found.beyond == pytest.approx(beyond, rel=1e-6, abs=sigma[0] * 2.0**-17)


@pytest.mark.parametrize("matrix", KINDS.values(), ids=KINDS.keys())
def test_compiled_forms_have_the_bits_of_the_reference(matrix: Floats) -> None:
    """Every byte of the polar factor and of two truncations is equal."""
    assert cpu.polar_factor(matrix).tobytes() == factors.polar_factor(matrix).tobytes()
    for rank in (3, 200):
        found, expected = cpu.svd(matrix, rank), factors.svd(matrix, rank)
        assert found.u.tobytes() == expected.u.tobytes()
        assert found.sigma.tobytes() == expected.sigma.tobytes()
        assert found.vt.tobytes() == expected.vt.tobytes()
        assert found.beyond == expected.beyond


def test_threads_and_memory_order_change_no_bit() -> None:
    """Neither two threads nor a transposed view of the same numbers moves a byte."""
    matrix = like_a_task(300, 340)
    expected = cpu.polar_factor(matrix).tobytes()
    assert cpu.polar_factor(np.asfortranarray(matrix)).tobytes() == expected
    with backends.forced("cpu", threads=2):
        assert cpu.polar_factor(matrix).tobytes() == expected


@pytest.mark.parametrize("name", ["task, tall", "falls through the cutoff", "rank 7"])
def test_sign_and_scale_of_the_input_are_those_of_the_polar_factor(name: str) -> None:
    """polar(-A) = -polar(A) and polar(2**k A) = polar(A), bit for bit."""
    matrix = KINDS[name]
    found = factors.polar_factor(matrix)
    assert (factors.polar_factor(-matrix) + 0.0).tobytes() == (0.0 - found).tobytes()
    assert factors.polar_factor(matrix * 2.0**-200).tobytes() == found.tobytes()


@pytest.mark.parametrize("form", [factors, cpu])
def test_the_input_is_left_as_it_was(form: object) -> None:
    """Neither a wide nor a tall matrix is written to, scaled as it is on the way."""
    for name in ("task, wide", "task, tall", "falls through the cutoff"):
        matrix = KINDS[name].copy()
        form.polar_factor(matrix)  # type: ignore[attr-defined]
        form.svd(matrix, 3)  # type: ignore[attr-defined]
        assert matrix.tobytes() == KINDS[name].tobytes()


def test_float32_input_is_the_same_as_its_float64() -> None:
    """Task vectors are float32; they are raised exactly."""
    matrix = like_a_task(40, 50)
    single = matrix.astype(np.float32)
    found = factors.polar_factor(single)
    assert found.tobytes() == factors.polar_factor(matrix).tobytes()


@pytest.mark.parametrize("name", ["task, square", "task, tall", "equal pairs"])
def test_values_fall_and_the_largest_entry_of_u_is_positive(name: str) -> None:
    """Order and signs, which an SVD leaves free, are pinned, also for a tall matrix."""
    found = factors.svd(KINDS[name], 9)
    assert (np.diff(found.sigma) <= 0).all()
    places = np.abs(found.u).argmax(axis=0)
    assert (found.u[places, np.arange(9)] > 0).all()


def test_directions_at_the_cutoff_count_and_below_do_not() -> None:
    """Sigma >= 2**-16 sigma_1 is kept, whatever is done in between."""
    sigma = np.array([1.0, 2.0**-11, 2.0**-15.99, 2.0**-16.01, 2.0**-40])
    found = factors.svd(with_values(30, 20, sigma), 20)
    assert np.allclose(found.sigma, sigma[:3], rtol=1e-7)
    exact = np.diag([1.0, 2.0**-16, 2.0**-17])
    assert np.diagonal(factors.polar_factor(exact)).tolist() == [1.0, 1.0, 0.0]


def test_what_has_no_direction_gives_zeros() -> None:
    """The polar factor of zeros is +0, its decomposition is empty."""
    assert factors.polar_factor(np.zeros((3, 2))).tobytes() == bytes(48)
    found = factors.svd(np.zeros((3, 2)), 2)
    assert (found.u.shape, found.sigma.shape, found.vt.shape) == ((3, 0), (0,), (0, 2))
    assert found.beyond == 0.0
    assert factors.svd(drawn(4, 5), 0).sigma.size == 0


@pytest.mark.parametrize("form", [factors, cpu])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(form: object, bad: float) -> None:
    """NaN and infinity are refused before any arithmetic, ranks below zero too."""
    matrix = drawn(3, 4)
    matrix[1, 2] = bad
    for call in ("polar_factor", "svd"):
        with pytest.raises(ContractError, match="NaN or infinity: item 6 is"):
            getattr(form, call)(matrix, *([2] if call == "svd" else []))
    with pytest.raises(ContractError, match="matrix"):
        form.polar_factor(np.zeros(3))  # type: ignore[attr-defined]
    with pytest.raises(ContractError, match="negative"):
        form.svd(drawn(3, 4), -1)  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(512, 512), (300, 1300), (1024, 1024)])
def test_large_ones_are_lapacks_too(shape: tuple[int, int]) -> None:
    """The error does not grow beyond 1e-7 with the size."""
    for matrix in (
        like_a_task(*shape),
        with_values(*shape, np.logspace(0, -6, min(shape))),
    ):
        u, _, vt = lapack(matrix)
        assert relative(cpu.polar_factor(matrix), u @ vt) <= ERROR_MAX
