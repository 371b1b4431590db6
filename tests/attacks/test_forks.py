"""False forks: each says of an honest author that it used a number twice. None passes."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.bodies import Unknown
from crdtmerge.codec import Value, encode
from crdtmerge.digest import Domain
from crdtmerge.errors import (
    BadSignatureError,
    MalformedProofError,
    MalformedRecordError,
    NotAdmissibleError,
    RemoteError,
)
from crdtmerge.forks import Branch, Fork, check_fork
from crdtmerge.identity import AuthorId, Purpose, SigningKey
from crdtmerge.proofs import LEAF_BYTES, prove
from crdtmerge.record import (
    SignedRecord,
    decode_record,
    make_record,
    sign_record,
    well_formed,
)
from crdtmerge.sync.messages import SignedBytes
from nodes.spaces import Spaces
from nodes.store.memory import MemoryBlobs, MemoryRecords
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    OWNERS,
    READER,
    STRANGER,
    Pen,
    add_of,
    fork_of,
    genesis,
    write,
)

PEN: Final = Pen.start()
SPACE: Final = PEN.genesis.record.space_id
ELSEWHERE: Final = genesis("open", b"e" * 16).record
HEAD: Final = (0, 79)
"""The bytes up to the longest number."""


def said(
    author: SigningKey = CLEO, seq: int = 7, size: int = 20, mark: int = 0
) -> SignedRecord:
    """Return a record of the author with this number, of about so many bytes."""
    body = Unknown("census", bytes([mark]) * size)
    after = PEN.genesis.record if seq else None
    return write(author, PEN.grants[author.public], body, after=after, seq=seq)


ONE: Final = said(mark=1)
LONG: Final = said(mark=2, size=5000)
TRUE: Final = fork_of(ONE, LONG)
"""What is so of CLEO; the lies are made of it."""
TRUE_LONG: Final = fork_of(said(mark=3, size=64_000), LONG)


def branch_of(signed: SignedRecord) -> Branch:
    """Return what shows the beginning of a record, truly."""
    key, head = prove(Domain.RECORD, signed.record.data, [HEAD])
    return Branch(key, head, signed.signature)


def fork(*branches: Branch, author: AuthorId = CLEO.public, seq: int = 7) -> Fork:
    """Return a fork of these branches, in their order."""
    one, other = sorted(branches, key=lambda branch: branch.id)
    return Fork(author, seq, (one, other))


def in_space(space: bytes) -> SignedRecord:
    """Return a record of the same author and number in another space."""
    record = make_record(
        space=space,
        author=CLEO.public,
        author_seq=7,
        prev=bytes(32),
        auth=space,
        body=Unknown("census", b"here"),
    )
    return sign_record(record, CLEO)


def holding(inner: bytes) -> SignedRecord:
    """Return a record in whose body, at the start of a leaf, stand these bytes."""
    for pad in range(LEAF_BYTES):
        body = Unknown("census", [bytes(1000 + pad), inner])
        signed = write(
            CLEO, PEN.grants[CLEO.public], body, after=PEN.genesis.record, seq=8
        )
        if signed.record.data.index(inner) % LEAF_BYTES == 0:
            return signed
    raise AssertionError


def second_leaf() -> Branch:
    """Return a branch that shows the second leaf of a record as if it were the first."""
    signed = holding(LONG.record.data[:LEAF_BYTES])
    key, head = prove(Domain.RECORD, signed.record.data, [(LEAF_BYTES, 79)])
    return Branch(key, head, signed.signature)


def unsigned() -> Branch:
    """Return a branch that somebody else signed."""
    return replace(
        branch_of(said(mark=9)),
        signature=CARL.sign(Purpose.RECORD, said(mark=9).record.id),
    )


def signed_for(purpose: Purpose) -> Branch:
    """Return a branch whose id the author signed for another purpose."""
    other = said(mark=9)
    return replace(branch_of(other), signature=CLEO.sign(purpose, other.record.id))


def of_domain(domain: Domain) -> Branch:
    """Return a branch whose id is the digest of another use, signed all the same."""
    key, head = prove(domain, LONG.record.data, [HEAD])
    return Branch(key, head, CLEO.sign(Purpose.RECORD, key))


def with_head(branch: Branch, change: Callable[[bytes], bytes]) -> Branch:
    """Return a branch whose leaves are others."""
    head = replace(branch.head, leaves=change(branch.head.leaves))
    return replace(branch, head=head)


A: Final = branch_of(ONE)
B: Final = branch_of(LONG)
FALSE: Final[dict[str, Fork]] = {
    "one record twice": Fork(CLEO.public, 7, (A, A)),
    "in the wrong order": Fork(CLEO.public, 7, TRUE.branches[::-1]),
    "two numbers": fork(A, branch_of(said(seq=8))),
    "a number that neither has": fork(A, B, seq=8),
    "a number beyond the bound": fork(A, B, seq=2**63),
    "a number below zero": fork(A, B, seq=-1),
    "another author": fork(A, B, author=CARL.public),
    "two authors": fork(A, branch_of(said(CARL, mark=1))),
    "two authors, for the other": fork(
        A, branch_of(said(CARL, mark=1)), author=CARL.public
    ),
    "another space": fork(A, branch_of(in_space(ELSEWHERE.id))),
    "two of another space": fork(
        branch_of(in_space(ELSEWHERE.id)),
        branch_of(
            sign_record(
                decode_record(
                    in_space(ELSEWHERE.id).record.data.replace(b"here", b"ther")
                ),
                CLEO,
            )
        ),
    ),
    "no signature": fork(A, unsigned()),
    "a signature of zeros": fork(A, replace(B, signature=bytes(64))),
    "the other's signature": fork(A, replace(B, signature=A.signature)),
    "signed to join": fork(A, signed_for(Purpose.JOIN_AUTHOR)),
    "signed as a node": fork(A, signed_for(Purpose.JOIN_NODE)),
    "a digest of content": fork(A, of_domain(Domain.CONTENT)),
    "a digest of a chunk": fork(A, of_domain(Domain.CHUNK)),
    "the id of another": fork(A, replace(B, id=said(mark=5).record.id)),
    "the beginning of another": fork(A, replace(B, head=A.head)),
    "a record within a record": fork(A, second_leaf()),
    "a beginning made up": fork(
        A,
        with_head(
            branch_of(said(seq=8, size=5000)),
            lambda leaves: LONG.record.data[:79] + leaves[79:],
        ),
    ),
    "a cut leaf": fork(A, with_head(B, lambda leaves: leaves[:-1])),
    "one leaf only": fork(A, with_head(B, lambda leaves: leaves[:LEAF_BYTES])),
    "one leaf more": fork(A, with_head(B, lambda leaves: leaves + bytes(LEAF_BYTES))),
    "no leaf": fork(A, with_head(B, lambda _: b"")),
    "a cut path": fork(
        A, replace(B, head=replace(B.head, siblings=B.head.siblings[:-32]))
    ),
    "a longer path": fork(
        A, replace(B, head=replace(B.head, siblings=B.head.siblings + bytes(32)))
    ),
    "one byte more": fork(
        A, replace(B, head=replace(B.head, length=B.head.length + 1))
    ),
    "longer than a record": fork(A, replace(B, head=replace(B.head, length=1 << 17))),
    "shorter than a head": fork(
        A, Branch(*prove(Domain.RECORD, LONG.record.data[:40], []), B.signature)
    ),
    "an empty record": fork(A, Branch(*prove(Domain.RECORD, b"", []), B.signature)),
    "a key that anybody can use": fork(
        *(
            Branch(key, head, bytes(64))
            for mark in (b"1", b"2")
            for data in [
                LONG.record.data.replace(CLEO.public, bytes(32), 1)[:79] + mark
            ]
            for key, head in [prove(Domain.RECORD, data, [HEAD])]
        ),
        author=AuthorId(bytes(32)),
    ),
}


def bytes_of(shown: Fork, author: SigningKey = CARL) -> SignedBytes:
    """Return a record of a fork as a member's own program signs it."""
    record = make_record(
        space=SPACE,
        author=author.public,
        author_seq=0,
        prev=b"",
        auth=PEN.grants[author.public].id,
        body=shown,
    )
    return SignedBytes(record.data, sign_record(record, author).signature)


def hosting(pen: Pen) -> Spaces:
    """Return a home's spaces that hold what the pen wrote."""
    spaces = Spaces(MemoryRecords(bytes(16)), MemoryBlobs())
    spaces.commit(SPACE, list(pen.known.values()))
    return spaces


def test_the_true_ones_are_true() -> None:
    """What the false ones are made from is accepted, so they fail for their own reason."""
    for shown in (TRUE, TRUE_LONG, fork(A, B)):
        check_fork(shown, SPACE)
        signed = bytes_of(shown)
        assert well_formed(signed.data, signed.signature).record.body == shown
    assert len(FALSE) > 30


@pytest.mark.parametrize("name", FALSE)
def test_a_false_fork_is_refused_and_changes_nothing(name: str) -> None:
    """It breaks the rules as a malformed record does: nothing of the batch is kept."""
    pen = Pen.start()
    spaces = hosting(pen)
    before = spaces.opset(SPACE)
    fine = pen.write(CLEO, add_of(CONTENTS[0]))
    with pytest.raises((MalformedProofError, BadSignatureError)):
        check_fork(Fork.from_value(FALSE[name].to_value()), SPACE)
    try:
        lie = bytes_of(FALSE[name])
    except MalformedProofError:
        return  # not even its form holds
    batch = [SignedBytes(fine.record.data, fine.signature), lie]
    with pytest.raises((MalformedProofError, BadSignatureError)):
        spaces.receive(SPACE, batch)
    assert spaces.opset(SPACE) is before
    assert spaces.records.load(SPACE) == list(before.signed.values())
    assert spaces.view(SPACE).forks == ()


@given(st.integers(0, 1 << 30), st.integers(1, 255), st.sampled_from((TRUE, TRUE_LONG)))
def test_a_change_of_any_byte_is_refused(at: int, flip: int, shown: Fork) -> None:
    """No byte of a fork's body can be another: signed anew, it is still no record."""
    body = encode(shown.to_value())
    whole = bytes_of(shown)
    start = whole.data.index(body)
    data = bytearray(whole.data)
    data[start + at % len(body)] ^= flip
    with pytest.raises((MalformedRecordError, BadSignatureError)):
        arrive(bytes(data))


def arrive(data: bytes) -> None:
    """Sign bytes as their author's own program does, and read them as a peer does."""
    signed = sign_record(decode_record(data), CARL)
    well_formed(data, signed.signature)


@given(st.binary(max_size=300), st.data())
def test_any_values_at_all_raise_a_remote_error(
    junk: bytes, data: st.DataObject
) -> None:
    """Whatever stands where a beginning should: never anything but a peer's fault."""
    length = data.draw(st.integers(-5, 70_000))
    siblings = data.draw(st.binary(max_size=70))
    branch: list[Value] = [junk[:32].ljust(32), [length, junk, siblings]]
    branch += [junk[:64].ljust(64)]
    number = data.draw(st.integers(-2, 2**64 - 1))
    value: list[Value] = [CLEO.public, number, branch, TRUE.branches[1].to_value()]
    with pytest.raises(RemoteError):
        check_fork(Fork.from_value(value), SPACE)


def test_a_fork_is_of_its_own_space_alone() -> None:
    """What is true in one space is refused in another, where the author is honest."""
    check_fork(TRUE, SPACE)
    with pytest.raises(MalformedProofError):
        check_fork(TRUE, ELSEWHERE.id)


def test_who_has_no_grant_shows_nothing() -> None:
    """A proof needs the rank of reader, no more and no less."""
    pen = Pen.start()
    stranger = write(STRANGER, pen.genesis.record, TRUE)
    with pytest.raises(NotAdmissibleError):
        pen.opset().insert([stranger])
    pen.write(READER, TRUE)
    assert [shown.author for shown in pen.opset().view.forks] == [CLEO.public]


def test_nobody_is_framed_by_records_of_two_spaces() -> None:
    """Who founds two spaces with one key has signed two records of number 0."""
    ours = branch_of(PEN.genesis)
    theirs = branch_of(genesis("members", b"z" * 16))
    shown = fork(ours, theirs, author=OWNERS[0].public, seq=0)
    for space in (SPACE, theirs.id):
        with pytest.raises(MalformedProofError):
            check_fork(shown, space)


def test_a_flood_of_one_fork_costs_little() -> None:
    """Said again and again, each time as another record, a fork is checked once."""
    pen = Pen.start()
    spaces = hosting(pen)
    flood = [pen.write(CARL, TRUE_LONG) for _ in range(200)]
    check_fork.cache_clear()
    began = time.process_time()
    spaces.receive(SPACE, [SignedBytes(s.record.data, s.signature) for s in flood])
    spent = time.process_time() - began
    assert check_fork.cache_info().misses == 1
    assert len(spaces.view(SPACE).forks) == 1
    assert spent < 1.0, spent
