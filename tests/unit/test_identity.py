"""Ed25519 keys: a signature has one purpose, and weak keys sign nothing."""

import pytest

from crdtmerge.errors import BadSignatureError
from crdtmerge.identity import Purpose, is_weak, verify
from tests.properties.cast import AUTHORS, CLEO

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P

Point = tuple[int, int]


def total(one: Point, other: Point) -> Point:
    """Return the sum of two points of the curve, by its defining formula."""
    (a, b), (c, d) = one, other
    t = D * a * c * b * d % P
    x = (a * d + c * b) * pow(1 + t, -1, P) % P
    return x, (b * d + a * c) * pow(1 - t, -1, P) % P


def point_of(y: int) -> Point:
    """Return a point with this y coordinate."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert x * x % P == square
    return x, y


def small_order() -> set[int]:
    """Return the y coordinates of the points P with 8 P = 0, found by multiplication.

    (L times any point has an order of at most 8; some point reaches all of them.)
    """
    order = 2**252 + 27742317777372353535851937790883648493
    found: set[int] = set()
    for y in range(2, 60):
        try:
            base = point_of(y)
        except AssertionError:
            continue
        at, times, power = (0, 1), order, base
        while times:
            at = total(at, power) if times & 1 else at
            power, times = total(power, power), times >> 1
        assert total(total(total(at, at), total(at, at)), (0, 1))[1] in {1, P - 1}
        multiples = [(0, 1)]
        for _ in range(7):
            multiples.append(total(multiples[-1], at))
        found |= {y for _, y in multiples}
        if len(found) == 5:
            return found
    raise AssertionError("no point of order 8 among the first")


def test_weak_keys_are_those_of_small_order() -> None:
    """The five y coordinates, with both signs, and nothing that a real key could be."""
    for y in small_order():
        for sign in (0, 1 << 255):
            assert is_weak((y | sign).to_bytes(32, "little"))
    for y in (P, P + 1, P + 18):
        assert is_weak(y.to_bytes(32, "little"))
    assert not any(is_weak(key.public) for key in AUTHORS)


@pytest.mark.parametrize("purpose", list(Purpose))
def test_weak_key_signs_nothing(purpose: Purpose) -> None:
    """The neutral point accepts one signature for every message in plain Ed25519."""
    neutral = (1).to_bytes(32, "little")
    with pytest.raises(BadSignatureError, match="anybody"):
        verify(neutral, purpose, b"any message", neutral + bytes(32))


def test_signature_counts_for_its_purpose_alone() -> None:
    """What was signed for one purpose is no signature for another."""
    for purpose in Purpose:
        signature = CLEO.sign(purpose, b"message")
        verify(CLEO.public, purpose, b"message", signature)
        for other in set(Purpose) - {purpose}:
            with pytest.raises(BadSignatureError):
                verify(CLEO.public, other, b"message", signature)


def test_purpose_and_message_do_not_run_together() -> None:
    """The end of a purpose cannot be taken for the start of a message."""
    signature = CLEO.sign(Purpose.RECORD, b"x")
    with pytest.raises(BadSignatureError):
        verify(CLEO.public, Purpose.RECORD, b"\0x", signature)
