"""star: few singular values of each change, and all of its weight."""

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
    inputs = task("star", "F64", taus, np.zeros(taus[0].shape), **parameters)
    return replace(inputs, exponent=8)


def tau_of(inputs: Inputs) -> Floats:
    found = resolve("star", replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def drawn(shape: tuple[int, ...], count: int) -> list[Floats]:
    made = np.random.default_rng(0).standard_normal((count, *shape))
    return list(made.astype(np.float32).astype(np.float64))


def nuclear(tau: Floats) -> float:
    return float(np.linalg.norm(tau.reshape(len(tau), -1), "nuc"))


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (7, 7), (40, 3), (4, 3, 2, 2)])
@pytest.mark.parametrize("eta", ["0", "0.2", "0.4", "0.8", "1"])
def test_alone_its_nuclear_norm_stays(shape: tuple[int, ...], eta: str) -> None:
    """However few directions do."""
    (tau,) = drawn(shape, 1)
    found = merged([tau], eta=eta)
    assert np.isclose(nuclear(found), nuclear(tau))
    if eta == "1":
        assert np.allclose(found, tau, atol=1e-6)


def test_as_few_values_stay_as_have_the_share() -> None:
    """Of 4, 3, 2, 1: sums 4, 7, 9, 10, and what has the share exactly is enough."""
    tau = np.diag([4.0, 3.0, 2.0, 1.0])
    for eta, count in {
        "0": 1,
        "0.4": 1,
        "0.41": 2,
        "0.7": 2,
        "0.9": 3,
        "0.91": 4,
    }.items():
        expected = np.diag(np.diag(tau) * (np.arange(4) < count))
        expected *= 10 / expected.sum()
        assert np.allclose(merged([tau], eta=eta), expected, atol=1e-9)


def test_each_is_cut_on_its_own_and_the_mean_is_by_weight() -> None:
    """A large change does not hide the directions of a small one."""
    large, small = np.diag([8.0, 1.0, 0, 0]), np.diag([0, 0, 0.5, 0.5])
    found = merged([large, small], eta="0.6")
    assert np.allclose(found, np.diag([4.5, 0, 0.25, 0.25]), atol=1e-9)
    inputs = replace(on_zeros([large, small], eta="0.6"), weights=(UNIT, 3 * UNIT))
    weighed = np.diag([2.25, 0, 0.375, 0.375])
    assert np.allclose(tau_of(inputs), weighed, atol=1e-9)


def test_a_change_of_rank_one_comes_back() -> None:
    """Whatever eta is; opposite ones cancel out."""
    tau = np.multiply.outer(np.arange(1.0, 6), np.arange(2.0, 6))
    for eta in ("0", "0.4", "1"):
        assert np.allclose(merged([tau], eta=eta), tau, atol=1e-9)
    assert np.abs(merged([tau, -tau])).max() < 1e-9


def test_more_contributions_than_directions_are_averaged() -> None:
    taus = drawn((3, 2), 9)
    assert np.allclose(merged(taus, eta="1"), np.mean(taus, axis=0), atol=1e-6)


def test_who_changes_nothing_is_not_in_the_mean() -> None:
    taus = drawn((5, 6), 2)
    assert np.array_equal(merged([*taus, 0 * taus[0]]), merged(taus))
    assert not merged([0 * taus[0]]).any()


def test_vectors_take_the_mean() -> None:
    taus = drawn((30,), 3)
    assert np.allclose(merged(taus), np.mean(taus, axis=0), atol=1e-12)


def test_negative_weights_are_refused() -> None:
    inputs = replace(on_zeros(drawn((3, 4), 2)), weights=(UNIT, -UNIT))
    with pytest.raises(ContractError, match="negative"):
        resolve("star", inputs)
