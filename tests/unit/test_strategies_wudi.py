"""wudi, optmerge and stf: task matrices that keep what each task does."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.numerics import Floats
from crdtmerge.strategies.spectral.adam import Adam
from tests.strategies import UNIT, resolve, task

NAMES = ("wudi", "optmerge", "stf")
WHOLE = {"wudi": {}, "optmerge": {"scale": "1"}, "stf": {}}


def merged(
    name: str, taus: list[Floats], weights: tuple[int, ...] = (), **more: str
) -> Floats:
    """What is added to a base of zeros."""
    inputs = task(name, "F64", taus, np.zeros(taus[0].shape), **{**WHOLE[name], **more})
    inputs = replace(
        inputs,
        output_dtype="F64",
        exponent=8,
        weights=weights or (UNIT,) * len(taus),
    )
    return numerics.upcast(resolve(name, inputs), "F64").reshape(inputs.shape)


def drawn(shape: tuple[int, ...], count: int) -> list[Floats]:
    made = np.random.default_rng(0).standard_normal((count, *shape))
    return list(made.astype(np.float32).astype(np.float64))


def close(found: Floats, expected: Floats, tolerance: float = 1e-4) -> bool:
    return bool(np.abs(found - expected).max() <= tolerance * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (4, 3, 2, 2)])
def test_one_contribution_and_its_copies_are_itself(
    name: str, shape: tuple[int, ...]
) -> None:
    """But for the ridge; a copy of stf's takes half of each response."""
    (tau,) = drawn(shape, 1)
    assert close(merged(name, [tau]), tau)
    if name == "wudi":
        assert close(merged(name, [tau, tau, tau]), tau)
    elif name == "stf":
        u, s, vt = np.linalg.svd(tau.reshape(len(tau), -1), full_matrices=False)
        rank = len(s) // 3
        cut = (u[:, :rank] * s[:rank]) @ vt[:rank]
        assert close(merged(name, [tau, tau, tau]), cut.reshape(shape))


@pytest.mark.parametrize("name", ["wudi", "stf"])
def test_what_reads_other_inputs_is_kept_whole(name: str) -> None:
    """Task matrices whose rows have no direction in common add up."""
    left, right = np.zeros((8, 8)), np.zeros((8, 8))
    first, second = drawn((4, 4), 2)
    left[:4, :4], right[4:, 4:] = first, second
    assert close(merged(name, [left, right]), left + right)


def test_wudi_closed_is_where_the_loss_has_no_slope() -> None:
    """Of the paper's loss, with the ridge as small as it may be."""
    taus = drawn((5, 4), 3)
    tau = merged("wudi", taus, ridge="0.000000001")
    slope = sum(2 * (tau - one) @ one.T @ one / (one * one).sum() for one in taus)
    start = sum(2 * one @ one.T @ one / (one * one).sum() for one in taus)
    assert np.abs(slope).max() < 1e-7 * np.abs(start).max()


def test_adam_comes_to_the_closed_form() -> None:
    """With time; with few short steps it has hardly left the sum of all."""
    taus = drawn((5, 4), 3)
    closed = merged("wudi", taus)
    long = merged("wudi", taus, solver="adam", iterations="4000", lr="0.005")
    short = merged("wudi", taus, solver="adam", iterations="1")
    assert close(long, closed, 0.02)
    total = taus[0] + taus[1] + taus[2]
    assert np.allclose(np.abs(short - total), 1e-5, rtol=1e-3)


def test_a_step_of_adam_is_of_its_length_whatever_the_slope() -> None:
    """The first step is the sign; a slope that stays is a step of length one."""
    adam = Adam((2, 2))
    for _ in range(3):
        adam.next()
        found = adam.step(np.array([[1e-3, -5.0], [2.0, 0.0]]), slice(None))
        assert np.allclose(found, [[1, -1], [1, 0]], rtol=1e-4)


def test_weights_multiply_task_matrices() -> None:
    """By their share of the mean: of equal weights nothing changes."""
    taus = drawn((6, 5), 2)
    for name in NAMES:
        plain = merged(name, taus)
        assert np.array_equal(merged(name, taus, (3 * UNIT, 3 * UNIT)), plain)
        uneven = merged(name, taus, (3 * UNIT, UNIT))
        assert close(uneven, merged(name, [1.5 * taus[0], 0.5 * taus[1]]), 1e-6)


def test_stf_keeps_every_response() -> None:
    """Of the first features of each task: u' tau v is their singular value."""
    taus = drawn((9, 8), 4)
    found = merged("stf", taus, ridge="0.000000001")
    for tau in taus:
        u, s, vt = np.linalg.svd(tau, full_matrices=False)
        for k in range(2):
            assert u[:, k] @ found @ vt[k] == pytest.approx(s[k], rel=1e-5)


def test_more_contributions_than_directions_have_one_each() -> None:
    """No rank of zero, where the authors' code would leave nothing."""
    taus = drawn((2, 3), 5)
    for name in NAMES:
        assert np.abs(merged(name, taus)).max() > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_vectors_take_the_mean_and_what_nobody_changed_stays(name: str) -> None:
    """A contribution without a change has no say in a matrix."""
    one, other = drawn((7,), 2)
    assert close(merged(name, [one, other]), (one + other) / 2, 1e-12)
    tau = drawn((4, 6), 1)[0]
    assert np.array_equal(merged(name, [tau, 0 * tau]), merged(name, [tau]))
    assert not merged(name, [0 * tau, 0 * tau]).any()
