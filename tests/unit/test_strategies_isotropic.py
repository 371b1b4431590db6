"""iso_c and iso_cts: all directions of the merged change are equally large."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from tests.strategies import UNIT, resolve, task

BOTH = pytest.mark.parametrize("name", ["iso_c", "iso_cts"])


def merged(name: str, taus: list[Floats], **parameters: str) -> Floats:
    """What is added to a base of zeros."""
    return tau_of(name, on_zeros(name, taus, **parameters))


def on_zeros(name: str, taus: list[Floats], **parameters: str) -> Inputs:
    inputs = task(name, "F64", taus, np.zeros(taus[0].shape), **parameters)
    return replace(inputs, exponent=8)


def tau_of(name: str, inputs: Inputs) -> Floats:
    found = resolve(name, replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def drawn(shape: tuple[int, ...], count: int) -> list[Floats]:
    made = np.random.default_rng(0).standard_normal((count, *shape))
    return list(made.astype(np.float32).astype(np.float64))


def sigma_of(tau: Floats) -> Floats:
    found = np.linalg.svd(tau.reshape(len(tau), -1), compute_uv=False)
    return found.astype(np.float64)


@BOTH
@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (7, 7), (40, 3), (4, 3, 2, 2)])
@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_the_spectrum_is_flat(name: str, shape: tuple[int, ...], count: int) -> None:
    """Whatever the changes are, and with more of them than directions."""
    sigma = sigma_of(merged(name, drawn(shape, count)))
    assert np.allclose(sigma, sigma[0], rtol=1e-6)


def test_alone_the_mean_of_its_singular_values_stays() -> None:
    """And its directions: of a diagonal it is a multiple of the identity."""
    tau = np.diag([4.0, 2.0, 1.5, 0.5])
    for name in ("iso_c", "iso_cts"):
        assert np.allclose(merged(name, [tau]), 2 * np.eye(4), atol=1e-9)
    halves = merged("iso_c", [tau / 2, tau / 2])
    assert np.allclose(halves, merged("iso_c", [tau]), atol=1e-9)


def test_the_sum_counts_and_weights_are_shares() -> None:
    """Of diagonals a and b with weights 1 and 3: a / 2 + 3 b / 2."""
    a, b = np.diag([2.0, 4.0]), np.diag([2.0, -1.0])
    assert np.allclose(merged("iso_c", [a, b]), 3.5 * np.eye(2), atol=1e-9)
    inputs = replace(on_zeros("iso_c", [a, b]), weights=(UNIT, 3 * UNIT))
    assert np.allclose(tau_of("iso_c", inputs), 2.25 * np.eye(2), atol=1e-9)


@BOTH
def test_alpha_scales_what_is_merged(name: str) -> None:
    taus = drawn((5, 6), 2)
    whole = merged(name, taus)
    assert np.allclose(merged(name, taus, alpha="0.3"), 0.3 * whole, atol=1e-9)
    assert not merged(name, taus, alpha="0").any()
    vectors = [tau.reshape(-1) for tau in taus]
    expected = 0.3 * (vectors[0] + vectors[1]) / 2
    assert np.allclose(merged(name, vectors, alpha="0.3"), expected, atol=1e-9)


def test_directions_that_nobody_changed_stay_empty() -> None:
    """The mean is over all of them: of a change of rank one a share of it stays."""
    tau = np.multiply.outer(np.arange(1.0, 6), np.arange(2.0, 6))
    for name in ("iso_c", "iso_cts"):
        assert np.allclose(merged(name, [tau]), tau / 4, atol=1e-9)


@BOTH
def test_changes_that_cancel_out_leave_nothing_common(name: str) -> None:
    (tau,) = drawn((5, 6), 1)
    assert not merged("iso_c", [tau, -tau]).any()
    assert np.isfinite(merged(name, [tau, -tau])).all()
    assert not merged(name, [0 * tau, 0 * tau]).any()
    alone, beside = merged(name, [tau]), merged(name, [tau, 0 * tau])
    assert (alone == beside).all()


def test_directions_of_each_are_found_beside_the_common_ones() -> None:
    """Common: the first axis of the sum; then each one's largest, of small size."""
    first, second = np.diag([5.0, 2.0, 0, 0]), np.diag([5.0, 0, 1.0, 0.5])
    found = merged("iso_cts", [first, second], common="0.5")
    # k = 2 of 4, one each: common are axes 0 and 1; then 2 twice, of which one is left
    assert np.allclose(found, np.diag([3.25, 3.25, 3.25, 0]), atol=1e-9)
    again = merged("iso_cts", [first, second], common="0")
    # two each, of sizes 5, 2, 5 and 1; the axis that they share counts once
    assert np.allclose(again, found, atol=1e-9)


def test_directions_are_shared_out_in_whole_numbers() -> None:
    """All common where none is left for each, at most one each in a crowd."""
    taus = drawn((5, 7), 3)
    common = merged("iso_c", taus)
    assert np.array_equal(merged("iso_cts", taus, common="1"), common)
    assert np.array_equal(merged("iso_cts", taus), common)  # a third of one, each
    assert not np.allclose(merged("iso_cts", taus, common="0.4"), common)
    crowd = drawn((5, 7), 6)
    assert np.array_equal(merged("iso_cts", crowd, common="0"), merged("iso_c", crowd))


def test_half_a_direction_goes_to_the_even_number() -> None:
    """(s - k) / n of 0.5 is none, and of 1.5 two."""
    taus = drawn((10, 10), 2)
    common = merged("iso_c", taus)
    assert np.array_equal(merged("iso_cts", taus, common="0.9"), common)
    three, four = (merged("iso_cts", taus, common=c) for c in ("0.7", "0.6"))
    assert np.array_equal(three, four)


@BOTH
def test_negative_weights_are_refused(name: str) -> None:
    inputs = replace(on_zeros(name, drawn((3, 4), 2)), weights=(UNIT, -UNIT))
    with pytest.raises(ContractError, match="negative"):
        resolve(name, inputs)
