"""Weighted sums against whole numbers, and what stays as it is, bit for bit."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crdtmerge import numerics
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError

COUNT = 60_000
PLACES = 60
"""Binary places that hold every bfloat16 of realistic data exactly."""

Ints = NDArray[Any]


def tuned(seed: int) -> NDArray[np.float32]:
    """Return weights as models have them: a common base, and a small change."""
    base = np.random.default_rng(0).standard_normal(COUNT) / 16
    change = np.random.default_rng(seed).standard_normal(COUNT) / 512
    return (base + change).astype(np.float32)


def bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return bfloat16 patterns, cut off."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def whole(patterns: NDArray[np.uint16]) -> Ints:
    """Return the values times 2**PLACES, as integers, from their patterns alone."""
    exponents = (patterns >> 7) & 0xFF
    significands = (patterns & 0x7F) | np.where(exponents > 0, 0x80, 0)
    shifts = np.maximum(exponents, 1).astype(int) - 127 - 7 + PLACES
    used = significands.astype(object)
    assert (shifts[significands > 0] >= 0).all(), "a value has more binary places"
    scaled = np.array([int(m) << max(s, 0) for m, s in zip(used, shifts, strict=True)])
    signed: Ints = np.where(patterns >> 15, -1, 1).astype(object) * scaled
    return signed


def nearest_bf16(total: int, divisor: int) -> int:
    """Return the pattern nearest to total / (divisor * 2**PLACES), ties to even."""
    sign, magnitude = (0x8000, -total) if total < 0 else (0, total)
    if not magnitude:
        return 0
    value = Fraction(magnitude, divisor << PLACES)
    exponent = 0
    while value >= Fraction(2) ** exponent:
        exponent += 1
    while value < Fraction(2) ** (exponent - 1):
        exponent -= 1
    # Now 2**(exponent - 1) <= value < 2**exponent: eight bits from there.
    unit = exponent - 8
    scaled = value / Fraction(2) ** unit
    top, bottom = scaled.numerator, scaled.denominator
    quotient, rest = divmod(top, bottom)
    if 2 * rest > bottom or (2 * rest == bottom and quotient & 1):
        quotient += 1
    return sign | ((unit + 7 + 127) << 7) + (quotient - 0x80)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 1, 1, 1, 1, 1, 1, 1), (3, 1, 2)])
def test_realistic_bf16_means_are_rounded_correctly(
    weights: tuple[int, ...], backend: str
) -> None:
    """Each item is the bfloat16 nearest to the true mean, found with whole numbers."""
    models = [bf16(tuned(seed)) for seed in range(1, len(weights) + 1)]
    terms = [
        numerics.Weighed(numerics.Items(m.tobytes(), "BF16"), w * DECIMAL_UNIT)
        for m, w in zip(models, weights, strict=True)
    ]
    with numerics.forced(backend):
        found = numerics.weighted_sum(
            terms,
            sum(weights) * DECIMAL_UNIT,
            numerics.theta_grid(0, "BF16"),
            numerics.Output("BF16", range(COUNT)),
        )
    totals = whole(models[0]) * 0
    for model, weight in zip(models, weights, strict=True):
        totals += whole(model) * weight
    expected = [nearest_bf16(int(total), sum(weights)) for total in totals]
    assert np.frombuffer(found, np.uint16).tolist() == expected


FLOORS = {"BF16": -60, "F16": -23, "F32": -44}


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", FLOORS)
@pytest.mark.parametrize("copies", [1, 2, 3, 7])
def test_identical_contributions_are_themselves(
    dtype: str, copies: int, backend: str
) -> None:
    """Any number of equal contributions of weight 1 gives that contribution, bit for bit.

    Down to the floor of one contribution alone; just below it something is lost.
    """
    spread = np.random.default_rng(1).uniform(0.5, 1, 5000)
    least = max(FLOORS[dtype], -24 if dtype == "F16" else -200)
    powers = np.linspace(0, least + 1, 5000).astype(int)
    data = numerics.downcast(np.ldexp(spread, powers), dtype)

    def merged(stored: bytes) -> bytes:
        terms = [numerics.Weighed(numerics.Items(stored, dtype), DECIMAL_UNIT)] * copies
        items = len(stored) // numerics.ITEM_BYTES[dtype]
        with numerics.forced(backend):
            made = numerics.weighted_sum(
                terms,
                copies * DECIMAL_UNIT,
                numerics.theta_grid(0, dtype),
                numerics.Output(dtype, range(items)),
            )
        return bytes(made)

    assert merged(data) == data
    if dtype != "F16":  # its smallest items lie above
        below = numerics.downcast(np.ldexp(spread, FLOORS[dtype] - 4), dtype)
        assert merged(below) != below


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_terms_of_weight_zero_leave_no_trace(backend: str) -> None:
    """A term of weight zero changes no bit, whatever its items are."""
    items = [numerics.Items(bf16(tuned(seed)).tobytes(), "BF16") for seed in (1, 2)]
    grid = numerics.theta_grid(0, "BF16")
    output = numerics.Output("BF16", range(COUNT))
    one = numerics.Weighed(items[0], DECIMAL_UNIT // 3)
    none = numerics.Weighed(items[1], 0)
    with numerics.forced(backend):
        alone = numerics.weighted_sum([one], DECIMAL_UNIT, grid, output)
        both = numerics.weighted_sum([none, one], DECIMAL_UNIT, grid, output)
    assert bytes(alone) == bytes(both)


@pytest.mark.parametrize("units", [(1, 1, 1, 1), (1, 2, 3), (7, 5), (333_333_333, 1)])
@pytest.mark.parametrize("high", [0, -7])
def test_sums_in_short_have_the_bytes_of_the_grid(
    units: tuple[int, ...], high: int
) -> None:
    """Blocks of every spread of magnitudes, on both sides of where the grid rounds."""
    scale = 1 if units[0] > 1000 else DECIMAL_UNIT
    weights = [unit * scale for unit in units]
    blocks, size = 60, 2048
    generator = np.random.default_rng(5)
    powers = np.repeat(-np.arange(blocks), size)  # each block reaches lower by one bit
    terms = []
    for weight in weights:
        drawn = generator.uniform(1, 2, blocks * size) * generator.choice([-1, 1], 1)
        reach = np.floor(generator.uniform(0, 1, blocks * size) * (powers - 1))
        values = np.ldexp(drawn, high - 1 + reach.astype(int)).astype(np.float32)
        values[::37] = 0
        terms.append(
            numerics.Weighed(numerics.Items(bf16(values).tobytes(), "BF16"), weight)
        )
    output = numerics.Output("F64", range(blocks * size))
    made = []
    for backend in ("reference", "cpu"):
        with numerics.forced(backend):
            grid = numerics.theta_grid(0, "BF16")
            found = numerics.weighted_sum(terms, sum(weights), grid, output)
            made.append(np.frombuffer(found, np.float64).reshape(blocks, size))
    assert np.array_equal(made[0], made[1])


def test_realistic_models_are_summed_in_short() -> None:
    """Nearly all blocks of such models take the short way, or it would be no use."""
    from crdtmerge.numerics.cpu.formats import addresses_of
    from crdtmerge.numerics.cpu.short_sums import is_short, short_of

    items = [numerics.Items(bf16(tuned(seed)).tobytes(), "BF16") for seed in range(4)]
    terms = [numerics.Weighed(item, DECIMAL_UNIT) for item in items]
    short = short_of(terms, 4 * DECIMAL_UNIT, numerics.theta_grid(0, "BF16"))
    table, held = addresses_of(items)
    starts = range(0, COUNT - 2048, 2048)
    taken = sum(is_short(table, s, 2048, short.spread, short.least) for s in starts)
    assert held
    assert taken > 0.8 * len(starts)


@pytest.mark.parametrize("weight", [DECIMAL_UNIT, 333_333_333, 2**39 - 12345])
@pytest.mark.parametrize("dtype", ["F64", "BF16"])
def test_task_vectors_of_any_dtype_count_as_float32(dtype: str, weight: int) -> None:
    """A task vector stored wider or narrower has the sums of its float32 items."""
    values = np.array([0.3, 0.7, -0.1, 1.2])
    stored = numerics.downcast(values, dtype)
    single = numerics.downcast(numerics.upcast(stored, dtype), "F32")
    base, grid = numerics.Items(bytes(16), "F32"), numerics.tau_grid(0, "F32")
    output = numerics.Output("F32", range(4))

    def merged(tau: numerics.Items, backend: str) -> list[bytes]:
        voters = [numerics.Voter(tau, numerics.Keep(), weight, weight)]
        with numerics.forced(backend):
            planes = numerics.vote_planes(voters, grid, range(4))
            sums = numerics.thinned_planes(voters, grid, range(4))
            return [
                bytes(numerics.thinned_sum(base, voters, weight, grid, output)),
                bytes(
                    numerics.consensus(
                        base, voters, grid, output, scale=1.0, normalize=False
                    )
                ),
                planes.tobytes(),
                sums.tobytes(),
            ]

    expected = merged(numerics.Items(single, "F32"), "reference")
    for backend in ("reference", "cpu"):
        assert merged(numerics.Items(stored, dtype), backend) == expected


@pytest.mark.parametrize(("weight", "coefficient"), [(0, 1), (0, -1), (1, -1), (-1, 1)])
def test_a_voter_whose_side_cannot_be_told_is_refused(
    weight: int, coefficient: int
) -> None:
    """The side is the sign of weight * tau, so what is summed there needs that sign."""
    tau = numerics.Items(bf16(tuned(1)).tobytes(), "BF16")
    base, output = numerics.Items(tau.data, "BF16"), numerics.Output("BF16", range(9))
    voters = [numerics.Voter(tau, numerics.Keep(), weight, coefficient)]
    grid = numerics.tau_grid(0, "BF16")
    with pytest.raises(ContractError, match="another sign"):
        numerics.consensus(base, voters, grid, output, scale=1.0, normalize=True)
    with pytest.raises(ContractError, match="another sign"):
        numerics.vote_planes(voters, grid, range(9))


@pytest.mark.parametrize(
    ("count", "weights"), [(0, ()), (1, (0,)), (2, (1, 0)), (2, (1, -1)), (2, (1,))]
)
def test_a_median_without_weight_is_refused(
    count: int, weights: tuple[int, ...]
) -> None:
    """Half of no weight lies nowhere: a loop that looks for it would run off the end."""
    vectors = [numerics.Items(bytes(8), "BF16")] * count
    with pytest.raises(ContractError, match="no median"):
        numerics.weighted_median(vectors, weights, numerics.Output("BF16", range(0)))
