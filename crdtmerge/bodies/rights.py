"""The kinds about authors' rights: giving, taking, keeping out, and who follows whom.

Owns the form of `grant`, `revoke`, `ban`, `lift`, `approve` and `successor`, and how a
successor consents. Does not own what they bring about (`policy`).
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from crdtmerge.bodies.forms import (
    WEIGHT_UNITS_MAX,
    RecordId,
    SpaceId,
    not_a,
    require,
    sorted_ids,
)
from crdtmerge.codec import Value, format_decimal, parse_decimal
from crdtmerge.digest import BLOB_BYTES_MAX, DIGEST_BYTES
from crdtmerge.identity import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    AuthorId,
    Purpose,
    Signer,
    is_weak,
    verify,
)

RANKS: Final = (0, 1, 2)
"""Ranks that a grant can give: reader, contributor, maintainer."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Gives an author a rank, with limits.

    `weight_cap` is in units of 1e-9, `records_max` bounds the author's `author_seq`,
    `bytes_max` what one manifest may declare.
    """

    KIND: ClassVar[str] = "grant"
    author: AuthorId
    rank: int
    weight_cap: int
    records_max: int
    bytes_max: int

    def to_value(self) -> Value:
        """Return the body's plain value."""
        cap = format_decimal(self.weight_cap)
        return [self.author, self.rank, cap, self.records_max, self.bytes_max]

    @classmethod
    def from_value(cls, value: Value) -> "Grant":
        """Return the body that `value` is."""
        match value:
            case [bytes(author), int(rank), str(cap), int(records), int(size)]:
                units = parse_decimal(cap)
                require(len(author) == KEY_BYTES, "no author key")
                require(rank in RANKS, f"rank {rank} cannot be granted")
                require(
                    0 <= units <= WEIGHT_UNITS_MAX, f"weight cap {cap} not in 0..1000"
                )
                require(0 <= records < 2**63, "records are out of bounds")
                require(0 <= size <= BLOB_BYTES_MAX, "bytes are out of bounds")
                return cls(AuthorId(author), rank, units, records, size)
            case _:
                raise not_a("grant [author, rank, weight cap, records, bytes]")


@dataclass(frozen=True, slots=True)
class Revoke:
    """Ends an author's rights; only the `prev` closure of `accepted` keeps its effect."""

    KIND: ClassVar[str] = "revoke"
    author: AuthorId
    accepted: tuple[RecordId, ...]

    def to_value(self) -> Value:
        """Return the body's plain value."""
        return [self.author, list(self.accepted)]

    @classmethod
    def from_value(cls, value: Value) -> "Revoke":
        """Return the body that `value` is."""
        match value:
            case [bytes(author), [*accepted]] if len(author) == KEY_BYTES:
                return cls(
                    AuthorId(author), tuple(RecordId(i) for i in sorted_ids(accepted))
                )
            case _:
                raise not_a("revoke [author, accepted ids]")


@dataclass(frozen=True, slots=True)
class Ban:
    """Keeps a content id, or all records of an author, out, whatever is added."""

    KIND: ClassVar[str] = "ban"
    subject: str
    target: bytes

    def to_value(self) -> Value:
        """Return the body's plain value."""
        return [self.subject, self.target]

    @classmethod
    def from_value(cls, value: Value) -> "Ban":
        """Return the body that `value` is."""
        match value:
            case ["content" | "author" as subject, bytes(target)]:
                require(len(target) == DIGEST_BYTES, "no content id or author key")
                return cls(subject, target)
            case _:
                raise not_a("ban [content or author, id]")


@dataclass(frozen=True, slots=True)
class Lift:
    """Lifts the ban or revocation that it names."""

    KIND: ClassVar[str] = "lift"
    target: RecordId

    def to_value(self) -> Value:
        """Return the body's plain value."""
        return [self.target]

    @classmethod
    def from_value(cls, value: Value) -> "Lift":
        """Return the body that `value` is."""
        match value:
            case [bytes(target)] if len(target) == DIGEST_BYTES:
                return cls(RecordId(target))
            case _:
                raise not_a("lift [record id]")


@dataclass(frozen=True, slots=True)
class Approve:
    """Signs another owner's act: some acts need several owners."""

    KIND: ClassVar[str] = "approve"
    target: RecordId

    def to_value(self) -> Value:
        """Return the body's plain value."""
        return [self.target]

    @classmethod
    def from_value(cls, value: Value) -> "Approve":
        """Return the body that `value` is."""
        match value:
            case [bytes(target)] if len(target) == DIGEST_BYTES:
                return cls(RecordId(target))
            case _:
                raise not_a("approve [record id]")


@dataclass(frozen=True, slots=True)
class Successor:
    """Names `key` as the one that follows the key `of`.

    `consent` is the signature of `key` over space and `of`: nobody can name a key that
    nobody holds, nor somebody else's. It is checked by `check_consent`.
    """

    KIND: ClassVar[str] = "successor"
    of: AuthorId
    key: AuthorId
    consent: bytes

    def to_value(self) -> Value:
        """Return the body's plain value."""
        return [self.of, self.key, self.consent]

    @classmethod
    def from_value(cls, value: Value) -> "Successor":
        """Return the body that `value` is; its consent is for `check_consent`."""
        match value:
            case [bytes(of), bytes(key), bytes(consent)]:
                require(len(of) == KEY_BYTES, "no author key")
                require(len(key) == KEY_BYTES, "no author key")
                require(of != key, "a key does not follow itself")
                require(not is_weak(key), "anybody could use the key")
                require(
                    len(consent) == SIGNATURE_BYTES, "the consent has another length"
                )
                return cls(AuthorId(of), AuthorId(key), consent)
            case _:
                raise not_a("successor [key, next key, its consent]")


def give_consent(key: Signer, space: SpaceId, of: AuthorId) -> bytes:
    """Return the consent of `key` to follow the key `of` in `space`."""
    return key.sign(Purpose.SUCCESSOR, space + of)


def check_consent(space: bytes, body: Successor) -> None:
    """Check that the key which is to follow agreed to it, in this space.

    Raises:
        BadSignatureError: it did not.
    """
    verify(body.key, Purpose.SUCCESSOR, space + body.of, body.consent)
