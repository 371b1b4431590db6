"""Which acts of owners wait for more owners to sign them.

Owns what people are told of that. Does not own what the acts bring about (`standing`,
`council`).
"""

from collections.abc import Callable, Iterable

from crdtmerge.bodies import (
    Add,
    Ban,
    Epoch,
    Grant,
    Lift,
    RecordId,
    Remove,
    Revoke,
    Successor,
)
from crdtmerge.forks import Fork
from crdtmerge.identity import AuthorId
from crdtmerge.policy.council import (
    COUNCIL,
    Votes,
    by_council,
    council_size,
    is_retirement,
    target_of,
)
from crdtmerge.policy.dead import signers_of
from crdtmerge.policy.ranks import Rank
from crdtmerge.policy.standing import Standing
from crdtmerge.policy.view import Pending
from crdtmerge.record import Record

_KINDS = (Grant, Ban, Revoke, Lift, Remove, Successor, Epoch)


Effective = Callable[[RecordId], Record | None]
"""Finds a record that takes effect, of any kind."""


def pending_of(standing: Standing, effective: Effective) -> tuple[Pending, ...]:
    """Return the acts of owners that too few of them signed, by id."""
    together, alone = standing.council.votes, standing.votes
    found: list[Pending] = []
    for record in _acts(standing):
        if isinstance(record.body, Epoch):
            found += _epoch(standing, record)
            continue
        needed = _needed(standing, record, effective)
        if needed == COUNCIL and not by_council(together, record):
            size = council_size(standing.book)
            found.append(_pending(together, record, size))
        elif needed == Rank.OWNER and standing.acting(record) < Rank.OWNER:
            found.append(_pending(alone, record, standing.book.rules.threshold))
    return tuple(found)


def _acts(standing: Standing) -> Iterable[Record]:
    """Yield what owners did that may need others, of those that may still act."""
    votes = standing.votes
    acts = (
        record
        for key in votes.identities
        for record in standing.book.by_author.get(key, ())
        if isinstance(record.body, _KINDS) and votes.counts(record)
    )
    return sorted(acts, key=lambda record: record.id)


def _pending(votes: Votes, record: Record, needed: int) -> Pending:
    return Pending(record.id, tuple(sorted(votes.signers(record))), needed)


def _epoch(standing: Standing, record: Record) -> Iterable[Pending]:
    """Yield an epoch that waits: its signers are counted by admission alone."""
    book = standing.book
    if record.id not in book.listing.epochs:
        signed = (record, *book.approvals.get(record.id, ()))
        owners = signers_of(signed, book.records.get)
        yield Pending(record.id, tuple(sorted(owners)), book.rules.threshold)


def _needed(standing: Standing, record: Record, effective: Effective) -> int | None:
    """Return what `record` must be acted as; None if whatever it is acted as will do."""
    match record.body:
        case Grant(rank=Rank.MAINTAINER):
            return Rank.OWNER
        case Successor(of=of) if of != record.author:
            return COUNCIL if standing.ranks.get(of) is Rank.OWNER else None
        case Ban(subject="author") | Revoke() as body:
            return _above(standing, record, target_of(body))
        case Lift(target=target):
            return _of_lift(standing, record, target)
        case Remove(adds=adds):
            return Rank.OWNER if _of_maintainers(standing, adds, effective) else None
        case _:
            return None


def _of_lift(standing: Standing, lift: Record, target: RecordId) -> int | None:
    """Return what a lift must be acted as: as what it lifts, or above who forked."""
    named = standing.book.records.get(target)
    if named is not None and isinstance(named.body, Fork):
        author = named.body.author
        cut = author in standing.quarantined
        return _above(standing, lift, author) if cut else None
    act = standing.effective.get(target)
    judges = act is not None and isinstance(act.body, Ban | Revoke)
    judges = judges and target not in standing.endings  # those nobody lifts
    return standing.acting(act) if act and judges else None


def _above(standing: Standing, act: Record, key: AuthorId) -> int | None:
    """Return what judges `key`, if that is more than one owner alone."""
    if is_retirement(standing.votes, act, key):
        return None
    rank = standing.ranks.get(key, Rank.READER)
    return rank + 1 if rank >= Rank.MAINTAINER else None


def _of_maintainers(
    standing: Standing, adds: Iterable[RecordId], effective: Effective
) -> bool:
    targets = map(effective, adds)
    return any(
        add is not None
        and isinstance(add.body, Add)
        and standing.ranks[add.author] is Rank.MAINTAINER
        for add in targets
    )
