"""Strategies that read evidence: what their formulas promise beside the oracles."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.digest import ContentId
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs, Values, Whole, find, make_recipe, whole_of
from crdtmerge.strategies.base import Scalars, Score
from tests.evidence import made
from tests.strategies import UNIT, data_of, resolve, sample, shuffled, task


def values(inputs: Inputs, name: str) -> Floats:
    """What a strategy makes of a task, in float64."""
    made = resolve(name, replace(inputs, output_dtype="F64"))
    return numerics.upcast(made, "F64").reshape(inputs.shape)


def attaching(inputs: Inputs, **kinds: list[Floats]) -> Inputs:
    """The task with these arrays, one of each kind a contribution."""
    count = len(inputs.contributions)
    evidence = tuple({k: kinds[k][i] for k in kinds} for i in range(count))
    return replace(inputs, evidence=evidence)


def square(count: int, seed: int = 0) -> tuple[Floats, list[Floats]]:
    base, tunes = sample(96, count, seed)
    return base.reshape(8, 12), [tune.reshape(8, 12) for tune in tunes]


def test_fisher_finds_the_lowest_point_of_parabolas() -> None:
    """Losses (theta - theta_k)' diag(H_k) (theta - theta_k): no step lowers their sum."""
    base, tunes = square(3)
    curved = [made("fisher", base.shape, place) for place in range(3)]
    inputs = attaching(
        task("fisher", "F64", tunes, base, floor="0.000000001"), fisher=curved
    )
    found = values(inputs, "fisher")
    slope = np.stack([2 * h * (found - t) for h, t in zip(curved, tunes, strict=True)])
    assert np.abs(slope.sum(axis=0)).max() < 1e-7


def test_fits_on_own_data_merge_by_fisher_to_the_fit_on_all_data() -> None:
    """Of inputs that are orthogonal curvature is a diagonal: LAPACK's pooled fit is met.

    Weights are what is lost where diagonals are scaled to a mean of 1.
    """
    rng = np.random.default_rng(11)
    data = []
    for count in (9, 14, 30):
        orthogonal = np.linalg.qr(rng.standard_normal((count, 7)))[0]
        x = orthogonal * rng.uniform(0.5, 3, 7)
        data.append((x, rng.standard_normal((count, 4))))
    fits = [np.linalg.lstsq(x, y, rcond=None)[0].T.astype(np.float64) for x, y in data]
    curved = [np.tile((x * x).sum(axis=0), (4, 1)) for x, _ in data]
    inputs = task("fisher", "F64", fits, np.ones((4, 7)), floor="0.000000001")
    inputs = attaching(inputs, fisher=[each / each.mean() for each in curved])
    weights = tuple(round(each.mean() / 100 * UNIT) for each in curved)
    x, y = (np.concatenate(parts) for parts in zip(*data, strict=True))
    pooled = np.linalg.lstsq(x, y, rcond=None)[0].T
    found = values(replace(inputs, weights=weights), "fisher")
    assert np.abs(found - pooled).max() < 1e-7
    assert np.abs(np.average(fits, axis=0, weights=weights) - pooled).max() > 0.01


def test_one_model_alone_is_itself_to_fisher() -> None:
    """Whatever its evidence says, it has nobody to be weighed against."""
    base, tunes = square(1)
    inputs = task("fisher", "F32", tunes, base)
    assert resolve("fisher", inputs) == data_of(inputs.contributions[0])


def test_fisher_without_evidence_is_linear() -> None:
    """Bit for bit, with weights."""
    base, tunes = square(3)
    inputs = replace(task("fisher", "BF16", tunes, base), evidence=())
    inputs = replace(inputs, weights=(UNIT, 3 * UNIT, UNIT // 7))
    plain = replace(task("linear", "BF16", tunes, base), weights=inputs.weights)
    assert resolve("fisher", inputs) == resolve("linear", plain)


def test_fisher_of_no_curvature_is_the_mean() -> None:
    """Where all diagonals are zero the floor weighs all alike."""
    base, tunes = square(3)
    inputs = attaching(
        task("fisher", "F64", tunes, base), fisher=[np.zeros((8, 12))] * 3
    )
    assert np.allclose(values(inputs, "fisher"), np.mean(tunes, axis=0), atol=1e-14)


@pytest.mark.parametrize("name", ["fisher", "ubgm"])
def test_who_lacks_evidence_is_named_or_left_out(name: str) -> None:
    """By the parameter `lacking`; nobody's place is taken by another."""
    base, tunes = square(3)
    inputs = task(name, "F32", tunes, base)
    holed = replace(inputs, evidence=(inputs.evidence[0], {}, inputs.evidence[2]))
    with pytest.raises(
        ContractError, match=r"contribution 010101.*no evidence of kind"
    ):
        resolve(name, holed)
    recipe = make_recipe(name, {"lacking": "leave_out"})
    left = replace(holed, values=Values(recipe.parameters), own=())
    assert resolve(name, left) == resolve(name, shuffled(left, (0, 2)))


def test_ubgm_of_equal_curvature_is_task_arithmetic_on_the_mean() -> None:
    """H_0 = 0 and H_k = H: it cancels, but for delta."""
    base, tunes = square(3)
    curved = [made("fisher", base.shape, 0) + 0.1] * 3
    inputs = attaching(
        task("ubgm", "F64", tunes, base, h0="zero", delta="0.000000001"), fisher=curved
    )
    assert np.allclose(values(inputs, "ubgm"), np.mean(tunes, axis=0), atol=1e-7)


def test_ubgm_moves_most_where_its_model_is_curved() -> None:
    """One model's H is large where the other's is zero: the item is the one model's."""
    base, tunes = square(2)
    first = np.zeros((8, 12))
    first[:4] = 2
    inputs = attaching(
        task("ubgm", "F64", tunes, base, h0="zero"), fisher=[first, 2 - first]
    )
    found = values(inputs, "ubgm")
    assert np.allclose(found[:4], tunes[0][:4], atol=1e-6)
    assert np.allclose(found[4:], tunes[1][4:], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("fisher", "fisher"), ("ubgm", "fisher"), ("ubgm", "fisher_base")],
)
def test_scaling_evidence_wins_nothing(name: str, kind: str) -> None:
    """A million times larger before it is normalised, the same after: so is the model."""
    base, tunes = square(3)
    inputs = task(name, "F32", tunes, base)
    before = resolve(name, inputs)
    array = inputs.evidence[1][kind]
    for factor in (1e6, 1e-6):
        scaled = array * factor
        scaled = scaled / scaled.mean()
        told = (inputs.evidence[0], {**inputs.evidence[1], kind: scaled})
        cheating = replace(inputs, evidence=(*told, inputs.evidence[2]))
        after = numerics.upcast(resolve(name, cheating), "F32")
        assert np.abs(after - numerics.upcast(before, "F32")).max() < 1e-6


def whole(
    name: str, *scalars: Scalars, weights: tuple[int, ...] = (), **p: str
) -> Whole:
    """What a reduce step sees of contributions that declare these numbers."""
    count = len(scalars)
    found = Values(make_recipe(name, p).parameters)
    contents = tuple(ContentId(bytes([i]) * 32) for i in range(count))
    return Whole(contents, weights or (UNIT,) * count, found, (found,) * count, scalars)


def shares(name: str, seen: Whole) -> list[float]:
    """The coefficients over their sum."""
    reduce = find(name).reduce
    assert reduce is not None
    found = reduce([], seen)
    return [c / sum(found) for c in found]


def test_mwa_of_power_zero_is_linear() -> None:
    """Bit for bit: nothing is rounded on the way."""
    base, tunes = square(3)
    weights = (UNIT, 123_456_789, 3)
    inputs = replace(task("mwa", "BF16", tunes, base, p="0"), weights=weights)
    plain = replace(task("linear", "BF16", tunes, base), weights=weights)
    assert resolve("mwa", inputs) == resolve("linear", plain)


def test_mwa_weighs_by_one_over_the_loss() -> None:
    """Half the loss is twice the say, and four times with p = 2."""
    losses = ({"loss": 1.0}, {"loss": 0.5}, {"loss": 0.25})
    assert shares("mwa", whole("mwa", *losses)) == [1 / 7, 2 / 7, 4 / 7]
    assert shares("mwa", whole("mwa", *losses, p="2")) == [1 / 21, 4 / 21, 16 / 21]
    steps = ({"step": 10.0}, {"step": 30.0})
    assert shares("mwa", whole("mwa", *steps, by="step")) == [1 / 4, 3 / 4]


def test_a_loss_next_to_nothing_counts_as_most_times_the_median() -> None:
    """Of three models one lies: it weighs ten times another, not all."""
    losses = ({"loss": 1.0}, {"loss": 1e-300}, {"loss": 1.0})
    assert shares("mwa", whole("mwa", *losses)) == [1 / 12, 10 / 12, 1 / 12]
    steps = ({"step": 1.0}, {"step": 1e300}, {"step": 1.0})
    assert shares("mwa", whole("mwa", *steps, by="step")) == [1 / 12, 10 / 12, 1 / 12]
    two = ({"loss": 1.0}, {"loss": 1e-300})
    assert shares("mwa", whole("mwa", *two, most="1")) == [1 / 2, 1 / 2]


@pytest.mark.parametrize(
    ("name", "loss"), [("mwa", 0.0), ("mwa", -1.0), ("lm_cocktail", -1e300)]
)
def test_a_loss_that_means_nothing_is_refused(name: str, loss: float) -> None:
    """And named: of zero there is no share, and below it no softmax could be trusted."""
    seen = whole(name, {"loss": 1.0}, {"loss": loss})
    with pytest.raises(ContractError, match=r"contribution 010101.*its loss is"):
        shares(name, seen)


def test_a_huge_loss_only_loses() -> None:
    """10**300 weighs nothing, and breaks nothing."""
    seen = whole("lm_cocktail", {"loss": 1.0}, {"loss": 1e300}, temperature="0.001")
    assert shares("lm_cocktail", seen) == [1, 0]
    three = ({"loss": 1.0}, {"loss": 1e300}, {"loss": 1.0})
    assert shares("mwa", whole("mwa", *three)) == [0.5, 0, 0.5]


@pytest.mark.parametrize("name", ["mwa", "lm_cocktail"])
def test_who_has_no_number_is_named_or_left_out(name: str) -> None:
    """Who weighs nothing needs none."""
    numbers = ({"loss": 1.0}, {"step": 1.0}, {"loss": 1.0})
    with pytest.raises(ContractError, match=r"contribution 010101.*needs its loss"):
        shares(name, whole(name, *numbers))
    assert shares(name, whole(name, *numbers, lacking="leave_out")) == [0.5, 0, 0.5]
    assert shares(name, whole(name, *numbers, weights=(UNIT, 0, UNIT))) == [0.5, 0, 0.5]
    with pytest.raises(ContractError, match="needs its loss"):
        shares(name, whole(name, {}, {}, lacking="leave_out"))


def test_a_score_needs_its_category() -> None:
    """By the parameter `metric`."""
    scores = ({"score:a": 0.25}, {"score:a": 0.75})
    assert shares("mwa", whole("mwa", *scores, by="score", metric="a")) == [0.25, 0.75]
    with pytest.raises(ContractError, match="metric is empty"):
        shares("mwa", whole("mwa", *scores, by="score"))


def evaluated(seen: Whole, *said: tuple[int, str, float]) -> Whole:
    """What members say: (place of a contribution, data, loss), each another author."""
    scores = tuple(
        Score(
            seen.contents[place],
            "loss",
            data,
            round(value * UNIT),
            bytes([author]) * 32,
        )
        for author, (place, data, value) in enumerate(said)
    )
    return replace(seen, scores=scores)


def test_of_several_evaluations_the_median_counts() -> None:
    """One liar of three moves nothing; other data count only where they are asked for."""
    seen = whole("mwa", {}, {}, source="evaluations", metric="loss", data="x")
    said = [(0, "x", 1.0), (0, "x", 1.0), (0, "x", 1e-9), (1, "x", 0.5), (1, "y", 9.0)]
    assert shares("mwa", evaluated(seen, *said)) == [1 / 3, 2 / 3]
    with pytest.raises(ContractError, match="no evaluation tells"):
        shares("mwa", evaluated(seen, (0, "x", 1.0), (1, "y", 1.0)))


def test_an_author_of_many_evaluations_has_one_voice() -> None:
    """Its median over data sets, beside those of the others."""
    seen = whole("mwa", {}, {}, source="evaluations")
    scores = evaluated(seen, (0, "x", 1.0), (0, "x", 1.0), (1, "x", 1.0)).scores
    loud = [Score(seen.contents[0], "loss", f"d{i}", 1, b"l" * 32) for i in range(9)]
    assert shares("mwa", replace(seen, scores=(*scores, *loud))) == [0.5, 0.5]


def test_lm_cocktail_of_great_heat_is_the_mean() -> None:
    """With the base's share, in the end alike."""
    base, tunes = square(3)
    inputs = task(
        "lm_cocktail", "F64", tunes, base, temperature="1000000", alpha="0.25"
    )
    expected = 0.25 * base + 0.75 * np.mean(tunes, axis=0)
    assert np.allclose(values(inputs, "lm_cocktail"), expected, atol=1e-6)


def test_lm_cocktail_of_the_base_alone_is_the_base() -> None:
    """Bit for bit, with alpha = 1."""
    base, tunes = square(2)
    inputs = task("lm_cocktail", "F32", tunes, base, alpha="1")
    assert resolve("lm_cocktail", inputs) == inputs.base


@pytest.mark.parametrize("name", ["mwa", "lm_cocktail"])
def test_coefficients_come_first(name: str) -> None:
    """No tensor is merged before its reduce step."""
    base, tunes = square(2)
    with pytest.raises(ContractError, match="only after its reduce step"):
        whole_of(find(name).emit(task(name, "F32", tunes, base)))
