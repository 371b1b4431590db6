"""regmean: linear layers by least squares on the inputs of all, known by their products."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from tests.strategies import UNIT, data_of, resolve, sample, shuffled, task

EXACT = {"alpha": "1", "ridge": "0.000000001"}


def values(inputs: Inputs) -> Floats:
    """What regmean makes of a task, in float64."""
    found = resolve("regmean", replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def regression(
    tunes: list[Floats], grams: list[Floats], base: Floats | None = None, /, **p: str
) -> Inputs:
    """A task whose contributions attach these, at unit trace."""
    start = np.ones(tunes[0].shape) if base is None else base
    inputs = task("regmean", "F64", tunes, start, **p)
    told = tuple({"gram": gram / np.trace(gram)} for gram in grams)
    return replace(inputs, evidence=told)


def symmetric(inputs: Floats) -> Floats:
    """X'X, equal to its transpose in every bit."""
    gram = inputs.T @ inputs
    found: Floats = (gram + gram.T) / 2
    return found


def told_by(sizes: list[int], columns: int, rows: int) -> list[tuple[Floats, Floats]]:
    """Data of several authors, X (samples, columns) and Y (samples, rows)."""
    rng = np.random.default_rng([7, columns, rows])
    return [
        (rng.standard_normal((n, columns)) * (1 + i), rng.standard_normal((n, rows)))
        for i, n in enumerate(sizes)
    ]


def fits(data: list[tuple[Floats, Floats]]) -> list[Floats]:
    """Each author's layer: least squares on its own data alone."""
    return [np.linalg.lstsq(x, y, rcond=None)[0].T.astype(np.float64) for x, y in data]


def weights_of(grams: list[Floats]) -> tuple[int, ...]:
    """Traces in units: what is lost where Gram matrices are scaled to a trace of 1."""
    return tuple(round(np.trace(gram) / 100 * UNIT) for gram in grams)


def test_fits_on_own_data_merge_to_the_fit_on_all_data() -> None:
    """Where alpha is 1 and no ridge is felt: LAPACK's least squares on the pooled data."""
    data = told_by([20, 35, 50], columns=9, rows=5)
    grams = [symmetric(x) for x, _ in data]
    inputs = replace(regression(fits(data), grams, **EXACT), weights=weights_of(grams))
    x, y = (np.concatenate(parts) for parts in zip(*data, strict=True))
    pooled = np.linalg.lstsq(x, y, rcond=None)[0].T
    assert np.abs(values(inputs) - pooled).max() < 1e-7
    mean = np.average(fits(data), axis=0, weights=weights_of(grams))
    assert np.abs(mean - pooled).max() > 0.01


def test_authors_of_few_samples_merge_to_the_fit_on_all_data() -> None:
    """None of them could fit a layer alone; together their data tell of every input."""
    data = told_by([4, 4, 4], columns=9, rows=3)
    grams = [symmetric(x) for x, _ in data]
    inputs = replace(regression(fits(data), grams, **EXACT), weights=weights_of(grams))
    x, y = (np.concatenate(parts) for parts in zip(*data, strict=True))
    pooled = np.linalg.lstsq(x, y, rcond=None)[0].T
    assert np.abs(values(inputs) - pooled).max() < 1e-5 * np.abs(pooled).max()


def test_models_of_inputs_that_do_not_meet_keep_their_columns() -> None:
    """One saw the first four inputs, another the rest: each column is who saw it."""
    _, (first, second) = tuned(2)
    seen = [np.diag([1.0] * 4 + [0.0] * 8), np.diag([0.0] * 4 + [1.0] * 8)]
    found = values(regression([first, second], seen, **EXACT))
    assert np.abs(found[:, :4] - first[:, :4]).max() < 1e-7
    assert np.abs(found[:, 4:] - second[:, 4:]).max() < 1e-7


def tuned(count: int) -> tuple[Floats, list[Floats]]:
    base, tunes = sample(96, count)
    return base.reshape(8, 12), [tune.reshape(8, 12) for tune in tunes]


def drawn(count: int, rank: int = 12) -> list[Floats]:
    rng = np.random.default_rng(2)
    return [symmetric(rng.standard_normal((rank, 12))) for _ in range(count)]


def test_inputs_that_nobody_saw_are_averaged() -> None:
    """The published formula, without a ridge, has no answer there; with one, zero."""
    _, tunes = tuned(2)
    seen = np.diag([1.0] * 4 + [0.0] * 8)
    found = values(regression(tunes, [seen, seen]))
    assert np.allclose(found, np.mean(tunes, axis=0), atol=1e-12)


def test_grams_of_no_input_at_all_average() -> None:
    """All zero: there is nothing to divide by, and the ridge is zero too."""
    _, tunes = tuned(2)
    inputs = regression(tunes, drawn(2))
    inputs = replace(inputs, evidence=({"gram": np.zeros((12, 12))},) * 2)
    assert np.allclose(values(inputs), np.mean(tunes, axis=0), atol=1e-12)


@pytest.mark.parametrize("rank", [12, 1])
def test_equal_models_are_themselves(rank: int) -> None:
    """Whatever they saw, with odd weights."""
    _, (tune,) = tuned(1)
    inputs = regression([tune] * 3, drawn(3, rank))
    inputs = replace(inputs, weights=(UNIT, 123_456_789, 3))
    assert np.allclose(values(inputs), tune, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_one_model_alone_is_itself(dtype: str) -> None:
    """Bit for bit."""
    base, tunes = tuned(1)
    inputs = task("regmean", dtype, tunes, base)
    assert resolve("regmean", inputs) == data_of(inputs.contributions[0])


def test_grams_that_are_alike_average_by_weight() -> None:
    """The matrix cancels out."""
    _, tunes = tuned(3)
    inputs = regression(tunes, drawn(1) * 3, ridge="0.000000001")
    inputs = replace(inputs, weights=(UNIT, 2 * UNIT, 5 * UNIT))
    expected = np.average(tunes, axis=0, weights=[1, 2, 5])
    assert np.allclose(values(inputs), expected, atol=1e-7)


def test_without_evidence_it_is_linear() -> None:
    """Bit for bit, with weights."""
    base, tunes = tuned(3)
    weights = (UNIT, 3 * UNIT, UNIT // 7)
    inputs = replace(task("regmean", "BF16", tunes, base), evidence=(), weights=weights)
    plain = replace(task("linear", "BF16", tunes, base), weights=weights)
    assert resolve("regmean", inputs) == resolve("linear", plain)


def test_alpha_zero_is_fisher_of_the_diagonals() -> None:
    """Nothing but how large each input is: an average column by column."""
    _, tunes = tuned(3)
    grams = drawn(3)
    shares = np.stack([np.diag(g) / np.trace(g) for g in grams])[:, np.newaxis]
    expected = (shares * np.stack(tunes)).sum(axis=0) / shares.sum(axis=0)
    found = values(regression(tunes, grams, alpha="0", ridge="0.000000001"))
    assert np.allclose(found, expected, atol=1e-6)


def test_scaling_a_gram_wins_nothing() -> None:
    """A million times larger before it is normalised, the same after: so is the model."""
    _, tunes = tuned(3)
    grams = drawn(3)
    before = values(regression(tunes, grams))
    for factor in (1e6, 1e-6):
        after = values(regression(tunes, [grams[0] * factor, *grams[1:]]))
        assert np.abs(after - before).max() < 1e-9


def test_a_ridge_draws_towards_the_mean() -> None:
    """The larger it is, the nearer."""
    _, tunes = tuned(3)
    mean = np.mean(tunes, axis=0)
    away = [
        float(np.abs(values(regression(tunes, drawn(3), ridge=ridge)) - mean).max())
        for ridge in ("0.000001", "1", "100")
    ]
    assert away[0] > away[1] > away[2] > 0
    assert away[2] < away[0] / 20


def test_kernels_of_convolutions_are_matrices() -> None:
    """(out, in, k, k) with the Gram matrix of patches; vectors are averaged."""
    _, tunes = sample(96, 3)
    grams = drawn(3)
    flat = values(regression([t.reshape(8, 12) for t in tunes], grams))
    deep = values(regression([t.reshape(8, 3, 2, 2) for t in tunes], grams))
    assert np.array_equal(flat, deep.reshape(8, 12))


def test_more_models_than_columns() -> None:
    """Nine of 3 x 2, in any order of the list."""
    rng = np.random.default_rng(5)
    tunes = list(rng.standard_normal((9, 3, 2)))
    inputs = regression(tunes, [symmetric(rng.standard_normal((1, 2)))] * 9)
    turned = shuffled(inputs, (8, *range(8)))
    assert resolve("regmean", turned) == resolve("regmean", inputs)
    assert np.isfinite(values(inputs)).all()


def test_the_base_is_not_looked_at() -> None:
    """Whole weights are regressed, wherever they came from."""
    base, tunes = tuned(3)
    seen = {
        resolve("regmean", regression(tunes, drawn(3), start))
        for start in (base, base + 1)
    }
    assert len(seen) == 1


def test_who_lacks_a_gram_is_named_or_left_out() -> None:
    """By the parameter `lacking`."""
    _, tunes = tuned(3)
    inputs = regression(tunes, drawn(3))
    holed = replace(inputs, evidence=(inputs.evidence[0], {}, inputs.evidence[2]))
    with pytest.raises(
        ContractError, match=r"contribution 010101.*no evidence of kind 'gram'"
    ):
        values(holed)
    left = regression(tunes, drawn(3), lacking="leave_out")
    left = replace(left, evidence=holed.evidence)
    assert np.array_equal(values(left), values(shuffled(left, (0, 2))))


def test_weights_below_zero_are_refused() -> None:
    """They would make a system that has no lowest point; zeros alone make none."""
    _, tunes = tuned(2)
    inputs = regression(tunes, drawn(2))
    with pytest.raises(ContractError, match="negative weight has no meaning"):
        values(replace(inputs, weights=(UNIT, -UNIT)))
    with pytest.raises(ContractError, match="all weights are zero"):
        values(replace(inputs, weights=(0, 0)))
