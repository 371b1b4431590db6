"""weight_scope_alignment: all tensors have one mean and one spread before the average."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from tests.strategies import UNIT, data_of, resolve, sample, shuffled, task

NAME = "weight_scope_alignment"


def values(inputs: Inputs) -> Floats:
    found = resolve(NAME, replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def of(*tunes: Floats, dtype: str = "F64") -> Inputs:
    inputs = task(NAME, dtype, list(tunes), np.zeros(tunes[0].shape))
    return replace(inputs, base=None)


def test_models_that_differ_in_scope_alone_become_one() -> None:
    """Moved and stretched copies: the mean scope, and the same shape."""
    (shape,) = sample(60, 1)[1]
    even = (shape - shape.mean()) / shape.std()
    found = values(of(2 * even + 1, 6 * even - 3))
    assert np.allclose(found, 4 * even - 1, atol=1e-12)


def test_the_target_is_the_mean_by_weight() -> None:
    """Of means and of deviations."""
    (shape,) = sample(60, 1)[1]
    even = (shape - shape.mean()) / shape.std()
    inputs = replace(of(2 * even, 6 * even + 4), weights=(3 * UNIT, UNIT))
    assert np.allclose(values(inputs), 3 * even + 1, atol=1e-12)


def test_no_model_outweighs_another_by_its_spread() -> None:
    """One a thousand times larger: both are as far from the mean of even shapes."""
    _, (first, second) = sample(500, 2)
    one, two = ((t - t.mean()) / t.std() for t in (first, second))
    found = values(of(first, 1000 * second))
    apart = [np.abs(np.corrcoef(found, each)[0, 1]) for each in (one, two)]
    assert apart[0] == pytest.approx(apart[1])


def test_one_model_is_itself() -> None:
    """Bit for bit."""
    _, tunes = sample(96, 1)
    inputs = of(*tunes, dtype="BF16")
    assert resolve(NAME, inputs) == data_of(inputs.contributions[0])


@pytest.mark.parametrize("items", [1, 3, 7])
def test_constant_tensors_are_averaged(items: int) -> None:
    """Of three times 0.1 the mean is not 0.1: what rounding leaves is no spread."""
    found = values(of(np.full(items, 0.1), np.full(items, 0.4)))
    assert np.allclose(found, 0.25, atol=1e-15)


def test_a_constant_among_others_only_moves_and_narrows() -> None:
    """It has no shape; its spread of zero counts in the mean."""
    (shape,) = sample(60, 1)[1]
    even = (shape - shape.mean()) / shape.std()
    found = values(of(4 * even, np.full(60, 2.0)))
    assert np.allclose(found, even + 1, atol=1e-12)


def test_a_small_spread_beside_a_large_one_breaks_nothing() -> None:
    """Near the ends of float32 too."""
    (shape,) = sample(60, 1)[1]
    even = (shape - shape.mean()) / shape.std()
    found = values(of(1e-30 * even, 1e30 * even))
    assert np.allclose(found, 5e29 * even, rtol=1e-9)


def test_the_list_and_who_weighs_nothing_change_no_bit() -> None:
    _, tunes = sample(96, 4)
    inputs = of(*tunes, dtype="F32")
    assert resolve(NAME, shuffled(inputs, (2, 0, 3, 1))) == resolve(NAME, inputs)
    without = replace(inputs, weights=(UNIT, 0, UNIT, UNIT))
    assert resolve(NAME, without) == resolve(NAME, shuffled(inputs, (0, 2, 3)))


def test_weights_below_zero_and_of_nobody_are_refused() -> None:
    inputs = of(*sample(9, 2)[1])
    with pytest.raises(ContractError, match="negative weight"):
        resolve(NAME, replace(inputs, weights=(UNIT, -UNIT)))
    with pytest.raises(ContractError, match="all weights are zero"):
        resolve(NAME, replace(inputs, weights=(0, 0)))


def test_an_empty_tensor_stays_empty() -> None:
    inputs = of(np.zeros((0, 3)), np.zeros((0, 3)))
    assert resolve(NAME, inputs) == b""
