"""Models of another dtype than the base: each is read as it is, and no bit is lost."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats, Items
from crdtmerge.strategies import STRATEGIES, Inputs
from tests.strategies import DTYPES, base_of, data_of, resolve, task, with_own

TORCH = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


def many(name: str, dtype: str) -> Inputs:
    """Seven contributions to a matrix, all of the base's dtype."""
    generator = np.random.default_rng(7)
    base = generator.standard_normal((12, 6)) / 16
    tunes = [base + generator.standard_normal((12, 6)) / 128 for _ in range(7)]
    found = task(name, dtype, tunes, base)
    if name == "layer_swap/1":
        found = with_own(
            found, *({"part": part} for part in ["outer", "inner"] * 3), {}
        )
    return replace(found, layer=(3, 16))


def widened(inputs: Inputs, places: Sequence[int], dtype: str) -> Inputs:
    """The task with some contributions saved in another dtype, by torch."""
    given = list(inputs.contributions)
    for place in places:
        data = bytearray(data_of(given[place]))
        values = torch.frombuffer(data, dtype=TORCH[inputs.dtype]).to(TORCH[dtype])
        given[place] = Items(values.view(torch.uint8).numpy().tobytes(), dtype)
    return replace(inputs, contributions=tuple(given))


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_copy_in_a_wider_dtype_changes_no_bit(name: str, dtype: str) -> None:
    """Values count, not how they are saved: in every strategy, for any of the models."""
    inputs = many(name, dtype)
    expected = resolve(name, inputs)
    for places, other in (([1, 4], "F32"), ([0], "F64"), (range(7), "F32")):
        assert resolve(name, widened(inputs, places, other)) == expected


@pytest.mark.parametrize("base_dtype", [d for d in DTYPES if d != "F64"])
def test_a_mean_over_dtypes_is_the_nearest_item(base_dtype: str) -> None:
    """Exact by fractions: what is between two items goes to the nearer."""
    generator = np.random.default_rng(3)
    base = generator.standard_normal(200)
    inputs = task("linear", base_dtype, [base] * len(DTYPES), base)
    given, exact = [], [Fraction(0)] * 200
    for dtype in DTYPES:
        data = numerics.downcast(base + generator.standard_normal(200) / 8, dtype)
        given.append(Items(data, dtype))
        found = _by_torch(data, dtype)
        exact = [a + Fraction(b) for a, b in zip(exact, found, strict=True)]
    made = resolve("linear", replace(inputs, contributions=tuple(given)))
    for value, total in zip(_by_torch(made, base_dtype), exact, strict=True):
        mean = total / len(DTYPES)
        error = abs(Fraction(value) - mean)
        for near in _neighbours(value, base_dtype):
            assert error <= abs(Fraction(near) - mean)


def _by_torch(data: bytes, dtype: str) -> list[float]:
    found = torch.frombuffer(bytearray(data), dtype=TORCH[dtype]).double().tolist()
    return [float(value) for value in found]


def _neighbours(value: float, dtype: str) -> list[float]:
    """The items next to a value, by stepping its pattern."""
    size = torch.empty(0, dtype=TORCH[dtype]).element_size()
    kind = np.dtype(f"<i{size}")
    bits = numerics.downcast(np.array([value]), dtype)
    pattern = np.frombuffer(bits, kind)[0]
    steps = np.array([pattern - 1, pattern + 1], kind).tobytes()
    return [near for near in _by_torch(steps, dtype) if np.isfinite(near)]


def test_a_difference_to_a_base_of_another_dtype_is_rounded_once() -> None:
    """As NumPy subtracts in float64, and rounds to float32."""
    inputs = many("task_arithmetic", "BF16")
    base = numerics.upcast(base_of(inputs), "BF16")
    theta = base + np.random.default_rng(1).standard_normal(base.size) / 7
    vector = numerics.Difference(
        theta.tobytes(), base_of(inputs), "F64", base_dtype="BF16"
    )
    expected = (theta - base).astype(np.float32)
    assert numerics.singles_of(vector).tobytes() == expected.tobytes()


def test_no_tensor_is_widened_as_a_whole() -> None:
    """What takes part is what was given: views of the same bytes, none made."""
    inputs = widened(many("linear", "BF16"), [2], "F32")
    given = inputs.contributions[2]
    assert isinstance(given, Items)
    from crdtmerge.strategies.tensors import given_of, participants, tau_of

    _, terms = participants(inputs, inputs.weights)
    assert given_of(inputs, terms[2]).data is given.data
    vector = tau_of(inputs, terms[2])
    assert isinstance(vector, numerics.Difference)
    assert vector.theta is given.data
    assert vector.base is inputs.base


# --- which dtype holds which ------------------------------------------------------------


def _all_values(dtype: str) -> Floats:
    """Every finite item of a dtype of 8 or 16 bits; of wider ones some that tell."""
    size = numerics.ITEM_BYTES[dtype]
    if size <= 2:
        patterns = np.arange(256**size, dtype=f"<u{size}").tobytes()
        with np.errstate(invalid="ignore"):  # NaN is among them
            found = numerics.upcast(patterns, dtype)
    else:
        steps = 1 + np.array([2.0**-23, 2.0**-52 if size == 8 else 0])
        found = np.concatenate([steps, [2.0**-149, 2.0**127]])
    return found[np.isfinite(found)]


def _holds(dtype: str, values: Floats) -> bool:
    try:
        return bool(
            np.all(numerics.upcast(numerics.downcast(values, dtype), dtype) == values)
        )
    except ContractError:
        return False


@pytest.mark.parametrize("one", DTYPES)
@pytest.mark.parametrize("other", DTYPES)
def test_the_dtype_that_holds_two_is_the_smallest_that_does(
    one: str, other: str
) -> None:
    """Found by trying every item."""
    values = np.concatenate([_all_values(one), _all_values(other)])
    found = numerics.holding([one, other])
    assert _holds(found, values)
    smaller = [d for d in DTYPES if numerics.ITEM_BYTES[d] < numerics.ITEM_BYTES[found]]
    assert not any(_holds(dtype, values) for dtype in smaller)


def test_a_value_beyond_the_bases_dtype_is_refused() -> None:
    """The largest F16 fits; one step more does not, and neither in any block."""
    data = np.full(1 << 19, 65504.0, "<f4")
    numerics.check_range(data.data, "F32", "F16")
    data[-1] = 65520.0
    with pytest.raises(ContractError, match="beyond the largest finite F16"):
        numerics.check_range(data.data, "F32", "F16", "tensor 'w'")
