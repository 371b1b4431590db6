"""Stored items and float64: loading a block of a vector, storing a block of results.

Owns the compiled conversions of every dtype, and the table in which loops find their
vectors. Does not own what vectors mean (`numerics.vectors`) or dtypes round to
(`reference.dtypes`).

Narrow formats are float32 with a shorter significand and another bias: shifting their
bits up and scaling by a power of two gives the value, exactly, subnormals included. The
way back rounds in float64: (q + c) - c with c = 1.5 * 2**52 units of the last place that
the format has at q, which is one rounding to nearest, ties to even; then bits shift down.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics.cpu.compiling import at, compiled
from crdtmerge.numerics.reference.dtypes import ITEM_BYTES, Data
from crdtmerge.numerics.vectors import Difference, Items, Shifted, Vector

F64: Final = 0
F32: Final = 1
BF16: Final = 2
F16: Final = 3
E4M3: Final = 4
E5M2: Final = 5
CODES: Final = {
    "F64": F64, "F32": F32, "BF16": BF16, "F16": F16, "F8_E4M3": E4M3, "F8_E5M2": E5M2,
}  # fmt: skip

BLOCK: Final = 2048
"""Items in flight: all buffers of a block stay in the first cache."""

ITEMS: Final = 0
DIFFERENCE: Final = 1
SHIFTED: Final = 2

Table = NDArray[np.uint64]
"""One row a vector: its kind, its dtype's code, two addresses, the base's dtype's code."""

_SINGLE_MAX: Final = 3.4028234663852886e38
_DOUBLE_MAX: Final = 1.7976931348623157e308
_BF16_MAX: Final = 3.3895313892515355e38
_LARGEST: Final = np.array(
    [_DOUBLE_MAX, _SINGLE_MAX, _BF16_MAX, 65504.0, 448.0, 57344.0]
)
_PRECISION: Final = np.array([53, 24, 8, 11, 4, 3])
_LEAST_EXPONENT: Final = np.array([-1022, -126, -126, -14, -6, -14])
_SHIFT: Final = np.array([0, 0, 16, 13, 20, 21], dtype=np.uint32)
_SCALE: Final = np.array([1.0, 1.0, 1.0, 2.0**112, 2.0**120, 2.0**112])

_U32: Final = np.uint32
_I64: Final = np.int64


def addresses_of(vectors: Sequence[Vector]) -> tuple[Table, list[Any]]:
    """Return the table of vectors, and what must live as long as it is used."""
    table = np.zeros((len(vectors), 5), dtype=np.uint64)
    held: list[Any] = []

    def place(data: Data, dtype: str) -> int:
        array = np.frombuffer(data, np.uint8)
        if array.ctypes.data % ITEM_BYTES[dtype]:
            array = array.copy()  # loops read whole items, on their boundaries
        held.append(array)
        return array.ctypes.data

    for row, vector in zip(table, vectors, strict=True):
        code = CODES[vector.dtype]
        match vector:
            case Items(data, dtype):
                row[:] = ITEMS, code, place(data, dtype), 0, code
            case Difference(theta, base, dtype):
                at_base = place(base, vector.of_base)
                base_code = CODES[vector.of_base]
                row[:] = DIFFERENCE, code, place(theta, dtype), at_base, base_code
            case Shifted(tau, base, dtype):
                row[:] = SHIFTED, code, place(base, dtype), place(tau, "F32"), code
    return table, held


@compiled
def load_stored(
    code: int, address: Any, first: int, n: int, out: NDArray[np.float64]
) -> None:
    """Fill `out` with n items from item `first` on."""
    end = first + n
    if code == F64:
        doubles = at(address, np.float64, end)[first:end]
        for i in range(n):
            out[i] = doubles[i]
    elif code == F32:
        singles = at(address, np.float32, end)[first:end]
        for i in range(n):
            out[i] = singles[i]
    elif code == BF16:
        words = at(address, np.uint16, end)[first:end]
        for i in range(n):
            out[i] = _U32(_U32(words[i]) << _U32(16)).view(np.float32)
    elif code == F16:
        words = at(address, np.uint16, end)[first:end]
        shift, scale = _SHIFT[code], _SCALE[code]
        for i in range(n):
            word = _U32(words[i])
            bits = _U32(_U32(word & _U32(0x7FFF)) << shift)
            signed = _U32(bits | _U32(_U32(word & _U32(0x8000)) << _U32(16)))
            out[i] = np.float64(signed.view(np.float32)) * scale
    else:
        octets = at(address, np.uint8, end)[first:end]
        shift, scale = _SHIFT[code], _SCALE[code]
        for i in range(n):
            word = _U32(octets[i])
            bits = _U32(_U32(word & _U32(0x7F)) << shift)
            signed = _U32(bits | _U32(_U32(word & _U32(0x80)) << _U32(24)))
            out[i] = np.float64(signed.view(np.float32)) * scale


@compiled
def load(
    row: Any,
    first: int,
    n: int,
    out: NDArray[np.float64],
    other: NDArray[np.float64],
) -> bool:
    """Fill `out` with n items of a vector; `other` is room for as many.

    Return whether a difference was beyond float32.
    """
    load_stored(row[1], row[2], first, n, out)
    if row[0] == DIFFERENCE:
        load_stored(row[4], row[3], first, n, other)
        bad = False
        for i in range(n):
            single = np.float32(out[i] - other[i])
            bad |= not abs(single) <= np.float32(_SINGLE_MAX)
            out[i] = np.float64(single) + 0.0
        return bad
    if row[0] == SHIFTED:
        load_stored(F32, row[3], first, n, other)
        for i in range(n):
            out[i] += other[i]
    return False


@compiled
def load_tau(
    row: Any,
    first: int,
    tau: NDArray[np.float32],
    x: NDArray[np.float64],
    other: NDArray[np.float64],
) -> bool:
    """Fill `tau` with the items of a task vector from item `first` on.

    `x` and `other` are room for as many. Return whether a difference was beyond float32.

    SUBTLE: items of at most 24 bits are subtracted in float32. That has the bits of a
    float64 subtraction rounded once to float32, since 53 >= 2 * 24 + 2 (Figueroa, "When
    is double rounding innocuous?", 1995).
    """
    n = tau.size
    end = first + n
    alike = row[0] == DIFFERENCE and row[1] == row[4]
    if alike and row[1] == BF16:
        halves = at(row[2], np.uint16, end)[first:end]
        bases = at(row[3], np.uint16, end)[first:end]
        for i in range(n):
            theta = _U32(_U32(halves[i]) << _U32(16)).view(np.float32)
            tau[i] = theta - _U32(_U32(bases[i]) << _U32(16)).view(np.float32)
    elif alike and row[1] == F32:
        singles = at(row[2], np.float32, end)[first:end]
        others = at(row[3], np.float32, end)[first:end]
        for i in range(n):
            tau[i] = singles[i] - others[i]
    elif row[0] != DIFFERENCE and row[1] == F32:
        singles = at(row[2], np.float32, end)[first:end]
        for i in range(n):
            tau[i] = singles[i]
    else:
        load(row, first, n, x, other)
        for i in range(n):
            tau[i] = np.float32(x[i])
    largest = _U32(0)
    for i in range(n):
        bits = _U32(np.float32(tau[i]).view(np.uint32) & _U32(0x7FFF_FFFF))
        largest = max(largest, bits)
    return bool(largest >= _U32(0x7F80_0000))


@compiled
def store(code: int, address: Any, first: int, n: int, values: Any) -> bool:
    """Round n results into items from item `first` on, every zero +0.

    Return whether one was not finite, or beyond the largest finite item.
    """
    end, bad = first + n, False
    if code == F64:
        doubles = at(address, np.float64, end)[first:end]
        for i in range(n):
            doubles[i] = values[i] + 0.0
            bad |= not abs(values[i]) <= _DOUBLE_MAX
    elif code == F32:
        singles = at(address, np.float32, end)[first:end]
        for i in range(n):
            single = np.float32(values[i]) + np.float32(0.0)
            singles[i] = single
            bad |= not abs(single) <= np.float32(_SINGLE_MAX)
    elif code == BF16:
        words = at(address, np.uint16, end)[first:end]
        bad = _store_bf16(values, n, words)
    elif code == F16:
        words = at(address, np.uint16, end)[first:end]
        bad = _narrow(code, values, n, words, _U32(16))
    else:
        octets = at(address, np.uint8, end)[first:end]
        bad = _narrow(code, values, n, octets, _U32(24))
    return bad


@compiled
def _store_bf16(values: Any, n: int, out: Any) -> bool:
    """Round to bfloat16, which has the bias of float32: no scale, no sign to move."""
    least, unit = _I64((1023 - 126) << 52), _I64((45 << 52) + (1 << 51))
    bad = False
    for i in range(n):
        q = np.float64(values[i])
        power = max(q.view(np.int64) & _I64(0x7FF << 52), least)
        c = _I64(power + unit).view(np.float64)
        rounded = ((q + c) - c) + 0.0
        bad |= not abs(rounded) <= _BF16_MAX
        out[i] = np.uint16(np.float32(rounded).view(np.uint32) >> _U32(16))
    return bad


@compiled
def _narrow(code: int, values: Any, n: int, out: Any, sign_shift: Any) -> bool:
    """Round to a narrow format; return whether it does not hold a result."""
    least = _I64((1023 + _LEAST_EXPONENT[code]) << 52)
    unit = _I64(((53 - _PRECISION[code]) << 52) + (1 << 51))
    shift, scale = _SHIFT[code], np.float32(1.0 / _SCALE[code])
    limit, bad = _LARGEST[code], False
    for i in range(n):
        q = np.float64(values[i])
        power = max(q.view(np.int64) & _I64(0x7FF << 52), least)
        c = _I64(power + unit).view(np.float64)
        rounded = ((q + c) - c) + 0.0
        bad |= not abs(rounded) <= limit
        bits = np.float32(np.float32(rounded) * scale).view(np.uint32)
        sign = _U32(_U32(bits & _U32(0x8000_0000)) >> sign_shift)
        out[i] = _U32(_U32(_U32(bits & _U32(0x7FFF_FFFF)) >> shift) | sign)
    return bad
