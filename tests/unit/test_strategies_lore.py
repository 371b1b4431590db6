"""lore: a base is estimated, and a low-rank change of each model from it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from tests.strategies import UNIT, resolve, task


def merged(thetas: list[Floats], **parameters: str) -> Floats:
    return made(models(thetas, **parameters))


def models(thetas: list[Floats], **parameters: str) -> Inputs:
    """Models without a base."""
    base = np.zeros(thetas[0].shape)
    inputs = task("lore", "F64", thetas, base, **parameters)
    return replace(inputs, base=None)


def made(inputs: Inputs) -> Floats:
    found = resolve("lore", replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def drawn(shape: tuple[int, ...], count: int) -> list[Floats]:
    return list(np.random.default_rng(0).standard_normal((count, *shape)))


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (40, 3), (4, 3, 2, 2), (20,)])
def test_models_that_are_equal_are_themselves(shape: tuple[int, ...]) -> None:
    """One alone, too: it is all base."""
    (theta,) = drawn(shape, 1)
    assert np.allclose(merged([theta]), theta, atol=1e-12)
    assert np.allclose(merged([theta] * 3), theta, atol=1e-12)
    assert not merged([0 * theta] * 2).any()


def test_a_turn_shrinks_what_lies_off_the_mean() -> None:
    """Of two that differ by 2d, each is d away, and less by mu / 2 after the first turn."""
    theta, change = np.ones((4, 5)), np.zeros((4, 5))
    np.fill_diagonal(change, [3.0, 2.0, 1.0, 0.5])
    inputs = models([theta + change, theta - change], mu="2", iterations="1")
    # opposite deltas cancel: what is left is the base, of equal weights the mean
    assert np.allclose(made(inputs), theta, atol=1e-9)
    heavier = replace(inputs, weights=(3 * UNIT, UNIT))
    off = np.zeros((4, 5))
    # m = theta + d/2; they are d/2 and -3d/2 off; shares are 3/2 and 1/2
    np.fill_diagonal(off, [1.5 * (s / 2 - 1) * (s > 2) for s in (3, 2, 1, 0.5)])
    low = np.zeros((4, 5))
    np.fill_diagonal(low, [0.5 * max(1.5 * s - 1, 0) for s in (3, 2, 1, 0.5)])
    expected = theta + change / 2 + off - low
    assert np.allclose(made(heavier), expected, atol=1e-9)


def test_small_differences_are_base_and_the_result_is_the_mean() -> None:
    """All singular values are below mu / 2: no change is left."""
    thetas = [1 + theta / 1000 for theta in drawn((6, 8), 3)]
    found = merged(thetas, mu="1", **{"lambda": "7"})
    assert np.allclose(found, np.mean(thetas, axis=0), atol=1e-12)


def test_without_a_penalty_all_is_change() -> None:
    """The changes around the mean cancel out."""
    thetas = drawn((6, 8), 3)
    expected = np.mean(thetas, axis=0)
    assert np.allclose(merged(thetas, mu="0"), expected, atol=1e-3)


def test_a_change_of_one_model_is_told_from_the_base() -> None:
    """Two agree and one is off by much of rank one: base goes where the two are.

    By the mean, a third of the change remains; here nearly all of it.
    """
    theta = drawn((8, 8), 1)[0]
    change = np.zeros((8, 8))
    change[2, 3] = 6.0
    thetas = [theta, theta, theta + change]
    options = {"mu": "4", "iterations": "60"}
    bare = merged(thetas, **options, **{"lambda": "0"})
    whole = merged(thetas, **options)
    # base settles where the one is off by more than it is allowed: |a| - mu / 2 is left
    left = 6.0 - (bare - theta)[2, 3] - 2.0
    assert 3.0 <= left <= 4.0
    assert np.isclose((whole - bare)[2, 3], left, atol=1e-6)
    others = np.delete((whole - theta).reshape(-1), 2 * 8 + 3)
    assert np.abs(others).max() < 1e-9


def test_the_objective_falls_with_every_turn() -> None:
    """It is a descent: by coordinates, on a convex function."""
    thetas = drawn((7, 5), 4)
    seen = []
    for count in range(1, 6):
        options = {"mu": "3", "iterations": str(count)}
        base = merged(thetas, **options, **{"lambda": "0"})
        sums = 0.0
        for theta in thetas:
            s = np.linalg.svd(theta - base, compute_uv=False)
            kept = np.maximum(s - 1.5, 0)
            sums += float(((s - kept) ** 2).sum() + 3 * kept.sum())
        seen.append(sums)
    assert all(after <= before + 1e-9 for before, after in pairwise(seen))
    assert seen[-1] < seen[0] - 0.01


def test_lambda_scales_the_changes() -> None:
    thetas, weights = drawn((6, 5), 3), (UNIT, 3 * UNIT, UNIT)
    found = []
    for text in ("0", "1", "2"):
        inputs = models(thetas, mu="3", **{"lambda": text})
        found.append(made(replace(inputs, weights=weights)))
    assert np.allclose(found[2] - found[0], 2 * (found[1] - found[0]), atol=1e-9)
    assert np.abs(found[1] - found[0]).max() > 1e-3


def test_more_models_than_directions_and_changes_of_rank_one() -> None:
    thetas = drawn((3, 2), 9)
    assert np.isfinite(merged(thetas, mu="1")).all()
    one = np.multiply.outer(np.arange(1.0, 6), np.arange(2.0, 6))
    found = merged([one, 2 * one, 4 * one], mu="1")
    assert np.linalg.matrix_rank(found, tol=1e-9) == 1


def test_negative_weights_and_none_are_refused() -> None:
    inputs = models(drawn((3, 4), 2))
    with pytest.raises(ContractError, match="negative"):
        resolve("lore", replace(inputs, weights=(UNIT, -UNIT)))
    with pytest.raises(ContractError):
        resolve("lore", replace(inputs, weights=(0, 0)))
