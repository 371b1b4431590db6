"""The symmetric eigenproblem: true, orthonormal, and one set of bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats, backends
from crdtmerge.numerics.cpu import eigen as cpu
from crdtmerge.numerics.reference import eigen


def symmetric(side: int, seed: int = 0) -> Floats:
    drawn = np.random.default_rng([seed, side]).standard_normal((side, side))
    return drawn + drawn.T


def with_values(values: Floats, seed: int = 0) -> Floats:
    """A matrix with these eigenvalues, up to rounding, symmetric bit for bit."""
    generator = np.random.default_rng([seed, values.size])
    basis = np.linalg.qr(generator.standard_normal((values.size, values.size)))[0]
    product: Floats = (basis * values) @ basis.T
    return (product + product.T) / 2


KINDS = {
    "full": symmetric(90),
    "rank 5": with_values(np.r_[np.arange(1.0, 6.0), np.zeros(60)]),
    "repeated": with_values(np.repeat([3.0, 1.0, -2.0], 15)),
    "falling to 2**-50": with_values(2.0 ** -np.linspace(0, 50, 70)),
    "graded": symmetric(60)
    * np.outer(2.0 ** -np.arange(60.0), 2.0 ** -np.arange(60.0)),
    "graded upwards": symmetric(40)
    * np.outer(2.0 ** np.arange(40.0), 2.0 ** np.arange(40.0)),
    "identity": np.eye(40),
    "tridiagonal": np.diag(np.full(50, 2.0))
    + np.diag(np.full(49, -1.0), 1)
    + np.diag(np.full(49, -1.0), -1),
    "blocks": np.kron(np.eye(3), symmetric(13)),
    "zeros": np.zeros((7, 7)),
    "one item": np.full((1, 1), -4.0),
    "nothing": np.zeros((0, 0)),
    "tiny": symmetric(9) * 2.0**-1000,
    "huge": symmetric(9) * 2.0**1020,
}


@pytest.mark.parametrize("matrix", KINDS.values(), ids=KINDS.keys())
def test_vectors_are_orthonormal_and_diagonalise(matrix: Floats) -> None:
    """V'V = I and AV = V diag(w) within rounding; w are LAPACK's eigenvalues."""
    values, vectors = eigen.symmetric_eigen(matrix)
    side = len(matrix)
    scale = np.abs(matrix).max(initial=0.0) or 1.0
    level = 1e-14 * max(side, 1)
    assert np.abs(vectors.T @ vectors - np.eye(side)).max(initial=0) < level
    unit = matrix / scale
    off = unit @ vectors - vectors * (values / scale)
    assert np.abs(off).max(initial=0.0) < level
    expected = np.linalg.eigvalsh(unit)[::-1] if side else np.zeros(0)
    assert np.abs(values / scale - expected).max(initial=0.0) < level


@pytest.mark.parametrize("matrix", KINDS.values(), ids=KINDS.keys())
def test_compiled_form_has_the_bits_of_the_reference(matrix: Floats) -> None:
    """Every byte of values and vectors is equal, on each kind of matrix."""
    expected = eigen.symmetric_eigen(matrix)
    found = cpu.symmetric_eigen(matrix)
    assert [a.tobytes() for a in found] == [a.tobytes() for a in expected]


def test_subnormal_matrices_have_equal_bits_too() -> None:
    """What can only be held coarsely is held alike, and scales as any other."""
    matrix = np.rint(symmetric(9)) * 5e-324
    values, vectors = eigen.symmetric_eigen(matrix)
    found = cpu.symmetric_eigen(matrix)
    assert [a.tobytes() for a in found] == [values.tobytes(), vectors.tobytes()]
    assert vectors.tobytes() == eigen.symmetric_eigen(matrix * 2.0**1000)[1].tobytes()


@pytest.mark.parametrize("side", [2, 3, 4, 31, 32, 33, 63, 64, 65, 129, 161])
def test_bits_are_equal_around_every_block_size(side: int) -> None:
    """Panels, strips, tiles and rows taken four or eight at a time leave no seam."""
    matrix = symmetric(side, seed=1)
    expected = eigen.symmetric_eigen(matrix)
    found = cpu.symmetric_eigen(matrix)
    assert [a.tobytes() for a in found] == [a.tobytes() for a in expected]


@given(st.integers(1, 12), st.integers(0, 2**32), st.integers(0, 3))
def test_bits_are_equal_on_small_integers(side: int, seed: int, reach: int) -> None:
    """Zeros, ties and exact cancellations are where two orders would part."""
    drawn = np.random.default_rng(seed).integers(-reach, reach + 1, (side, side))
    matrix = (drawn + drawn.T).astype(np.float64)
    expected = eigen.symmetric_eigen(matrix)
    found = cpu.symmetric_eigen(matrix)
    assert [a.tobytes() for a in found] == [a.tobytes() for a in expected]


def test_some_vectors_are_those_of_all() -> None:
    """Vectors of a few places, in any order, have the bits that they have among all."""
    found = eigen.spectrum(symmetric(70))
    every = eigen.vectors(found, np.arange(70))
    some = np.array([65, 3, 40, 3])
    assert cpu.vectors(found, some).tobytes() == every[:, some].tobytes()


def test_threads_change_no_bit() -> None:
    """Two threads cut strips and rows of updates elsewhere; the bytes stay."""
    matrix = symmetric(600)
    one = cpu.symmetric_eigen(matrix)
    with backends.forced("cpu", threads=2):
        two = cpu.symmetric_eigen(matrix)
    assert [a.tobytes() for a in one] == [a.tobytes() for a in two]


def test_values_fall_and_the_largest_entry_is_positive() -> None:
    """Order and signs, which a decomposition leaves free, are pinned."""
    values, vectors = eigen.symmetric_eigen(symmetric(50))
    assert (np.diff(values) <= 0).all()
    places = np.abs(vectors).argmax(axis=0)
    assert (vectors[places, np.arange(50)] > 0).all()


def test_a_power_of_two_scales_values_alone() -> None:
    """The input is scaled to one, so 2**k A has the vectors of A bit for bit."""
    values, vectors = eigen.symmetric_eigen(symmetric(20))
    scaled, same = eigen.symmetric_eigen(symmetric(20) * 2.0**-300)
    assert same.tobytes() == vectors.tobytes()
    assert scaled.tobytes() == (values * 2.0**-300).tobytes()


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.zeros((2, 3)), "square"),
        (np.zeros(4), "square"),
        (np.array([[0.0, 1.0], [2.0, 0.0]]), "not symmetric"),
        (np.full((2, 2), np.nan), "NaN"),
        (np.full((2, 2), np.inf), "infinity"),
    ],
)
@pytest.mark.parametrize("form", [eigen, cpu])
def test_what_is_no_symmetric_matrix_is_refused(
    matrix: Floats, words: str, form: object
) -> None:
    """Both forms refuse alike, before any arithmetic."""
    with pytest.raises(ContractError, match=words):
        form.symmetric_eigen(matrix)  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", [eigen, cpu])
def test_too_many_sweeps_are_an_error(
    form: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that is not found within the sweeps allowed is said to be missing."""
    monkeypatch.setattr(eigen, "ITERATIONS_MAX", 1)
    monkeypatch.setattr(cpu, "ITERATIONS_MAX", 1)
    with pytest.raises(ContractError, match="not found within 1 sweeps"):
        form.symmetric_eigen(symmetric(24))  # type: ignore[attr-defined]


@pytest.mark.slow
def test_bits_are_equal_on_a_large_matrix() -> None:
    """A side of many panels, of full rank and of a tenth of it."""
    for inner in (420, 42):
        drawn = np.random.default_rng(inner).standard_normal((420, inner))
        matrix = drawn @ drawn.T
        matrix = (matrix + matrix.T) / 2
        expected = eigen.symmetric_eigen(matrix)
        found = cpu.symmetric_eigen(matrix)
        assert [a.tobytes() for a in found] == [a.tobytes() for a in expected]
