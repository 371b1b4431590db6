"""Canonical bytes for plain values: one value, one encoding, in both directions.

Owns the value grammar (arrays, integers, byte strings, text; decimals as text) and the
size caps; sole importer of msgpack. Does not own what any value means.

Source of the form: msgpack, restricted. A decoder accepts exactly the bytes that the
encoder makes, so equal values have equal digests and a re-encoding attack finds nothing.
"""

import re
from collections.abc import Sequence
from typing import Final, TypeAlias

import msgpack

from crdtmerge.errors import EncodingError

Value: TypeAlias = "int | bytes | str | Sequence[Value]"
"""A plain value: integer, byte string, text, or an array of values."""

DEPTH_MAX: Final = 16
VALUES_MAX: Final = 1 << 22
"""Most values in one encoding: what a reader pays is bounded by this, not by the bytes."""
INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**64 - 1

_INTEGERS: Final = {
    0xCC: 1,
    0xCD: 2,
    0xCE: 4,
    0xCF: 8,
    0xD0: 1,
    0xD1: 2,
    0xD2: 4,
    0xD3: 8,
}
_BYTES_AND_TEXT: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAYS: Final = {0xDC: 2, 0xDD: 4}
"""First byte of a msgpack header, and how many bytes of number follow it."""

DECIMAL_PLACES: Final = 9
DECIMAL_UNIT: Final = 10**DECIMAL_PLACES
_DECIMAL: Final = re.compile(r"-?(0|[1-9][0-9]{0,8})(\.[0-9]{0,8}[1-9])?")


def encode(value: Value) -> bytes:
    """Return the one encoding of `value`.

    Raises:
        EncodingError: the value holds a type, an integer or a depth outside the grammar.
    """
    _check(value, DEPTH_MAX)
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def decode(data: bytes, limit: int) -> Value:
    """Return the value whose canonical encoding is `data`.

    Raises:
        EncodingError: `data` is above `limit` bytes, or is not canonical.
    """
    if len(data) > limit:
        message = f"{len(data)} bytes are above the limit of {limit}"
        raise EncodingError(message)
    _check_headers(data)
    try:
        value: Value = msgpack.unpackb(
            data, raw=False, use_list=True, strict_map_key=True
        )
        canonical = encode(value)
    except (
        ValueError,
        TypeError,
        RecursionError,
        msgpack.exceptions.UnpackException,
    ) as e:
        message = f"not a canonical value: {e}"
        raise EncodingError(message) from e
    if canonical != data:
        message = (
            "not a canonical value: another encoding of it is shorter or different"
        )
        raise EncodingError(message)
    return value


def _check_headers(data: bytes) -> None:
    """Refuse foreign types, deep nesting and false lengths before anything is allocated.

    SUBTLE: some versions of msgpack allocate what an array header claims, level by level,
    so that a few kilobytes of nested headers ask for gigabytes. Here every value still owed
    must have at least one byte among those that are left.
    """
    at, owed, claimed = 0, 1, 1
    open_arrays: list[int] = []  # how many values were owed outside of each
    while owed:
        while open_arrays and owed == open_arrays[-1]:
            open_arrays.pop()
        at, items = _header(data, at)
        owed -= 1
        claimed += items
        if items:
            open_arrays.append(owed)
            owed += items
        if claimed > VALUES_MAX:
            raise EncodingError(f"more than {VALUES_MAX} values")
        if at + owed > len(data):
            raise EncodingError("not a canonical value: the bytes are cut off")
        if len(open_arrays) > DEPTH_MAX:
            raise EncodingError(f"arrays nest deeper than {DEPTH_MAX}")
    if at != len(data):
        raise EncodingError("not a canonical value: bytes follow it")


def _header(data: bytes, at: int) -> tuple[int, int]:
    """Return where the value at `at` ends (its items start) and how many items follow."""
    tag = data[at] if at < len(data) else 0
    at += 1
    if tag < 0x80 or tag >= 0xE0:
        return at, 0
    if 0xA0 <= tag < 0xC0:
        return at + (tag & 31), 0
    if 0x90 <= tag < 0xA0:
        return at, tag & 15
    if tag in _INTEGERS:
        return at + _INTEGERS[tag], 0
    width = _BYTES_AND_TEXT.get(tag) or _ARRAYS.get(tag)
    if width is None:
        raise EncodingError(
            f"not a canonical value: type 0x{tag:02x} is not in the grammar"
        )
    number = int.from_bytes(data[at : at + width], "big")
    return (at + width, number) if tag in _ARRAYS else (at + width + number, 0)


def _check(value: object, depth: int) -> None:
    """Refuse what the grammar does not have (bool is an int to Python, not to us)."""
    if isinstance(value, bytes):  # most values are digests
        return
    if isinstance(value, bool):
        message = "booleans are not in the grammar; use 0 or 1"
        raise EncodingError(message)
    if isinstance(value, int):
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            message = f"an integer of {value.bit_length()} bits needs more than 64"
            raise EncodingError(message)
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as e:
            message = "text holds a lone surrogate"
            raise EncodingError(message) from e
    elif isinstance(value, list | tuple) and not isinstance(value, msgpack.ExtType):
        # SUBTLE: an ExtType is a tuple by class, and would survive a re-encoding.
        if depth == 0:
            message = f"arrays nest deeper than {DEPTH_MAX}"
            raise EncodingError(message)
        for item in value:
            _check(item, depth - 1)
    else:
        message = f"{type(value).__name__} is not in the grammar"
        raise EncodingError(message)


def parse_decimal(text: str) -> int:
    """Return the decimal `text` in units of 10**-9.

    The grammar has one text per number: no exponent, no plus sign, no trailing zeros, no
    minus zero, at most nine digits before and nine after the point.

    Raises:
        EncodingError: `text` is not of the grammar.
    """
    if not _DECIMAL.fullmatch(text) or text == "-0":
        message = f"{text!r} is not a decimal (like 1, 0.25 or -3.5; at most 9 places)"
        raise EncodingError(message)
    whole, _, places = text.removeprefix("-").partition(".")
    units = int(whole) * DECIMAL_UNIT + int(places.ljust(DECIMAL_PLACES, "0"))
    return -units if text.startswith("-") else units


def format_decimal(units: int) -> str:
    """Return the one text of `units` * 10**-9; the inverse of `parse_decimal`.

    Raises:
        EncodingError: the number has more than nine digits before the point.
    """
    whole, places = divmod(abs(units), DECIMAL_UNIT)
    if whole >= 10**9:
        message = f"{units} units have more than nine digits before the point"
        raise EncodingError(message)
    sign = "-" if units < 0 else ""
    if not places:
        return f"{sign}{whole}"
    digits = f"{places:09d}".rstrip("0")
    return f"{sign}{whole}.{digits}"
