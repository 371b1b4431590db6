"""Whether an author had the right to make a record: the second of the three steps.

Owns *admissible*: decided from a record and the grants it hangs on, so it is monotone and
no arrival order is in it. Does not own what takes effect (`standing`).
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from crdtmerge.bodies import Add, Genesis, Grant, RecordId, Revoke, Successor
from crdtmerge.errors import MissingAuthorityError, NotAdmissibleError
from crdtmerge.identity import AuthorId
from crdtmerge.policy.ranks import NEEDED, OPEN, OWNER, Authority, Rank
from crdtmerge.record import Record

SUCCESSORS_MAX: Final = 63
"""Keys that can follow an owner's, one after another: each has half as many records."""

Lookup = Callable[[RecordId], Record | None]


def given_by(
    grant: Record, author: AuthorId, lookup: Lookup, links: int = SUCCESSORS_MAX
) -> Authority | None:
    """Return what naming `grant` gives `author`; None if it gives nothing.

    Raises:
        MissingAuthorityError: it names a successor, whose own grant has not been received.
        NotAdmissibleError: more than `links` successors hang on each other.
    """
    match grant.body:
        case Genesis(owners=owners) if author in owners:
            return OWNER
        case Genesis(mode="open"):
            return OPEN
        case Grant() as body if body.author == author:
            rank = Rank(body.rank)
            return Authority(rank, body.weight_cap, body.records_max, body.bytes_max)
        case Successor() as body if body.key == author:
            return handed_on(grant.author_seq, authority_of(grant, lookup, links - 1))
        case _:
            return None


def handed_on(author_seq: int, authority: Authority) -> Authority:
    """Return what an author's `authority` becomes in the hands of who follows it.

    `author_seq` is the number of the record that names who does.

    Half of the records that are left: a key that names another in turn cannot shed the
    limit, and no chain is longer than `SUCCESSORS_MAX`.
    """
    left = max(0, authority.records_max - author_seq)
    return replace(authority, records_max=left // 2)


def authority_of(
    record: Record, lookup: Lookup, links: int = SUCCESSORS_MAX
) -> Authority:
    """Return what the grant that `record` names gives its author.

    SUBTLE: records of a batch are looked up before they are admitted, so a stranger may
    hang as many successors on each other as a batch holds. None of them is admissible
    beyond `links`, for each halves the records that are left.

    Raises:
        MissingAuthorityError: the grant has not been received.
        NotAdmissibleError: it is no grant to this author in this space, or more than
            `links` successors hang on each other.
    """
    if links < 0:
        raise NotAdmissibleError(record.id, "too many keys follow each other")
    grant = lookup(RecordId(record.auth))
    if grant is None:
        raise MissingAuthorityError(record.id, record.auth)
    authority = given_by(grant, record.author, lookup, links)
    if authority is None or grant.space_id != record.space_id:
        reason = "what it names as its grant gives its author nothing"
        raise NotAdmissibleError(record.id, reason)
    return authority


def check_admissible(record: Record, lookup: Lookup) -> None:
    """Check that the author had the right to make `record`: the second step.

    Decided by the record and its chain of grants alone, so every replica agrees; later
    revocations change what is visible, never what is admissible.

    Raises:
        MissingAuthorityError: a grant of the chain has not been received.
        NotAdmissibleError: the author had no right.
    """
    if isinstance(record.body, Genesis):
        if record.author not in record.body.owners:
            raise NotAdmissibleError(record.id, "its author is none of the owners")
        return
    authority = authority_of(record, lookup)
    if authority.rank < _needed(record, lookup):
        rank = authority.rank.name.lower()
        raise NotAdmissibleError(record.id, f"a {rank} cannot make a {record.kind}")
    if record.author_seq > authority.records_max:
        raise NotAdmissibleError(record.id, "its author_seq is above the grant's limit")
    match record.body:
        case Grant() as grant if grant.rank >= authority.rank:
            raise NotAdmissibleError(record.id, "a grant must give a lower rank")
        case Grant() as grant if not authority.covers(grant):
            raise NotAdmissibleError(
                record.id, "a grant gives more than its author has"
            )
        case Add() as add:
            if add.content_bytes + add.manifest_bytes > authority.bytes_max:
                raise NotAdmissibleError(
                    record.id, "it declares more bytes than granted"
                )
        case Successor() as body:
            _check_successor(record, body, authority)
        case _:
            pass


def _needed(record: Record, lookup: Lookup) -> Rank:
    """Return the rank that `record` needs: any will do to end one's own keys."""
    body = record.body
    if isinstance(body, Revoke):
        own = body.author == record.author
        if own or body.author in _predecessors(record, lookup):
            return Rank.READER
    return NEEDED[type(body)]


def _predecessors(record: Record, lookup: Lookup) -> Iterable[AuthorId]:
    """Yield the keys before the author's, as far as they named each other."""
    at = lookup(RecordId(record.auth))
    while at is not None and isinstance(at.body, Successor):
        yield at.body.of
        if at.body.of != at.author:
            return
        at = lookup(RecordId(at.auth))


def _check_successor(record: Record, body: Successor, authority: Authority) -> None:
    """Check that the author may name who follows `of`, and has enough left to hand on."""
    if body.of != record.author and authority.rank < Rank.OWNER:
        raise NotAdmissibleError(
            record.id, "only an owner names who follows another's key"
        )
    if not handed_on(record.author_seq, authority).records_max:
        raise NotAdmissibleError(
            record.id, "its author has too few records left for a successor"
        )
