"""multislerp, karcher and model_stock, against whole vectors and plain NumPy."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from tests.strategies import UNIT, resolve, task

WEIGHTS = (UNIT, UNIT // 2, 2 * UNIT)
SHARES = np.array([2, 1, 4]) / 7


def apart(count: int, *shape: int) -> tuple[Floats, list[Floats]]:
    """A base, and models in all directions from it."""
    generator = np.random.default_rng([count, *shape])
    base, *tunes = generator.standard_normal((count + 1, *shape))
    return base, [base / 4 + tune for tune in tunes]


def made(name: str, inputs: Inputs) -> Floats:
    return numerics.upcast(resolve(name, inputs), inputs.dtype).reshape(inputs.shape)


def unit(vector: Floats) -> Floats:
    return np.asarray(vector / np.linalg.norm(vector))


def projected(vectors: Sequence[Floats], shares: Floats) -> Floats:
    """Mergekit's steps, with the tangents that add up to nothing."""
    mean = unit(sum(s * unit(v) for s, v in zip(shares, vectors, strict=True)))
    tangent = sum(
        s * (unit(v) - (unit(v) @ mean) * mean)
        for s, v in zip(shares, vectors, strict=True)
    )
    size = np.linalg.norm(tangent)
    ahead = np.cos(size) * mean + np.sinc(size / np.pi) * tangent
    return np.asarray(
        ahead * sum(s * np.linalg.norm(v) for s, v in zip(shares, vectors, strict=True))
    )


def iterated(vectors: Sequence[Floats], shares: Floats, steps: int) -> Floats:
    """The mean on the sphere by its published iteration."""
    units = [unit(v) for v in vectors]
    point = unit(sum(s * u for s, u in zip(shares, units, strict=True)))
    for _ in range(steps):
        tangent = np.zeros_like(point)
        for s, u in zip(shares, units, strict=True):
            angle = np.arccos(u @ point)
            tangent += s * angle / np.sin(angle) * (u - np.cos(angle) * point)
        size = np.linalg.norm(tangent)
        point = unit(np.cos(size) * point + np.sin(size) * unit(tangent))
    lengths = [np.linalg.norm(v) for v in vectors]
    return np.asarray(point * (shares @ np.array(lengths)))


@pytest.mark.parametrize("with_base", [True, False])
def test_multislerp_needs_no_angle(with_base: bool) -> None:
    """It is mergekit's result, whose projection moves nothing."""
    base, tunes = apart(3, 200)
    inputs = replace(task("multislerp", "F64", tunes, base), weights=WEIGHTS)
    if with_base:
        expected = base + projected([t - base for t in tunes], SHARES)
    else:
        inputs, expected = replace(inputs, base=None), projected(tunes, SHARES)
    np.testing.assert_allclose(made("multislerp", inputs), expected, atol=1e-6)


def test_multislerp_without_normalizing_is_as_long_as_the_weights() -> None:
    """The direction is that of the weights, the length their plain sum."""
    base, tunes = apart(3, 200)
    inputs = task("multislerp", "F64", tunes, base, normalize="false")
    inputs = replace(inputs, weights=WEIGHTS)
    expected = base + 3.5 * projected([t - base for t in tunes], SHARES)
    np.testing.assert_allclose(made("multislerp", inputs), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["multislerp", "karcher"])
def test_opposite_models_leave_the_weighted_mean(name: str) -> None:
    """No direction is the middle of two poles, for two models or for four."""
    (tune,) = apart(1, 100)[1]
    for tunes in ([tune, -tune], [tune, -tune, 2 * tune, -3 * tune]):
        inputs = replace(task(name, "F64", tunes, tune), base=None)
        assert made(name, inputs) == pytest.approx(sum(tunes) / len(tunes), abs=1e-8)


@pytest.mark.parametrize("name", ["multislerp", "karcher"])
@pytest.mark.parametrize("tiny", [0.0, 2.0**-20])
def test_a_vector_without_direction_counts_with_its_length(
    name: str, tiny: float
) -> None:
    """Zeros, and what is a thousand times shorter than others, only shorten."""
    base, (left, right) = apart(2, 100)
    tunes = [left, right, right[::-1] * tiny]
    inputs = replace(task(name, "F64", tunes, base), base=None)
    pair = task(name, "F64", [left, right], base)
    expected = made(name, replace(pair, base=None)) * 2 / 3
    np.testing.assert_allclose(made(name, inputs), expected, atol=1e-5)


def test_karcher_is_the_iteration_on_whole_vectors() -> None:
    """Coefficients move as vectors do, step by step."""
    base, tunes = apart(3, 200)
    for steps in (1, 2, 10):
        inputs = task("karcher", "F64", tunes, base, max_iter=str(steps), tol="0")
        found = made("karcher", replace(inputs, weights=WEIGHTS))
        expected = iterated(tunes, SHARES, steps)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_karcher_stops_where_steps_are_short() -> None:
    """A large tolerance leaves the start, which is the direction of multislerp."""
    base, tunes = apart(3, 200)
    inputs = replace(task("karcher", "F64", tunes, base, tol="1"), base=None)
    start = replace(task("multislerp", "F64", tunes, base), base=None)
    assert resolve("karcher", inputs) == resolve("multislerp", start)
    inputs = replace(task("karcher", "F64", tunes, base), base=None)
    assert resolve("karcher", inputs) != resolve("multislerp", start)


def test_karcher_of_two_is_the_middle_of_their_arc() -> None:
    """At the mean of their lengths, as the geometry of a circle has it."""
    left, right = np.array([3.0, 0.0]), np.array([0.0, 1.0])
    inputs = task("karcher", "F64", [left, right], left)
    assert made("karcher", inputs) == pytest.approx([2**0.5, 2**0.5], abs=1e-8)


def stock(base: Floats, tunes: Sequence[Floats], weights: Floats) -> Floats:
    """The paper's formula on whole vectors, with weights."""
    taus = [(t - base).reshape(-1) for t in tunes]
    shares = weights / weights.sum()
    pairs = list(combinations(range(len(taus)), 2))
    both = np.array([shares[i] * shares[j] for i, j in pairs])
    cosines = np.array([unit(taus[i]) @ unit(taus[j]) for i, j in pairs])
    cosine, count = both @ cosines / both.sum(), len(taus)
    ratio = count * cosine / (1 + (count - 1) * cosine)
    mean = sum(s * t for s, t in zip(shares, tunes, strict=True))
    return np.asarray(ratio * mean + (1 - ratio) * base)


def alike(count: int, *shape: int) -> tuple[Floats, list[Floats]]:
    """Models that went one way, more or less."""
    generator = np.random.default_rng([9, count, *shape])
    base, way, *noise = generator.standard_normal((count + 2, *shape))
    return base, [base + way + part / 2 for part in noise]


@pytest.mark.parametrize("count", [2, 3])
def test_model_stock_is_the_papers_formula(count: int) -> None:
    """One angle a tensor, the mean of all pairs."""
    base, tunes = alike(count, 6, 50)
    weights = WEIGHTS[:count]
    inputs = replace(task("model_stock", "F64", tunes, base), weights=weights)
    expected = stock(base, tunes, np.array(weights))
    np.testing.assert_allclose(made("model_stock", inputs), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 50), (6, 5, 10)])
def test_model_stock_filter_wise_has_an_angle_a_row(shape: tuple[int, ...]) -> None:
    """Rows of the first dimension, whatever is behind it."""
    base, tunes = alike(2, *shape)
    inputs = task("model_stock", "F64", tunes, base, filter_wise="true")
    rows = zip(base, *tunes, strict=True)
    expected = [stock(row, both, np.ones(2)) for row, *both in rows]
    np.testing.assert_allclose(made("model_stock", inputs), expected, atol=1e-6)


def test_model_stock_of_rows_of_one_item_takes_what_agrees() -> None:
    """The angle of two numbers is 0 or straight."""
    base, tunes = alike(2, 40, 1)
    inputs = task("model_stock", "F64", tunes, base, filter_wise="true")
    agree = (tunes[0] - base) * (tunes[1] - base) > 0
    expected = np.where(agree, (tunes[0] + tunes[1]) / 2, base)
    np.testing.assert_allclose(made("model_stock", inputs), expected, atol=1e-8)


def test_model_stock_filter_wise_of_one_dimension_is_one_row() -> None:
    """Single numbers have no angles to compare."""
    base, tunes = alike(2, 50)
    inputs = task("model_stock", "F32", tunes, base, filter_wise="true")
    plain = task("model_stock", "F32", tunes, base)
    assert resolve("model_stock", inputs) == resolve("model_stock", plain)


@pytest.mark.parametrize("tilt", [-0.01, 0.0, 0.01])
def test_model_stock_has_no_pole(tilt: float) -> None:
    """Near cos = -1 / (N - 1) the plain ratio is in the thousands; ours is 0."""
    angles = np.array([0, 2 * np.pi / 3 + tilt, 4 * np.pi / 3])
    tunes = [np.array([np.cos(a), np.sin(a)]) + 1 for a in angles]
    inputs = task("model_stock", "F64", tunes, np.ones(2))
    assert resolve("model_stock", inputs) == inputs.base
    left, right = np.array([2.0, 1.0]), np.array([0.0, 1.0 + tilt])
    inputs = task("model_stock", "F64", [left, right], np.ones(2))
    assert resolve("model_stock", inputs) == inputs.base


def test_model_stock_sees_the_angle_of_short_task_vectors() -> None:
    """Lengths do not enter: a millionth of the change is a millionth of the result."""
    _, tunes = alike(2, 100)
    long = task("model_stock", "F64", tunes, np.zeros(100))
    short = task("model_stock", "F64", [t / 2**20 for t in tunes], np.zeros(100))
    found = made("model_stock", short) * 2**20
    np.testing.assert_allclose(found, made("model_stock", long), rtol=1e-9)


def test_model_stock_with_a_task_vector_of_zeros() -> None:
    """It has cosine 0 to the other, so nothing is known and the base stays."""
    base, (tune,) = alike(1, 100)
    inputs = task("model_stock", "F32", [tune, base], base)
    assert resolve("model_stock", inputs) == inputs.base


def test_model_stock_of_one_is_refused() -> None:
    """Also where others have weight zero, by tensor or by row."""
    base, tunes = alike(2, 5, 4)
    for flag in ("false", "true"):
        inputs = task("model_stock", "F32", tunes, base, filter_wise=flag)
        with pytest.raises(ContractError, match="model_stock compares contributions"):
            resolve("model_stock", replace(inputs, weights=(UNIT, 0)))


def test_model_stock_does_not_read_who_takes_no_part() -> None:
    """Two are enough, whatever the third one's bytes."""
    base, tunes = alike(3, 5, 4)
    inputs = replace(task("model_stock", "F32", tunes, base), weights=(UNIT, UNIT, 0))
    bad = replace(inputs, contributions=(*inputs.contributions[:2], b""))
    assert resolve("model_stock", bad) == resolve("model_stock", inputs)
