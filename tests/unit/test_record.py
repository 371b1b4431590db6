"""Records: one form, one id, a signature beside it. What is refused: tests/attacks."""

import pytest

from crdtmerge.bodies import (
    BODIES,
    Add,
    Ban,
    Body,
    Genesis,
    Grant,
    Lift,
    NodeAddress,
    RecipeChange,
    RecordId,
    Remove,
    Revoke,
    Unknown,
    is_address,
)
from crdtmerge.codec import DECIMAL_UNIT, decode, encode
from crdtmerge.digest import BlobId, ContentId, Domain, digest
from crdtmerge.errors import BadSignatureError, MalformedRecordError
from crdtmerge.identity import AuthorId, Purpose, verify
from crdtmerge.recipe import Recipe
from crdtmerge.record import (
    RECORD_BYTES_MAX,
    Record,
    decode_record,
    make_record,
    sign_record,
    well_formed,
)
from tests.properties.cast import CLEO, FAULTS, STRANGER, unknown

ID = b"\x01" * 32
IDS = (RecordId(ID), RecordId(b"\x02" * 32))
AUTHOR = AuthorId(ID)

SAMPLES: list[Body] = [
    Add(ContentId(ID), BlobId(ID), 1, 0, DECIMAL_UNIT // 4, ID, "a note\nof two lines"),
    Remove(IDS),
    RecipeChange(Recipe("linear/1", (("scale", "1"),)), IDS),
    Grant(AUTHOR, 2, 1000 * DECIMAL_UNIT, 0, 1 << 40),
    Revoke(AUTHOR, ()),
    Ban("author", ID),
    Ban("content", ID),
    Lift(IDS[0]),
    NodeAddress(ID, ("192.0.2.1:1", "[2001:db8::1]:65535")),
    NodeAddress(ID, ()),
    *FAULTS,
    Unknown("shiny_2", [1, [b"x", "y"]]),
    Unknown("bare", 7),
]


def record_of(body: Body, *, seq: int = 0, critical: bool = False) -> Record:
    """Return a record of `body` that hangs on made-up ids."""
    return make_record(
        space=ID,
        author=CLEO.public,
        author_seq=seq,
        prev=ID if seq else b"",
        auth=ID,
        body=body,
        critical=critical,
    )


@pytest.mark.parametrize("body", SAMPLES)
def test_body_inverts(body: Body) -> None:
    """Every kind reads from its bytes as it was."""
    record = record_of(body)
    again = decode_record(record.data)
    assert again == record
    assert again.body == body
    assert type(again.body) is type(body)


def test_every_kind_has_a_sample() -> None:
    """The table of kinds is the list of samples, genesis apart: none goes untested."""
    sampled = {type(body).KIND for body in SAMPLES if not isinstance(body, Unknown)}
    assert {*sampled, Genesis.KIND} == set(BODIES)


def test_record_is_nine_fields_in_this_order() -> None:
    """The frame is final: version, space, author, seq, prev, auth, kind, critical, body."""
    record = record_of(Ban("content", ID), seq=3)
    fields = [1, ID, CLEO.public, 3, ID, ID, "ban", 0, ["content", ID]]
    assert decode(record.data, RECORD_BYTES_MAX) == fields
    assert record.id == digest(Domain.RECORD, record.data)


def test_unknown_kind_is_kept_to_the_byte() -> None:
    """A newer version's record passes through unchanged, flag included."""
    record = record_of(unknown("attest"), critical=True)
    again = decode_record(record.data)
    assert (again.kind, again.critical) == ("attest", True)
    assert again.data == record.data


def test_signature_stands_outside_the_id() -> None:
    """One record has one id, and its signature is over that id, for this purpose only."""
    record = record_of(unknown())
    signed = sign_record(record, CLEO)
    assert well_formed(record.data, signed.signature) == signed
    verify(CLEO.public, Purpose.RECORD, record.id, signed.signature)
    for purpose in set(Purpose) - {Purpose.RECORD}:
        with pytest.raises(BadSignatureError):
            verify(CLEO.public, purpose, record.id, signed.signature)
    with pytest.raises(BadSignatureError):
        verify(STRANGER.public, Purpose.RECORD, record.id, signed.signature)


@pytest.mark.parametrize("public", [b"", bytes(31), b"\xff" * 32])
def test_what_is_no_key_signs_nothing(public: bytes) -> None:
    """A public key of another length, or off the curve, is refused as a bad signature."""
    with pytest.raises(BadSignatureError):
        verify(public, Purpose.RECORD, b"message", bytes(64))


def test_own_slips_are_refused_when_written() -> None:
    """A record that peers would refuse is not made in the first place."""
    for body in (Remove(()), Remove(IDS[::-1]), Grant(AUTHOR, 3, 0, 0, 0)):
        with pytest.raises(MalformedRecordError):
            record_of(body)
    with pytest.raises(MalformedRecordError):
        record_of(Ban("content", ID), critical=True)


def test_a_fault_is_always_critical() -> None:
    """A version that does not know faults must not merge on what they take out."""
    record = record_of(FAULTS[0])
    assert record.critical
    fields = decode(record.data, RECORD_BYTES_MAX)
    assert isinstance(fields, list)
    with pytest.raises(MalformedRecordError, match="always critical"):
        decode_record(encode([*fields[:7], 0, fields[8]]))


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("host:1", True),
        ("192.0.2.1:65535", True),
        ("[::1]:80", True),
        ("host:0", False),
        ("host:65536", False),
        ("host", False),
        (":80", False),
        ("a b:80", False),
        ("host:80\n", False),
        (b"host:80", False),
        (None, False),
    ],
)
def test_address_is_host_and_port(text: object, good: bool) -> None:
    """An address is printable ASCII and a port of 1 to 65535."""
    assert is_address(text) is good
