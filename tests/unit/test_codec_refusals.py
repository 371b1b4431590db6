"""Hostile bytes against the codec: refused with our error, in bounded time and memory."""

import struct
import tracemalloc

import msgpack
import pytest

from crdtmerge import codec
from crdtmerge.codec import DEPTH_MAX, decode, encode
from crdtmerge.errors import EncodingError

LIMIT = 64 << 20


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "nothing"),
        (b"\x01\x02", "trailing bytes"),
        (b"\x91", "an array that is cut off"),
        (b"\xc0", "nil"),
        (b"\xc2", "false"),
        (b"\xc3", "true"),
        (b"\xc1", "the byte that msgpack never uses"),
        (b"\xca" + struct.pack(">f", 1.0), "a float"),
        (b"\xcb" + struct.pack(">d", float("nan")), "a double"),
        (b"\x80", "an empty map"),
        (b"\x81\x01\x02", "a map"),
        (b"\x82\x01\x02\x01\x03", "a map with one key twice"),
        (b"\xde\x00\x00", "a map16"),
        (b"\xd4\x05a", "an extension"),
        (b"\x91\xd5\x05ab", "an extension in an array"),
        (b"\xc7\x01\x05a", "an ext8"),
        (b"\xd6\xff\x00\x00\x00\x01", "a timestamp"),
        (b"\xcc\x05", "5 in two bytes"),
        (b"\xcd\x00\xff", "255 in three bytes"),
        (b"\xcf" + (5).to_bytes(8, "big"), "5 in nine bytes"),
        (b"\xd0\x05", "5 as a signed byte"),
        (b"\xd0\xff", "-1 in two bytes"),
        (b"\xd9\x01a", "a short text with a long header"),
        (b"\xc5\x00\x01a", "a byte string with a long header"),
        (b"\xdc\x00\x01\x05", "a short array with a long header"),
        (b"\xa1\xff", "text that is no UTF-8"),
        (b"\xa2\xc0\x80", "text in overlong UTF-8"),
        (b"\xa3\xed\xa0\x80", "a lone surrogate in UTF-8"),
    ],
)
def test_what_is_not_canonical_is_refused(data: bytes, what: str) -> None:
    """No other spelling, no other type, nothing before or after."""
    with pytest.raises(EncodingError):
        decode(data, LIMIT)
    with pytest.raises(EncodingError):
        decode(b"\x92\x00" + data, LIMIT)


@pytest.mark.parametrize("value", [None, 1.5, True, {"a": 1}, {1}, bytearray(b"a")])
def test_what_is_not_in_the_grammar_is_not_encoded(value: object) -> None:
    """Our own slips are refused too, also deep inside."""
    with pytest.raises(EncodingError):
        encode([[value]])  # type: ignore[list-item]


def test_an_extension_is_not_encoded() -> None:
    """An ExtType is a tuple by class, and would pass for an array."""
    with pytest.raises(EncodingError):
        encode([msgpack.ExtType(5, b"a")])


@pytest.mark.parametrize("bits", [64, 65, 20_000])
def test_huge_integers_are_not_encoded(bits: int) -> None:
    """An integer above 64 bits is refused, however long it would be to print."""
    for value in (1 << bits, -(1 << (bits - 1)) - 1):
        with pytest.raises(EncodingError):
            encode(value)


def test_text_with_a_lone_surrogate_is_not_encoded() -> None:
    """Such text has no UTF-8."""
    with pytest.raises(EncodingError):
        encode("\ud800")


def test_nesting_is_bounded() -> None:
    """Sixteen levels pass in both directions, seventeen in neither."""
    deepest = b"\x91" * DEPTH_MAX + b"\x05"
    assert encode(decode(deepest, LIMIT)) == deepest
    for data in (b"\x91" + deepest, b"\x91" * DEPTH_MAX + b"\x90"):
        with pytest.raises(EncodingError):
            decode(data, LIMIT)
    value: list[object] = [5]
    for _ in range(DEPTH_MAX):
        value = [value]
    with pytest.raises(EncodingError):
        encode(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [600, 100_000, 4 << 20])
def test_depth_bomb_is_refused(size: int) -> None:
    """Nested arrays exhaust neither the stack nor the time."""
    with pytest.raises(EncodingError):
        decode(b"\x91" * size + b"\x05", LIMIT)


@pytest.mark.parametrize(
    ("depth", "size"),
    [(1, 8 << 20), (3, 1 << 20), (DEPTH_MAX, 8 << 20), (1000, 1 << 20), (8, 60_000)],
)
def test_length_bomb_allocates_nothing(depth: int, size: int) -> None:
    """Headers that claim as much as the message could hold get no memory for it."""
    heads = (b"\xdd" + (size - 5 * depth).to_bytes(4, "big")) * depth
    data = heads + bytes(size - len(heads))
    tracemalloc.start()
    with pytest.raises(EncodingError):
        decode(data, LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 10


def test_values_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small values cost far more than their bytes, so that their number is bounded."""
    monkeypatch.setattr(codec, "VALUES_MAX", 5)
    assert decode(encode([1, [2, 3]]), LIMIT) == [1, [2, 3]]
    with pytest.raises(EncodingError, match="more than 5 values"):
        decode(encode([1, [2, 3, 4]]), LIMIT)


@pytest.mark.parametrize("head", [b"\xdb", b"\xc6", b"\xdd"])
def test_claimed_length_beyond_the_bytes_is_refused(head: bytes) -> None:
    """A length of 4 GiB in a message of six bytes is a lie."""
    with pytest.raises(EncodingError):
        decode(head + b"\xff\xff\xff\xffa", LIMIT)


def test_limit_is_checked_before_anything_is_read() -> None:
    """One byte more than the limit is refused, exactly the limit is read."""
    data = encode(b"x" * 98)
    assert decode(data, 100) == b"x" * 98
    with pytest.raises(EncodingError, match="above the limit of 99"):
        decode(data, 99)
