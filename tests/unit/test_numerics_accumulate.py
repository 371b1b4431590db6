"""Sums that can be kept: exact to add to and take from, and ending in a merge's bytes."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import (
    LIMB_BITS,
    Difference,
    Grid,
    Items,
    Keep,
    Output,
    Planes,
    Voter,
    Weighed,
)
from crdtmerge.numerics.cases.making import WEIGHTS, stored, subnormal

UNIT: Final = 10**9
DTYPES: Final = ("F64", "F32", "BF16", "F16")
ITEMS: Final = 211
BASE_LABEL: Final = 1
weights = st.sampled_from((*WEIGHTS, 1, -1, UNIT // 9, 98_765_432_101, 0))
backend = pytest.mark.parametrize("backend", ["reference", "cpu"])
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def data_of(label: int, dtype: str) -> bytes:
    return subnormal(ITEMS, dtype) if label == 0 else stored(label, ITEMS, dtype)


def term(label: int, weight: int, dtype: str) -> Weighed:
    return Weighed(Items(data_of(label, dtype), dtype), weight)


def voter(label: int, weight: int, dtype: str) -> Voter:
    """A voter with a trim and a mask; its coefficient is another than its weight."""
    keep = Keep(2.0**-4, label.to_bytes(8, "little"), (1 << 32) // 3 * 2)
    tau = Difference(data_of(label, dtype), data_of(BASE_LABEL, dtype), dtype)
    return Voter(tau, keep, weight, weight - weight // 3)


def planes_of(form: str, chosen: Sequence[tuple[int, int]], dtype: str) -> Planes:
    part = range(ITEMS)
    if form == "sum":
        terms = [term(*pair, dtype) for pair in chosen]
        return numerics.sum_planes(terms, numerics.theta_grid(0, dtype), part)
    make = numerics.thinned_planes if form == "thinned" else numerics.vote_planes
    voters = [voter(*pair, dtype) for pair in chosen if pair[1]]
    return make(voters, numerics.tau_grid(0, dtype), part)


def finished(form: str, planes: Planes, dtype: str) -> bytes:
    output = Output(dtype, range(ITEMS))
    base = Items(data_of(BASE_LABEL, dtype), dtype)
    grid = numerics.tau_grid(0, dtype)
    if form == "sum":
        grid = numerics.theta_grid(0, dtype)
        rest = [Weighed(base, UNIT // 3)]
        return bytes(numerics.finish_sum(planes, rest, 7 * UNIT, grid, output))
    if form == "thinned":
        return bytes(numerics.finish_thinned(base, planes, 7 * UNIT, grid, output))
    return bytes(
        numerics.finish_votes(base, planes, grid, output, scale=0.3, normalize=True)
    )


def merged(form: str, chosen: Sequence[tuple[int, int]], dtype: str) -> bytes:
    """The same merge by the kernels that never stop."""
    output = Output(dtype, range(ITEMS))
    base = Items(data_of(BASE_LABEL, dtype), dtype)
    if form == "sum":
        terms = [term(*pair, dtype) for pair in chosen] + [Weighed(base, UNIT // 3)]
        grid = numerics.theta_grid(0, dtype)
        return bytes(numerics.weighted_sum(terms, 7 * UNIT, grid, output))
    grid = numerics.tau_grid(0, dtype)
    voters = [voter(*pair, dtype) for pair in chosen if pair[1]]
    if form == "thinned":
        return bytes(numerics.thinned_sum(base, voters, 7 * UNIT, grid, output))
    return bytes(
        numerics.consensus(base, voters, grid, output, scale=0.3, normalize=True)
    )


@backend
@dtypes
@pytest.mark.parametrize("form", ["sum", "thinned", "votes"])
@given(
    kept=st.lists(st.tuples(st.integers(0, 4), weights), max_size=3),
    gone=st.lists(st.tuples(st.integers(0, 4), weights), max_size=3),
    late=st.lists(st.tuples(st.integers(0, 4), weights), max_size=2),
)
def test_any_history_leaves_the_planes_and_the_bytes_of_a_fresh_sum(
    backend: str,
    dtype: str,
    form: str,
    kept: list[tuple[int, int]],
    gone: list[tuple[int, int]],
    late: list[tuple[int, int]],
) -> None:
    """What was taken away left no trace, in no bit of any plane, zeros' signs included."""
    with numerics.forced(backend):
        planes = planes_of(form, [*gone, *kept], dtype)
        planes -= planes_of(form, gone, dtype)
        planes += planes_of(form, late, dtype)
        fresh = planes_of(form, [*late, *kept], dtype)
        assert planes.tobytes() == fresh.tobytes()
        assert finished(form, planes, dtype) == merged(form, [*kept, *late], dtype)


def rounded(value: Fraction, step: Fraction) -> Fraction:
    """Return the multiple of `step` that is nearest, ties to even, in integers."""
    return round(value / step) * step


def limbs_by_hand(terms: Sequence[Weighed], grid: Grid) -> list[list[Fraction]]:
    """The limbs of each item's sum, of whole products, by the contract's page."""
    coarse = Fraction(2) ** grid.step_exponent
    steps = [coarse, coarse / 2**LIMB_BITS][: grid.limbs]
    columns = []
    for values in zip(
        *(numerics.upcast(t.vector.data, t.vector.dtype) for t in terms),  # type: ignore[union-attr]
        strict=True,
    ):
        limbs = [Fraction(0)] * grid.limbs
        for value, each in zip(values, terms, strict=True):
            rest = Fraction(float(value)) * each.weight
            for limb, step in enumerate(steps):
                limbs[limb] += rounded(rest, step)
                rest -= rounded(rest, step)
        columns.append(limbs)
    return [list(row) for row in zip(*columns, strict=True)]


@backend
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_planes_hold_what_rationals_say(backend: str, dtype: str) -> None:
    """Against fractions, limb by limb; weights are short, so that products are whole."""
    grid = numerics.theta_grid(0, dtype)
    terms = [term(label, UNIT >> (9 - label), dtype) for label in range(5)]
    with numerics.forced(backend):
        planes = numerics.sum_planes(terms, grid, range(ITEMS))
    found = [[Fraction(float(x)) for x in row] for row in planes]
    assert found == limbs_by_hand(terms, grid)


@backend
@dtypes
def test_votes_are_counted_on_the_side_of_their_sign(backend: str, dtype: str) -> None:
    """A negative weight votes for the other side; what does not stay does not vote."""
    chosen = [(2, UNIT), (3, -UNIT // 2), (4, 5)]
    with numerics.forced(backend):
        planes = planes_of("votes", chosen, dtype)
    expected = np.zeros((2, ITEMS))
    for label, weight in chosen:
        each = voter(label, weight, dtype)
        base = numerics.upcast(data_of(BASE_LABEL, dtype), dtype)
        theta = numerics.upcast(data_of(label, dtype), dtype)
        tau = numerics.task_vector(theta, base)
        words = numerics.random_words(each.keep.key, ITEMS)
        tau[(np.abs(tau) < 2.0**-4) | (words >= each.keep.limit)] = 0
        for side, sign in enumerate((1, -1)):
            expected[side] += np.where(tau * weight * sign > 0, weight, 0)
    assert planes.shape[0] == numerics.vote_rows(numerics.tau_grid(0, dtype))
    assert np.array_equal(planes[-2:], expected)


@backend
@pytest.mark.parametrize("form", ["sum", "thinned", "votes"])
def test_parts_of_planes_are_the_planes_of_parts(backend: str, form: str) -> None:
    """So a tensor's planes can be worked on piece by piece."""
    count, dtype, part = 5003, "F32", range(1001, 4999)
    base = stored(1, count, dtype)
    grid, sums = numerics.theta_grid(0, dtype), form == "sum"

    def planes(part: range) -> Planes:
        if sums:
            one = Weighed(Items(stored(2, count, dtype), dtype), 123_456_789_012)
            return numerics.sum_planes([one], grid, part)
        tau = Difference(stored(2, count, dtype), base, dtype)
        voters = [Voter(tau, Keep(0.01, b"8 bytes!", 1 << 31), UNIT, 7)]
        make = numerics.thinned_planes if form == "thinned" else numerics.vote_planes
        return make(voters, grid, part)

    with numerics.forced(backend):
        whole = planes(range(count))
        assert planes(part).tobytes() == whole[:, part.start : part.stop].tobytes()


def test_sums_that_would_not_stay_exact_are_refused() -> None:
    """The limits of sums hold where a sum is only begun."""
    grid, part = numerics.theta_grid(0, "BF16"), range(ITEMS)
    heavy = [term(1, 1 << 39, "BF16")] * 2
    with pytest.raises(ContractError, match=r"w: the sum of \|weights\|"):
        numerics.sum_planes(heavy, grid, part, "w")
    light = [Voter(Items(bytes(4), "F32"), Keep(), 1, 1)] * ((1 << 16) + 1)
    with pytest.raises(ContractError, match="65537 products"):
        numerics.thinned_planes(light, grid, range(1))
    with pytest.raises(ContractError, match="are not in vectors"):
        numerics.sum_planes(heavy[:1], grid, range(ITEMS + 1))


def test_planes_of_another_sum_are_refused() -> None:
    """Planes that do not fit the grid or the output, in number, length or dtype."""
    base, output = Items(bytes(2 * ITEMS), "BF16"), Output("BF16", range(ITEMS))
    grid = numerics.tau_grid(0, "BF16")
    for planes in (
        np.zeros((2, ITEMS)),
        np.zeros((1, ITEMS - 1)),
        np.zeros((1, ITEMS), np.float32),
    ):
        with pytest.raises(ContractError, match="are not float64"):
            numerics.finish_sum(planes, [], UNIT, grid, output)  # type: ignore[arg-type]
        with pytest.raises(ContractError, match="are not float64"):
            numerics.finish_thinned(base, planes, UNIT, grid, output)  # type: ignore[arg-type]
    with pytest.raises(ContractError, match="are not float64"):
        numerics.finish_votes(
            base, np.zeros((3, ITEMS)), grid, output, scale=1.0, normalize=True
        )
    with pytest.raises(ContractError, match="divided by 0"):
        numerics.finish_sum(np.zeros((1, ITEMS)), [], 0, grid, output)


@backend
def test_a_difference_beyond_float32_is_refused(backend: str) -> None:
    """No backend lets infinity into planes that are kept."""
    theta, base = (np.full(3, x).tobytes() for x in (3e38, -3e38))
    tau = Difference(theta, base, "F64", "contribution x")
    grid = numerics.tau_grid(128, "F64")
    voters = [Voter(tau, Keep(), UNIT, UNIT)]
    with numerics.forced(backend):
        for make in (numerics.thinned_planes, numerics.vote_planes):
            with pytest.raises(ContractError, match="contribution x: a difference"):
                make(voters, grid, range(3))
