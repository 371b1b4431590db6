"""The value grammar and the decimals, by example."""

import pytest

from crdtmerge.codec import (
    DECIMAL_UNIT,
    Value,
    decode,
    encode,
    format_decimal,
    parse_decimal,
)
from crdtmerge.errors import EncodingError, RemoteError


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "cc80"),
        (256, "cd0100"),
        (65536, "ce00010000"),
        (2**32, "cf0000000100000000"),
        (2**64 - 1, "cfffffffffffffffff"),
        (-1, "ff"),
        (-32, "e0"),
        (-33, "d0df"),
        (-(2**63), "d38000000000000000"),
        (b"", "c400"),
        (b"\x00", "c40100"),
        ("", "a0"),
        ("é", "a2c3a9"),
        ([], "90"),
        ([1, [b"a", "a"]], "920192c40161a161"),
    ],
)
def test_value_has_these_bytes(value: Value, data: str) -> None:
    """The bytes are msgpack's shortest, with byte strings and text apart."""
    assert encode(value).hex() == data
    assert decode(bytes.fromhex(data), 64) == value


def test_tuples_and_lists_encode_alike() -> None:
    """Frozen values hold tuples; on the wire there are only arrays."""
    assert encode((1, ("a", b"b"))) == encode([1, ["a", b"b"]])


def test_text_is_not_normalised() -> None:
    """Two spellings of one letter are two texts: the codec changes nobody's words."""
    assert encode("\u00e9") != encode("e\u0301")
    assert decode(encode("e\u0301"), 64) == "e\u0301"


def test_encoding_error_is_the_peers_fault() -> None:
    """Bytes that we refuse are somebody else's."""
    with pytest.raises(RemoteError):
        decode(b"\xc0", 64)


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("0", 0),
        ("1", DECIMAL_UNIT),
        ("0.25", DECIMAL_UNIT // 4),
        ("-3.5", -7 * DECIMAL_UNIT // 2),
        ("0.000000001", 1),
        ("-0.000000001", -1),
        ("999999999.999999999", 10**18 - 1),
    ],
)
def test_decimal_counts_units(text: str, units: int) -> None:
    """A decimal is a whole number of 10**-9, exactly."""
    assert parse_decimal(text) == units
    assert format_decimal(units) == text


@pytest.mark.parametrize(
    "text",
    [
        *("-0", "-0.0", "0.0", "1.50", "00", "01", "1e3", "1.", ".1", "+1", "", "1,5"),
        *("0.1234567891", "1234567890", "NaN", "inf", "0x1", "1 ", "\uff11", "1\n"),
    ],
)
def test_other_spellings_of_a_decimal_are_refused(text: str) -> None:
    """One number has one text."""
    with pytest.raises(EncodingError):
        parse_decimal(text)


@pytest.mark.parametrize("units", [10**18, -(10**18)])
def test_decimal_of_ten_digits_has_no_text(units: int) -> None:
    """What could not be read again is not printed."""
    with pytest.raises(EncodingError):
        format_decimal(units)
