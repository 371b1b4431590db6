"""opcm: each change is cleared of the directions of those before it."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from tests.oracles.drawing import digest
from tests.strategies import UNIT, resolve, shuffled, task


def merged(inputs: Inputs) -> Floats:
    """What is added to a base of zeros."""
    found = resolve("opcm", replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def on_zeros(taus: list[Floats], **parameters: str) -> Inputs:
    """Task matrices in the order in which they are drawn."""
    inputs = task("opcm", "F64", taus, np.zeros(taus[0].shape), **parameters)
    context = "crdtmerge v1 order of a fold"
    contents = sorted(inputs.contents, key=lambda c: digest(context, [inputs.seed, c]))
    return replace(inputs, contents=tuple(contents), exponent=8)


def drawn(shape: tuple[int, ...], count: int) -> list[Floats]:
    made = np.random.default_rng(0).standard_normal((count, *shape))
    return list(made.astype(np.float32).astype(np.float64))


def length(tau: Floats) -> float:
    return float(np.sqrt((tau * tau).sum()))


def close(found: Floats, expected: Floats) -> bool:
    return bool(np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (4, 3, 2, 2)])
def test_one_contribution_is_itself_and_a_copy_adds_nothing(
    shape: tuple[int, ...],
) -> None:
    """All of a copy lies along the directions that are merged already."""
    (tau,) = drawn(shape, 1)
    assert close(merged(on_zeros([tau])), tau)
    assert close(merged(on_zeros([tau, tau, tau])), tau)
    assert close(merged(on_zeros([tau, -tau])), tau)


def test_what_is_added_is_orthogonal_to_what_was_there() -> None:
    """Step by step; so the sum is as long as a diagonal, and never vanishes."""
    taus = drawn((7, 5), 3)
    one, two, three = (merged(on_zeros(taus[:n])) for n in (1, 2, 3))
    for before, after in ((one, two), (two, three)):
        # after = (before * a + added) * b: before and what is orthogonal to it
        along = (after * before).sum() / (before * before).sum()
        u, _, vt = np.linalg.svd(before, full_matrices=False)
        added = after - along * before
        assert abs((added * before).sum()) < 1e-9 * length(added) * length(before)
        assert np.abs(np.diag(u.T @ added @ vt.T)).max() < 1e-9 * length(added)


def test_the_first_directions_are_cleared_as_a_block() -> None:
    """Of values 4, 3, 2, 1 two of three are above half: the block is that before it."""
    first, second = np.diag([4.0, 3.0, 2.0, 1.0]), np.ones((4, 4))
    cleared = {"0.5": 1, "0.75": 2, "0.95": 3}
    for alpha, block in cleared.items():
        found = merged(on_zeros([first, second], alpha=alpha))
        left = found / found[0, 0] * 4 - first
        expected = second.copy()
        np.fill_diagonal(expected, 0)
        expected[:block, :block] = 0
        assert np.allclose(left, expected, atol=1e-12)


def test_the_length_is_the_mean_of_theirs() -> None:
    """Whatever is cleared; weights over their mean count as sizes."""
    taus = drawn((5, 6), 4)
    lengths = [length(tau) for tau in taus]
    assert np.isclose(length(merged(on_zeros(taus))), np.mean(lengths))
    inputs = replace(on_zeros(taus), weights=(UNIT, UNIT, 4 * UNIT, 2 * UNIT))
    mean = np.average(lengths, weights=[1, 1, 4, 2])
    assert np.isclose(length(merged(inputs)), mean)


def test_directions_beyond_the_rank_are_left_alone() -> None:
    """After one of rank one, only its direction is cleared from the next."""
    first, second = np.zeros((3, 4)), drawn((3, 4), 1)[0]
    first[0, 0] = 2.0
    found = merged(on_zeros([first, second]))
    left = found / found[0, 0] * 2 - first
    expected = second.copy()
    expected[0, 0] = 0
    assert np.allclose(left, expected, atol=1e-12)


def test_who_changes_nothing_has_no_place_in_the_order() -> None:
    """Nor in the mean of lengths, nor of weights."""
    taus = drawn((5, 6), 3)
    taus[1] = np.zeros((5, 6))
    inputs = on_zeros(taus)
    few = replace(shuffled(inputs, (0, 2)))
    weights = (UNIT, 7 * UNIT, UNIT)
    assert resolve("opcm", replace(inputs, weights=weights)) == resolve("opcm", few)


def test_the_order_is_that_of_the_seed() -> None:
    """Not of the list, nor of the contents' bytes."""
    inputs = on_zeros(drawn((5, 6), 4))
    assert resolve("opcm", shuffled(inputs, (2, 0, 3, 1))) == resolve("opcm", inputs)
    seeds = [bytes([seed]) * 32 for seed in range(8)]
    assert len({resolve("opcm", replace(inputs, seed=seed)) for seed in seeds}) > 2
