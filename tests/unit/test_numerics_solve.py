"""Positive definite systems: true, refused where they are none, in one set of bits."""

from fractions import Fraction

import numpy as np
import pytest

from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats, backends
from crdtmerge.numerics.cpu import solve as cpu
from crdtmerge.numerics.reference import solve

FORMS = [solve, cpu]


def definite(side: int, seed: int = 0) -> Floats:
    drawn = np.random.default_rng([seed, side]).standard_normal((side, side + 4))
    product: Floats = drawn @ drawn.T
    return (product + product.T) / 2


def right(side: int, columns: int) -> Floats:
    return np.random.default_rng([side, columns]).standard_normal((side, columns))


@pytest.mark.parametrize("side", [1, 2, 30, 90])
def test_factor_is_lapacks(side: int) -> None:
    """L is lower triangular with a positive diagonal and L L' is the matrix."""
    matrix = definite(side)
    lower = solve.cholesky(matrix)
    assert np.allclose(lower, np.linalg.cholesky(matrix), rtol=1e-10, atol=1e-10)
    assert not np.triu(lower, 1).any()


@pytest.mark.parametrize("ridge", [0.0, 0.25])
def test_solution_is_lapacks(ridge: float) -> None:
    """The residual is within rounding, with the ridge on the diagonal."""
    matrix, rhs = definite(60), right(60, 7)
    found = solve.solve_spd(matrix, rhs, ridge)
    expected = np.linalg.solve(matrix + ridge * np.eye(60), rhs)
    assert np.allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_integers_are_solved_exactly() -> None:
    """Where no operation rounds, L is that of rational arithmetic."""
    lower = np.tril(np.arange(1.0, 37.0).reshape(6, 6) % 5 + 1)
    matrix = lower @ lower.T
    assert solve.cholesky(matrix).tolist() == lower.tolist()
    wanted = np.arange(6.0)
    found = solve.solve_spd(matrix, matrix @ wanted)
    exact = [Fraction(x) for x in wanted.tolist()]
    assert [round(Fraction(x), 9) for x in found.tolist()] == exact


@pytest.mark.parametrize("side", [0, 1, 3, 4, 5, 31, 32, 33, 36, 65, 128, 161, 200])
def test_compiled_forms_have_the_bits_of_the_reference(side: int) -> None:
    """Panels, tiles, strips and rows taken four at a time leave no seam."""
    matrix = definite(side)
    assert cpu.cholesky(matrix).tobytes() == solve.cholesky(matrix).tobytes()
    for columns in (0, 1, 32, 33):
        rhs = right(side, columns)
        expected = solve.solve_spd(matrix, rhs, 0.5)
        assert cpu.solve_spd(matrix, rhs, 0.5).tobytes() == expected.tobytes()


def test_threads_change_no_bit() -> None:
    """Two threads cut columns elsewhere; the bytes stay."""
    matrix, rhs = definite(1100), right(1100, 300)
    expected = cpu.solve_spd(matrix, rhs)
    with backends.forced("cpu", threads=2):
        assert cpu.solve_spd(matrix, rhs).tobytes() == expected.tobytes()


@pytest.mark.parametrize("form", FORMS)
def test_one_column_has_the_shape_it_came_in(form: object) -> None:
    """A vector is solved as its column, and neither input is written to."""
    matrix, rhs = definite(9), right(9, 1)
    before = matrix.tobytes(), rhs.tobytes()
    column = form.solve_spd(matrix, rhs)  # type: ignore[attr-defined]
    vector = form.solve_spd(matrix, rhs[:, 0])  # type: ignore[attr-defined]
    assert vector.shape == (9,)
    assert vector.tobytes() == column.tobytes()
    assert (matrix.tobytes(), rhs.tobytes()) == before


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("matrix", "row"),
    [
        (np.zeros((2, 2)), 0),
        (np.diag([1.0, -1.0, 2.0]), 1),
        (np.ones((40, 40)), 1),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), 1),
        (np.array([[1.0, 1.0], [1.0, 1.0 + 2.0**-45]]), 1),
        (np.array([[1e-9, 1e300], [1e300, 1.0]]), 1),
        (np.diag(np.r_[np.ones(37), 0.0]), 37),
    ],
)
def test_a_matrix_that_is_not_positive_definite_is_refused(
    form: object, matrix: Floats, row: int
) -> None:
    """The error names the row, in both forms, also where rounding hides the zero."""
    with pytest.raises(ContractError, match=f"not positive definite: row {row} "):
        form.cholesky(matrix)  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", FORMS)
def test_a_ridge_makes_a_singular_matrix_definite(form: object) -> None:
    """What the hint of the error says helps."""
    found = form.solve_spd(np.ones((3, 3)), np.ones(3), 1.0)  # type: ignore[attr-defined]
    assert found == pytest.approx([0.25, 0.25, 0.25], rel=1e-14)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("matrix", "rhs", "ridge", "words"),
    [
        (np.eye(3), np.ones(2), 0.0, "does not fit"),
        (np.eye(3), np.full(3, np.nan), 0.0, "NaN"),
        (np.eye(3), np.ones(3), -1.0, "ridge"),
        (np.eye(3), np.ones(3), np.inf, "ridge"),
        (np.eye(3), np.ones(3), np.nan, "ridge"),
        (np.full((3, 3), np.inf), np.ones(3), 0.0, "infinity"),
        (np.ones((2, 3)), np.ones(2), 0.0, "square"),
        (np.eye(2) * 1e-300, np.full(2, 1e300), 0.0, "beyond float64"),
    ],
)
def test_what_is_no_system_is_refused(
    form: object, matrix: Floats, rhs: Floats, ridge: float, words: str
) -> None:
    """Shapes, NaN, infinity and negative ridges are refused before any arithmetic."""
    with pytest.raises(ContractError, match=words):
        form.solve_spd(matrix, rhs, ridge)  # type: ignore[attr-defined]
