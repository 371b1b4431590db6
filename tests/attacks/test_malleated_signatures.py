"""Signatures bent into others: a record is signed in one way that all replicas agree on.

Libraries differ on what lies at the edges of Ed25519: scalars above the order, points in a
second spelling, points of small order, keys with a part of small order. Were any of it let
in, replicas of other versions could disagree on what is signed.
"""

from collections.abc import Callable
from hashlib import sha512
from typing import Final

import pytest

from crdtmerge.bodies import Grant
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import BadSignatureError
from crdtmerge.identity import AuthorId, Purpose, SigningKey, is_weak
from crdtmerge.policy import Rank
from crdtmerge.record import Record, make_record
from crdtmerge.sync.messages import SignedBytes
from tests.attacks.fortress import Fortress
from tests.properties.cast import CARL, CLEO, CONTENTS, OWNERS, add_of
from tests.unit.test_identity import P, Point, point_of, total

ORDER: Final = 2**252 + 27742317777372353535851937790883648493
BASE_POINT: Final = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    46316835694926478169428394003475163141307993866256225615783033603165251855960,
)
NEUTRAL: Final = (1).to_bytes(32, "little")


def times(number: int, point: Point) -> Point:
    """Return a multiple of a point, by doubling."""
    found = (0, 1)
    while number:
        found = total(found, point) if number & 1 else found
        point, number = total(point, point), number >> 1
    return found


def spelt(point: Point) -> bytes:
    """Return the one spelling of a point."""
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def secret(key: SigningKey) -> int:
    """Return the scalar that a seed stands for."""
    half = int.from_bytes(sha512(key.seed).digest()[:32], "little")
    return (half & ((1 << 254) - 8)) | (1 << 254)


def challenge(nonce: bytes, public: bytes, record: Record) -> int:
    """Return what Ed25519 hashes."""
    message = Purpose.RECORD.encode() + b"\0" + record.id
    return int.from_bytes(sha512(nonce + public + message).digest(), "little")


def with_nonce(nonce: bytes, record: Record) -> bytes:
    """Return what CLEO signs with the neutral point as its nonce, spelt so."""
    number = challenge(nonce, CLEO.public, record) * secret(CLEO) % ORDER
    return nonce + number.to_bytes(32, "little")


def more(by: int) -> Callable[[Record, bytes], bytes]:
    """Return what adds to the scalar of a signature."""

    def bend(_: Record, good: bytes) -> bytes:
        number = int.from_bytes(good[32:], "little") + by
        return good[:32] + number.to_bytes(32, "little")

    return bend


BENT: Final[dict[str, Callable[[Record, bytes], bytes]]] = {
    "S + L": more(ORDER),
    "S + 2 L": more(2 * ORDER),
    "S + 8 L": more(8 * ORDER),
    "S with its highest bit": more(1 << 255),
    "R above p": lambda r, _: with_nonce((P + 1).to_bytes(32, "little"), r),
    "R with the sign of zero": lambda r, _: with_nonce(NEUTRAL[:31] + b"\x80", r),
    "-R": lambda _, good: good[:31] + bytes([good[31] ^ 0x80]) + good[32:],
    "R and S swapped": lambda _, good: good[32:] + good[:32],
}


@pytest.mark.parametrize("name", BENT)
def test_malleated_signature(fortress: Fortress, name: str) -> None:
    """A signature has one form: what some libraries take for the same is refused."""
    true = fortress.next(CLEO, add_of(CONTENTS[0]))
    lie = SignedBytes(true.record.data, BENT[name](true.record, true.signature))
    fortress.withstands(BadSignatureError, lambda siege: siege.feeds(CARL, lie))


def test_second_signature_makes_no_second_record(fortress: Fortress) -> None:
    """An author may sign one record in two ways: it is one record, and one root.

    Its nonce is the neutral point, which only who holds the key can use.
    """
    known = fortress.contribute(CLEO, b"signed twice")
    again = with_nonce(NEUTRAL, known.record)
    assert again != known.signature
    CLEO._key.public_key().verify(
        again, Purpose.RECORD.encode() + b"\0" + known.record.id
    )
    lie = SignedBytes(known.record.data, again)
    fortress.withstands(None, lambda siege: siege.feeds(CARL, lie))


def admitted(fortress: Fortress, public: bytes) -> Record:
    """Let an owner grant this key a rank; return an add in its name."""
    body = Grant(AuthorId(public), Rank.CONTRIBUTOR, DECIMAL_UNIT, 1000, 1 << 30)
    grant = fortress.say(OWNERS[0], body).record
    fortress.keep()
    return make_record(
        space=fortress.space,
        author=AuthorId(public),
        author_seq=0,
        prev=b"",
        auth=grant.id,
        body=add_of(CONTENTS[0]),
    )


WEAK: Final = {
    "the neutral point": NEUTRAL,
    "the neutral point above p": (P + 1).to_bytes(32, "little"),
    "the point of order two": (P - 1).to_bytes(32, "little"),
    "zero": bytes(32),
    "p": P.to_bytes(32, "little"),
}


@pytest.mark.parametrize("name", WEAK)
def test_key_that_anybody_signs_for(fortress: Fortress, name: str) -> None:
    """A grant to a key of small order opens no door: nothing that it signs counts."""
    record = admitted(fortress, WEAK[name])
    assert is_weak(record.author)
    for nonce in (NEUTRAL, record.author):
        lie = SignedBytes(record.data, nonce + bytes(32))
        fortress.withstands(BadSignatureError, lambda s: s.feeds(CARL, lie))  # noqa: B023


def test_key_with_a_part_of_small_order(fortress: Fortress) -> None:
    """What only verifiers with a cofactor would take is refused by all of ours.

    The key is a true one plus a point of order two: the holder can make signatures on
    which such verifiers and strict ones disagree. The strict answer is the one.
    """
    point = times(secret(CARL), BASE_POINT)
    assert spelt(point) == CARL.public
    mixed = spelt(total(point, (0, P - 1)))
    record = admitted(fortress, mixed)
    for number in range(1, 100):
        nonce = spelt(times(number, BASE_POINT))
        hashed = challenge(nonce, mixed, record)
        if hashed % 2:  # the part of small order does not vanish
            break
    scalar = (number + hashed * secret(CARL)) % ORDER
    left = times(8 * scalar, BASE_POINT)
    right = total(times(8 * number, BASE_POINT), times(8 * hashed, point))
    assert left == right  # with a cofactor it holds
    lie = SignedBytes(record.data, nonce + scalar.to_bytes(32, "little"))
    fortress.withstands(BadSignatureError, lambda siege: siege.feeds(CLEO, lie))


def test_the_points_are_those_of_the_curve() -> None:
    """What the attacks compute with is Ed25519 itself."""
    assert point_of(BASE_POINT[1])[1] == BASE_POINT[1]
    assert times(ORDER, BASE_POINT) == (0, 1)
    assert spelt(times(secret(CLEO), BASE_POINT)) == CLEO.public
