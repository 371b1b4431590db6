"""bmm: a regression on the inputs of all models, begun from a merge that is believed."""

from dataclasses import fields, replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import STRATEGIES, Evidence, Inputs
from crdtmerge.strategies.evidential.bmm import ANCHORS, BMM
from tests.strategies import UNIT, resolve, shuffled, task

LEAST = {"lambda": "0.000001"}
FIRM = {"lambda": "1000"}


def values(inputs: Inputs, name: str = "bmm") -> Floats:
    """What a strategy makes of a task, in float64."""
    found = resolve(name, replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def exactly(array: Floats) -> Floats:
    """Values that a difference to one, and single precision, keep."""
    return np.round(array * 256) / 256


def drawn(count: int, *shape: int) -> list[Floats]:
    return [
        exactly(a) for a in np.random.default_rng(1).standard_normal((count, *shape))
    ]


def symmetric(inputs: Floats) -> Floats:
    """X'X, equal to its transpose in every bit."""
    gram = inputs.T @ inputs
    found: Floats = (gram + gram.T) / 2
    return found


def grams(count: int, columns: int, samples: int = 20) -> list[Floats]:
    rng = np.random.default_rng(3)
    return [symmetric(rng.standard_normal((samples, columns))) for _ in range(count)]


def layer(taus: list[Floats], seen: list[Floats], **parameters: str) -> Inputs:
    """A linear layer on a base of ones, with Gram matrices at unit trace."""
    base = np.ones(taus[0].shape)
    inputs = task("bmm", "F64", [base + tau for tau in taus], base, **parameters)
    return replace(inputs, evidence=tuple({"gram": g / np.trace(g)} for g in seen))


def free(taus: list[Floats], **parameters: str) -> Inputs:
    """The same without data."""
    return replace(layer(taus, [], gram="task", **parameters), evidence=())


@pytest.mark.parametrize("anchor", sorted(ANCHORS))
def test_it_has_the_least_loss_and_distance_to_what_is_believed(anchor: str) -> None:
    """The negative logarithm of the posterior: any step makes it larger."""
    taus, seen = drawn(3, 5, 8), grams(3, 8)
    inputs = layer(taus, seen, anchor=anchor)
    found = values(inputs) - 1
    start = values(replace(inputs, evidence=())) - 1
    ridge = 0.1 / 8

    def loss(change: Floats) -> float:
        away = [change - tau for tau in taus]
        scaled = [g / np.trace(g) for g in seen]
        told = sum(np.trace(a @ g @ a.T) for a, g in zip(away, scaled, strict=True))
        return float(told + ridge * ((change - start) ** 2).sum())

    rng = np.random.default_rng(9)
    least = loss(found)
    for _ in range(20):
        assert loss(found + rng.standard_normal((5, 8)) / 1000) > least


@pytest.mark.parametrize("anchor", sorted(ANCHORS))
def test_a_firm_belief_stays_and_a_loose_one_is_regmean(anchor: str) -> None:
    """From one end of lambda to the other."""
    taus, seen = drawn(3, 5, 8), grams(3, 8)
    firm = values(layer(taus, seen, anchor=anchor, **FIRM))
    believed = values(replace(layer(taus, seen, anchor=anchor), evidence=()))
    assert np.abs(firm - believed).max() < 0.01
    loose = layer(taus, seen, anchor=anchor, **LEAST)
    regressed = task(
        "regmean", "F64", [1 + t for t in taus], np.ones((5, 8)), alpha="1"
    )
    regressed = replace(regressed, evidence=loose.evidence)
    assert np.abs(values(loose) - values(regressed, "regmean")).max() < 1e-4
    assert np.abs(firm - values(loose)).max() > 0.1


@pytest.mark.parametrize("anchor", sorted(ANCHORS))
@pytest.mark.parametrize("shape", [(4, 6), (9,)])
def test_without_data_the_belief_is_all_there_is(
    anchor: str, shape: tuple[int, ...]
) -> None:
    """Vectors, and layers that nobody measured: what the anchor makes of them."""
    inputs = layer(drawn(3, *shape), [], anchor=anchor)
    inputs = replace(inputs, evidence=(), weights=(UNIT, 2 * UNIT, UNIT // 2))
    own = replace(inputs, values=ANCHORS[anchor].defaults, own=())
    expected = values(own, ANCHORS[anchor].full_name)
    assert np.array_equal(values(inputs), expected)


def test_data_of_some_inputs_leave_the_others_to_the_belief() -> None:
    """Columns of whose inputs nobody tells are the anchor's, bit for bit."""
    taus = drawn(2, 4, 6)
    seen = [np.diag([3.0, 1, 0, 0, 0, 0]), np.diag([1.0, 1, 0, 0, 0, 0])]
    found = values(layer(taus, seen, anchor="task_arithmetic", **LEAST)) - 1
    assert np.array_equal(found[:, 2:], (taus[0] + taus[1])[:, 2:])
    expected = (0.75 * taus[0] + 0.5 * taus[1])[:, 0] / 1.25
    assert np.allclose(found[:, 0], expected, atol=1e-5)


def test_scale_shortens_what_the_anchor_adds() -> None:
    """Half of each change is their mean, where there are two."""
    taus, seen = drawn(2, 4, 6), grams(2, 6)
    half = values(layer(taus, seen, anchor="task_arithmetic", scale="0.5"))
    assert np.allclose(half, values(layer(taus, seen, anchor="mean")), rtol=1e-14)
    nothing = layer(taus, seen, scale="0", **FIRM)
    assert np.abs(values(nothing) - 1).max() < 0.01


def test_task_vectors_of_orthogonal_inputs_are_all_kept() -> None:
    """Without data: rows of two changes that do not meet, each whole in the merge."""
    first, second = (
        tau @ np.diag(d) for tau, d in zip(drawn(2, 4, 6), HALVES, strict=True)
    )
    found = values(free([first, second], scale="0", **LEAST)) - 1
    assert np.allclose(found, first + second, atol=1e-3)


HALVES = (np.repeat([1.0, 0.0], 3), np.repeat([0.0, 1.0], 3))


def test_without_data_it_is_the_regression_on_task_vectors() -> None:
    """By LAPACK: rows of the task vectors over their lengths stand for the inputs."""
    taus = drawn(3, 7, 5)
    rows = [tau / np.sqrt((tau * tau).sum()) for tau in taus]
    features = [x @ tau.T for x, tau in zip(rows, taus, strict=True)]
    pooled = np.concatenate(rows), np.concatenate(features)
    expected = np.linalg.lstsq(*pooled, rcond=None)[0].T
    assert np.abs(values(free(taus, **LEAST)) - 1 - expected).max() < 1e-4


def test_who_changes_nothing_has_no_inputs_without_data() -> None:
    """As if it were not there but for the anchor; with evidence it holds on to the base."""
    (tau,) = drawn(1, 4, 6)
    idle = np.zeros((4, 6))
    assert np.array_equal(values(free([tau, idle])), values(free([tau])))
    held = values(layer([tau, idle], [np.eye(6)] * 2, **LEAST)) - 1
    assert np.allclose(held, tau / 2, atol=1e-5)
    nobody = free([idle, idle])
    assert np.array_equal(values(nobody), np.ones((4, 6)))


@pytest.mark.parametrize("rank", [1, 6])
def test_equal_models_are_themselves_around_themselves(rank: int) -> None:
    """Where the anchor is what all of them are."""
    (tau,) = drawn(1, 4, 6)
    seen = grams(3, 6, rank)
    for inputs in (
        layer([tau] * 3, seen, anchor="mean"),
        free([tau] * 3, anchor="mean"),
        layer([tau], seen[:1], anchor="task_arithmetic"),
    ):
        assert np.allclose(values(inputs) - 1, tau, atol=1e-14)


def test_weights_multiply_evidence() -> None:
    """Three of one author are one of three times the weight: four, to lambda, not two."""
    first, second = drawn(2, 4, 6)
    one, other = grams(2, 6)
    thrice = layer(
        [first, second, second, second],
        [one, other, other, other],
        anchor="mean",
        **{"lambda": "0.2"},
    )
    weighed = layer([first, second], [one, other], anchor="mean")
    weighed = replace(weighed, weights=(UNIT, 3 * UNIT))
    assert np.allclose(values(thrice), values(weighed), rtol=1e-12)


def test_scaling_a_gram_wins_nothing() -> None:
    """A million times larger before it is normalised, the same after: so is the model."""
    taus, seen = drawn(3, 5, 8), grams(3, 8)
    before = values(layer(taus, seen))
    after = values(layer(taus, [seen[0] * 1e6, *seen[1:]]))
    assert np.abs(after - before).max() < 1e-9


@pytest.mark.parametrize("gram", ["evidence", "task"])
def test_more_models_than_columns(gram: str) -> None:
    """Nine of 3 x 2, in any order of the list; kernels of convolutions alike."""
    taus = drawn(9, 3, 2)
    inputs = layer(taus, grams(9, 2, 1), gram=gram)
    turned = shuffled(inputs, (8, *range(8)))
    assert resolve("bmm", turned) == resolve("bmm", inputs)
    assert np.isfinite(values(inputs)).all()
    deep = layer([t.reshape(3, 1, 2, 1) for t in taus], grams(9, 2, 1), gram=gram)
    assert np.array_equal(values(deep).reshape(3, 2), values(inputs))


def test_who_lacks_a_gram_is_named_or_left_out_of_the_regression() -> None:
    """By the parameter `lacking`; the anchor is of all."""
    taus, seen = drawn(3, 4, 6), grams(3, 6)
    inputs = layer(taus, seen)
    holed: tuple[Evidence, ...] = (inputs.evidence[0], {}, inputs.evidence[2])
    with pytest.raises(
        ContractError, match=r"contribution 010101.*no evidence of kind 'gram'"
    ):
        values(replace(inputs, evidence=holed))
    loose = layer(taus, seen, lacking="leave_out", **LEAST)
    left = replace(loose, evidence=holed)
    two = layer([taus[0], taus[2]], [seen[0], seen[2]], **LEAST)
    assert np.abs(values(left) - values(two)).max() < 1e-4


def test_no_anchor_takes_more_memory_than_is_declared() -> None:
    """It is made first, while nothing else is held."""
    for strategy in ANCHORS.values():
        for field in fields(BMM.memory):
            of_anchor = getattr(strategy.memory, field.name)
            assert getattr(BMM.memory, field.name) >= of_anchor


def test_matrices_that_cannot_be_solved_for_are_named() -> None:
    """No Gram matrix has a square below zero; evidence is checked before it gets here."""
    taus = drawn(2, 2, 2)
    inputs = replace(layer(taus, []), evidence=({"gram": np.diag([2.0, -1])},) * 2)
    with pytest.raises(ContractError, match="tensor 'w': its Gram matrices cannot be"):
        values(inputs)


def test_weights_below_zero_are_refused_and_of_zero_leave_the_base() -> None:
    """A system would have no lowest point."""
    inputs = layer(drawn(2, 4, 6), grams(2, 6))
    with pytest.raises(ContractError, match="negative weight has no meaning"):
        values(replace(inputs, weights=(UNIT, -UNIT)))
    assert np.array_equal(values(replace(inputs, weights=(0, 0))), np.ones((4, 6)))


def test_an_anchor_is_a_strategy_that_reads_nothing_but_tensors() -> None:
    """It is run inside a task, which has neither evidence nor seeds of its own for it."""
    for strategy in ANCHORS.values():
        assert STRATEGIES[strategy.full_name] is strategy
        assert not strategy.evidence(strategy.defaults)
        assert not strategy.draws
        assert not strategy.order_dependent
        assert not strategy.by_layer
        assert strategy.reduce is None
        assert strategy.fewest(strategy.defaults) == 1
