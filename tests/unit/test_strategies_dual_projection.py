"""dual_projection: changes count less where what is merged is strong."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from tests.oracles.drawing import digest
from tests.strategies import UNIT, resolve, shuffled, task

NAME = "dual_projection"


def merged(inputs: Inputs) -> Floats:
    """What is added to a base of zeros."""
    found = resolve(NAME, replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def on_zeros(taus: list[Floats], **parameters: str) -> Inputs:
    """Task matrices in the order in which they are drawn."""
    inputs = task(NAME, "F64", taus, np.zeros(taus[0].shape), **parameters)
    context = "crdtmerge v1 order of a fold"
    contents = sorted(inputs.contents, key=lambda c: digest(context, [inputs.seed, c]))
    return replace(inputs, contents=tuple(contents), exponent=8)


def drawn(shape: tuple[int, ...], count: int) -> list[Floats]:
    made = np.random.default_rng(0).standard_normal((count, *shape))
    return list(made.astype(np.float32).astype(np.float64))


def test_the_top_block_is_damped_and_nothing_else() -> None:
    """Of diagonal values the first two are on top: a block of two by two."""
    first, second = np.diag([4.0, 3.0, 2.0, 1.0]), np.ones((4, 4))
    added = merged(on_zeros([first, second], rank="0.5", stability="0.75")) - first
    expected = second.copy()
    expected[:2, :2] = 0.25
    assert np.allclose(added, expected, atol=1e-12)


def test_full_stability_leaves_the_top_as_it_was() -> None:
    """Of whatever comes: U' M V of the top subspace stays."""
    first, second = drawn((7, 5), 2)
    found = merged(on_zeros([first, second], rank="0.4", stability="1"))
    u, sigma, vt = np.linalg.svd(first)
    assert np.allclose(u[:, :2].T @ found @ vt[:2].T, np.diag(sigma[:2]), atol=1e-9)


def test_what_lies_on_one_side_alone_is_kept() -> None:
    """Both projections must agree: a change of other columns of the same rows stays."""
    first, second = np.zeros((3, 4)), np.zeros((3, 4))
    first[0, 0], second[0, 1:], second[1:, 0] = 2, 3, 5
    found = merged(on_zeros([first, second], stability="1", rank="0"))
    assert np.allclose(found, first + second, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (4, 3, 2, 2)])
def test_no_stability_is_a_sum_and_one_is_itself(shape: tuple[int, ...]) -> None:
    taus = drawn(shape, 3)
    assert np.allclose(merged(on_zeros(taus, stability="0")), sum(taus), atol=1e-9)
    assert np.allclose(merged(on_zeros(taus[:1])), taus[0], atol=1e-9)


def test_a_copy_adds_nothing_to_a_matrix_whose_rank_is_covered() -> None:
    """All of it lies in the subspace; more models than directions break nothing."""
    tau = np.outer([1.0, 2, 2], [3.0, 4])
    inputs = on_zeros([tau] * 5, stability="1", rank="1")
    assert np.allclose(merged(inputs), tau, atol=1e-9)


def test_after_what_cancels_out_the_next_is_whole() -> None:
    """A sum of zeros has no directions."""
    tau = np.outer([1.0, 2, 2], [3.0, 4])
    inputs = on_zeros([tau, -tau, tau], stability="0")
    assert np.allclose(merged(inputs), tau, atol=1e-9)
    first, ones = np.zeros((2, 2)), np.ones((2, 2))
    first[0, 0] = 2
    inputs = on_zeros([first, -2 * first, ones], stability="0.5", rank="0")
    assert np.allclose(merged(inputs), ones, atol=1e-9)


def test_what_is_held_fast_cannot_be_cancelled_out() -> None:
    """Its opposite lies in the top subspace, all of it."""
    ones, unit = np.ones((2, 2)), np.eye(2)
    inputs = on_zeros([ones, -ones, unit], stability="1", rank="0")
    assert np.allclose(merged(inputs), ones + unit - 0.5, atol=1e-9)


def test_vectors_take_the_mean() -> None:
    taus = drawn((8,), 3)
    found = merged(on_zeros(taus, **{"lambda": "0.5"}))
    assert np.allclose(found, np.mean(taus, axis=0) / 2, atol=1e-9)


def test_who_changes_nothing_has_no_place_in_the_order() -> None:
    taus = drawn((5, 6), 3)
    taus[1] = np.zeros((5, 6))
    inputs = on_zeros(taus)
    few = shuffled(inputs, (0, 2))
    weights = (UNIT, 7 * UNIT, UNIT)
    assert resolve(NAME, replace(inputs, weights=weights)) == resolve(NAME, few)


def test_the_order_is_that_of_the_seed() -> None:
    """Not of the list, nor of the contents' bytes."""
    inputs = on_zeros(drawn((5, 6), 4))
    assert resolve(NAME, shuffled(inputs, (2, 0, 3, 1))) == resolve(NAME, inputs)
    seeds = [bytes([seed]) * 32 for seed in range(8)]
    assert len({resolve(NAME, replace(inputs, seed=seed)) for seed in seeds}) > 2


def test_weights_below_zero_are_refused() -> None:
    inputs = on_zeros(drawn((5, 6), 2))
    with pytest.raises(ContractError, match="negative weight"):
        resolve(NAME, replace(inputs, weights=(UNIT, -UNIT)))
