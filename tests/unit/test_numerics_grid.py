"""Sums on the grid: against rationals, in every order, with terms taken away."""

import struct
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats, Grid, GridSum

UNIT = 10**9
BITS = {"F64": 53, "F32": 24, "BF16": 8, "F16": 11}
Term = tuple[Floats, int]


def products(x: float, weight: int, bits: int) -> list[Fraction]:
    """The exact products of a term, by the text of ADR 0004 and with rationals."""
    odd = weight
    while odd and odd % 2 == 0:
        odd //= 2
    if len(f"{abs(odd):b}") * (odd != 0) + bits <= 53:
        return [Fraction(x) * weight]
    parts = [x]
    if bits == 53:
        (pattern,) = struct.unpack("<q", struct.pack("<d", x))
        (high,) = struct.unpack("<d", struct.pack("<q", pattern >> 27 << 27))
        parts = [high, x - high]
    sign = 1 if weight > 0 else -1
    factors = (sign * (abs(weight) >> 20 << 20), sign * (abs(weight) % 2**20))
    return [Fraction(part) * factor for part in parts for factor in factors]


def oracle(terms: list[Term], item: int, exponent: int, bits: int, limbs: int) -> float:
    """The contract's sum of one item, with rationals; shares no code with the library."""
    step = Fraction(2) ** (exponent + 6 + 40 - 51)
    fine = step / 2**34
    high = low = Fraction(0)
    for values, weight in terms:
        for product in products(float(values[item]), weight, bits):
            nearest = round(product / step) * step  # Fraction rounds half to even
            high += nearest
            if limbs == 2:
                low += round((product - nearest) / fine) * fine
    return float(high + low)


def make_terms(dtype: str, weights: list[int], items: int, seed: int) -> list[Term]:
    """Values of every magnitude below the headroom, with zeros and subnormals."""
    generator = np.random.default_rng(seed)
    terms = []
    for weight in weights:
        scales = generator.integers(-40 if dtype != "F16" else -14, 4, items)
        values = np.ldexp(generator.uniform(-1, 1, items), scales)
        values[:3] = (0.0, -0.0, 2.0**-24)
        terms.append((numerics.upcast(numerics.downcast(values, dtype), dtype), weight))
    return terms


def grid_sum(terms: list[Term], dtype: str, exponent: int = 1) -> Floats:
    total = GridSum(numerics.theta_grid(exponent, dtype), terms[0][0].size)
    for values, weight in terms:
        total.add(values, weight, BITS[dtype])
    return total.total()


WEIGHTS = [
    [UNIT, UNIT, UNIT],
    [UNIT // 3, 7, -UNIT],
    [2**39 + 1, 2**38 - 12345, 1],
    [999_999_999_999, -1, 0],
]


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_sum_equals_the_contract_in_rationals(dtype: str, weights: list[int]) -> None:
    """Products, splits, limbs and the final rounding are those that the ADR states."""
    terms = make_terms(dtype, weights, 120, seed=5)
    got = grid_sum(terms, dtype)
    expected = [oracle(terms, i, 1, BITS[dtype], 2) for i in range(120)]
    assert got.tolist() == expected
    assert not np.signbit(got[got == 0]).any()


@pytest.mark.parametrize("dtype", BITS)
def test_sum_has_one_value_in_all_orders(dtype: str) -> None:
    """All 120 orders of five terms give the same bytes."""
    terms = make_terms(dtype, [UNIT, 3 * UNIT // 7, 1, 2**38 + 3, UNIT], 300, seed=11)
    seen = {grid_sum(list(order), dtype).tobytes() for order in permutations(terms)}
    assert len(seen) == 1


@pytest.mark.parametrize("dtype", BITS)
def test_subtracting_a_term_leaves_the_bytes_of_a_fresh_sum(dtype: str) -> None:
    """A removed contribution leaves no trace, whether subtracted or added with -W."""
    terms = make_terms(dtype, [UNIT, 2**38 - 7, UNIT // 7], 500, seed=2)
    fresh = grid_sum([terms[0], terms[2]], dtype).tobytes()
    total = GridSum(numerics.theta_grid(1, dtype), 500)
    for values, weight in terms:
        total.add(values, weight, BITS[dtype])
    total.subtract(*terms[1], BITS[dtype])
    assert total.total().tobytes() == fresh
    gone = (terms[1][0], -terms[1][1])
    assert grid_sum([*terms, gone], dtype).tobytes() == fresh


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_sum_is_exact_at_the_edge_of_the_limits(dtype: str) -> None:
    """Values just below the headroom with sum|W| just below 2**40 still add exactly."""
    exponent = 3
    top = {"BF16": 2.0**9 - 2.0, "F32": 2.0**9 - 2.0**-15}[dtype]
    terms = [(np.array([top, -top, top]), 2**38 - 1) for _ in range(4)]
    got = grid_sum(terms, dtype, exponent)
    expected = 4 * (2**38 - 1) * Fraction(top)
    assert got[0] == oracle(terms, 0, exponent, BITS[dtype], 2) == float(expected)
    assert got[1] == -got[0]


def test_sums_of_task_vectors_of_narrow_dtypes_have_one_limb() -> None:
    """All others have two; tau has one bit more of range."""
    assert numerics.theta_grid(4, "F32") == Grid(-1, 2)
    assert numerics.tau_grid(4, "F64") == Grid(0, 2)
    assert numerics.theta_grid(0, "BF16") == Grid(-5, 2)
    assert numerics.tau_grid(0, "F16") == Grid(-4, 1)


@pytest.mark.parametrize("exponent", [-1, 513])
def test_exponent_outside_the_contract_is_refused(exponent: int) -> None:
    """No grid is laid below the floor or above the ceiling."""
    with pytest.raises(ContractError, match=f"exponent {exponent}"):
        numerics.theta_grid(exponent, "F64")


def test_weights_at_the_limit_are_refused() -> None:
    """sum|W| must stay below 2**40, counted by magnitude, at once and term by term."""
    numerics.check_weights([2**39, -(2**39) + 1])
    with pytest.raises(ContractError, match=r"tensor 'w': the sum of \|weights\|"):
        numerics.check_weights([2**39, -(2**39)], "tensor 'w'")
    total = GridSum(numerics.theta_grid(0, "F32"), 1)
    total.add(np.ones(1), 2**39, 24)
    before = total.total().tobytes()
    with pytest.raises(ContractError, match="sum of"):
        total.add(np.ones(1), 2**39, 24)
    assert total.total().tobytes() == before


def test_terms_at_the_limit_are_refused() -> None:
    """The number of products of one sum has a named limit."""
    total = GridSum(numerics.theta_grid(0, "F32"), 1)
    for _ in range(numerics.TERMS_MAX):
        total.add(np.ones(1), 1, 24)
    with pytest.raises(ContractError, match="products"):
        total.add(np.ones(1), 1, 24)


def test_only_what_was_added_can_be_taken_away() -> None:
    """A sum refuses to lose more than it holds."""
    total = GridSum(numerics.theta_grid(0, "F32"), 1)
    total.add(np.ones(1), 5, 24)
    with pytest.raises(ContractError, match="does not hold"):
        total.subtract(np.ones(1), 6, 24)


def test_division_takes_exact_divisors_only() -> None:
    """Zero and integers beyond 53 bits are refused."""
    assert numerics.divide(np.array([3.0]), 2).tolist() == [1.5]
    for divisor in (0, 2**53 + 1):
        with pytest.raises(ContractError, match="divided"):
            numerics.divide(np.ones(1), divisor)
