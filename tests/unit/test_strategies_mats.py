"""mats: models matched where each is sure, by steps of conjugate gradients."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Evidence, Inputs
from crdtmerge.strategies.evidential import mats
from crdtmerge.strategies.evidential.mats import conjugate_gradients
from tests.strategies import UNIT, data_of, resolve, sample, shuffled, task

KINDS = ("fisher", "gram")


def values(inputs: Inputs, name: str = "mats") -> Floats:
    """What a strategy makes of a task, in float64."""
    found = resolve(name, replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def tuned(count: int) -> tuple[Floats, list[Floats]]:
    base, tunes = sample(96, count)
    return base.reshape(8, 12), [tune.reshape(8, 12) for tune in tunes]


def matched(tunes: list[Floats], kind: str, arrays: list[Floats], **p: str) -> Inputs:
    """A task whose contributions attach these, scaled as evidence is."""
    base = np.ones(tunes[0].shape)
    inputs = task("mats", "F64", tunes, base, matrix=kind, **p)
    sizes = [np.trace(a) if kind == "gram" else a.mean() for a in arrays]
    scaled = [a / size for a, size in zip(arrays, sizes, strict=True)]
    return replace(inputs, evidence=tuple({kind: array} for array in scaled))


def symmetric(inputs: Floats) -> Floats:
    """X'X, equal to its transpose in every bit."""
    gram = inputs.T @ inputs
    found: Floats = (gram + gram.T) / 2
    return found


def drawn(kind: str, count: int) -> list[Floats]:
    rng = np.random.default_rng(3)
    if kind == "gram":
        return [symmetric(rng.standard_normal((24, 12))) for _ in range(count)]
    return [rng.uniform(0.25, 2.0, (8, 12)) for _ in range(count)]


def test_enough_steps_are_least_squares_on_the_inputs_of_all() -> None:
    """Authors' fits on their own data become LAPACK's fit on the pooled data."""
    rng = np.random.default_rng(4)
    data = [
        (rng.standard_normal((n, 9)), rng.standard_normal((n, 5))) for n in (20, 50)
    ]
    tunes = [np.linalg.lstsq(x, y, rcond=None)[0].T.astype(np.float64) for x, y in data]
    grams = [symmetric(x) for x, _ in data]
    weights = tuple(round(np.trace(gram) / 100 * UNIT) for gram in grams)
    inputs = replace(matched(tunes, "gram", grams), weights=weights)
    x, y = (np.concatenate(parts) for parts in zip(*data, strict=True))
    pooled = np.linalg.lstsq(x, y, rcond=None)[0].T
    assert np.abs(values(inputs) - pooled).max() < 1e-8


def test_a_diagonal_is_fisher_merging() -> None:
    """What steps go towards is known item by item."""
    _, tunes = tuned(3)
    curved = drawn("fisher", 3)
    inputs = matched(tunes, "fisher", curved, iterations="100")
    plain = task("fisher", "F64", tunes, np.ones((8, 12)), floor="0.000000001")
    plain = replace(plain, evidence=inputs.evidence)
    assert np.abs(values(inputs) - values(plain, "fisher")).max() < 1e-7


def test_steps_go_as_far_as_directions_are_different() -> None:
    """A system of three eigenvalues is solved by three steps, and not by two."""
    first, second = np.repeat([1.0, 4.0, 9.0], 4), np.repeat([3.0, 2.0, 1.0], 4)
    _, tunes = tuned(2)
    grams = [np.diag(first), np.diag(second)]
    shares = np.stack([first / first.sum(), second / second.sum()])[:, np.newaxis]
    expected = (shares * np.stack(tunes)).sum(axis=0) / shares.sum(axis=0)
    away = [
        np.abs(values(matched(tunes, "gram", grams, iterations=n)) - expected).max()
        for n in ("1", "2", "3", "50")
    ]
    assert away[0] > away[1] > 1e-4
    assert away[2] < 1e-10
    assert away[3] <= away[2]


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_is_nearer_in_the_systems_own_measure(kind: str) -> None:
    """(x - x*)' A (x - x*) goes down from step to step."""
    _, tunes = tuned(3)
    inputs = matched(tunes, kind, drawn(kind, 3))
    total = sum(each[kind] for each in inputs.evidence)
    best = values(matched(tunes, kind, drawn(kind, 3), iterations="200"))

    def distance(count: int) -> float:
        at = values(matched(tunes, kind, drawn(kind, 3), iterations=str(count))) - best
        image = at @ total if kind == "gram" else at * total
        return float((at * image).sum())

    found = [distance(count) for count in range(7)]
    assert all(a > b for a, b in pairwise(found))


def test_without_a_step_it_is_the_weighted_mean() -> None:
    """Where it starts."""
    _, tunes = tuned(3)
    inputs = matched(tunes, "gram", drawn("gram", 3), iterations="0")
    inputs = replace(inputs, weights=(UNIT, 2 * UNIT, 5 * UNIT))
    expected = np.average(tunes, axis=0, weights=[1, 2, 5])
    assert np.allclose(values(inputs), expected, rtol=1e-13)


def test_what_nobody_is_sure_of_stays_at_the_mean() -> None:
    """No step leads into a direction that no matrix knows."""
    _, tunes = tuned(2)
    grams = [np.diag([4.0, 1.0] + [0.0] * 10), np.diag([1.0, 2.0] + [0.0] * 10)]
    found, mean = values(matched(tunes, "gram", grams)), np.mean(tunes, axis=0)
    assert np.allclose(found[:, 2:], mean[:, 2:], rtol=1e-13)
    assert np.abs(found[:, :2] - mean[:, :2]).min() > 1e-4


@pytest.mark.parametrize("count", ["50", "1000"])
@pytest.mark.parametrize("rows", [8, 200])
def test_no_number_of_steps_follows_rounding(count: str, rows: int) -> None:
    """Inputs in six directions of twelve, whatever the basis: by a pseudo-inverse."""
    rng = np.random.default_rng(6)
    tunes = list(rng.standard_normal((2, rows, 12)))
    grams = [symmetric(rng.standard_normal((3, 12))) for _ in range(2)]
    inputs = matched(tunes, "gram", grams, iterations=count)
    scaled, mean = [each["gram"] for each in inputs.evidence], np.mean(tunes, axis=0)
    pairs = zip(tunes, scaled, strict=True)
    sides = np.stack([(tune - mean) @ gram for tune, gram in pairs]).sum(axis=0)
    step = sides @ np.linalg.pinv(np.stack(scaled).sum(axis=0), rcond=1e-9)
    assert np.abs(values(inputs) - mean - step).max() < 1e-8


def test_more_steps_than_a_system_has_do_not_wander() -> None:
    """A thousand of a dozen: the answer of LAPACK still."""
    _, tunes = tuned(3)
    inputs = matched(tunes, "gram", drawn("gram", 3), iterations="1000")
    grams = [each["gram"] for each in inputs.evidence]
    sides = np.stack([t @ g for t, g in zip(tunes, grams, strict=True)]).sum(axis=0)
    expected = np.linalg.solve(np.stack(grams).sum(axis=0), sides.T).T
    assert np.abs(values(inputs) - expected).max() < 1e-10


def test_right_sides_that_no_input_explains_are_passed_over() -> None:
    """Where an eigenvalue is rounding, so is what it would divide: nobody's change."""
    rng = np.random.default_rng(7)
    system = symmetric(rng.standard_normal((4, 12)))
    change = rng.standard_normal((12, 5))
    noise = rng.standard_normal((12, 5)) * 1e-10
    found = mats._in_eigenvectors(system, system @ change + noise, 50)
    inside = np.linalg.pinv(system, rcond=1e-9) @ system @ change
    assert np.abs(found - inside).max() < 1e-8


def test_steps_on_nothing_are_nothing() -> None:
    """No right side, or a matrix of zeros: where it began."""
    zeros = np.zeros((3, 2))
    assert not conjugate_gradients(zeros + 2.0, zeros.copy(), 5).any()
    assert not conjugate_gradients(zeros, zeros + 1.0, 5).any()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_models_are_themselves(kind: str) -> None:
    """Whatever they are sure of, with odd weights; one alone bit for bit."""
    base, (tune,) = tuned(1)
    inputs = matched([tune] * 3, kind, drawn(kind, 3))
    inputs = replace(inputs, weights=(UNIT, 123_456_789, 3))
    assert np.allclose(values(inputs), tune, rtol=1e-12, atol=0)
    alone = task("mats", "F32", [tune], base, matrix=kind)
    assert resolve("mats", alone) == data_of(alone.contributions[0])


@pytest.mark.parametrize("kind", KINDS)
def test_evidence_of_nothing_at_all_averages(kind: str) -> None:
    """Zeros only: no step is made."""
    _, tunes = tuned(2)
    inputs = matched(tunes, kind, drawn(kind, 2))
    zeros = np.zeros((12, 12) if kind == "gram" else (8, 12))
    inputs = replace(inputs, evidence=({kind: zeros},) * 2)
    assert np.allclose(values(inputs), np.mean(tunes, axis=0), rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_without_evidence_it_is_linear(kind: str) -> None:
    """Bit for bit, with weights."""
    base, tunes = tuned(3)
    weights = (UNIT, 3 * UNIT, UNIT // 7)
    inputs = task("mats", "BF16", tunes, base, matrix=kind)
    inputs = replace(inputs, evidence=(), weights=weights)
    plain = replace(task("linear", "BF16", tunes, base), weights=weights)
    assert resolve("mats", inputs) == resolve("linear", plain)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_multiply_evidence(kind: str) -> None:
    """Two of one author are one of twice the weight."""
    _, (first, second) = tuned(2)
    one, other = drawn(kind, 2)
    twice = matched([first, second, second], kind, [one, other, other])
    weighed = matched([first, second], kind, [one, other])
    weighed = replace(weighed, weights=(UNIT, 2 * UNIT))
    assert np.allclose(values(twice), values(weighed), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_scaling_evidence_wins_nothing(kind: str) -> None:
    """A million times larger before it is normalised, the same after: so is the model."""
    _, tunes = tuned(3)
    arrays = drawn(kind, 3)
    before = values(matched(tunes, kind, arrays))
    after = values(matched(tunes, kind, [arrays[0] * 1e6, *arrays[1:]]))
    assert np.abs(after - before).max() < 1e-9


def test_kernels_of_convolutions_are_matrices() -> None:
    """(out, in, k, k) with the Gram matrix of patches."""
    _, tunes = tuned(3)
    grams = drawn("gram", 3)
    deep = [tune.reshape(8, 3, 2, 2) for tune in tunes]
    flat = values(matched(tunes, "gram", grams))
    assert np.array_equal(values(matched(deep, "gram", grams)).reshape(8, 12), flat)


def test_a_diagonal_is_told_of_vectors_too() -> None:
    """A norm's scale has curvature, and no Gram matrix."""
    _, tunes = tuned(3)
    rows = [tune[0] for tune in tunes]
    curved = [array[0] for array in drawn("fisher", 3)]
    found = values(matched(rows, "fisher", curved))
    shares = np.stack([c / c.mean() for c in curved])
    expected = (shares * np.stack(rows)).sum(axis=0) / shares.sum(axis=0)
    assert np.allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_more_models_than_columns(kind: str) -> None:
    """Nine of 3 x 2, in any order of the list."""
    rng = np.random.default_rng(5)
    sizes = (1, 2) if kind == "gram" else (3, 2)
    drawn = [rng.standard_normal(sizes) for _ in range(9)]
    arrays = [symmetric(x) if kind == "gram" else x * x for x in drawn]
    inputs = matched(list(rng.standard_normal((9, 3, 2))), kind, arrays)
    turned = shuffled(inputs, (8, *range(8)))
    assert resolve("mats", turned) == resolve("mats", inputs)
    assert np.isfinite(values(inputs)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_who_lacks_evidence_is_named_or_left_out(kind: str) -> None:
    """By the parameter `lacking`."""
    _, tunes = tuned(3)
    inputs = matched(tunes, kind, drawn(kind, 3))
    holed: tuple[Evidence, ...] = (inputs.evidence[0], {}, inputs.evidence[2])
    with pytest.raises(
        ContractError, match=rf"contribution 010101.*no evidence of kind '{kind}'"
    ):
        values(replace(inputs, evidence=holed))
    left = matched(tunes, kind, drawn(kind, 3), lacking="leave_out")
    left = replace(left, evidence=holed)
    assert np.array_equal(values(left), values(shuffled(left, (0, 2))))


def test_weights_below_zero_are_refused() -> None:
    """A system would have no lowest point; zeros alone make none."""
    _, tunes = tuned(2)
    inputs = matched(tunes, "gram", drawn("gram", 2))
    with pytest.raises(ContractError, match="negative weight has no meaning"):
        values(replace(inputs, weights=(UNIT, -UNIT)))
    with pytest.raises(ContractError, match="all weights are zero"):
        values(replace(inputs, weights=(0, 0)))
