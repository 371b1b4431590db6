"""ota_ffg, led_merge, soce and the step aim: what evidence lets count."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.digest import ContentId
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import STRATEGIES, Evidence, Score, Values, Whole, whole_of
from crdtmerge.strategies.pipeline import emit
from tests.strategies import UNIT, task


def merged(
    name: str,
    taus: Sequence[Sequence[float] | Sequence[Sequence[float]]],
    evidence: Sequence[Evidence] = (),
    post: tuple[str, ...] = (),
    **settings: str,
) -> list[float]:
    """What is added to a base of zeros, of one row or several."""
    arrays = [np.array(tau, np.float64) for tau in taus]
    own = {k: v for k, v in settings.items() if "." not in k}
    inputs = task(name, "F64", arrays, np.zeros(arrays[0].shape), **own)
    steps = tuple((k, v) for k, v in settings.items() if "." in k)
    values = Values(tuple(sorted((*inputs.values.parameters, *steps))))
    inputs = replace(
        inputs,
        output_dtype="F64",
        exponent=8,
        evidence=tuple(evidence),
        values=values,
        weights=(UNIT,) * len(arrays),
    )
    made = whole_of(emit(STRATEGIES[f"{name}/1"], (), post, inputs))
    found: list[float] = numerics.upcast(made, "F64").tolist()
    return found


def array(*items: float) -> Floats:
    return np.array(items, np.float64)


# --- ota_ffg -----------------------------------------------------------------------------


def test_what_matters_is_grafted_and_weighed_by_moments() -> None:
    """By hand: two of four items stay by tau^2 v; the mean is by the root of v."""
    first = [4.0, 3.0, 2.0, 1.0], {"adam": array(0.01, 1.0, 2.0, 0.99)}
    second = [1.0, 1.0, 1.0, 1.0], {"adam": array(1.0, 1.0, 1.0, 1.0)}
    pair = [first[0], second[0]], [first[1], second[1]]
    found = merged("ota_ffg", *pair, density="0.5", p="1", epsilon="0.000000001")
    # of the first 3 and 2 stay (9 and 8 against 0.16 and 0.99); of the second all, tied
    expected = [
        (0.01 * 0 + 1.0) / 1.01,
        (3.0 + 1.0) / 2.0,
        (2.0 * 2.0 + 1.0) / 3.0,
        (0.99 * 0 + 1.0) / 1.99,
    ]
    assert np.allclose(found, expected, rtol=1e-7)


def test_nobody_gains_by_larger_moments_once_they_are_normalised() -> None:
    """P is divided by its mean: twice the moments are the same weight."""
    taus = [[1.0, 2.0], [3.0, -1.0]]
    plain = [{"adam": array(0.5, 1.5)}, {"adam": array(1.5, 0.5)}]
    loud = [{"adam": array(0.5, 1.5)}, {"adam": 10**6 * array(1.5, 0.5)}]
    assert np.allclose(
        merged("ota_ffg", taus, plain), merged("ota_ffg", taus, loud), rtol=1e-5
    )


# --- led_merge ---------------------------------------------------------------------------


def test_items_count_that_one_alone_elects_in_model_and_base() -> None:
    """Located in both, elected by no other: one item of the first, one of the second."""
    taus = [[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]]
    evidence = [
        {"snip": array(9, 8, 1, 1), "snip_base": array(9, 8, 1, 1)},
        {"snip": array(1, 9, 8, 1), "snip_base": array(1, 9, 1, 8)},
    ]
    assert merged("led_merge", taus, evidence, density="0.5") == [1, 0, 0, 0]
    either = merged("led_merge", taus, evidence, density="0.5", elect="either")
    assert either == [1, 0, 30, 40]


def test_alike_scores_locate_no_more_than_their_share() -> None:
    """Whoever makes all items alike locates the first ones, not all."""
    taus = [[1.0] * 4, [10.0] * 4]
    flat = {"snip": array(1, 1, 1, 1), "snip_base": array(1, 1, 1, 1)}
    last = {"snip": array(0, 0, 2, 2), "snip_base": array(0, 0, 2, 2)}
    assert merged("led_merge", taus, [flat, last], density="0.5") == [1, 1, 10, 10]


def test_importance_of_the_model_alone_is_refused() -> None:
    """Or its contribution is left out, if that is asked for."""
    both = {"snip": array(2, 1), "snip_base": array(2, 1)}
    alone = {"snip": array(1, 2)}
    taus = [[1.0, 1.0], [5.0, 5.0]]
    with pytest.raises(ContractError, match="snip_base"):
        merged("led_merge", taus, [both, alone])
    found = merged("led_merge", taus, [both, alone], lacking="leave_out", density="0.5")
    assert found == [1, 0]


# --- soce --------------------------------------------------------------------------------


def shares(
    scalars: Sequence[dict[str, float]], weights: Sequence[int] = (), **settings: str
) -> list[float]:
    """What each contribution weighs, as shares."""
    strategy = STRATEGIES["soce/1"]
    values = Values(
        tuple(sorted({**dict(strategy.defaults.parameters), **settings}.items()))
    )
    count = len(scalars)
    whole = Whole(
        contents=tuple(ContentId(bytes([i + 1]) * 32) for i in range(count)),
        weights=tuple(weights) or (UNIT,) * count,
        values=values,
        own=(values,) * count,
        scalars=tuple(scalars),
    )
    assert strategy.reduce is not None
    found = strategy.reduce((), whole)
    return [number / sum(found) for number in found]


A, B, C = "score:a", "score:b", "score:c"


def test_experts_of_categories_that_tell_models_apart_share() -> None:
    """A and b go together, c does not: its expert alone counts at a low threshold."""
    models = [
        {A: 1.0, B: 1.0, C: 0.1},
        {A: 2.0, B: 2.1, C: 0.9},
        {A: 3.0, B: 3.0, C: 0.2},
    ]
    assert shares(models, threshold="0.2") == [0, 1, 0]
    assert shares(models, threshold="2") == [
        0,
        pytest.approx(1 / 3),
        pytest.approx(2 / 3),
    ]
    # where no category tells models apart, all count
    assert shares(models, threshold="-2") == shares(models, threshold="2")


def test_equal_scores_share_a_category_and_weights_multiply() -> None:
    """Two are best at one thing: half each, times their weights."""
    models = [{A: 1.0}, {A: 1.0}, {A: 0.5}]
    assert shares(models) == [0.5, 0.5, 0]
    assert shares(models, (3 * UNIT, UNIT, UNIT)) == [0.75, 0.25, 0]


def test_a_category_of_ones_own_wins_nothing() -> None:
    """What nobody else has a score of is no category."""
    models = [{A: 1.0}, {A: 0.5, "score:mine": 9.0}]
    assert shares(models) == [1, 0]


def test_who_tells_no_score_is_refused_or_left_out() -> None:
    """As all that reads numbers does."""
    with pytest.raises(ContractError, match="soce needs its scores"):
        shares([{A: 1.0}, {A: 0.5}, {"loss": 1.0}])
    left = shares([{A: 1.0}, {A: 0.5}, {"loss": 1.0}], lacking="leave_out")
    assert left == [1, 0, 0]


def test_of_evaluations_every_metric_is_a_category() -> None:
    """By the median over who evaluated."""
    strategy = STRATEGIES["soce/1"]
    contents = tuple(ContentId(bytes([i + 1]) * 32) for i in range(2))
    parameters = {**dict(strategy.defaults.parameters), "source": "evaluations"}
    values = Values(tuple(sorted(parameters.items())))
    told = [
        (0, "x", 3, 1),
        (0, "x", 3, 2),
        (0, "x", 900, 3),
        (1, "x", 5, 1),
        (1, "y", 1, 1),
    ]
    told += [(0, "y", 2, 1)]
    scores = tuple(
        Score(contents[place], metric, "d", value * UNIT, bytes([author]) * 32)
        for place, metric, value, author in told
    )
    whole = Whole(contents, (UNIT, UNIT), values, (values,) * 2, (), scores)
    assert strategy.reduce is not None
    first, second = strategy.reduce((), whole)
    assert first == second  # y is the first's, x the second's: 5 against a median of 3


# --- aim ---------------------------------------------------------------------------------


def test_aim_shrinks_busy_channels_of_the_base() -> None:
    """Where inputs are largest omega is left, where there are none all; rows alike."""
    tau = [[1.0, 1.0], [2.0, 2.0]]
    evidence = [{"magnitude": array(1.0, 0.0)}]
    found = merged("linear", [tau], evidence, ("aim/1",), **{"aim.omega": "0.4"})
    assert np.allclose(found, [0.4, 1, 0.8, 2], rtol=1e-6)
    half = [{"magnitude": array(1.0, 0.0)}, {"magnitude": array(0.5, 1.0)}]
    both = merged("linear", [tau, tau], half, ("aim/1",), **{"aim.omega": "0"})
    assert np.allclose(both, [0, 1 - 1 / 1.5, 0, 2 - 2 / 1.5], atol=1e-6)


def test_aim_leaves_alone_what_nobody_measured() -> None:
    """Embeddings and vectors have no inputs."""
    assert merged("linear", [[1.0, 2.0]], (), ("aim/1",), **{"aim.omega": "0"}) == [
        1,
        2,
    ]
