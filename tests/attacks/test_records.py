"""Hostile records: forged, replayed, malformed. Refused with our error, nothing kept."""

from typing import Any

import msgpack
import pytest

from crdtmerge.bodies import Ban, Grant, Remove
from crdtmerge.errors import (
    BadSignatureError,
    MalformedRecordError,
    MissingAuthorityError,
    NotAdmissibleError,
    WrongSpaceError,
)
from crdtmerge.identity import Purpose
from crdtmerge.policy import Rank, check_admissible
from crdtmerge.record import (
    SignedRecord,
    decode_record,
    make_record,
    sign_record,
    well_formed,
)
from tests.properties.cast import (
    CLEO,
    CONTENTS,
    MAINTAINERS,
    OWNERS,
    READER,
    STRANGER,
    Pen,
    add_of,
    genesis,
    grant_of,
    unknown,
    wire,
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


@pytest.fixture(name="pen")
def fixture_pen() -> Pen:
    """A members space with its cast."""
    return Pen.start()


def an_add(pen: Pen) -> SignedRecord:
    """Return a contributor's add."""
    return pen.write(CLEO, add_of(CONTENTS[0]))


def test_forged_signature_is_refused(pen: Pen) -> None:
    """Nobody signs for another: wrong key, flipped bit, cut, empty, of another record."""
    signed = an_add(pen)
    other = an_add(pen)
    good = signed.signature
    forged = [
        STRANGER.sign(Purpose.RECORD, signed.record.id),
        CLEO.sign(Purpose.JOIN_AUTHOR, signed.record.id),
        bytes([good[0] ^ 1]) + good[1:],
        other.signature,
        bytes(64),
    ]
    for signature in forged:
        with pytest.raises(BadSignatureError):
            well_formed(signed.record.data, signature)
    for signature in (b"", good[:63], good + b"\0"):
        with pytest.raises(MalformedRecordError):
            well_formed(signed.record.data, signature)


def test_signature_covers_every_field(pen: Pen) -> None:
    """A changed field under the old signature is refused, whichever it is."""
    an_add(pen)
    signed = an_add(pen)
    changes = {
        1: bytes(32),
        2: STRANGER.public,
        3: 7,
        4: bytes(32),
        5: bytes(32),
        6: "remark",
        8: [*fields_of(signed)[8][:-1], "another note"],
    }
    for at, value in changes.items():
        fields = fields_of(signed)
        fields[at] = value
        # Some changes break the form before the signature is looked at.
        with pytest.raises((BadSignatureError, MalformedRecordError)):
            well_formed(packed(fields), signed.signature)


def test_record_of_another_space_is_refused(pen: Pen) -> None:
    """A record belongs to the space that it names; a replay elsewhere changes nothing."""
    elsewhere = genesis("open", nonce=b"m" * 16)
    here = pen.opset()
    foreign = write(STRANGER, elsewhere.record, add_of(CONTENTS[1]))
    for batch in ([elsewhere], [foreign], [elsewhere, foreign]):
        with pytest.raises(WrongSpaceError):
            here.insert(map(wire, batch))


def test_grant_of_another_space_gives_nothing_here(pen: Pen) -> None:
    """A record of this space that hangs on an open space's genesis hangs on nothing."""
    elsewhere = genesis("open", nonce=b"m" * 16)
    record = make_record(
        space=pen.genesis.record.id,
        author=STRANGER.public,
        author_seq=0,
        prev=b"",
        auth=elsewhere.record.id,
        body=add_of(CONTENTS[1]),
    )
    signed = sign_record(record, STRANGER)
    with pytest.raises(MissingAuthorityError):
        pen.opset().insert([signed])
    for batch in ([signed, elsewhere], [elsewhere, signed]):
        with pytest.raises(WrongSpaceError):
            pen.opset().insert(batch)


def test_grant_of_another_space_gives_nothing_wherever_it_is_found() -> None:
    """A store of many spaces may find the grant by its id: it still gives nothing."""
    here, elsewhere = genesis("open"), genesis("open", nonce=b"m" * 16)
    record = make_record(
        space=here.record.id,
        author=STRANGER.public,
        author_seq=0,
        prev=b"",
        auth=elsewhere.record.id,
        body=add_of(CONTENTS[1]),
    )
    found = {s.record.id: s.record for s in (here, elsewhere)}
    with pytest.raises(NotAdmissibleError, match="gives its author nothing"):
        check_admissible(record, found.get)


def test_second_genesis_is_refused(pen: Pen) -> None:
    """Nobody founds a space twice, not even its owner."""
    with pytest.raises(WrongSpaceError):
        pen.opset().insert([genesis("open")])


def test_outsider_changes_nothing_in_a_members_space(pen: Pen) -> None:
    """Whatever grant a stranger names, all of its records are refused."""
    opset = pen.opset()
    bodies = (
        add_of(CONTENTS[0]),
        Ban("content", CONTENTS[0]),
        grant_of(STRANGER, Rank.CONTRIBUTOR),
        Remove((pen.add(CLEO, CONTENTS[0]),)),
        unknown(),
    )
    for grant in opset.records.values():
        for body in bodies:
            with pytest.raises(NotAdmissibleError):
                opset.insert([write(STRANGER, grant, body)])


def test_outsider_cannot_found_itself_in(pen: Pen) -> None:
    """A record that names a grant which is none, or itself unauthorised, is refused."""
    opset = pen.opset()
    seat = write(STRANGER, pen.genesis.record, grant_of(STRANGER, Rank.MAINTAINER))
    add = write(STRANGER, seat.record, add_of(CONTENTS[0]), after=seat.record)
    with pytest.raises(MissingAuthorityError):
        opset.insert([add])
    for batch in ([seat, add], [add, seat]):
        with pytest.raises(NotAdmissibleError):
            opset.insert(batch)
    theirs = pen.write(CLEO, add_of(CONTENTS[0]))
    with pytest.raises(NotAdmissibleError):
        pen.opset().insert([write(CLEO, theirs.record, add_of(CONTENTS[1]))])


@pytest.mark.parametrize("rank", [Rank.MAINTAINER, Rank.CONTRIBUTOR, Rank.READER])
def test_a_rank_cannot_be_granted_by_its_equals(pen: Pen, rank: Rank) -> None:
    """A grant gives a strictly lower rank, and only maintainers and owners make any."""
    holder = {
        Rank.MAINTAINER: MAINTAINERS[0],
        Rank.CONTRIBUTOR: CLEO,
        Rank.READER: READER,
    }[rank]
    for author in (STRANGER, holder):
        with pytest.raises(NotAdmissibleError):
            pen.opset().insert(
                [write(holder, pen.grants[holder.public], grant_of(author, rank))]
            )


@pytest.mark.parametrize(
    ("cap", "records", "size"),
    [(10**9 + 1, 1000, 1), (10**9, 1001, 1), (10**9, 1000, (1 << 30) + 1)],
)
def test_limits_cannot_be_shed_by_a_second_key(
    pen: Pen, cap: int, records: int, size: int
) -> None:
    """A maintainer grants nobody, its own second key above all, more than it has."""
    author = MAINTAINERS[0]
    body = Grant(STRANGER.public, Rank.CONTRIBUTOR, cap, records, size)
    with pytest.raises(NotAdmissibleError, match="more than its author has"):
        pen.opset().insert([write(author, pen.grants[author.public], body)])


def test_limits_of_the_grant_hold(pen: Pen) -> None:
    """An author_seq or a manifest above the grant's limits is refused."""
    grant = pen.grants[CLEO.public]
    after = pen.write(CLEO, unknown()).record
    kept = write(CLEO, grant, add_of(CONTENTS[0]), after=after, seq=1000)
    pen.opset().insert([kept])
    above = write(CLEO, grant, add_of(CONTENTS[0]), after=after, seq=1001)
    with pytest.raises(NotAdmissibleError, match="limit"):
        pen.opset().insert([above])
    fields = fields_of(kept)
    fields[8][3] = (1 << 30) - 99
    huge = sign_record(decode_record(packed(fields)), CLEO)
    with pytest.raises(NotAdmissibleError, match="bytes"):
        pen.opset().insert([huge])


def test_genesis_by_none_of_its_owners_is_refused() -> None:
    """Nobody founds a space in another's name."""
    fields = fields_of(genesis("members"))
    fields[2] = STRANGER.public
    record = decode_record(packed(fields))
    pen = Pen.start()
    forged = sign_record(record, STRANGER)
    with pytest.raises((NotAdmissibleError, WrongSpaceError)):
        pen.opset().insert([wire(forged)])
    empty = type(pen.opset())(record.space_id)
    with pytest.raises(NotAdmissibleError):
        empty.insert([wire(forged)])
    assert OWNERS[0].public != STRANGER.public
