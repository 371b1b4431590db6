"""soce: what becomes of few models, of equal scores, and of numbers that are no scores."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import pytest

from crdtmerge.digest import ContentId
from crdtmerge.errors import ContractError
from crdtmerge.strategies import STRATEGIES, Score, Values, Whole, make_recipe
from tests.strategies import UNIT, resolve, sample, task

Table = Sequence[Mapping[str, float]]
"""The scores of each model by category."""


def shares(table: Table, source: str = "evidence", **settings: str) -> list[float]:
    """What each contribution weighs, as shares."""
    strategy = STRATEGIES["soce/1"]
    recipe = make_recipe("soce", {"source": source, **settings})
    contents = tuple(ContentId(bytes([i + 1]) * 32) for i in range(len(table)))
    values, count = Values(recipe.parameters), len(table)
    whole = Whole(contents, (UNIT,) * count, values, (values,) * count)
    declared = tuple({f"score:{c}": n for c, n in row.items()} for row in table)
    said = tuple(
        Score(content, metric, "d", round(Fraction(number) * UNIT), b"a" * 32)
        for content, row in zip(contents, table, strict=True)
        for metric, number in row.items()
    )
    told = {"scores": said} if source == "evaluations" else {"scalars": declared}
    assert strategy.reduce is not None
    found = strategy.reduce((), replace(whole, **told))
    return [number / sum(found) for number in found]


@pytest.mark.parametrize("metric", ["loss", "samples", "step"])
def test_what_is_no_score_is_no_category_of_evaluations(metric: str) -> None:
    """The largest loss is not the best: whoever has it wins nothing."""
    table = [{"a": 2.0, metric: 1.0}, {"a": 1.0, metric: 9.0}]
    assert shares(table, "evaluations") == [1, 0]
    only = [{metric: 1.0}, {metric: 9.0}]
    with pytest.raises(ContractError, match="soce needs its scores"):
        shares(only, "evaluations")
    with pytest.raises(ContractError, match="soce needs its scores"):
        shares(table, "evaluations", metric=metric)


def test_one_model_alone_is_itself() -> None:
    """Bit for bit; it is the best at all it tells."""
    base, tunes = sample(96, 1)
    assert shares([{"a": 0.25, "b": -1.0}]) == [1]
    inputs = task("soce", "BF16", tunes, base)
    assert resolve("soce", inputs) == inputs.contributions[0]


def test_two_models_share_by_what_they_win() -> None:
    """Each correlation is 1 or -1."""
    table = [{"a": 3.0, "b": 1.0, "c": 2.0}, {"a": 1.0, "b": 3.0, "c": 1.0}]
    # a and c go together, against b: means of 0, -1 and 0
    assert shares(table) == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert shares(table, threshold="-0.5") == [0, 1]


def test_models_that_score_alike_weigh_alike() -> None:
    """Nothing varies, so nothing correlates, and all share what there is."""
    assert shares([{"a": 0.5, "b": 0.25}] * 4) == [0.25] * 4


def test_what_runs_against_the_others_has_its_expert() -> None:
    """A correlation has a sign: c is not like a and b."""
    table = [{"a": float(i), "b": 2.0 * i, "c": -float(i)} for i in range(5)]
    assert shares(table, threshold="-0.5") == [1, 0, 0, 0, 0]
    assert shares(table, threshold="2") == [
        pytest.approx(1 / 3),
        0,
        0,
        0,
        pytest.approx(2 / 3),
    ]


@pytest.mark.parametrize("factor", [1e-300, 1e300])
def test_correlations_are_those_of_scores_of_any_size(factor: float) -> None:
    """Rationals have no range to leave."""
    table = [{"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 3.0}, {"a": 3.0, "b": 2.0}]
    scaled = [{"a": row["a"] * factor, "b": row["b"]} for row in table]
    for threshold in ("0.4", "0.6"):
        found = shares(scaled, threshold=threshold)
        assert found == shares(table, threshold=threshold) == [0, 0.5, 0.5]


def test_a_score_that_is_larger_yet_wins_no_more() -> None:
    """Who wins a category by much weighs as who wins it by little."""
    table = [{"a": 2.0, "b": 1.0}, {"a": 1.0, "b": 2.0}, {"a": 0.0, "b": 0.0}]
    boast = [{"a": 1e9, "b": 1.0}, *table[1:]]
    assert shares(boast, threshold="2") == shares(table, threshold="2") == [0.5, 0.5, 0]


def test_no_order_of_models_matters() -> None:
    """Scores that sums of floats would round."""
    table = [{"a": 0.1 * i, "b": 0.7 / (i + 1), "c": 0.3 * i % 1} for i in range(7)]
    turned = shares(table[::-1])[::-1]
    assert shares(table) == turned
