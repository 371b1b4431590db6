"""lot: task vectors that let features drift least, of linear layers and of norms."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Evidence, Inputs
from tests.strategies import UNIT, resolve, sample, shuffled, task

LEAST = {"ridge": "0.000000001"}


def values(inputs: Inputs) -> Floats:
    """What lot makes of a task, in float64."""
    found = resolve("lot", replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def attaching(inputs: Inputs, **kinds: list[Floats]) -> Inputs:
    """The task with these arrays, one of each kind a contribution."""
    count = len(inputs.contributions)
    evidence = tuple({k: kinds[k][i] for k in kinds} for i in range(count))
    return replace(inputs, evidence=evidence)


def layer(taus: list[Floats], grams: list[Floats], **parameters: str) -> Inputs:
    """A linear layer on a base of ones, with Gram matrices at unit trace."""
    base = np.ones(taus[0].shape)
    inputs = task("lot", "F64", [base + tau for tau in taus], base, **parameters)
    return attaching(inputs, gram=[gram / np.trace(gram) for gram in grams])


def norm(taus: list[Floats], energies: list[Floats], **parameters: str) -> Inputs:
    """A norm's scale on a base of ones, with energies at a mean of 1."""
    base = np.ones(taus[0].shape)
    inputs = task("lot", "F64", [base + tau for tau in taus], base, **parameters)
    return attaching(inputs, energy=[each / each.mean() for each in energies])


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


def drift(change: Floats, taus: list[Floats], grams: list[Floats]) -> float:
    """How far outputs are from those of each expert, on its own inputs."""
    away = [change - tau for tau in taus]
    return float(
        sum(
            np.trace(a @ g @ a.T) / np.trace(g)
            for a, g in zip(away, grams, strict=True)
        )
    )


def test_no_change_lets_features_drift_less() -> None:
    """Any step away from the merge makes the published loss larger."""
    rng = np.random.default_rng(3)
    taus = drawn(3, 5, 8)
    grams = [symmetric(rng.standard_normal((20, 8))) for _ in range(3)]
    found = values(layer(taus, grams, **LEAST)) - 1
    least = drift(found, taus, grams)
    for _ in range(20):
        step = rng.standard_normal((5, 8)) / 100
        assert drift(found + step, taus, grams) > least


def test_it_is_least_squares_on_the_inputs_of_all() -> None:
    """Outputs of all experts on their own inputs, fitted by LAPACK in one system."""
    rng = np.random.default_rng(4)
    taus = drawn(3, 5, 8)
    inputs = [rng.standard_normal((n, 8)) for n in (10, 20, 30)]
    scaled = [x / np.sqrt((x * x).sum()) for x in inputs]
    features = [x @ tau.T for x, tau in zip(scaled, taus, strict=True)]
    pooled = np.concatenate(scaled), np.concatenate(features)
    expected = np.linalg.lstsq(*pooled, rcond=None)[0].T
    found = values(layer(taus, [symmetric(x) for x in inputs], **LEAST)) - 1
    assert np.abs(found - expected).max() < 1e-7


def test_the_ridge_is_a_pseudo_inverse_where_data_tell_nothing() -> None:
    """Inputs in few directions: elsewhere the base stays, as Moore and Penrose have it."""
    rng = np.random.default_rng(5)
    taus = drawn(2, 6, 9)
    grams = [symmetric(rng.standard_normal((2, 9))) for _ in range(2)]
    scaled = [gram / np.trace(gram) for gram in grams]
    sides = sum(tau @ g for tau, g in zip(taus, scaled, strict=True))
    expected = sides @ np.linalg.pinv(sum(scaled), rcond=1e-9)
    found = values(layer(taus, grams, ridge="0.00000001")) - 1
    assert np.abs(found - expected).max() < 1e-5


def test_experts_of_inputs_that_do_not_meet_are_all_kept() -> None:
    """On their own inputs nothing drifts, and columns that nobody uses are the base's."""
    first, second = drawn(2, 4, 6)
    ends = [np.diag([1.0, 1, 0, 0, 0, 0]), np.diag([0.0, 0, 0, 0, 1, 1])]
    found = values(layer([first, second], ends, **LEAST)) - 1
    assert np.abs(found[:, :2] - first[:, :2]).max() < 1e-7
    assert np.abs(found[:, 4:] - second[:, 4:]).max() < 1e-7
    assert not found[:, 2:4].any()


def test_who_changes_nothing_holds_on_to_the_base() -> None:
    """Its inputs count: half way, where two have the same."""
    (tau,) = drawn(1, 4, 6)
    found = values(layer([tau, np.zeros((4, 6))], [np.eye(6)] * 2, **LEAST)) - 1
    assert np.allclose(found, tau / 2, atol=1e-7)


def test_norms_are_averaged_by_energy() -> None:
    """Feature by feature; one that carries nothing stays as it was in the base."""
    first, second = drawn(2, 4)
    energies = [np.array([3.0, 1, 0, 0]), np.array([1.0, 1, 2, 0])]
    found = values(norm([first, second], energies, **LEAST)) - 1
    halves = (first + second) / 2
    expected = [0.75 * first[0] + 0.25 * second[0], halves[1], second[2], 0]
    assert np.allclose(found, expected, atol=1e-7)
    assert found[3] == 0


def test_weights_multiply_evidence() -> None:
    """Three of one author are one of three times the weight."""
    rng = np.random.default_rng(6)
    first, second = drawn(2, 4, 6)
    one, other = (symmetric(rng.standard_normal((9, 6))) for _ in range(2))
    thrice = layer([first, second, second, second], [one, other, other, other])
    weighed = replace(layer([first, second], [one, other]), weights=(UNIT, 3 * UNIT))
    assert np.allclose(values(thrice), values(weighed), rtol=1e-12)


@pytest.mark.parametrize("shape", [(12,), (3, 4)])
def test_without_evidence_the_mean_change_is_added(shape: tuple[int, ...]) -> None:
    """Biases, embeddings, and layers that nobody measured."""
    base, tunes = sample(12, 3)
    inputs = task("lot", "F64", [t.reshape(shape) for t in tunes], base.reshape(shape))
    inputs = replace(inputs, evidence=(), weights=(UNIT, 2 * UNIT, UNIT))
    expected = np.average(tunes, axis=0, weights=[1, 2, 1]).reshape(shape)
    assert np.allclose(values(inputs), expected, atol=1e-7)


def test_a_layer_reads_no_energy_and_a_norm_no_gram() -> None:
    """Each what it is about, whatever else is attached beside."""
    taus, grams = drawn(2, 4, 6), [np.eye(6), np.diag(np.arange(6.0))]
    plain = layer(taus, grams)
    both = attaching(
        plain, gram=[e["gram"] for e in plain.evidence], energy=drawn(2, 4, 6)
    )
    assert np.array_equal(values(both), values(plain))
    odd = attaching(plain, energy=[np.ones((4, 6))] * 2)
    assert np.array_equal(values(odd), values(replace(plain, evidence=())))


@pytest.mark.parametrize("rank", [1, 6])
def test_equal_models_are_themselves_on_what_they_saw(rank: int) -> None:
    """Outputs on the inputs of any of them are unchanged, but for the ridge."""
    (tau,) = drawn(1, 4, 6)
    inputs = np.random.default_rng(8).standard_normal((2, rank, 6))
    found = values(layer([tau] * 2, [symmetric(x) for x in inputs], **LEAST)) - 1
    for x in inputs:
        assert np.abs(x @ found.T - x @ tau.T).max() < 1e-6
    (scale,) = drawn(1, 9)
    kept = values(norm([scale] * 3, [a + 9.0 for a in drawn(3, 9)], **LEAST)) - 1
    assert np.allclose(kept, scale, atol=1e-8)


def test_evidence_of_nothing_at_all_leaves_the_base() -> None:
    """Zeros divide nothing."""
    taus = drawn(2, 4, 6)
    none = attaching(layer(taus, [np.eye(6)] * 2), gram=[np.zeros((6, 6))] * 2)
    assert np.array_equal(values(none), np.ones((4, 6)))
    scales = drawn(2, 5)
    nothing = attaching(norm(scales, [np.ones(5)] * 2), energy=[np.zeros(5)] * 2)
    assert np.array_equal(values(nothing), np.ones(5))


def test_scaling_a_gram_wins_nothing() -> None:
    """A million times larger before it is normalised, the same after: so is the model."""
    taus, rng = drawn(3, 5, 8), np.random.default_rng(9)
    grams = [symmetric(rng.standard_normal((20, 8))) for _ in range(3)]
    before = values(layer(taus, grams))
    after = values(layer(taus, [grams[0] * 1e6, *grams[1:]]))
    assert np.abs(after - before).max() < 1e-9


def test_kernels_of_convolutions_are_matrices() -> None:
    """(out, in, k, k) with the Gram matrix of patches."""
    taus, rng = drawn(3, 5, 8), np.random.default_rng(9)
    grams = [symmetric(rng.standard_normal((20, 8))) for _ in range(3)]
    deep = [tau.reshape(5, 2, 2, 2) for tau in taus]
    flat = values(layer(taus, grams))
    assert np.array_equal(values(layer(deep, grams)).reshape(5, 8), flat)


def test_more_models_than_columns() -> None:
    """Nine of 3 x 2, in any order of the list."""
    rng = np.random.default_rng(5)
    grams = [symmetric(rng.standard_normal((1, 2))) for _ in range(9)]
    inputs = layer(drawn(9, 3, 2), grams)
    turned = shuffled(inputs, (8, *range(8)))
    assert resolve("lot", turned) == resolve("lot", inputs)
    assert np.isfinite(values(inputs)).all()


@pytest.mark.parametrize("kind", ["gram", "energy"])
def test_who_lacks_evidence_is_named_or_left_out(kind: str) -> None:
    """By the parameter `lacking`."""
    shape = (4, 6) if kind == "gram" else (6,)
    base, taus = np.ones(shape), drawn(3, *shape)
    tunes = [base + tau for tau in taus]
    inputs = task("lot", "F64", tunes, base)
    evidence: tuple[Evidence, ...] = (inputs.evidence[0], {}, inputs.evidence[2])
    with pytest.raises(
        ContractError, match=rf"contribution 010101.*no evidence of kind '{kind}'"
    ):
        values(replace(inputs, evidence=evidence))
    left = replace(
        task("lot", "F64", tunes, base, lacking="leave_out"), evidence=evidence
    )
    assert np.array_equal(values(left), values(shuffled(left, (0, 2))))


def test_weights_below_zero_are_refused_and_of_zero_leave_the_base() -> None:
    """A system would have no lowest point."""
    inputs = layer(drawn(2, 4, 6), [np.eye(6)] * 2)
    with pytest.raises(ContractError, match="negative weight has no meaning"):
        values(replace(inputs, weights=(UNIT, -UNIT)))
    assert np.array_equal(values(replace(inputs, weights=(0, 0))), np.ones((4, 6)))
