"""led_merge: what its formula promises beside the oracle."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import BadInputError, ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs, Values, make_recipe
from tests.strategies import UNIT, base_of, resolve, sample, shuffled, task


def merged(inputs: Inputs) -> Floats:
    """What it makes of a task, in float64."""
    found = resolve("led_merge", replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def seen(
    taus: list[list[float]],
    snip: list[list[float]],
    of_base: list[list[float]] | None = None,
    **parameters: str,
) -> Inputs:
    """Models of one row on a base of ones, and the importance of their items."""
    base = np.ones(len(taus[0]))
    tunes = [base + np.array(tau) for tau in taus]
    inputs = task("led_merge", "F64", tunes, base, **parameters)
    told = [{"snip": np.array(each)} for each in snip]
    for each, array in zip(told, of_base or snip, strict=True):
        each["snip_base"] = np.array(array)
    return replace(inputs, evidence=tuple(told))


ALL = [[0.5] * 4, [0.25] * 4]
FIRST, SECOND = [3.0, 1.0, 0.0, 0.0], [0.0, 1.0, 3.0, 0.0]


def test_what_two_models_elect_stays_as_it_is_in_the_base() -> None:
    """Each model changes what it alone elects; the second item is disputed."""
    inputs = seen(ALL, [FIRST, SECOND], density="0.5")
    assert merged(inputs).tolist() == [1.5, 1.0, 1.25, 1.0]


def test_both_models_or_either_elect() -> None:
    """The intersection of what is located in model and base, or the union."""
    of_base = [[3.0, 0.0, 0.0, 1.0], [0.0, 0.0, 3.0, 1.0]]
    inputs = seen(ALL, [FIRST, SECOND], of_base, density="0.5")
    assert merged(inputs).tolist() == [1.5, 1.0, 1.25, 1.0]
    inputs = seen(ALL, [FIRST, SECOND], of_base, density="0.5", elect="either")
    assert merged(inputs).tolist() == [1.5, 1.0, 1.25, 1.0]
    inputs = seen([[0.5] * 4], [FIRST], [of_base[0]], density="0.5")
    assert merged(inputs).tolist() == [1.5, 1.0, 1.0, 1.0]
    inputs = seen([[0.5] * 4], [FIRST], [of_base[0]], density="0.5", elect="either")
    assert merged(inputs).tolist() == [1.5, 1.5, 1.0, 1.5]


def test_supports_are_disjoint() -> None:
    """No item has more than one model's change, whatever the models are."""
    base, tunes = sample(96, 9)
    inputs = task("led_merge", "F64", tunes, base, elect="either", density="0.2")
    away = merged(inputs) - base
    taus = np.stack(tunes) - base
    of_one = (np.abs(away - taus) < 1e-6).any(axis=0)
    assert (of_one | (away == 0)).all()
    assert 0 < (away != 0).sum() < 96


def test_models_that_elect_alike_undo_each_other() -> None:
    """Every item is disputed: the base, bit for bit."""
    base, tunes = sample(96, 3)
    inputs = task("led_merge", "BF16", tunes, base, density="1")
    assert resolve("led_merge", inputs) == base_of(inputs)


def test_who_weighs_nothing_disputes_nothing() -> None:
    """Only who takes part elects; a weight is a factor."""
    inputs = seen(ALL, [FIRST, SECOND], density="0.5")
    alone = replace(inputs, weights=(UNIT, 0))
    assert merged(alone).tolist() == [1.5, 1.5, 1.0, 1.0]
    uneven = replace(inputs, weights=(UNIT, 3 * UNIT))
    assert merged(uneven).tolist() == [1.5, 1.0, 1.75, 1.0]


def test_without_evidence_it_is_task_arithmetic() -> None:
    """With nothing located there is nothing to elect; nor with the models' own alone."""
    inputs = replace(seen(ALL, [FIRST, SECOND]), weights=(UNIT, 2 * UNIT))
    alone = tuple({"snip": each["snip"]} for each in inputs.evidence)
    for told in ((), alone):
        assert merged(replace(inputs, evidence=told)).tolist() == [2.0] * 4


@pytest.mark.parametrize("shape", [(96,), (8, 12), (4, 4, 6), (96, 1)])
def test_no_shape_is_treated_in_a_way_of_its_own(shape: tuple[int, ...]) -> None:
    """The same items as a matrix or none have the same bytes."""
    base, tunes = sample(96, 5)
    flat = task("led_merge", "BF16", tunes, base, density="0.4")
    told = tuple({k: v.reshape(shape) for k, v in e.items()} for e in flat.evidence)
    found = replace(flat, shape=shape, evidence=told)
    assert resolve("led_merge", found) == resolve("led_merge", flat)
    assert resolve("led_merge", flat) != base_of(flat)


def test_no_change_and_no_item_are_the_base() -> None:
    """Bit for bit, and so is a merge in which nobody has weight."""
    base, tunes = sample(96, 3)
    inputs = task("led_merge", "BF16", [base] * 3, base)
    assert resolve("led_merge", inputs) == base_of(inputs)
    inputs = replace(task("led_merge", "BF16", tunes, base), weights=(0, 0, 0))
    assert resolve("led_merge", inputs) == base_of(inputs)
    none = task("led_merge", "F32", [base[:0]], base[:0])
    assert resolve("led_merge", none) == b""


@pytest.mark.parametrize("kind", ["snip", "snip_base"])
def test_who_lacks_importance_is_named_or_left_out(kind: str) -> None:
    """By the parameter `lacking`; who is left out disputes nothing."""
    base, tunes = sample(96, 3)
    inputs = task("led_merge", "F32", tunes, base)
    less = {k: v for k, v in inputs.evidence[1].items() if k != kind}
    holed = replace(inputs, evidence=(inputs.evidence[0], less, inputs.evidence[2]))
    with pytest.raises(ContractError, match=f"contribution 010101.*'{kind}'"):
        resolve("led_merge", holed)
    recipe = make_recipe("led_merge", {"lacking": "leave_out"})
    left = replace(holed, values=Values(recipe.parameters), own=())
    alone = shuffled(left, (2, 0))
    assert resolve("led_merge", left) == resolve("led_merge", alone)


def test_what_has_no_meaning_is_refused() -> None:
    """Negative weights, a density above one, another election."""
    base, tunes = sample(96, 2)
    inputs = replace(task("led_merge", "F32", tunes, base), weights=(UNIT, -1))
    with pytest.raises(ContractError, match="negative weight"):
        resolve("led_merge", inputs)
    for name, text in (("density", "1.5"), ("elect", "most"), ("lambda", "-1")):
        with pytest.raises(BadInputError):
            make_recipe("led_merge", {name: text})
