"""safe_merge: what matters most to the safety model is its own."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from tests.strategies import UNIT, resolve, sample, shuffled, task, with_own

NAME = "safe_merge"


def values(inputs: Inputs) -> Floats:
    found = resolve(NAME, replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def two(**parameters: str) -> Inputs:
    """A safety model whose second entry changes most, and another model."""
    base = np.array([1.0, 1, 1, 1])
    safe, other = np.array([2.0, -8, 1, 3]), np.array([4.0, 4, 5, 1])
    inputs = task(NAME, "F64", [safe, other], base, **{"q": "0.25"} | parameters)
    return replace(inputs, exponent=8)


def test_the_largest_change_of_the_safety_model_stays() -> None:
    """All else is the mean of both."""
    assert values(two()).tolist() == [3, -8, 3, 2]
    assert values(two(q="0.5")).tolist() == [3, -8, 3, 3]


def test_or_it_is_undone() -> None:
    """By `revert=base`."""
    assert values(two(revert="base")).tolist() == [3, 1, 3, 2]


@pytest.mark.parametrize("kind", ["fisher", "snip"])
def test_evidence_of_the_safety_model_tells_what_matters(kind: str) -> None:
    """That of others is not read, and need not be there; ties are all kept."""
    inputs = two(importance=kind)
    told = {kind: np.array([2.0, 0, 2, 0])}
    for rest in ({}, {kind: np.array([0.0, 0, 0, 4])}):
        found = values(replace(inputs, evidence=(told, rest)))
        assert found.tolist() == [2, -2, 1, 2]


@pytest.mark.parametrize("kind", ["fisher", "snip"])
def test_without_evidence_its_change_tells(kind: str) -> None:
    """What others attach is no word about the safety model."""
    inputs, other = two(importance=kind), {kind: np.array([4.0, 0, 0, 0])}
    assert values(replace(inputs, evidence=())).tolist() == [3, -8, 3, 2]
    assert values(replace(inputs, evidence=({}, other))).tolist() == [3, -8, 3, 2]


def test_a_share_of_none_or_all() -> None:
    """Linear, or the model itself."""
    assert values(two(q="0")).tolist() == [3, -2, 3, 2]
    assert values(two(q="1")).tolist() == [2, -8, 1, 3]
    assert values(two(q="1", revert="base")).tolist() == [1, 1, 1, 1]


def test_a_safety_model_that_changes_nothing_is_safe_everywhere() -> None:
    """All its entries tie: none of them matters less than another."""
    base, tunes = sample(12, 3)
    inputs = task(NAME, "F64", [base, *tunes], base)
    assert np.array_equal(values(inputs), base)


def test_no_safety_model_is_linear_and_two_are_refused() -> None:
    """Who weighs nothing is no safety model."""
    base, tunes = sample(64, 3)
    inputs = with_own(task(NAME, "BF16", tunes, base), {}, {}, {})
    inputs = replace(inputs, weights=(UNIT, 3 * UNIT, UNIT // 7))
    plain = replace(task("linear", "BF16", tunes, base), weights=inputs.weights)
    assert resolve(NAME, inputs) == resolve("linear", plain)
    marked = with_own(inputs, {"safety": "true"}, {"safety": "true"}, {})
    with pytest.raises(ContractError, match="one safety model, and 2 are marked"):
        resolve(NAME, marked)
    without = replace(marked, weights=(0, UNIT, UNIT))
    assert resolve(NAME, without) == resolve(NAME, shuffled(without, (1, 2)))


def test_weights_below_zero_and_of_nobody_are_refused() -> None:
    with pytest.raises(ContractError, match="negative weight"):
        resolve(NAME, replace(two(), weights=(UNIT, -UNIT)))
    with pytest.raises(ContractError, match="all weights are zero"):
        resolve(NAME, replace(two(), weights=(0, 0)))


def test_the_list_changes_no_bit_and_an_empty_tensor_stays_empty() -> None:
    base, tunes = sample(96, 4)
    inputs = task(NAME, "F32", tunes, base)
    assert resolve(NAME, shuffled(inputs, (2, 0, 3, 1))) == resolve(NAME, inputs)
    empty = np.zeros((0, 3))
    assert resolve(NAME, task(NAME, "F32", [empty, empty], empty)) == b""
