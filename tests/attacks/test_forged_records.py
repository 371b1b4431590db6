"""Records that their author did not make, or not for this space: none comes in.

Each comes from the node of a member over a real stream, as the answer to a question.
"""

from collections.abc import Callable
from typing import Any, Final

import msgpack
import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import Domain, digest
from crdtmerge.errors import (
    BadSignatureError,
    CrdtMergeError,
    MalformedMessageError,
    MalformedRecordError,
    MissingAuthorityError,
    NotAdmissibleError,
    WrongSpaceError,
)
from crdtmerge.identity import Purpose
from crdtmerge.policy import check_admissible
from crdtmerge.record import (
    Record,
    SignedRecord,
    decode_record,
    make_record,
    sign_record,
)
from crdtmerge.sync.messages import FeedReply, Heartbeat, SignedBytes
from tests.attacks.fortress import Fortress
from tests.attacks.siege import Siege, framed
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    STRANGER,
    add_of,
    genesis,
    write,
)


def fields_of(signed: SignedRecord) -> list[Any]:
    """Return a record's nine fields, to be changed and packed again by plain msgpack."""
    fields: list[Any] = msgpack.unpackb(signed.record.data, raw=False)
    return fields


def packed(fields: list[Any]) -> bytes:
    """Return what an attacker's own encoder makes of `fields`."""
    data: bytes = msgpack.packb(fields, use_bin_type=True)
    return data


def fed(*records: SignedRecord | SignedBytes) -> Callable[[Siege], Any]:
    """Return the attack of a member that answers a question with these."""
    return lambda siege: siege.feeds(CARL, *records)


def test_the_true_record_comes_in(fortress: Fortress) -> None:
    """What the others are made from is taken, so they fail for their own reason."""
    true = fortress.next(CLEO, add_of(CONTENTS[0]))
    fortress.takes([true], fed(true))


# --- forged, unsigned, of another domain -------------------------------------------------


FORGED: Final[dict[str, Callable[[Record, bytes], bytes]]] = {
    "by another key": lambda r, _: STRANGER.sign(Purpose.RECORD, r.id),
    "of no bits": lambda _, __: bytes(64),
    "of one bit changed": lambda _, good: bytes([good[0] ^ 1]) + good[1:],
    "of another record": lambda _, __: CLEO.sign(Purpose.RECORD, bytes(32)),
    "for joining as author": lambda r, _: CLEO.sign(Purpose.JOIN_AUTHOR, r.id),
    "for joining as node": lambda r, _: CLEO.sign(Purpose.JOIN_NODE, r.id),
    "for no purpose": lambda r, _: CLEO._key.sign(r.id),
    "over the bytes": lambda r, _: CLEO.sign(Purpose.RECORD, r.data),
    "over a chunk of these bytes": lambda r, _: CLEO.sign(
        Purpose.RECORD, digest(Domain.CHUNK, r.data)
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_record(fortress: Fortress, name: str) -> None:
    """A signature of another key, record, purpose or domain is none."""
    true = fortress.next(CLEO, add_of(CONTENTS[0]))
    lie = SignedBytes(true.record.data, FORGED[name](true.record, true.signature))
    fortress.withstands(BadSignatureError, fed(lie))


@pytest.mark.parametrize("length", [0, 32, 63, 65])
def test_unsigned_record(fortress: Fortress, length: int) -> None:
    """What bears no signature, or a part of one, is no frame."""
    true = fortress.next(CLEO, add_of(CONTENTS[0]))
    signature = (true.signature + b"\0")[:length]
    lie = SignedBytes(true.record.data, signature)
    beat = Heartbeat(fortress.space, bytes(32), 1, bytes(16), 1)
    reply = FeedReply(fortress.space, bytes(16), 1, False, (lie,), 1)

    async def attack(siege: Siege) -> None:
        await siege.sends(CARL, framed(beat), framed(reply))

    fortress.withstands(MalformedMessageError, attack)


@pytest.mark.parametrize("at", range(9))
def test_signature_moved_to_another_record(fortress: Fortress, at: int) -> None:
    """A record with one field changed is not what was signed, whichever it is."""
    fortress.pen.write(CLEO, add_of(CONTENTS[0]))
    true = fortress.next(CLEO, add_of(CONTENTS[1]))
    other: Any = {0: 2, 3: 7, 6: "remark", 7: 1}
    fields = fields_of(true)
    other[8] = [*fields[8][:-1], "another note"]
    fields[at] = other.get(at, bytes([at]) * 32)
    lie = SignedBytes(packed(fields), true.signature)
    # Some changes break the form, or lead nowhere, before a signature is looked at.
    errors: dict[int, type[CrdtMergeError]] = {
        0: MalformedRecordError,
        5: MissingAuthorityError,
        7: MalformedRecordError,
    }
    fortress.withstands(errors.get(at, BadSignatureError), fed(lie))


# --- not canonical -----------------------------------------------------------------------


def respelt(data: bytes) -> dict[str, bytes]:
    """Return other spellings of a record, each read as the same by a plain decoder."""
    assert data[:2] == b"\x99\x01"
    return {
        "a long header": b"\xdc\x00\x09" + data[1:],
        "a long integer": b"\x99\xcc\x01" + data[2:],
        "a signed integer": b"\x99\xd0\x01" + data[2:],
        "a long byte string": b"\x99\x01\xc5\x00\x20" + data[4:],
        "bytes after it": data + b"\xc0",
        "a float": b"\x99\xca\x3f\x80\x00\x00" + data[2:],
        "a boolean": b"\x99\xc3" + data[2:],
        "a map": b"\x81\x01" + data,
    }


@pytest.mark.parametrize("name", respelt(b"\x99\x01"))
def test_non_canonical_record(fortress: Fortress, name: str) -> None:
    """One record has one spelling; another is refused, though its author signed it."""
    data = respelt(fortress.next(CLEO, add_of(CONTENTS[0])).record.data)[name]
    signature = CLEO.sign(Purpose.RECORD, digest(Domain.RECORD, data))
    fortress.withstands(MalformedRecordError, fed(SignedBytes(data, signature)))


# --- replayed ----------------------------------------------------------------------------


def test_replayed_records(fortress: Fortress) -> None:
    """What is known already changes nothing, however often it comes."""
    known = list(fortress.pen.known.values())

    async def attack(siege: Siege) -> None:
        for _ in range(3):
            await siege.feeds(CARL, *known)
            await siege.spreads(CARL, *known)

    fortress.withstands(None, attack)


def test_replayed_add_after_its_remove(fortress: Fortress) -> None:
    """What was removed does not come back by being said again."""
    add = fortress.contribute(CLEO, b"removed")
    fortress.pen.remove(CLEO, add.record.id)
    fortress.keep()
    shown = [v.content for v in fortress.spaces().view(fortress.space).visible]
    fortress.withstands(None, fed(add))
    after = fortress.spaces().view(fortress.space).visible
    assert [v.content for v in after] == shown
    assert len(shown) == 2


def test_replayed_under_another_name(fortress: Fortress) -> None:
    """Who puts its own name on another's record has not that other's signature."""
    theirs = fortress.contribute(CLEO, b"worth having")
    fields = fields_of(theirs)
    fields[2], fields[5] = CARL.public, fortress.pen.grants[CARL.public].id
    lie = SignedBytes(packed(fields), theirs.signature)
    fortress.withstands(BadSignatureError, fed(lie))


# --- of another space --------------------------------------------------------------------


def elsewhere(space: SpaceId | None = None) -> tuple[SignedRecord, SignedRecord]:
    """Return an open space, and an add there; or one here that hangs on it."""
    other = genesis("open", nonce=b"m" * 16)
    record = make_record(
        space=space or other.record.space_id,
        author=STRANGER.public,
        author_seq=0,
        prev=b"",
        auth=other.record.id,
        body=add_of(CONTENTS[1]),
    )
    return other, sign_record(record, STRANGER)


@pytest.mark.parametrize("which", ["genesis", "both", "the other way round"])
def test_cross_space_record(fortress: Fortress, which: str) -> None:
    """A record counts in the space that it names; replayed here, it is refused."""
    other, add = elsewhere()
    lies = {"genesis": [other], "both": [other, add]}.get(which, [add, other])
    fortress.withstands(WrongSpaceError, fed(*lies))


def test_cross_space_record_alone(fortress: Fortress) -> None:
    """It hangs on a grant that nobody here has, which is found before its space."""
    fortress.withstands(MissingAuthorityError, fed(elsewhere()[1]))


@pytest.mark.parametrize("order", [1, -1])
def test_cross_space_grant(fortress: Fortress, order: int) -> None:
    """The right to write in an open space is none here, though both come together."""
    other, add = elsewhere(fortress.space)
    fortress.withstands(MissingAuthorityError, fed(add))
    fortress.withstands(WrongSpaceError, fed(*(other, add)[::order]))


def test_second_genesis(fortress: Fortress) -> None:
    """Nobody founds a space twice, not even its owner."""
    fortress.withstands(WrongSpaceError, fed(genesis("open")))


def test_genesis_in_anothers_name(fortress: Fortress) -> None:
    """Who is none of the owners founds nothing."""
    fields = fields_of(fortress.pen.genesis)
    fields[2] = STRANGER.public
    data = packed(fields)
    signature = STRANGER.sign(Purpose.RECORD, digest(Domain.RECORD, data))
    fortress.withstands(WrongSpaceError, fed(SignedBytes(data, signature)))


def test_genesis_in_anothers_name_founds_nothing_anywhere(fortress: Fortress) -> None:
    """A home that has no such space yet takes it no more than one that has."""
    fields = fields_of(fortress.pen.genesis)
    fields[2] = STRANGER.public
    lie = sign_record(decode_record(packed(fields)), STRANGER)
    with fortress.refuses(NotAdmissibleError, "none of the owners"):
        fortress.spaces().commit(SpaceId(lie.record.id), [lie])


def test_cross_space_grant_gives_nothing_wherever_it_is_found(
    fortress: Fortress,
) -> None:
    """A store of many spaces may find the grant by its id: it still gives nothing."""
    other, add = elsewhere(fortress.space)
    found = {s.record.id: s.record for s in (fortress.pen.genesis, other)}
    with fortress.refuses(NotAdmissibleError, "gives its author nothing"):
        check_admissible(add.record, found.get)


def test_record_that_hangs_on_no_grant(fortress: Fortress) -> None:
    """An add is no grant, whoever made it; nor is what nobody has."""
    add = fortress.contribute(CLEO, b"no grant")
    hanging = write(CLEO, add.record, add_of(CONTENTS[0]), after=add.record)
    fortress.withstands(NotAdmissibleError, fed(hanging))
