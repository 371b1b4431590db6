"""tsv_m: the first singular vectors of all changes, made orthogonal to each other."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from tests.strategies import UNIT, resolve, task


def merged(taus: list[Floats], **parameters: str) -> Floats:
    """What is added to a base of zeros."""
    return tau_of(on_zeros(taus, **parameters))


def on_zeros(taus: list[Floats], **parameters: str) -> Inputs:
    inputs = task("tsv_m", "F64", taus, np.zeros(taus[0].shape), **parameters)
    return replace(inputs, exponent=8)


def tau_of(inputs: Inputs) -> Floats:
    found = resolve("tsv_m", replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def drawn(shape: tuple[int, ...], count: int) -> list[Floats]:
    made = np.random.default_rng(0).standard_normal((count, *shape))
    return list(made.astype(np.float32).astype(np.float64))


def sigma_of(tau: Floats) -> Floats:
    found = np.linalg.svd(tau.reshape(len(tau), -1), compute_uv=False)
    return found.astype(np.float64)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (7, 7), (40, 3), (4, 3, 2, 2)])
def test_alone_a_contribution_comes_back(shape: tuple[int, ...]) -> None:
    """Its vectors are orthonormal already."""
    (tau,) = drawn(shape, 1)
    assert np.allclose(merged([tau]), tau, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (4, 3, 2, 2)])
@pytest.mark.parametrize("count", [2, 3])
def test_the_spectrum_is_that_of_the_parts(shape: tuple[int, ...], count: int) -> None:
    """Orthogonal vectors lose none of the singular values, of which each has its share."""
    taus = drawn(shape, count)
    rank = min(shape[0], taus[0].size // shape[0]) // count
    expected = np.concatenate([sigma_of(tau)[:rank] for tau in taus])
    found = sigma_of(merged(taus))[: expected.size]
    assert np.allclose(found, -np.sort(-expected), rtol=1e-5)


def test_changes_that_do_not_touch_are_added() -> None:
    """Blocks of rank two beside each other, whose directions are orthogonal."""
    first, second = np.zeros((2, 4, 5))
    first[:2, :2], second[2:, 2:] = drawn((2, 2), 1)[0], drawn((2, 3), 1)[0]
    assert np.allclose(merged([first, second]), first + second, atol=1e-6)


def test_a_direction_that_two_share_counts_once() -> None:
    """Two columns that are one: their polar factor is half of each, in rows of both."""
    tau = np.diag([4.0, 0, 0, 0])
    found = merged([tau, tau])
    assert np.allclose(found, tau, atol=1e-9)
    assert np.allclose(merged([tau, 3 * tau]), 2 * tau, atol=1e-9)


def test_in_a_crowd_the_largest_values_have_a_place() -> None:
    """Five of rank one on three axes: not five columns, and the small ones go."""
    sizes = [(0, 4.0), (1, 3.0), (0, 1.0), (2, 2.0), (1, 1.5)]
    taus = []
    for axis, size in sizes:
        tau = np.zeros((3, 4))
        tau[axis, axis] = size
        taus.append(tau)
    expected = np.zeros((3, 4))
    np.fill_diagonal(expected, [4.0, 3.0, 2.0])
    assert np.allclose(merged(taus), expected, atol=1e-9)
    again = merged(drawn((3, 2), 9))
    assert np.isfinite(again).all()
    assert np.linalg.matrix_rank(again) == 2


def test_of_equal_values_the_first_has_the_place() -> None:
    """By canonical order: three of rank one, room for two."""
    axes = [np.diag([1.0, 0]), np.diag([0, 1.0]), np.array([[0, 1.0], [0, 0]])]
    assert np.allclose(merged(axes), np.eye(2), atol=1e-9)


def test_weights_scale_the_singular_values() -> None:
    """Weight over mean weight; the choice of directions is of each alone."""
    first, second = np.diag([4.0, 2.0, 0, 0]), np.diag([0, 0, 3.0, 1.0])
    inputs = replace(on_zeros([first, second]), weights=(UNIT, 3 * UNIT))
    assert np.allclose(tau_of(inputs), np.diag([2.0, 1.0, 4.5, 1.5]), atol=1e-9)


def test_alpha_scales_what_is_merged() -> None:
    taus = drawn((5, 6), 2)
    whole = merged(taus)
    assert np.allclose(merged(taus, alpha="0.3"), 0.3 * whole, atol=1e-9)
    assert not merged(taus, alpha="0").any()
    vectors = [tau.reshape(-1) for tau in taus]
    expected = 0.3 * (vectors[0] + vectors[1]) / 2
    assert np.allclose(merged(vectors, alpha="0.3"), expected, atol=1e-9)


def test_who_changes_nothing_takes_no_share_of_the_rank() -> None:
    taus = drawn((5, 6), 2)
    assert np.array_equal(merged([*taus, 0 * taus[0]]), merged(taus))
    assert not merged([0 * taus[0]]).any()
    assert np.abs(merged([taus[0], -taus[0]])).max() < 8


def test_negative_weights_are_refused() -> None:
    inputs = replace(on_zeros(drawn((3, 4), 2)), weights=(UNIT, -UNIT))
    with pytest.raises(ContractError, match="negative"):
        resolve("tsv_m", inputs)
