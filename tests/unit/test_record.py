"""Records: one form, one id, a signature beside it. What is refused: tests/attacks."""

import pytest

from crdtmerge.bodies import (
    BODIES,
    CRITICAL,
    Add,
    Approve,
    Ban,
    Body,
    Epoch,
    Evaluation,
    Genesis,
    Grant,
    Lift,
    Link,
    NodeAddress,
    RecipeChange,
    RecordId,
    Remove,
    Revoke,
    SpaceId,
    Successor,
    Unknown,
    check_consent,
    give_consent,
    is_address,
    runs_of,
)
from crdtmerge.codec import DECIMAL_UNIT, Value, decode, encode
from crdtmerge.digest import BlobId, ContentId, Domain, digest
from crdtmerge.errors import BadSignatureError, MalformedRecordError
from crdtmerge.forks import prove_fork
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


BRANCHES = [
    (signed.record.data, signed.signature)
    for note in ("one", "other")
    for signed in [sign_record(record_of(Unknown("shiny_2", note)), CLEO)]
]
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
    Approve(IDS[0]),
    Successor(AUTHOR, CLEO.public, give_consent(CLEO, SpaceId(ID), AUTHOR)),
    Epoch(
        runs_of([(IDS[0], Link(AUTHOR, 3, ID, ID)), (IDS[1], Link(AUTHOR, 0, b"", ID))])
    ),
    Evaluation("content", ID, "accuracy", "held-out.v1", -DECIMAL_UNIT // 8, "ours"),
    Evaluation("model", ID, "loss", "set_2", 3 * DECIMAL_UNIT),
    *FAULTS,
    prove_fork(ID, CLEO.public, 0, BRANCHES),
    Unknown("shiny_2", [1, [b"x", "y"]]),
    Unknown("bare", 7),
]


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


@pytest.mark.parametrize("kind", sorted(CRITICAL))
def test_kinds_that_change_what_merges_are_always_critical(kind: str) -> None:
    """A version that does not know faults, or approvals, must not merge on without them."""
    record = record_of(next(b for b in SAMPLES if kind == b.KIND))  # type: ignore[union-attr]
    assert record.critical
    fields = decode(record.data, RECORD_BYTES_MAX)
    assert isinstance(fields, list)
    with pytest.raises(MalformedRecordError, match="always critical"):
        decode_record(encode([*fields[:7], 0, fields[8]]))


FOUNDED: list[Value] = ["space", "members", ID, [ID, IDS[1]], bytes(16)]


def founded(*rest: Value) -> Genesis:
    """Return the genesis of two owners that ends with `rest`."""
    return Genesis.from_value([*FOUNDED, *rest])


def test_a_genesis_without_rules_is_as_it_always_was() -> None:
    """One owner suffices and forks cut nobody off: left out, so no id changes."""
    plain = founded()
    assert (plain.threshold, plain.quarantine) == (1, False)
    assert plain.to_value() == FOUNDED
    for rules in ([2, 0], [1, 1], [2, 1]):
        body = founded(rules)
        assert [body.threshold, int(body.quarantine)] == rules
        assert body.to_value() == [*FOUNDED, rules]


@pytest.mark.parametrize(
    "rest",
    [
        [[1, 0]],
        [[0, 0]],
        [[3, 0]],
        [[2, 2]],
        [[2]],
        [[2, 0, 0]],
        [2, 0],
        [[2, 0], []],
        [[]],
        [[-1, 1]],
    ],
)
def test_rules_of_a_genesis_have_one_form(rest: list[Value]) -> None:
    """A default that is spelt out, or a threshold that nobody can reach, is no genesis."""
    with pytest.raises(MalformedRecordError):
        founded(*rest)


def test_a_successor_has_consented_in_this_space() -> None:
    """Nobody is named without knowing: another space, key or purpose is no consent."""
    space = SpaceId(ID)
    good = give_consent(CLEO, space, AUTHOR)
    check_consent(space, Successor(AUTHOR, CLEO.public, good))
    bad = [
        (IDS[1], Successor(AUTHOR, CLEO.public, good)),
        (ID, Successor(STRANGER.public, CLEO.public, good)),
        (ID, Successor(AUTHOR, STRANGER.public, good)),
        (ID, Successor(AUTHOR, CLEO.public, CLEO.sign(Purpose.RECORD, ID + AUTHOR))),
    ]
    for where, body in bad:
        with pytest.raises(BadSignatureError):
            check_consent(where, body)
        record = make_record(
            space=where, author=CLEO.public, author_seq=0, prev=b"", auth=ID, body=body
        )
        signed = sign_record(record, CLEO)
        with pytest.raises(BadSignatureError):
            well_formed(record.data, signed.signature)


@pytest.mark.parametrize(
    "value",
    [
        [AUTHOR, AUTHOR, bytes(64)],
        [AUTHOR, bytes(32), bytes(64)],
        [AUTHOR, CLEO.public, bytes(63)],
        [AUTHOR, CLEO.public[:31], bytes(64)],
        [AUTHOR[:31], CLEO.public, bytes(64)],
        [AUTHOR, CLEO.public],
    ],
)
def test_a_successor_is_another_real_key(value: list[Value]) -> None:
    """A key does not follow itself, and one that anybody could use follows nobody."""
    with pytest.raises(MalformedRecordError):
        Successor.from_value(value)


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
