"""Conversions between stored bytes and float64, and the facts that ingest checks.

Owns the exact upcasts, the one final rounding of the six dtypes, the task vector, and
finding NaN, infinity and the largest exponent. Does not own any sum. Stored bytes are
little-endian, dtypes carry the names of the safetensors format: F8_E5M2 is a float16 cut
to its upper byte; F8_E4M3 (torch: float8_e4m3fn) has no infinity and two NaNs, so that its
largest finite value is 448. Source: Micikevicius et al., "FP8 formats for deep learning",
arXiv:2209.05433.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crdtmerge.errors import ContractError
from crdtmerge.numerics.contract import (
    EXPONENT_MAX,
    EXPONENT_MIN,
    HEADROOM_BITS,
    prefix,
)

Floats: TypeAlias = NDArray[np.float64]
Singles: TypeAlias = NDArray[np.float32]
Data: TypeAlias = bytes | memoryview
"""The raw bytes of a tensor, or of a run of its items."""

SIGNIFICAND_BITS: Final[Mapping[str, int]] = MappingProxyType(
    {"F64": 53, "F32": 24, "BF16": 8, "F16": 11, "F8_E4M3": 4, "F8_E5M2": 3}
)
"""Significand bits (with the hidden one) of each dtype that has arithmetic."""

TAU_BITS: Final = SIGNIFICAND_BITS["F32"]
"""Significand bits of a task vector's items: they are float32 for every dtype."""

ITEM_BYTES: Final[Mapping[str, int]] = MappingProxyType(
    {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
)

_EIGHT: Final = frozenset({"F8_E4M3", "F8_E5M2"})
_SINGLE: Final = frozenset({"BF16", "F16", "F32"}) | _EIGHT
_HELD: Final = {
    "F8_E4M3": frozenset({"F8_E4M3"}),
    "F8_E5M2": frozenset({"F8_E5M2"}),
    "F16": frozenset({"F16"}) | _EIGHT,
    "BF16": frozenset({"BF16"}) | _EIGHT,
    "F32": _SINGLE,
    "F64": frozenset({"F64"}) | _SINGLE,
}
"""Which dtypes' items each holds exactly, from the smallest on."""

_INSPECT_ITEMS: Final = 1 << 18
_FLOATS: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_EXPONENT_LIMITS: Final = {
    "F64": 1024, "F32": 128, "BF16": 128, "F16": 16, "F8_E4M3": 9, "F8_E5M2": 16,
}  # fmt: skip
"""2 to this is beyond the largest finite value."""

_INFINITY_BITS: Final = {
    "F64": 0x7FF << 52,
    "F32": 0xFF << 23,
    "BF16": 0xFF << 7,
    "F16": 0x1F << 10,
    "F8_E4M3": 0x7F,
    "F8_E5M2": 0x1F << 2,
}
"""The least pattern without sign that is no number: infinity, where there is one."""

_FLOAT8: Final = {"F8_E4M3": (7, 2.0**8, -6), "F8_E5M2": (8, 1.0, -14)}
"""Bits that a float16 has more, times which it is the item, and the least exponent.

The item's bits, shifted up, are those of a float16 that is the item divided by the
second: its exponent has five bits, and the bias of F8_E4M3 is smaller by 8.
"""


def _float8_values(dtype: str) -> Floats:
    """Return what each of the 256 patterns stands for, NaN and infinity included."""
    fraction, least = SIGNIFICAND_BITS[dtype] - 1, _FLOAT8[dtype][2]
    found = np.full(128, np.nan)
    for pattern in range(_INFINITY_BITS[dtype]):
        field, bits = pattern >> fraction, pattern & ((1 << fraction) - 1)
        whole = bits + (1 << fraction if field else 0)
        found[pattern] = whole * 2.0 ** (max(field - 1, 0) + least - fraction)
    if dtype == "F8_E5M2":
        found[_INFINITY_BITS[dtype]] = np.inf
    return np.concatenate([found, -found])


_FLOAT8_VALUES: Final = {dtype: _float8_values(dtype) for dtype in _FLOAT8}


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """What one pass over a tensor's bytes tells.

    `exponent` is the smallest E with max|value| < 2**E, but at least `EXPONENT_MIN`: the
    E of the grid if the tensor is a base's. It says nothing where `finite` is false;
    `fault` then tells the first item, by its flat index, and whether it is NaN.
    """

    finite: bool
    exponent: int
    fault: str = ""


def check_dtype(dtype: str) -> None:
    """Refuse a dtype that the contract has no arithmetic for.

    Raises:
        ContractError: `dtype` is not one of `SIGNIFICAND_BITS`.
    """
    if dtype not in SIGNIFICAND_BITS:
        known = ", ".join(SIGNIFICAND_BITS)
        message = f"dtype {dtype!r} has no arithmetic; only {known} do"
        raise ContractError(message)


def item_count(data: Data, dtype: str) -> int:
    """Return how many items of `dtype` the bytes hold.

    Raises:
        ContractError: `dtype` has no arithmetic, or the bytes are not whole items.
    """
    check_dtype(dtype)
    size, width = memoryview(data).nbytes, ITEM_BYTES[dtype]
    if size % width:
        message = f"{size} bytes are not whole items of {dtype}"
        raise ContractError(message)
    return size // width


def upcast(data: Data, dtype: str) -> Floats:
    """Return the stored items as float64, exactly; the array is fresh and writable.

    Raises:
        ContractError: `dtype` has no arithmetic.
    """
    check_dtype(dtype)
    if dtype in _FLOAT8:
        return _FLOAT8_VALUES[dtype][np.frombuffer(data, np.uint8)]
    if dtype != "BF16":
        return np.frombuffer(data, _FLOATS[dtype]).astype(np.float64)
    bits = np.frombuffer(data, "<u2").astype(np.uint32)
    bits <<= np.uint32(16)
    return bits.view(np.float32).astype(np.float64)


def downcast(values: Floats, dtype: str, name: str = "") -> bytes:
    """Return `values` as stored bytes: one round-to-nearest-even, every zero +0.

    Raises:
        ContractError: a value is NaN, infinite, or beyond the dtype's largest finite one.
    """
    check_dtype(dtype)
    if not np.isfinite(values).all():
        message = f"{prefix(name)}a result is not finite"
        raise ContractError(message)
    bits: NDArray[Any]
    if dtype == "BF16":
        bits = _bfloat_bits(values)
    elif dtype in _FLOAT8:
        bits = _float8_bits(values, dtype)
    else:
        with np.errstate(all="ignore"):
            rounded = values.astype(_FLOATS[dtype])
        bits = rounded.view(f"<u{ITEM_BYTES[dtype]}")
    sign = 1 << (8 * ITEM_BYTES[dtype] - 1)
    if bits.size and int((bits & (sign - 1)).max()) >= _INFINITY_BITS[dtype]:
        message = f"{prefix(name)}a result is beyond the largest finite {dtype}"
        hint = "choose an output dtype of wider range"
        raise ContractError(message, hint=hint)
    bits[bits == sign] = 0
    return bits.tobytes()


def _bfloat_bits(values: Floats) -> NDArray[np.uint16]:
    """Round finite float64 to bfloat16 once: to float32 to odd, then to nearest-even.

    SUBTLE: float64 -> float32 -> bfloat16 by two roundings to nearest errs near halves.
    Rounding to odd keeps a last bit set wherever something was cut off, so the second
    rounding sees on which side of a half the value lies (Boldo and Melquiond, 2008).
    """
    with np.errstate(all="ignore"):
        single = values.astype(np.float32)
    back = single.astype(np.float64)
    bits = single.view(np.uint32)
    inexact = back != values
    bits -= np.abs(back) > np.abs(values)  # towards zero, from infinity too
    bits |= inexact
    bits += np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    bits >>= np.uint32(16)
    return bits.astype("<u2")


def _float8_bits(values: Floats, dtype: str) -> NDArray[np.uint8]:
    """Round finite float64 to an 8-bit format once, in float64.

    SUBTLE: with c = 1.5 * 2**52 units of the last place that the format has at a value,
    (value + c) - c is the nearest multiple of the unit, ties to the even one, as on the
    grid of sums. What is left after it is exact.
    """
    shift, scale, least = _FLOAT8[dtype]
    _, exponents = np.frexp(values)
    exponents = np.maximum(exponents - 1, least) - (SIGNIFICAND_BITS[dtype] - 1)
    with np.errstate(over="ignore"):
        c = np.ldexp(1.5 * 2.0**52, np.minimum(exponents, 900))
        rounded = np.abs((values + c) - c) / scale
        halves = rounded.astype(np.float16).view(np.uint16)
    bits: NDArray[np.uint8] = np.minimum(halves >> shift, 0x7F).astype(np.uint8)
    bits |= np.signbit(values).astype(np.uint8) << np.uint8(7)
    return bits


def task_vector(theta: Floats, base: Floats, name: str = "") -> Singles:
    """Return theta - base: one float64 subtraction, rounded once to float32.

    Selection works on these bits. Every zero is +0.

    Raises:
        ContractError: a difference is NaN or beyond the largest finite float32.
    """
    with np.errstate(all="ignore"):
        tau = (theta - base).astype(np.float32)
    if not np.isfinite(tau).all():
        message = f"{prefix(name)}a difference to the base is beyond float32"
        raise ContractError(message)
    tau += np.float32(0)  # -0 + 0 = +0; everything else stays
    return tau


def given_task_vector(data: Data, dtype: str, name: str = "") -> Singles:
    """Return a task vector that is stored as such, rounded once to float32.

    Raises:
        ContractError: an item is NaN or beyond the largest finite float32.
    """
    return task_vector(upcast(data, dtype), np.zeros(1), name)


def within_reach(exponent: int, dtype: str) -> bool:
    """Tell whether two values below 2**`exponent` surely have a sum that `dtype` holds."""
    return exponent + 1 < _EXPONENT_LIMITS[dtype]


def check_reach(base: Data, tau: Singles, dtype: str, name: str = "") -> None:
    """Refuse a task vector whose sum with the base's tensor `dtype` cannot hold.

    Only a dtype of narrow range can be left within the headroom; most tensors are far
    from its end, which the exponents tell.

    Raises:
        ContractError: an item of the sum is beyond the largest finite value.
    """
    largest = max(inspect(base, dtype).exponent, inspect(tau.data, "F32").exponent)
    if within_reach(largest, dtype):
        return
    try:
        downcast(upcast(base, dtype) + tau, dtype)
    except ContractError as e:
        message = f"{prefix(name)}with the base it is beyond the largest finite {dtype}"
        raise ContractError(message) from e


def holding(dtypes: Iterable[str]) -> str:
    """Return the smallest dtype that holds every item of each of these, exactly.

    Raises:
        ContractError: one of them has no arithmetic.
    """
    asked = set(dtypes)
    for dtype in asked:
        check_dtype(dtype)
    return next(dtype for dtype, held in _HELD.items() if asked <= held)


def check_range(data: Data, dtype: str, into: str, name: str = "") -> None:
    """Refuse a tensor with a value that is beyond the largest of another dtype.

    Raises:
        ContractError: there is one.
    """
    if inspect(data, dtype).exponent < _EXPONENT_LIMITS[into]:
        return
    view, size = memoryview(data).cast("B"), ITEM_BYTES[dtype] * _INSPECT_ITEMS
    try:
        for start in range(0, view.nbytes, size):
            downcast(upcast(view[start : start + size], dtype), into)
    except ContractError as e:
        message = f"{prefix(name)}a value of it is beyond the largest finite {into}"
        raise ContractError(message, hint=f"the base is {into}") from e


def inspect(data: Data, dtype: str) -> TensorFacts:
    """Return whether all items are finite, and the exponent of the largest magnitude.

    Works on bit patterns: without the sign they order as the magnitudes do, and infinity
    and NaN are the largest.

    Raises:
        ContractError: `dtype` has no arithmetic.
    """
    check_dtype(dtype)
    size = ITEM_BYTES[dtype]
    bits = np.frombuffer(data, f"<u{size}")
    mask = (1 << (8 * size - 1)) - 1
    largest = 0
    for start in range(0, bits.size, _INSPECT_ITEMS):
        largest = max(largest, int((bits[start : start + _INSPECT_ITEMS] & mask).max()))
    return facts_of(largest, dtype)


def facts_of(largest: int, dtype: str) -> TensorFacts:
    """Return the facts of a tensor whose largest bit pattern, without sign, this is."""
    if largest >= _INFINITY_BITS[dtype]:
        return TensorFacts(finite=False, exponent=EXPONENT_MIN)
    value = float(upcast(largest.to_bytes(ITEM_BYTES[dtype], "little"), dtype)[0])
    return TensorFacts(finite=True, exponent=max(math.frexp(value)[1], EXPONENT_MIN))


def fault_of(data: Data, dtype: str, first: int = 0) -> str:
    """Name the first item that is NaN or infinite; empty if there is none.

    `first` is what number the first item of `data` has in its tensor.
    """
    size = ITEM_BYTES[dtype]
    bits = np.frombuffer(data, f"<u{size}")
    mask, infinity = (1 << (8 * size - 1)) - 1, _INFINITY_BITS[dtype]
    for start in range(0, bits.size, _INSPECT_ITEMS):
        part = bits[start : start + _INSPECT_ITEMS] & mask
        if (place := int((part >= infinity).argmax())) or part[:1] >= infinity:
            is_infinite = part[place] == infinity and dtype != "F8_E4M3"
            item = first + start + place
            return f"item {item} is {'infinite' if is_infinite else 'NaN'}"
    return ""


def check_base(base: TensorFacts, name: str = "") -> None:
    """Refuse a base tensor that no grid can be laid for.

    Raises:
        ContractError: it holds NaN or infinity, or values of 2**`EXPONENT_MAX` and above.
    """
    if not base.finite:
        message = f"{prefix(name)}the base holds NaN or infinity: {base.fault}"
        raise ContractError(message)
    if base.exponent > EXPONENT_MAX:
        message = f"{prefix(name)}the base holds values of 2^{EXPONENT_MAX} or above"
        raise ContractError(message)


def check_headroom(theta: TensorFacts, base: TensorFacts, name: str = "") -> None:
    """Refuse a contribution's tensor that the grid of the base's tensor cannot hold.

    Raises:
        ContractError: it holds NaN or infinity, or a magnitude of 2**(E +
            `HEADROOM_BITS`) and above, where E is the base tensor's exponent.
    """
    if not theta.finite:
        message = f"{prefix(name)}it holds NaN or infinity: {theta.fault}"
        hint = "train or export it again; such values cannot be merged"
        raise ContractError(message, hint=hint)
    limit = base.exponent + HEADROOM_BITS
    if theta.exponent > limit:
        message = (
            f"{prefix(name)}its largest value is 2^{theta.exponent - 1} or more, the"
            f" headroom over the base ends at 2^{limit}"
        )
        hint = f"values may grow over the base's largest by 2^{HEADROOM_BITS} at most"
        raise ContractError(message, hint=hint)
