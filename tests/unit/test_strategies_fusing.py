"""passthrough, nearswap and arcee_fusion: items taken from one model or another."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import BadInputError, ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from tests.strategies import UNIT, base_of, resolve, sample, task, with_own

SELECT = {"select": "true"}


def made(name: str, inputs: Inputs) -> Floats:
    return numerics.upcast(resolve(name, inputs), inputs.dtype).reshape(inputs.shape)


# --- passthrough --------------------------------------------------------------------


def test_passthrough_gives_every_bit_of_the_selected() -> None:
    """Also items far below the grid that sums are made on; one alone needs no mark."""
    values = np.array([2.0**-149, -(2.0**-140), 1.0, -3.7, 0.1])
    inputs = task("passthrough", "F32", [values, values * 0.5], values)
    for place in (0, 1):
        own = [SELECT if i == place else {} for i in range(2)]
        chosen = with_own(inputs, *own)
        assert resolve("passthrough", chosen) == chosen.contributions[place]
        alone = replace(
            with_own(inputs, {}, {}), weights=(UNIT * (1 - place), UNIT * place)
        )
        assert resolve("passthrough", alone) == chosen.contributions[place]


def test_passthrough_scales_by_what_the_selected_says() -> None:
    """One product and one rounding; another's scale is of no interest."""
    base, tunes = sample(300, 2)
    inputs = task("passthrough", "F32", tunes, base)
    inputs = with_own(inputs, {"scale": "7"}, {"scale": "-0.3", **SELECT})
    scaled = tunes[1].astype(np.float32).astype(np.float64) * -0.3
    expected = scaled.astype(np.float32)
    assert np.array_equal(made("passthrough", inputs), expected)
    zero = with_own(inputs, {}, {"scale": "0", **SELECT})
    assert resolve("passthrough", zero) == bytes(1200)


@pytest.mark.parametrize("own", [({}, {}), (SELECT, SELECT)])
def test_passthrough_of_none_or_several_is_refused(
    own: tuple[dict[str, str], dict[str, str]],
) -> None:
    """It does not choose for its user."""
    base, tunes = sample(3, 2)
    inputs = with_own(task("passthrough", "F32", tunes, base), *own)
    with pytest.raises(ContractError, match="tensor 'w': passthrough takes one") as e:
        resolve("passthrough", inputs)
    assert "select=true" in e.value.hint


def test_passthrough_reads_the_selected_alone() -> None:
    """Others cannot hold it up; its own faults are named."""
    base, tunes = sample(3, 2)
    inputs = with_own(task("passthrough", "F32", tunes, base), SELECT, {})
    poison = np.full(3, np.nan, dtype="<f4").tobytes()
    held = replace(inputs, contributions=(inputs.contributions[0], poison))
    assert resolve("passthrough", held) == inputs.contributions[0]
    held = replace(inputs, contributions=(poison, inputs.contributions[1]))
    with pytest.raises(ContractError, match="contribution 000000000000, tensor 'w'"):
        resolve("passthrough", held)


# --- nearswap -----------------------------------------------------------------------


def near(base: Floats, other: Floats, most: float) -> Floats:
    """The author's formula: a division by zero takes the other model."""
    with np.errstate(divide="ignore"):
        way = np.clip(most / np.abs(base - other), 0.0, 1.0)
    return np.asarray((1 - way) * base + way * other)


@pytest.mark.parametrize("t", ["0.0001", "0.03", "0.0000001", "1"])
def test_nearswap_is_the_authors_formula(t: str) -> None:
    """Also for t below the 10**-6 that mergekit puts under differences."""
    base, (tune,) = sample(500, 1)
    tune[:50] = base[:50]
    tune[50:100] = base[50:100] + np.linspace(-1e-6, 1e-6, 50)
    inputs = task("nearswap", "F64", [tune], base, t=t)
    expected = near(base, tune, float(t))
    np.testing.assert_allclose(made("nearswap", inputs), expected, rtol=0, atol=1e-15)


def test_nearswap_moves_near_items_all_the_way() -> None:
    """mergekit's floor would move an item 5 * 10**-8 away by a tenth of that."""  # noqa: D403
    inputs = task("nearswap", "F64", [np.array([5e-8])], np.zeros(1), t="0.0000001")
    assert made("nearswap", inputs) == [5e-8]


def test_nearswap_goes_to_the_exact_mean_of_several() -> None:
    """Rounded once to float64: with a large t that is the result."""
    base, tunes = sample(200, 3)
    weights = (UNIT, UNIT // 3, 5)
    inputs = replace(
        task("nearswap", "F32", tunes, base, t="1000"),
        weights=weights,
        output_dtype="F64",
    )
    stored = [tune.astype(np.float32).tolist() for tune in tunes]
    expected = [
        float(sum(Fraction(x) * w for x, w in zip(items, weights, strict=True)))
        / sum(weights)
        for items in zip(*stored, strict=True)
    ]
    found = numerics.upcast(resolve("nearswap", inputs), "F64")
    np.testing.assert_allclose(found, expected, rtol=1e-15, atol=1e-14)


@pytest.mark.parametrize("t", ["0", "-0.1"])
def test_nearswap_without_a_way_is_refused(t: str) -> None:
    """It would be the base."""
    with pytest.raises(BadInputError, match="t="):
        task("nearswap", "F32", [np.zeros(1)], np.zeros(1), t=t)


# --- arcee_fusion -------------------------------------------------------------------


def fused(base: Floats, other: Floats) -> Floats:
    """The formula on all entries, with the platform's own exp and log."""

    def softmax(rows: Floats) -> Floats:
        powers = np.exp(rows - rows.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True) + 1e-8)

    p, q = softmax(other), softmax(base)
    apart = (p * np.log(p / q)).sum(axis=-1, keepdims=True)
    importance = np.abs(other - base) * apart
    ordered = np.sort(importance, axis=None)
    first, middle, third = (
        ordered[math.floor(q * (ordered.size - 1))] for q in (0.25, 0.5, 0.75)
    )
    return np.where(importance >= middle + 1.5 * (third - first), other, base)


@pytest.mark.parametrize("shape", [(40, 50), (7, 5, 9), (300,), (1000, 3), (1, 1)])
def test_arcee_fusion_is_the_formula(shape: tuple[int, ...]) -> None:
    """Rows along the last dimension; a vector is one row."""
    generator = np.random.default_rng(len(shape))
    base, other = generator.integers(-(2**20), 2**20, (2, *shape)) / 2**19
    inputs = task("arcee_fusion", "F32", [other], base)
    expected = fused(base, other)
    assert np.array_equal(made("arcee_fusion", inputs), expected)
    if other.size > 1:
        assert 0 < np.count_nonzero(expected == other) < other.size


def test_arcee_fusion_of_a_large_tensor_looks_at_every_item() -> None:
    """Above 10**6 items nothing is sampled: exact quantiles, and the same bytes twice."""
    generator = np.random.default_rng(1)
    base, way = generator.integers(-(2**18), 2**18, (2, 1001, 1001)) / 2**17
    other = base + way / 16
    inputs = task("arcee_fusion", "F32", [other], base)
    found = resolve("arcee_fusion", inputs)
    assert found == resolve("arcee_fusion", inputs)
    expected = fused(base, other).reshape(-1)
    assert np.array_equal(numerics.upcast(found, "F32"), expected)


def test_arcee_fusion_of_several_is_that_of_their_mean() -> None:
    """With dyadic values the mean is a tensor like any other."""
    generator = np.random.default_rng(2)
    base, left, right = generator.integers(-64, 64, (3, 20, 30)) / 64
    both = task("arcee_fusion", "F32", [left, right], base)
    both = replace(both, weights=(UNIT, 3 * UNIT))
    mean = task("arcee_fusion", "F32", [left / 4 + right * 3 / 4], base)
    assert resolve("arcee_fusion", both) == resolve("arcee_fusion", mean)


def test_arcee_fusion_takes_all_where_most_is_unchanged() -> None:
    """The threshold is then 0, which everything reaches, as the formula has it."""
    base, (tune,) = sample(400, 1)
    tune[100:] = base[100:]
    inputs = task("arcee_fusion", "F32", [tune[::-1]], base[::-1])
    assert resolve("arcee_fusion", inputs) == inputs.contributions[0]
    assert base_of(inputs) != inputs.contributions[0]
