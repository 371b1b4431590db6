"""Conversions: exact upcasts, one correct rounding, facts, headroom."""

import math
import struct
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import TensorFacts

# significand bits, exponent of the smallest subnormal, exponent above the largest
FORMATS = {
    "F32": (24, -149, 128),
    "BF16": (8, -133, 128),
    "F16": (11, -24, 16),
    "F8_E4M3": (4, -9, 9),
    "F8_E5M2": (3, -16, 16),
}
DTYPES = ("F64", "F32", "BF16", "F16", "F8_E4M3", "F8_E5M2")
TORCH_DTYPES = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}


def nearest_even(value: float, dtype: str) -> Fraction | None:
    """Round with rationals; None beyond the largest finite value."""
    bits, lowest, above = FORMATS[dtype]
    exact = abs(Fraction(value))
    quantum = Fraction(2) ** max(lowest, math.frexp(value)[1] - bits)
    rounded = round(exact / quantum) * quantum
    if rounded >= Fraction(2) ** above or (dtype == "F8_E4M3" and rounded > 448):
        return None
    return -rounded if value < 0 else rounded


def stored(data: bytes, dtype: str) -> float:
    """Read one stored item with the struct module, those of 8 bits with torch."""
    if dtype in TORCH_DTYPES:
        return (
            torch.tensor(list(data), dtype=torch.uint8).view(TORCH_DTYPES[dtype]).item()
        )
    if dtype == "BF16":
        return float(struct.unpack("<f", b"\0\0" + data)[0])
    return float(struct.unpack({"F16": "<e", "F32": "<f", "F64": "<d"}[dtype], data)[0])


def awkward_values(dtype: str) -> Iterator[float]:
    """Halves, neighbours of halves, powers, subnormals and the edges of a format."""
    bits, lowest, above = FORMATS[dtype]
    for exponent in (lowest - 2, lowest, lowest + 3, lowest + bits, -3, 0, above - 1):
        for odd in (1, 3, 2**bits - 1, 2**bits + 1, 2 ** (bits + 1) - 1):
            value = float(Fraction(odd) * Fraction(2) ** exponent)
            for near in (value, np.nextafter(value, np.inf), np.nextafter(value, 0)):
                yield from (float(near), -float(near))
    generator = np.random.default_rng(7)
    patterns = generator.integers(0, 2**64, 3000, dtype=np.uint64).view(np.float64)
    yield from (float(v) for v in patterns if np.isfinite(v))
    for _ in range(2000):
        scale = float(generator.integers(lowest - 3, above))
        yield float(np.ldexp(generator.standard_normal(), int(scale)))


@pytest.mark.parametrize("dtype", list(FORMATS))
def test_downcast_is_the_nearest_even_value(dtype: str) -> None:
    """Every finite float64 is rounded once, as rationals round it; overflow is refused."""
    for value in awkward_values(dtype):
        expected = nearest_even(value, dtype)
        if expected is None:
            with pytest.raises(ContractError, match="largest finite"):
                numerics.downcast(np.array([value]), dtype)
        else:
            got = numerics.downcast(np.array([value]), dtype)
            assert Fraction(stored(got, dtype)) == expected, value


def test_bfloat_is_not_rounded_twice() -> None:
    """A value just above a half goes up although float32 would put it on the half."""
    value = np.array([1 + 2.0**-8 + 2.0**-40])
    assert stored(numerics.downcast(value, "BF16"), "BF16") == 1 + 2.0**-7


@pytest.mark.parametrize("dtype", list(TORCH_DTYPES))
def test_all_256_patterns_are_read_as_torch_reads_them(dtype: str) -> None:
    """Every number, both zeros, subnormals, infinity and NaN."""
    patterns = bytes(range(256))
    expected = torch.frombuffer(bytearray(patterns), dtype=TORCH_DTYPES[dtype]).double()
    found = numerics.upcast(patterns, dtype)
    assert np.array_equal(found, expected.numpy(), equal_nan=True)
    numbers = ~np.isnan(found)
    assert np.array_equal(
        np.signbit(found)[numbers], np.signbit(expected.numpy())[numbers]
    )
    for pattern, value in zip(patterns, found, strict=True):
        assert numerics.inspect(bytes([pattern]), dtype).finite == np.isfinite(value)


@pytest.mark.parametrize("dtype", list(TORCH_DTYPES))
def test_halves_between_neighbours_go_to_the_even_one(dtype: str) -> None:
    """As torch rounds them; one unit of float64 beside the half, to the nearer one."""
    found = numerics.upcast(bytes(range(128)), dtype)
    numbers = found[np.isfinite(found)]
    lower, upper = numbers[:-1], numbers[1:]
    halves = (lower + upper) / 2  # exact
    rounded = torch.from_numpy(halves).to(TORCH_DTYPES[dtype]).double().numpy()
    for sign in (1, -1):
        for values, expected in (
            (halves, rounded),
            (np.nextafter(halves, 0), lower),
            (np.nextafter(halves, np.inf), upper),
        ):
            data = numerics.downcast(sign * values, dtype)
            assert (sign * numerics.upcast(data, dtype)).tolist() == expected.tolist()


@pytest.mark.parametrize(("dtype", "half"), [("F8_E4M3", 464.0), ("F8_E5M2", 61440.0)])
def test_above_the_largest_8_bit_number_a_result_is_refused(
    dtype: str, half: float
) -> None:
    """From the half to the next number on, which F8_E4M3 (448 is even) still holds."""
    held = [np.nextafter(half, 0)] + [half] * (dtype == "F8_E4M3")
    for value in held:
        largest = {"F8_E4M3": 448, "F8_E5M2": 57344}[dtype]
        assert stored(numerics.downcast(np.array([-value]), dtype), dtype) == -largest
    for value in ([] if half in held else [half]) + [np.nextafter(half, 1e9), 1e300]:
        with pytest.raises(ContractError, match=f"largest finite {dtype}"):
            numerics.downcast(np.array([0.0, -value]), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_stored_item_returns_to_its_bytes(dtype: str) -> None:
    """Upcast and downcast are inverse on all finite values; -0 becomes +0."""
    size = numerics.ITEM_BYTES[dtype]
    if size <= 2:
        patterns = np.arange(2 ** (8 * size), dtype=f"<u{size}")
    else:
        raw = np.random.default_rng(3).bytes(20_000 * size)
        patterns = np.frombuffer(raw, f"<u{size}")
    finite = [
        data
        for data in (pattern.tobytes() for pattern in patterns)
        if numerics.inspect(data, dtype).finite
    ]
    data = b"".join(finite)
    negative_zero = (1 << (8 * size - 1)).to_bytes(size, "little")
    expected = b"".join(bytes(size) if d == negative_zero else d for d in finite)
    values = numerics.upcast(data, dtype)
    assert [float(v) for v in values[:999]] == [stored(d, dtype) for d in finite[:999]]
    assert numerics.downcast(values, dtype) == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_downcast_refuses_what_is_not_finite(dtype: str, value: float) -> None:
    """No NaN or infinity leaves the contract, in any dtype."""
    with pytest.raises(ContractError, match="tensor 'a': a result is not finite"):
        numerics.downcast(np.array([1.0, value]), dtype, "tensor 'a'")


def test_a_dtype_without_arithmetic_is_refused() -> None:
    """Integer tensors have no arithmetic here."""
    with pytest.raises(ContractError, match="I64"):
        numerics.upcast(bytes(8), "I64")


def test_task_vector_is_one_rounding_of_the_exact_difference() -> None:
    """The difference is the nearest float32, without a negative zero."""
    generator = np.random.default_rng(1)
    theta = generator.standard_normal(500).astype(np.float32).astype(np.float64)
    base = generator.standard_normal(500).astype(np.float32).astype(np.float64)
    theta[:3], base[:3] = (-0.0, 0.5, 1e-60), (0.0, 0.5, 0.0)
    tau = numerics.task_vector(theta, base)
    for got, a, b in zip(tau, theta, base, strict=True):
        assert Fraction(float(got)) == nearest_even(float(a) - float(b), "F32")
    assert not np.signbit(tau[:3]).any()


def test_task_vector_beyond_float32_is_refused_by_name() -> None:
    """A float64 difference that float32 cannot hold names whose it is."""
    with pytest.raises(ContractError, match=r"contribution ab: .*beyond float32"):
        numerics.task_vector(np.array([1e39]), np.zeros(1), "contribution ab")


@pytest.mark.parametrize("dtype", DTYPES)
def test_inspect_finds_the_exponent(dtype: str) -> None:
    """E is the smallest with max|value| < 2**E, never below the floor."""

    def exponent(*values: float) -> int:
        data = numerics.downcast(np.array(values), dtype)
        return numerics.inspect(data, dtype).exponent

    assert [exponent(v) for v in (0.0, 2.0**-20, 0.5, 0.75)] == [0, 0, 0, 0]
    assert [exponent(0.5, v) for v in (1.0, -1.5, 2.0, -256.0)] == [1, 1, 2, 9]
    assert exponent() == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [0, 1, 300_000])
def test_inspect_finds_nan_and_infinity_anywhere(dtype: str, place: int) -> None:
    """One bad item among many is seen, with either sign, as NaN or infinity."""
    size = numerics.ITEM_BYTES[dtype]
    infinity = {
        "F64": 0x7FF << 52,
        "F32": 0xFF << 23,
        "BF16": 0xFF << 7,
        "F16": 31 << 10,
        "F8_E4M3": 0x7F,
        "F8_E5M2": 31 << 2,
    }
    sign = 1 << (8 * size - 1)
    for bits in (infinity[dtype], infinity[dtype] | sign, infinity[dtype] | 1):
        data = bytearray(300_001 * size)
        data[place * size : (place + 1) * size] = bits.to_bytes(size, "little")
        found = numerics.inspect(memoryview(data), dtype)
        is_infinite = bits & ~sign == infinity[dtype] and dtype != "F8_E4M3"
        word = "infinite" if is_infinite else "NaN"
        assert (found.finite, found.fault) == (False, f"item {place} is {word}")
    assert numerics.inspect(bytes(300_001 * size), dtype).finite


def test_headroom_ends_at_six_bits_over_the_base() -> None:
    """Below 2**(E + 6) passes, at it is refused by name; so is NaN."""
    base = numerics.inspect(struct.pack("<f", 0.9), "F32")
    below = struct.pack("<f", float(np.nextafter(np.float32(64), np.float32(0))))
    numerics.check_headroom(numerics.inspect(below, "F32"), base)
    at = numerics.inspect(struct.pack("<f", -64.0), "F32")
    with pytest.raises(ContractError, match=r"contribution ab, tensor 'w': .*headroom"):
        numerics.check_headroom(at, base, "contribution ab, tensor 'w'")
    with pytest.raises(ContractError, match="NaN"):
        numerics.check_headroom(TensorFacts(finite=False, exponent=0), base)


def test_a_base_beyond_the_contract_is_refused() -> None:
    """Float64 bases have a ceiling; NaN in a base is no base."""
    with pytest.raises(ContractError, match=r"2\^512"):
        numerics.check_base(numerics.inspect(struct.pack("<d", 2.0**512), "F64"))
    numerics.check_base(numerics.inspect(struct.pack("<d", 2.0**511), "F64"))
    with pytest.raises(ContractError, match="NaN"):
        numerics.check_base(TensorFacts(finite=False, exponent=0))
