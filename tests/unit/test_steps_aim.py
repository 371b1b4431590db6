"""The step aim: whose measures count, of which tensors, and that a plan asks for them."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.numerics import Floats
from crdtmerge.strategies import (
    Evidence,
    Inputs,
    Values,
    check_recipe,
    evidence_of,
    find,
    make_recipe,
    whole_of,
)
from crdtmerge.strategies.pipeline import emit
from tests.evidence import made
from tests.strategies import UNIT, resolve, sample, task


def aimed(inputs: Inputs, told: tuple[Evidence, ...], omega: str = "0.4") -> bytes:
    """The mean of the models, and the step after it."""
    steps = (("aim.omega", omega),)
    values = Values(tuple(sorted((*inputs.values.parameters, *steps))))
    inputs = replace(inputs, evidence=told, values=values)
    return bytes(whole_of(emit(find("linear"), (), ("aim/1",), inputs)))


def square(count: int = 3, shape: tuple[int, ...] = (8, 12)) -> Inputs:
    base, tunes = sample(96, count)
    tunes = [tune.reshape(shape) for tune in tunes]
    return task("linear", "F32", tunes, base.reshape(shape))


def measured(count: int = 3) -> tuple[Evidence, ...]:
    return tuple({"magnitude": made("magnitude", (8, 12), i)} for i in range(count))


def items(data: bytes) -> Floats:
    return numerics.upcast(data, "F32")


def test_a_recipe_with_it_asks_for_magnitudes() -> None:
    """Beside what the strategy reads itself."""
    for name, kinds in (("linear", ()), ("fisher", ("fisher",))):
        recipe = make_recipe(name, {"aim.omega": "0.2"}, post=["aim"])
        values = Values(recipe.parameters)
        found = evidence_of(check_recipe(recipe), recipe, values)
        assert found == (*kinds, "magnitude")


@pytest.mark.parametrize("shape", [(8, 12), (8, 3, 4)])
def test_it_is_its_formula_on_columns(shape: tuple[int, ...]) -> None:
    """Columns are all that is not the first dimension."""
    inputs, told = square(shape=shape), measured()
    base = items(bytes(inputs.base or b"")).reshape(8, 12)
    mean = items(resolve("linear", inputs)).reshape(8, 12)
    busy = np.mean([each["magnitude"] for each in told], axis=0)
    expected = base + (1 - 0.6 * busy / busy.max()) * (mean - base)
    found = items(aimed(inputs, told)).reshape(8, 12)
    assert np.abs(found - expected).max() < 1e-6


def test_nothing_measured_nothing_busy_and_omega_of_one_change_nothing() -> None:
    """The step alone, without a factor, leaves the merged model as it is."""
    inputs = square()
    idle: tuple[Evidence, ...] = ({"magnitude": np.zeros(12)},) * 3
    plain = aimed(inputs, ())
    assert aimed(inputs, measured(), "1") == plain
    assert aimed(inputs, idle) == plain
    assert aimed(inputs, measured()) != plain
    assert np.abs(items(plain) - items(resolve("linear", inputs))).max() < 1e-6


def test_who_weighs_nothing_or_measured_nothing_has_no_say() -> None:
    """The mean is by weight, over those that tell."""
    inputs = replace(square(), weights=(UNIT, 0, 2 * UNIT))
    told = measured()
    loud: Evidence = {"magnitude": np.ones(12)}
    assert aimed(inputs, told) == aimed(inputs, (told[0], loud, told[2]))
    assert aimed(inputs, told) == aimed(inputs, (told[0], {}, told[2]))
    alone = replace(inputs, weights=(2 * UNIT, UNIT, 0))
    one = aimed(alone, (told[0], {}, {}))
    assert one == aimed(alone, (told[0], {}, loud))


def test_no_one_alone_freezes_a_model() -> None:
    """All channels busy, says one of three: what the others call idle still changes."""
    first: Evidence = {"magnitude": np.array([1.0] + [0.0] * 11)}
    loud: Evidence = {"magnitude": np.ones(12)}
    inputs = square()
    kept = items(aimed(inputs, (first, first, loud), "0")).reshape(8, 12)
    plain = items(aimed(inputs, ())).reshape(8, 12)
    base = items(bytes(inputs.base or b"")).reshape(8, 12)
    assert np.allclose(kept[:, 0], base[:, 0], atol=1e-7)
    idle = (kept - base)[:, 1:] / (plain - base)[:, 1:]
    assert np.allclose(idle, 2 / 3, atol=1e-3)
