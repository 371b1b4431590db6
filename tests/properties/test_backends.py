"""The compiled kernels against the reference, on inputs that nobody chose."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge import numerics
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics import backends

DTYPES = tuple(numerics.ITEM_BYTES)
CPU, REFERENCE = backends.load("cpu"), backends.load("reference")
WEIGHTS = st.integers(-(2**36), 2**36).filter(bool) | st.sampled_from(
    [DECIMAL_UNIT, DECIMAL_UNIT // 3, -1, 1]
)


def bits_of(draw: st.DrawFn, dtype: str, count: int, *, below: float) -> memoryview:
    """Return finite items below a bound, of any pattern, at any offset in memory."""
    width = numerics.ITEM_BYTES[dtype]
    seed = draw(st.integers(0, 2**32))
    generator = np.random.default_rng(seed)
    raw = np.frombuffer(generator.bytes(count * width), f"<u{width}").copy()
    with np.errstate(all="ignore"):
        values = numerics.upcast(raw.tobytes(), dtype)
        raw[~(np.abs(values) < below)] = 0
    offset = draw(st.integers(0, 3))
    return memoryview(b"\xff" * offset + raw.tobytes())[offset:]


@st.composite
def vectors(draw: st.DrawFn) -> tuple[str, int, list[Any]]:
    """Return a dtype, a number of items, and vectors of every kind on one base."""
    dtype = draw(st.sampled_from(DTYPES))
    count = draw(st.integers(0, 70) | st.integers(2040, 2060))
    base = bits_of(draw, dtype, count, below=1.0)
    found: list[Any] = []
    for _ in range(draw(st.integers(1, 4))):
        data = bits_of(draw, dtype, count, below=64.0)
        tau = bits_of(draw, "F32", count, below=64.0)
        found.append(
            draw(
                st.sampled_from(
                    [
                        numerics.Items(data, dtype),
                        numerics.Difference(data, base, dtype, "a case"),
                        numerics.Items(tau, "F32"),
                    ]
                )
            )
        )
    return dtype, count, [numerics.Items(base, dtype), *found]


def agree(run: Callable[[Any], Any]) -> None:
    """Compare what two backends give: bytes, or the refusal."""

    def outcome(module: Any) -> bytes | str:
        try:
            found = run(module)
        except ContractError as e:
            return str(e)
        return (
            bytes(found) if isinstance(found, memoryview | bytes) else found.tobytes()
        )

    assert outcome(CPU) == outcome(REFERENCE)


def a_part(draw: st.DrawFn, count: int) -> range:
    """Return some of the items, or none."""
    start = draw(st.integers(0, count))
    return range(start, draw(st.integers(start, count)))


@given(st.data())
def test_weighted_sums_have_the_bytes_of_the_reference(data: st.DataObject) -> None:
    """Any dtype, limbs, weights of any width and sign, any part, any alignment."""
    dtype, count, (base, *others) = data.draw(vectors())
    terms = [numerics.Weighed(v, data.draw(WEIGHTS)) for v in (base, *others)]
    divisor = data.draw(WEIGHTS)
    to = data.draw(st.sampled_from(DTYPES))
    output = numerics.Output(to, data.draw(st.builds(lambda: range(count))), "t")
    grid = numerics.theta_grid(data.draw(st.integers(0, 5)), dtype)
    agree(lambda module: module.weighted_sum(terms, divisor, grid, output))


def keeps(draw: st.DrawFn) -> numerics.Keep:
    """Return a trim, a draw, both or neither."""
    least = draw(st.sampled_from([0.0, 2.0**-20, 0.5, float("inf")]))
    if draw(st.booleans()):
        return numerics.Keep(least)
    limit = draw(st.integers(0, 2**32))
    return numerics.Keep(least, draw(st.binary(min_size=8, max_size=8)), limit)


@given(st.data(), st.booleans(), st.sampled_from([1.0, 0.3, 0.0]))
def test_votes_have_the_bytes_of_the_reference(
    data: st.DataObject, normalize: bool, scale: float
) -> None:
    """Elections and thinned sums, over any trims and draws, weights and coefficients."""
    dtype, count, (base, *others) = data.draw(vectors())
    taus = [
        v
        if v.dtype == "F32" or isinstance(v, numerics.Difference)
        else numerics.Difference(v.data, base.data, dtype, "a case")
        for v in others
    ]
    voters = []
    for tau in taus:
        weight, coefficient = data.draw(WEIGHTS), data.draw(st.integers(0, 2**36))
        signed = coefficient if weight > 0 else -coefficient
        keep = data.draw(st.composite(keeps)())
        voters.append(numerics.Voter(tau, keep, weight, signed))
    output = numerics.Output(
        data.draw(st.sampled_from(DTYPES)),
        data.draw(st.composite(a_part)(count)),
        "t",
    )
    grid = numerics.tau_grid(0, dtype)
    agree(
        lambda module: module.consensus(
            base, voters, grid, output, scale=scale, normalize=normalize
        )
    )
    agree(lambda module: module.thinned_sum(base, voters, DECIMAL_UNIT, grid, output))


@given(st.data())
def test_medians_have_the_bytes_of_the_reference(data: st.DataObject) -> None:
    """Equal weights and others, models and base plus task vector."""
    dtype, count, (base, *others) = data.draw(vectors())
    used = [
        numerics.Shifted(v.data, base.data, dtype)
        if isinstance(v, numerics.Items) and v.dtype == "F32"
        else v
        for v in others
    ]
    size = st.lists(st.integers(1, 5), min_size=len(used), max_size=len(used))
    weights = data.draw(size)
    output = numerics.Output(dtype, data.draw(st.composite(a_part)(count)), "t")
    agree(lambda module: module.weighted_median(used, weights, output))


@given(st.data())
def test_inner_products_have_the_bytes_of_the_reference(data: st.DataObject) -> None:
    """Rows of any length, of vectors of every kind."""
    _, count, found = data.draw(vectors())
    length = data.draw(st.integers(0, count))
    rows = count // length if length else 1
    first = data.draw(st.integers(0, rows - 1 if rows else 0))
    sets = range(first, max(rows, first))
    agree(lambda module: module.inner_products(found, length, sets, 2))


@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["normal", "ties", "sorted", "two values", "a cliff"])
def test_kth_largest_is_that_of_a_sort(kind: str, share: float) -> None:
    """Where the sample misleads the bracket misses, and the place is found all the same."""
    count = 300_007
    generator = np.random.default_rng(3)
    values = generator.standard_normal(count).astype(np.float32)
    if kind == "ties":
        values = np.rint(values * 2).astype(np.float32)
    if kind == "sorted":
        values = np.sort(values)
    if kind == "two values":
        values = np.where(values > 0, np.float32(3), np.float32(1))
    if kind == "a cliff":  # all that is large lies between the runs of the sample
        values = np.full(count, 1e-3, np.float32)
        values[7::19] = generator.standard_normal(values[7::19].size)
    k = max(1, int(count * share))
    expected = np.sort(np.abs(values))[count - k]
    tau = numerics.Items(values.tobytes(), "F32")
    for threads in (1, 2):
        with numerics.forced("cpu", threads=threads):
            assert numerics.kth_largest(tau, k) == [expected]
