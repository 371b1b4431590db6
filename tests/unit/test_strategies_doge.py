"""doge: a shared change, found by descent, that gradients keep off what all share."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from crdtmerge.strategies.spectral import doge
from tests.strategies import UNIT, resolve, shuffled, task

FEW = {"iterations": "10", "lr": "0.01", "lambda": "1"}


def merged(inputs: Inputs) -> Floats:
    """What is added to a base of zeros."""
    found = resolve("doge", replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def on_zeros(taus: list[Floats], **parameters: str) -> Inputs:
    inputs = task("doge", "F64", taus, np.zeros(taus[0].shape), **parameters)
    return replace(inputs, exponent=8)


def drawn(shape: tuple[int, ...], count: int) -> list[Floats]:
    made = np.random.default_rng(0).standard_normal((count, *shape))
    return list(made.astype(np.float32).astype(np.float64))


def moved(taus: list[Floats], **parameters: str) -> Floats:
    """The shared change alone: the merge less that without a step, over the lambdas."""
    options = {**FEW, "density": "1", **parameters}
    none = merged(on_zeros(taus, **{**options, "iterations": "0"}))
    total = sum(1 / np.sqrt((tau * tau).sum()) for tau in taus)
    found: Floats = (merged(on_zeros(taus, **options)) - none) / total
    return found


def loss(taus: list[Floats], delta: Floats) -> float:
    """As it is published, at lambda = 1."""
    lambdas = [1 / np.sqrt((tau * tau).sum()) for tau in taus]
    merge = sum(f * (tau + delta) for f, tau in zip(lambdas, taus, strict=True))
    sums = [(tau * tau - tau * merge).sum(axis=1) for tau in taus]
    return float(sum((s * s).sum() for s in sums))


def test_without_a_step_each_counts_as_lambda_long() -> None:
    """Of one, all kept: its direction, and the length that lambda says."""
    (tau,) = drawn((6, 9), 1)
    found = merged(on_zeros([tau], iterations="0", density="1"))
    expected = 0.07 * tau / np.sqrt((tau * tau).sum())
    assert np.allclose(found, expected, rtol=1e-12)


def test_the_gradient_is_that_of_the_loss() -> None:
    """Derived on paper; differences of the loss agree, item by item."""
    taus = drawn((5, 7), 3)
    lambdas = [1 / np.sqrt((tau * tau).sum()) for tau in taus]
    found = doge._Loss(taus, lambdas)
    (delta,) = drawn((5, 7), 1)
    gradient = np.empty((5, 7))
    found.gradient(found.begun(), delta, gradient)
    for place in np.ndindex(5, 7):
        step = np.zeros((5, 7))
        step[place] = 2.0**-10  # the loss is quadratic: a wide difference is exact
        rise = loss(taus, delta + step) - loss(taus, delta - step)
        assert np.isclose(gradient[place], rise * 2.0**9, rtol=1e-6)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (4, 3, 2, 2)])
def test_the_change_lessens_the_loss(shape: tuple[int, ...]) -> None:
    """More steps lessen it further."""
    taus = drawn(shape, 3)
    flat = [tau.reshape(len(tau), -1) for tau in taus]
    losses = [
        loss(flat, moved(taus, iterations=count).reshape(flat[0].shape))
        for count in ("0", "5", "40")
    ]
    assert losses[0] > losses[1] > losses[2]


def test_the_first_step_has_the_sign_of_the_projected_gradient() -> None:
    """Adam's first step is lr in each item, against what is left of the gradient."""
    taus = drawn((6, 8), 2)
    us = [np.linalg.svd(tau)[0][:, :3] for tau in taus]
    u = np.linalg.svd(np.concatenate(us, axis=1))[0][:, :3]
    lambdas = [1 / np.sqrt((tau * tau).sum()) for tau in taus]
    found = doge._Loss(taus, lambdas)
    gradient = np.empty((6, 8))
    found.gradient(found.begun(), np.zeros((6, 8)), gradient)
    left = gradient - u @ (u.T @ gradient)
    step = moved(taus, iterations="1", subspace="2")
    assert np.allclose(step, -0.01 * np.sign(left), atol=1e-8)
    assert not np.array_equal(np.sign(left), np.sign(gradient))


def test_what_is_small_in_a_contribution_takes_nothing_of_the_change() -> None:
    """Its own largest items are moved, the others stay out."""
    (tau,) = drawn((6, 8), 1)
    found = merged(on_zeros([tau], **FEW, density="0.25"))
    least = np.sort(np.abs(tau), axis=None)[-12]
    assert np.array_equal(found != 0, np.abs(tau) >= least)


def test_more_contributions_than_directions_share_them() -> None:
    """Nine of 3 x 2: one direction each, in any order of the list."""
    inputs = on_zeros(drawn((3, 2), 9), **FEW, subspace="1")
    turned = shuffled(inputs, (8, *range(8)))
    assert resolve("doge", turned) == resolve("doge", inputs)
    assert np.isfinite(merged(inputs)).all()


def test_weights_multiply_lambda() -> None:
    """Without a step the merge is the sum by weight of directions."""
    taus = drawn((5, 6), 2)
    inputs = on_zeros(taus, iterations="0", density="1", **{"lambda": "1"})
    found = merged(replace(inputs, weights=(UNIT, 3 * UNIT)))
    units = [tau / np.sqrt((tau * tau).sum()) for tau in taus]
    assert np.allclose(found, 0.5 * units[0] + 1.5 * units[1], rtol=1e-12)


def test_who_changes_nothing_is_left_out() -> None:
    """It has no direction, and no share in the mean of weights."""
    taus = drawn((5, 6), 2)
    few = on_zeros(taus, **FEW)
    many = on_zeros([*taus, np.zeros((5, 6))], **FEW)
    many = replace(many, weights=(UNIT, UNIT, 5 * UNIT))
    assert resolve("doge", many) == resolve("doge", few)


def test_how_rows_are_cut_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row is one sum, whatever it is worked on with."""
    inputs = on_zeros(drawn((7, 5), 3), **FEW)
    whole = resolve("doge", inputs)
    for items in (1, 10, 17):
        monkeypatch.setattr(doge, "BLOCK_ITEMS", items)
        assert resolve("doge", inputs) == whole
