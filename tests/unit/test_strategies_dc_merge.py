"""dc_merge: votes in a basis that covers the first directions of all changes."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from tests.strategies import UNIT, resolve, task

FIRST, SECOND = np.diag([4.0, 2.0, 0, 0]), np.diag([0, 0, 3.0, 1.0])
"""Two that do not touch: the basis that covers them is the axes."""


def merged(taus: list[Floats], **parameters: str) -> Floats:
    """What is added to a base of zeros."""
    return tau_of(on_zeros(taus, **parameters))


def on_zeros(taus: list[Floats], **parameters: str) -> Inputs:
    inputs = task("dc_merge", "F64", taus, np.zeros(taus[0].shape), **parameters)
    return replace(inputs, exponent=8)


def tau_of(inputs: Inputs) -> Floats:
    found = resolve("dc_merge", replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def drawn(shape: tuple[int, ...], count: int) -> list[Floats]:
    made = np.random.default_rng(0).standard_normal((count, *shape))
    return list(made.astype(np.float32).astype(np.float64))


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (7, 7), (40, 3), (4, 3, 2, 2)])
def test_alone_and_untrimmed_a_contribution_comes_back(shape: tuple[int, ...]) -> None:
    (tau,) = drawn(shape, 1)
    assert np.allclose(merged([tau], top="1"), tau, atol=1e-5)


def test_changes_that_do_not_touch_are_added() -> None:
    """Nobody else votes on a coordinate, whatever the weights are."""
    inputs = on_zeros([FIRST, SECOND], top="1")
    assert np.allclose(tau_of(inputs), FIRST + SECOND, atol=1e-6)
    inputs = replace(inputs, weights=(UNIT, 3 * UNIT))
    assert np.allclose(tau_of(inputs), FIRST + SECOND, atol=1e-6)


def test_the_largest_coordinates_of_each_stay() -> None:
    """One of sixteen, rounded up: also by default, of so small a matrix."""
    expected = np.diag([4.0, 0, 3.0, 0])
    for options in ({}, {"top": "0.01"}, {"top": "0.0625"}):
        found = merged([FIRST, SECOND], **options)
        assert np.allclose(found, expected, atol=1e-6)
    two = merged([FIRST, SECOND], top="0.063")
    assert np.allclose(two, FIRST + SECOND, atol=1e-6)
    assert not merged([FIRST, SECOND], top="0").any()


def test_values_are_smoothed_where_that_is_asked() -> None:
    """To the mean of those that were collected, of each on its own."""
    found = merged([FIRST, SECOND], smoothing="average", top="1")
    assert np.allclose(found, np.diag([3.0, 3.0, 2.0, 2.0]), atol=1e-6)


def test_the_mask_keeps_each_to_its_own_directions() -> None:
    """In the basis that covers all, nothing is off the blocks on the diagonal."""
    taus = drawn((6, 8), 3)
    parts = [np.linalg.svd(tau, full_matrices=False) for tau in taus]
    sides = []
    for side in (
        np.concatenate([u[:, :2] for u, _, _ in parts], axis=1),
        np.concatenate([vt[:2].T for _, _, vt in parts], axis=1),
    ):
        u, _, vt = np.linalg.svd(side, full_matrices=False)
        sides.append(u @ vt)
    off = np.kron(np.eye(3), np.ones((2, 2))) == 0
    masked, whole = (merged(taus, top="1", mask=mask) for mask in ("block", "none"))
    inside, seen = (sides[0].T @ tau @ sides[1] for tau in (masked, whole))
    assert np.abs(inside[off]).max() < 1e-6
    assert np.abs(seen[off]).max() > 0.05
    assert np.allclose(inside[~off], seen[~off], atol=1e-6)


def test_of_a_shared_direction_the_mask_leaves_half() -> None:
    """Two alike: without a mask their mean, which is themselves."""
    tau = np.diag([4.0, 2.0, 0, 0])
    assert np.allclose(merged([tau, tau], top="1", mask="none"), tau, atol=1e-6)
    assert np.allclose(merged([tau, tau], top="1"), tau / 2, atol=1e-6)


def test_weights_are_votes() -> None:
    """Opposite changes: the heavier one wins, at its own size."""
    tau = np.diag([4.0, 2.0, 0, 0])
    inputs = on_zeros([tau, -3 * tau], top="1", mask="none")
    light = replace(inputs, weights=(4 * UNIT, UNIT))
    heavy = replace(inputs, weights=(2 * UNIT, UNIT))
    assert np.allclose(tau_of(light), tau, atol=1e-6)
    assert np.allclose(tau_of(heavy), -3 * tau, atol=1e-6)


def test_in_a_crowd_some_have_no_place() -> None:
    """Five of rank one on three axes: the three largest values have a column."""
    taus = []
    for axis, size in ((0, 4.0), (1, 3.0), (2, 1.0), (2, 2.0), (1, 1.5)):
        tau = np.zeros((3, 4))
        tau[axis, axis] = size
        taus.append(tau)
    expected = np.zeros((3, 4))
    np.fill_diagonal(expected, [4.0, 3.0, 2.0])
    assert np.allclose(merged(taus, top="1"), expected, atol=1e-6)
    assert np.isfinite(merged(drawn((3, 2), 9), top="1")).all()


def test_alpha_scales_what_is_merged() -> None:
    taus = drawn((5, 6), 2)
    whole = merged(taus, top="1")
    assert np.allclose(merged(taus, top="1", alpha="0.3"), 0.3 * whole, atol=1e-9)
    vectors = [tau.reshape(-1) for tau in taus]
    expected = 0.3 * (vectors[0] + vectors[1]) / 2
    assert np.allclose(merged(vectors, alpha="0.3"), expected, atol=1e-9)


def test_who_changes_nothing_has_no_directions() -> None:
    taus = drawn((5, 6), 2)
    beside = merged([*taus, 0 * taus[0]], top="1")
    assert np.array_equal(beside, merged(taus, top="1"))
    assert not merged([0 * taus[0]]).any()


def test_negative_weights_are_refused() -> None:
    inputs = replace(on_zeros(drawn((3, 4), 2)), weights=(UNIT, -UNIT))
    with pytest.raises(ContractError, match="negative"):
        resolve("dc_merge", inputs)
