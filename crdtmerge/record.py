"""Records: the immutable signed facts of a space, in their one canonical form.

Owns the frame v1, ids, signatures, and the first of the three steps: *well-formed* is
decided from the bytes alone. Does not own the kinds (`bodies`), who may make a record
(`policy`), nor what the set of them means (`policy`, `orset`).

A record is the canonical encoding of
`[version, space, author, author_seq, prev, auth, kind, critical, body]`; its id is the
digest of these bytes, and the signature stands outside the id, so one record has one id.
"""

import re
from dataclasses import dataclass
from typing import Final

from crdtmerge.bodies import (
    BODIES,
    CRITICAL,
    Body,
    Genesis,
    RecordId,
    SpaceId,
    Successor,
    Unknown,
    check_consent,
    not_a,
    require,
)
from crdtmerge.codec import Value, decode, encode
from crdtmerge.digest import DIGEST_BYTES, Domain, digest
from crdtmerge.errors import EncodingError, MalformedRecordError
from crdtmerge.faults import Fault, check_fault
from crdtmerge.forks import BRANCH_BYTES_MAX, FRAME_VERSION, Fork, check_fork
from crdtmerge.identity import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    AuthorId,
    Purpose,
    Signer,
    verify,
)

VERSION: Final = FRAME_VERSION
RECORD_BYTES_MAX: Final = BRANCH_BYTES_MAX

_KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True)
class Record:
    """One well-formed record; `data` is its canonical encoding and `id` the digest."""

    data: bytes
    id: RecordId
    space: bytes
    author: AuthorId
    author_seq: int
    prev: bytes
    auth: bytes
    critical: bool
    body: Body

    @property
    def kind(self) -> str:
        """The kind's name."""
        return self.body.kind if isinstance(self.body, Unknown) else self.body.KIND

    @property
    def space_id(self) -> SpaceId:
        """The space that it belongs to; a genesis belongs to its own."""
        return SpaceId(self.space or self.id)


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record and the signature of its author over its id."""

    record: Record
    signature: bytes


def make_record(
    *,
    space: bytes,
    author: AuthorId,
    author_seq: int,
    prev: bytes,
    auth: bytes,
    body: Body,
    critical: bool = False,
) -> Record:
    """Return the record with these fields, checked as if it had arrived.

    `critical` is for kinds that this version does not know: of the others it is fixed.

    Raises:
        MalformedRecordError: the fields break the form.
    """
    kind = body.kind if isinstance(body, Unknown) else body.KIND
    critical = critical or kind in CRITICAL
    head: list[Value] = [VERSION, space, author, author_seq, prev, auth]
    return decode_record(encode([*head, kind, int(critical), body.to_value()]))


def sign_record(record: Record, key: Signer) -> SignedRecord:
    """Return `record` signed with its author's key."""
    return SignedRecord(record, key.sign(Purpose.RECORD, record.id))


def well_formed(data: bytes, signature: bytes) -> SignedRecord:
    """Return the signed record that these bytes are: the first of the three steps.

    A fault or fork is checked here, by what it shows: a false one is no record at all; nor
    is a successor that did not consent. The store keeps what came through this door, so
    what it loads is not checked again.

    Raises:
        MalformedRecordError: the bytes are not a record of this version, or a false proof.
        BadSignatureError: the named author, or a successor that it names, did not sign;
            or a forked author did not sign both.
    """
    return verified(decode_record(data), signature)


def verified(record: Record, signature: bytes) -> SignedRecord:
    """Return a decoded record as a signed one: what is dear of the first step.

    Raises:
        MalformedRecordError: what it shows is false.
        BadSignatureError: whom it names did not sign it.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise MalformedRecordError("the signature has another length")
    verify(record.author, Purpose.RECORD, record.id, signature)
    if isinstance(record.body, Fault):
        check_fault(record.body)
    if isinstance(record.body, Fork):
        check_fork(record.body, record.space)
    if isinstance(record.body, Successor):
        check_consent(record.space, record.body)
    return SignedRecord(record, signature)


def decode_record(data: bytes) -> Record:
    """Return the record whose canonical bytes are `data`.

    Neither its signature is checked, nor a consent, nor whether what it shows is true.

    Raises:
        MalformedRecordError: the bytes are not a record of this version.
    """
    return _decoded(data)


def _decoded(data: bytes) -> Record:
    """Do so: a function of the bytes alone, which a simulator may remember."""
    try:
        value = decode(data, RECORD_BYTES_MAX)
        return _parse(data, value)
    except EncodingError as e:
        raise MalformedRecordError(str(e)) from e


def _parse(data: bytes, value: Value) -> Record:
    match value:
        case [int(version), *_] if version != VERSION:
            raise MalformedRecordError(f"record version {version} is not {VERSION}")
        case [
            int(),
            bytes(space),
            bytes(author),
            int(author_seq),
            bytes(prev),
            bytes(auth),
            str(kind),
            int(critical),
            body,
        ]:
            require(_KIND.fullmatch(kind) is not None, f"{kind!r} is no name of a kind")
            require(critical in {0, 1}, "the critical flag is not 0 or 1")
            require(len(author) == KEY_BYTES, "the author is no key")
            require(0 <= author_seq < 2**63, "author_seq is out of bounds")
            require(
                len(prev) == (DIGEST_BYTES if author_seq else 0),
                "prev misses or is in excess",
            )
            _check_links(kind, space, auth, author_seq)
            known = BODIES.get(kind)
            _check_flag(kind, critical)
            parsed = known.from_value(body) if known else Unknown(kind, body)
            return Record(
                data,
                RecordId(digest(Domain.RECORD, data)),
                space,
                AuthorId(author),
                author_seq,
                prev,
                auth,
                bool(critical),
                parsed,
            )
        case _:
            raise not_a("record of nine fields")


def _check_flag(kind: str, critical: int) -> None:
    """Of a kind that this version knows the flag says nothing, so it has one value."""
    due = int(kind in CRITICAL)
    word = "always" if due else "never"
    require(kind not in BODIES or critical == due, f"{kind} is {word} critical")


def _check_links(kind: str, space: bytes, auth: bytes, author_seq: int) -> None:
    """A genesis hangs on nothing; every other record names its space and a grant."""
    if kind == Genesis.KIND:
        require(
            not space and not auth and author_seq == 0,
            "a genesis names no other record",
        )
    else:
        require(len(space) == DIGEST_BYTES, "the space is no record id")
        require(len(auth) == DIGEST_BYTES, "auth is no record id")
