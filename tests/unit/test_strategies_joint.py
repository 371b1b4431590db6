"""drm and knots: votes in the basis that task matrices share."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from tests.strategies import UNIT, resolve, shuffled, task

ALL = {"density": "1"}
AXES = np.diag([4.0, 2.0, 1.0])
"""A matrix whose directions are the axes."""


def tau_of(name: str, inputs: Inputs) -> Floats:
    """What is added to a base of zeros."""
    found = resolve(name, replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def on_zeros(name: str, taus: list[Floats], **parameters: str) -> Inputs:
    """Task matrices beside a base that allows for their size."""
    inputs = task(name, "F64", taus, np.zeros(taus[0].shape), **parameters)
    return replace(inputs, exponent=8)


def drawn(shape: tuple[int, ...], count: int) -> list[Floats]:
    generator = np.random.default_rng(0)
    made = generator.standard_normal((count, *shape)).astype(np.float32)
    return list(made.astype(np.float64))


def close(found: Floats, expected: Floats) -> bool:
    return bool(np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (3, 40), (40, 3), (4, 3, 2, 2)])
def test_alone_and_untrimmed_a_contribution_comes_back(shape: tuple[int, ...]) -> None:
    """U U' tau is tau where no direction is dropped."""
    (tau,) = drawn(shape, 1)
    assert close(tau_of("knots", on_zeros("knots", [tau], **ALL)), tau)
    for direction in ("h", "v"):
        options = {"p": "0", "cut": "0", "direction": direction}
        assert close(tau_of("drm", on_zeros("drm", [tau], **options)), tau)


@pytest.mark.parametrize("name", ["drm", "knots"])
def test_more_contributions_than_directions_are_merged(name: str) -> None:
    """Nine of 3 x 2 span three directions at most."""
    taus = drawn((3, 2), 9)
    for order in ((8, *range(8)), tuple(reversed(range(9)))):
        inputs = on_zeros(name, taus)
        assert resolve(name, shuffled(inputs, order)) == resolve(name, inputs)
    assert np.linalg.matrix_rank(tau_of(name, inputs)) <= 3


@pytest.mark.parametrize("name", ["drm", "knots"])
def test_changes_of_one_direction_keep_to_it(name: str) -> None:
    """Of rank one, all of them: nothing is made up beside it."""
    left, right = np.arange(1.0, 6), drawn((4,), 3)
    merged = tau_of(name, on_zeros(name, [np.multiply.outer(left, r) for r in right]))
    off = merged - np.multiply.outer(left, left @ merged) / (left @ left)
    assert np.abs(merged).max() > 0.1
    assert np.abs(off).max() < 1e-6


def test_knots_elects_each_coordinate_by_weight() -> None:
    """The heavier one of two that disagree wins where they do, and both count elsewhere."""
    other = np.diag([4.0, -2.0, 1.0])
    inputs = on_zeros("knots", [AXES, other], **ALL)
    heavier = replace(inputs, weights=(UNIT, 3 * UNIT))
    assert close(tau_of("knots", heavier), other)
    assert close(tau_of("knots", replace(inputs, weights=(3 * UNIT, UNIT))), AXES)


def test_knots_trims_coordinates_and_not_weights() -> None:
    """Two of nine coordinates stay: the two largest directions of a turned diagonal."""
    turn, _ = np.linalg.qr(drawn((3, 3), 1)[0])
    inputs = on_zeros("knots", [turn @ AXES], density="0.2")
    stays = turn @ np.diag([4.0, 2.0, 0.0])
    assert close(tau_of("knots", inputs), stays)
    assert not close(tau_of("ties", on_zeros("ties", [turn @ AXES])), stays)


def test_knots_drops_what_is_at_the_cut() -> None:
    """A singular value of exactly the cut goes; all gone, the base is left."""
    inputs = on_zeros("knots", [AXES], cut="2", **ALL)
    assert close(tau_of("knots", inputs), np.diag([4.0, 0.0, 0.0]))
    inputs = on_zeros("knots", [AXES], cut="5", **ALL)
    assert not tau_of("knots", inputs).any()


def test_knots_draws_by_set_and_content() -> None:
    """Half of the coordinates, twice as large; another seed draws others."""
    (tau,) = drawn((8, 8), 1)
    options = {"votes": "dare_ties", "p": "0.5"}
    inputs = on_zeros("knots", [tau], **options)
    first, second = (
        tau_of("knots", replace(inputs, seed=bytes([i]) * 32)) for i in (1, 2)
    )
    assert not close(first, second)
    u, _, _ = np.linalg.svd(tau)
    ratio = (u.T @ first) / (u.T @ tau)
    assert np.allclose(np.minimum(np.abs(ratio), np.abs(ratio - 2)), 0, atol=1e-4)
    assert 16 < np.count_nonzero(np.abs(ratio) > 1) < 48


def test_drm_prunes_by_share_of_a_row_and_not_by_size() -> None:
    """A small direction with one large entry outlives a large one that is spread out."""
    tau = np.zeros((2, 4))
    tau[0], tau[1, 0] = [1.0, 1.0, 1.0, -1.0], 0.5
    tau[0, 0] = 0.0  # the rows are orthogonal: they are the directions
    inputs = on_zeros("drm", [tau], p="0.875")  # one of eight stays
    assert close(tau_of("drm", inputs), np.array([[0, 0, 0, 0], [0.5, 0, 0, 0]]))


def test_drm_drops_small_directions_beside_the_largest() -> None:
    """At the cut they go."""
    inputs = on_zeros("drm", [AXES], cut="0.5", p="0")
    assert close(tau_of("drm", inputs), np.diag([4.0, 0.0, 0.0]))


def test_drm_stands_what_lies_when_transposed() -> None:
    """To stand the transposed on each other is to lay them side by side, transposed."""
    taus = drawn((5, 7), 3)
    lies = tau_of("drm", on_zeros("drm", taus, direction="h"))
    stands = on_zeros("drm", [tau.T for tau in taus], direction="v")
    assert np.array_equal(tau_of("drm", stands).T, lies)
    other = tau_of("drm", on_zeros("drm", taus, direction="v"))
    assert not close(other, lies)


@pytest.mark.parametrize("name", ["drm", "knots"])
def test_who_changes_nothing_does_not_vote(name: str) -> None:
    """Beside two others, with the largest weight of all."""
    taus = drawn((5, 6), 2)
    few = on_zeros(name, taus)
    many = on_zeros(name, [*taus, np.zeros((5, 6))])
    many = replace(many, weights=(UNIT, UNIT, 5 * UNIT))
    assert resolve(name, many) == resolve(name, few)


@pytest.mark.parametrize("name", ["drm", "knots"])
def test_lambda_scales_matrices_and_all_others(name: str) -> None:
    """Half of it is half of the change, of a row as well."""
    for taus in (drawn((5, 6), 3), drawn((30,), 3)):
        whole = tau_of(name, on_zeros(name, taus))
        half = tau_of(name, on_zeros(name, taus, **{"lambda": "0.5"}))
        assert np.array_equal(half, whole / 2)


@pytest.mark.parametrize("name", ["drm", "knots"])
def test_small_models_are_merged_as_large_ones(name: str) -> None:
    """2**-12 of all changes gives 2**-12 of the merge, but for the grid's end."""
    taus = drawn((5, 6), 3)
    options = {"cut": "0"} if name == "knots" else {}
    whole = tau_of(name, on_zeros(name, taus, **options))
    small = on_zeros(name, [tau * 2.0**-12 for tau in taus], **options)
    assert close(tau_of(name, small) * 2.0**12, whole)
