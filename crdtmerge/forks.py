"""Forks: what shows, from its bytes alone, that an author used one number twice.

Owns the body of a `fork` record, how it is checked and how it is made. Does not own the
proofs under it (`proofs`), who may say it and what follows (`policy`), nor who notices a
fork (`nodes`).

An author numbers its records, and signs two of one number only by breaking the rules, or
because its home was restored or copied. Of each of the two, a fork shows the beginning, in
which space, author and number stand, under the record's id, and the signature over that
id. The rest of the records is not needed: two of 64 KiB would not fit into a third
(docs/adr/0037).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

from crdtmerge.codec import Value, encode
from crdtmerge.digest import DIGEST_BYTES, Domain
from crdtmerge.errors import MalformedProofError
from crdtmerge.identity import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    AuthorId,
    Purpose,
    verify,
)
from crdtmerge.proofs import Proof, proof_from_value, prove, read_spans
from crdtmerge.proofs import verify as verify_proof

FRAME_VERSION: Final = 1
"""The first field of a record."""
BRANCH_BYTES_MAX: Final = 64 << 10
"""As many as a record may have."""
CHECKED_MAX: Final = 64
"""Forks that are remembered to be true: several nodes may show one and the same."""
_FIELDS_AFTER: Final = 5
"""Fields of a record after its number: prev, auth, kind, critical, body."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One of the two records: its id, its beginning under that id, and the signature."""

    id: bytes
    head: Proof
    signature: bytes

    def to_value(self) -> Value:
        """Return the plain value."""
        return [self.id, self.head.to_value(), self.signature]

    @classmethod
    def from_value(cls, value: Value) -> "Branch":
        """Return the branch that `value` is."""
        match value:
            case [bytes(key), head, bytes(signature)] if (
                len(key) == DIGEST_BYTES and len(signature) == SIGNATURE_BYTES
            ):
                return cls(key, proof_from_value(head, BRANCH_BYTES_MAX), signature)
            case _:
                raise MalformedProofError("a branch is not [id, head, signature]")


@dataclass(frozen=True, slots=True)
class Fork:
    """Shows that `author` signed two records of number `author_seq` in one space.

    The space is that of the record that says so; the lower id comes first.
    """

    KIND: ClassVar[str] = "fork"
    author: AuthorId
    author_seq: int
    branches: tuple[Branch, Branch]

    @property
    def place(self) -> tuple[AuthorId, int]:
        """The author, and the number that it used twice."""
        return self.author, self.author_seq

    def to_value(self) -> Value:
        """Return the body's plain value."""
        shown = [branch.to_value() for branch in self.branches]
        return [self.author, self.author_seq, *shown]

    @classmethod
    def from_value(cls, value: Value) -> "Fork":
        """Return the body that `value` is; whether it is true is for `check_fork`."""
        match value:
            case [bytes(author), int(author_seq), one, other] if (
                len(author) == KEY_BYTES and 0 <= author_seq < 2**63
            ):
                branches = Branch.from_value(one), Branch.from_value(other)
            case _:
                raise MalformedProofError(
                    "not a fork [author, author_seq, branch, branch]"
                )
        if branches[0].id >= branches[1].id:
            raise MalformedProofError("a fork does not show two records in their order")
        return cls(AuthorId(author), author_seq, branches)


@lru_cache(maxsize=CHECKED_MAX)
def check_fork(fork: Fork, space: bytes) -> None:
    """Check from the bytes of `fork` alone that it is true in `space`.

    What it costs has a bound: two signatures, four leaves and two paths of at most ten
    values, and nothing of it before the beginnings are what they have to be.

    Raises:
        MalformedProofError: it shows something else.
        BadSignatureError: the author did not sign both.
    """
    heads = [_head(space, fork, branch.id) for branch in fork.branches]
    for branch, head in zip(fork.branches, heads, strict=True):
        if read_spans(branch.head, [(0, len(head))]) != [head]:
            raise MalformedProofError(
                "a fork shows a record of another space, author or number"
            )
    for branch in fork.branches:
        verify(fork.author, Purpose.RECORD, branch.id, branch.signature)
    for branch, head in zip(fork.branches, heads, strict=True):
        verify_proof(Domain.RECORD, branch.id, branch.head, [(0, len(head))])


def _head(space: bytes, fork: Fork, record: bytes) -> bytes:
    """Return the bytes that a record of this space, author and number begins with.

    SUBTLE: nothing of what is shown is decoded; it is compared with the one encoding of
    what is claimed. That fixes the fields of the whole record: every header of msgpack says
    how long its value is, so bytes that begin with "an array of nine: 1, this space, this
    author, this number" are read as those four fields, whatever follows. And the signer
    signs the ids of its records alone, so there is such a record, though we do not see it.
    A genesis names no space: it is its own.
    """
    named = b"" if record == space else space
    fields: list[Value] = [FRAME_VERSION, named, fork.author, fork.author_seq]
    return encode([*fields, *[0] * _FIELDS_AFTER])[:-_FIELDS_AFTER]


def prove_fork(
    space: bytes,
    author: AuthorId,
    author_seq: int,
    signed: Sequence[tuple[bytes, bytes]],
) -> Fork:
    """Return the fork that two records, as bytes and signature each, are.

    Raises:
        MalformedProofError: they are not two of this space, author and number.
        BadSignatureError: the author did not sign both.
    """
    span = 0, len(encode([FRAME_VERSION, space, author, author_seq]))
    shown = [(*prove(Domain.RECORD, data, [span]), sign) for data, sign in signed]
    branches = sorted((Branch(*each) for each in shown), key=lambda b: b.id)
    value: list[Value] = [branch.to_value() for branch in branches]
    fork = Fork.from_value([author, author_seq, *value])
    check_fork(fork, space)
    return fork
