"""ota_ffg: what its formula promises beside the oracle."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import BadInputError, ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs, Values, make_recipe
from tests.evidence import made
from tests.strategies import UNIT, base_of, resolve, sample, shuffled, task

TINY = "0.000000001"


def merged(inputs: Inputs) -> Floats:
    """What it makes of a task, in float64."""
    found = resolve("ota_ffg", replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def seen(
    taus: list[list[float]], curved: list[list[float]] | None, **parameters: str
) -> Inputs:
    """Models of one row on a base of ones, and their second moments."""
    base = np.ones(len(taus[0]))
    tunes = [base + np.array(tau) for tau in taus]
    inputs = task("ota_ffg", "F64", tunes, base, **parameters)
    told = tuple({"adam": np.array(each)} for each in curved or ())
    return replace(inputs, evidence=told)


def test_edits_are_kept_where_undoing_them_costs() -> None:
    """tau^2 v, not tau: the smaller edit of great curvature stays."""
    inputs = seen([[1.0, 0.5, 0.25, 0.0]], [[0.25, 3.5, 0.25, 0.0]], density="0.25")
    assert merged(inputs).tolist() == [1.0, 1.5, 1.0, 1.0]


def test_without_evidence_it_is_the_mean() -> None:
    """By weight, and whole: nothing tells which edits matter."""
    inputs = seen([[1.0, 0.5], [0.25, 0.5]], None, density="0.5")
    inputs = replace(inputs, weights=(UNIT, 3 * UNIT))
    assert np.allclose(merged(inputs), [1.4375, 1.5], atol=1e-15)


@pytest.mark.parametrize(("p", "says"), [("1", 16), ("0.5", 4), ("0.25", 2)])
def test_powers_of_curvature_weigh(p: str, says: float) -> None:
    """Sixteen times the curvature, beside items of the same sum of powers."""
    curved = [[32 / 17, 2 / 17], [2 / 17, 32 / 17]]
    inputs = seen([[1.0, 1.0], [0.0, 0.0]], curved, p=p, density="1", epsilon=TINY)
    expected = [1 + says / (says + 1), 1 + 1 / (says + 1)]
    assert np.allclose(merged(inputs), expected, atol=1e-7)


def test_a_model_whose_edit_went_speaks_for_the_base() -> None:
    """The mean is over all models, not over those whose edit stays."""
    inputs = seen([[1.0, 0.5], [0.5, 1.0]], [[1.0, 1.0]] * 2, density="0.5")
    assert np.allclose(merged(inputs), [1.5, 1.5], atol=1e-15)


def test_what_ties_with_the_last_edit_stays_too() -> None:
    """No order of items decides; where the last of them is zero, all do."""
    inputs = seen([[1.0, 0.5, -0.5, 0.25]], [[1.0] * 4], density="0.5")
    assert merged(inputs).tolist() == [2.0, 1.5, 0.5, 1.0]
    inputs = seen([[1.0, 0.5, -0.5, 0.25]], [[4.0, 0, 0, 0]], density="0.5")
    assert merged(inputs).tolist() == [2.0, 1.5, 0.5, 1.25]


def test_no_curvature_at_all_is_the_mean() -> None:
    """All scores tie at zero, and eps weighs all alike."""
    inputs = seen([[1.0, 0.5], [0.5, 0.0]], [[0.0, 0.0]] * 2)
    assert np.allclose(merged(inputs), [1.75, 1.25], atol=1e-15)


def test_of_whole_task_vectors_and_equal_curvature_it_is_the_mean() -> None:
    """Density = 1: of equal models it is the model."""
    base, tunes = sample(96, 3)
    inputs = task("ota_ffg", "F64", tunes, base, density="1")
    same = replace(inputs, evidence=(inputs.evidence[0],) * 3)
    assert np.allclose(merged(same), np.mean(tunes, axis=0), atol=1e-13)


@pytest.mark.parametrize("shape", [(96,), (8, 12), (4, 4, 6), (96, 1)])
def test_no_shape_is_treated_in_a_way_of_its_own(shape: tuple[int, ...]) -> None:
    """The same items as a matrix or none have the same bytes."""
    base, tunes = sample(96, 9)
    told = tuple({"adam": made("adam", (96,), i).reshape(shape)} for i in range(9))
    flat = task("ota_ffg", "BF16", tunes, base)
    found = replace(flat, shape=shape, evidence=told)
    flat = replace(flat, evidence=tuple({"adam": e["adam"].ravel()} for e in told))
    assert resolve("ota_ffg", found) == resolve("ota_ffg", flat)


def test_no_edit_and_no_item_are_the_base() -> None:
    """Bit for bit, and so is a merge in which nobody has weight."""
    base, tunes = sample(96, 3)
    inputs = task("ota_ffg", "BF16", [base] * 3, base)
    assert resolve("ota_ffg", inputs) == base_of(inputs)
    inputs = replace(task("ota_ffg", "BF16", tunes, base), weights=(0, 0, 0))
    assert resolve("ota_ffg", inputs) == base_of(inputs)
    none = task("ota_ffg", "F32", [base[:0]], base[:0])
    assert resolve("ota_ffg", none) == b""


def test_who_lacks_second_moments_is_named_or_left_out() -> None:
    """By the parameter `lacking`."""
    base, tunes = sample(96, 3)
    inputs = task("ota_ffg", "F32", tunes, base)
    holed = replace(inputs, evidence=(inputs.evidence[0], {}, inputs.evidence[2]))
    with pytest.raises(ContractError, match=r"contribution 010101.*'adam'"):
        resolve("ota_ffg", holed)
    recipe = make_recipe("ota_ffg", {"lacking": "leave_out"})
    left = replace(holed, values=Values(recipe.parameters), own=())
    assert resolve("ota_ffg", left) == resolve("ota_ffg", shuffled(left, (2, 0)))


def test_what_has_no_meaning_is_refused() -> None:
    """Negative weights, more than all, other powers."""
    base, tunes = sample(96, 2)
    inputs = replace(task("ota_ffg", "F32", tunes, base), weights=(UNIT, -1))
    with pytest.raises(ContractError, match="negative weight"):
        resolve("ota_ffg", inputs)
    for name, text in (("density", "1.5"), ("p", "2"), ("epsilon", "0")):
        with pytest.raises(BadInputError):
            make_recipe("ota_ffg", {name: text})
