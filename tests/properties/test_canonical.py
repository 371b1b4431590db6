"""Encode and decode are inverse, and no second spelling of a value is accepted."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.codec import (
    DECIMAL_UNIT,
    INTEGER_MAX,
    INTEGER_MIN,
    Value,
    decode,
    encode,
    format_decimal,
    parse_decimal,
)
from crdtmerge.errors import EncodingError, MalformedRecordError
from crdtmerge.record import decode_record, make_record
from tests.properties.histories import History, histories

LIMIT = 1 << 20
EDGES = [2**n + d for n in (5, 7, 8, 15, 16, 31, 32, 63) for d in (-1, 0, 1)]

scalars = (
    st.integers(INTEGER_MIN, INTEGER_MAX)
    | st.sampled_from([*EDGES, *(-e for e in EDGES if -e >= INTEGER_MIN)])
    | st.binary(max_size=40)
    | st.text(max_size=40)
)
values: st.SearchStrategy[Value] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=20), max_leaves=40
)


@st.composite
def spellings(draw: st.DrawFn, value: Value) -> bytes:
    """Draw one of all msgpack spellings of `value`, the canonical one among them."""
    if isinstance(value, int):
        return draw(st.sampled_from(integer_spellings(value)))
    if isinstance(value, bytes):
        return draw(st.sampled_from(headers(len(value), None, b"\xc4\xc5\xc6"))) + value
    if isinstance(value, str):
        raw = value.encode()
        heads = headers(len(raw), (0xA0, 32), b"\xd9\xda\xdb")
        return draw(st.sampled_from(heads)) + raw
    heads = headers(len(value), (0x90, 16), b"\x00\xdc\xdd")
    return draw(st.sampled_from(heads)) + b"".join(draw(spellings(v)) for v in value)


def integer_spellings(value: int) -> list[bytes]:
    """Return every msgpack integer that reads as `value`."""
    found = [struct.pack("b", value)] if -32 <= value <= 127 else []
    tags = zip("BHIQbhiq", range(0xCC, 0xD4), strict=True)
    for form, tag in tags:
        try:
            found.append(bytes([tag]) + struct.pack(">" + form, value))
        except struct.error:
            continue
    return found


def headers(size: int, short: tuple[int, int] | None, tags: bytes) -> list[bytes]:
    """Return every msgpack header of this length (a zero tag: no such width)."""
    found = [bytes([short[0] + size])] if short and size < short[1] else []
    for tag, form in zip(tags, ("B", ">H", ">I"), strict=True):
        if tag and size < 256 ** struct.calcsize(form):
            found.append(bytes([tag]) + struct.pack(form, size))
    return found


@given(values)
def test_decode_inverts_encode(value: Value) -> None:
    """What was encoded reads as it was, and encodes to the same bytes again."""
    data = encode(value)
    assert decode(data, LIMIT) == value
    assert encode(decode(data, LIMIT)) == data


@given(st.data(), values)
def test_only_one_spelling_is_accepted(data: st.DataObject, value: Value) -> None:
    """Of all msgpack spellings of a value, decode takes the one that encode makes."""
    drawn = data.draw(spellings(value))
    canonical = encode(value)
    if drawn == canonical:
        assert decode(drawn, LIMIT) == value
        return
    try:
        decode(drawn, LIMIT)
    except EncodingError:
        return
    raise AssertionError(f"two spellings: {drawn.hex()} and {canonical.hex()}")


@given(st.binary(max_size=64))
def test_any_bytes_are_canonical_or_refused(data: bytes) -> None:
    """Noise is refused with our error, or is exactly what encode would have made."""
    try:
        value = decode(data, LIMIT)
    except EncodingError:
        return
    assert encode(value) == data


@given(values, st.integers(0), st.integers(0, 7))
def test_a_flipped_bit_is_another_value_or_refused(
    value: Value, at: int, bit: int
) -> None:
    """No bit of an encoding is without meaning."""
    data = bytearray(encode(value))
    data[at % len(data)] ^= 1 << bit
    try:
        other = decode(bytes(data), LIMIT)
    except EncodingError:
        return
    assert other != value
    assert encode(other) == bytes(data)


@given(st.integers(-(10**18) + 1, 10**18 - 1))
def test_decimals_invert(units: int) -> None:
    """Every number of units has one text, which reads as the same number."""
    assert parse_decimal(format_decimal(units)) == units


@given(
    st.from_regex(r"-?[0-9]{0,11}\.?[0-9]{0,11}", fullmatch=True)
    | st.text(alphabet="0123456789.-+eE_ nNaAiIfF٣", max_size=8)
)
def test_a_decimal_has_one_text(text: str) -> None:
    """A text that is read as a decimal is the one that this number prints as."""
    try:
        units = parse_decimal(text)
    except EncodingError:
        return
    assert format_decimal(units) == text
    assert abs(units) < 10**9 * DECIMAL_UNIT


@given(histories(most=12))
def test_records_invert(history: History) -> None:
    """Every record reads from its bytes as it was, and is made again by its fields."""
    for signed in history.all.values():
        record = signed.record
        assert decode_record(record.data) == record
        again = make_record(
            space=record.space,
            author=record.author,
            author_seq=record.author_seq,
            prev=record.prev,
            auth=record.auth,
            body=record.body,
            critical=record.critical,
        )
        assert (again.data, again.id) == (record.data, record.id)


@given(histories(most=6), st.integers(0), st.integers(0), st.integers(0, 7))
def test_damaged_records_are_refused_or_other_records(
    history: History, pick: int, at: int, bit: int
) -> None:
    """A flipped bit gives another id or a refusal by our error, never the same record."""
    ids = sorted(history.all)
    record = history.all[ids[pick % len(ids)]].record
    data = bytearray(record.data)
    data[at % len(data)] ^= 1 << bit
    try:
        other = decode_record(bytes(data))
    except MalformedRecordError:
        return
    assert other.id != record.id
