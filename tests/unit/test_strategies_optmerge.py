"""optmerge: targets without noise, fitted on the directions that each task reads first."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.numerics import Floats
from crdtmerge.strategies import find
from tests.strategies import resolve, task

LEAST = "0.000000001"


def merged(taus: list[Floats], **parameters: str) -> Floats:
    """What is added to a base of zeros."""
    zeros = np.zeros(taus[0].shape)
    inputs = task("optmerge", "F64", taus, zeros, **{"scale": "1", **parameters})
    inputs = replace(inputs, output_dtype="F64", exponent=8)
    return numerics.upcast(resolve("optmerge", inputs), "F64").reshape(inputs.shape)


def drawn(shape: tuple[int, ...], count: int) -> list[Floats]:
    made = np.random.default_rng(0).standard_normal((count, *shape))
    return list(made.astype(np.float32).astype(np.float64))


def cut(matrix: Floats, rank: int) -> Floats:
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    found: Floats = (u[:, :rank] * s[:rank]) @ vt[:rank]
    return found


def off(found: Floats, expected: Floats) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("shape", [(8, 11), (11, 8)])
def test_the_loss_has_no_slope_at_the_result(shape: tuple[int, int]) -> None:
    """Of sum |(tau - T_i) R_i'|^2 / |tau_i|^2, R_i the first quarter of directions."""
    taus = drawn(shape, 4)
    tau, mean = merged(taus, ridge=LEAST), sum(taus) / 4
    slopes, starts = np.zeros(shape), np.zeros(shape)
    for one in taus:
        target, reads = cut(one - mean, 2) + mean, cut(one, 2)
        size = (one * one).sum()
        slopes += (tau - target) @ reads.T @ reads / size
        starts += target @ reads.T @ reads / size
    assert np.abs(slopes).max() < 1e-6 * np.abs(starts).max()


def test_apart_in_what_is_read_each_has_its_target() -> None:
    """Of tasks that read other columns: (tau - T_i) is zero on the rows of R_i."""
    left, right = np.zeros((8, 8)), np.zeros((8, 8))
    left[:, :4], right[:, 4:] = drawn((8, 4), 2)
    tau, mean = merged([left, right], ridge=LEAST), (left + right) / 2
    for one in (left, right):
        target = cut(one - mean, 4) + mean
        assert off(tau @ one.T, target @ one.T) < 1e-5


def test_what_no_task_reads_first_is_left_out() -> None:
    """Small directions of each are noise: three of rank 1, and what lies off them."""
    taus = drawn((3, 10), 3)
    reads = np.concatenate([np.linalg.svd(tau)[2][:1] for tau in taus])
    tau = merged(taus)
    within = tau @ np.linalg.pinv(reads) @ reads
    assert off(tau, within) < 1e-9


def test_copies_keep_the_first_directions() -> None:
    """Of three copies of rank 3 a third: their mean is the target, noise and all."""
    tau = drawn((9, 12), 1)[0]
    assert off(merged([tau] * 3), cut(tau, 3)) < 1e-4
    low = cut(tau, 2).astype(np.float32).astype(np.float64)
    assert off(merged([low] * 3), low) < 1e-4


def test_the_released_scale_is_a_tenth() -> None:
    """Of all tensors, and the code's own name finds it."""
    assert find("wudi_v2").full_name == "optmerge/1"
    taus = drawn((5, 6), 2)
    assert off(merged(taus, scale="0.1"), merged(taus) / 10) < 1e-12
    inputs = task("optmerge", "F64", taus, np.zeros((5, 6)))
    assert inputs.values.real("scale") == 0.1
