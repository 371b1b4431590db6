"""The records of one space, looked up in the ways that the evaluation asks.

Owns these ways alone, each found in one pass. Does not own any rule.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from crdtmerge.bodies import Approve, Ban, Genesis, Lift, RecordId, Revoke, Successor
from crdtmerge.errors import WrongSpaceError
from crdtmerge.identity import AuthorId
from crdtmerge.record import Record


@dataclass(frozen=True, slots=True)
class Book:
    """Admissible records of one space, each list by id."""

    records: Mapping[RecordId, Record]
    genesis: Record
    by_author: Mapping[AuthorId, list[Record]] = field(default_factory=dict)
    by_auth: Mapping[bytes, list[Record]] = field(default_factory=dict)
    namings: Mapping[AuthorId, list[Record]] = field(default_factory=dict)
    """What each author says of who follows itself."""
    claims: list[Record] = field(default_factory=list)
    """What owners say of who follows another."""
    approvals: Mapping[RecordId, list[Record]] = field(default_factory=dict)
    judgements: Mapping[AuthorId, list[Record]] = field(default_factory=dict)
    """Bans and revocations by the author whom they are of."""
    lifts: Mapping[RecordId, list[Record]] = field(default_factory=dict)

    @property
    def rules(self) -> Genesis:
        """What the genesis says."""
        assert isinstance(self.genesis.body, Genesis)
        return self.genesis.body

    def accepted(
        self, author: AuthorId, lists: Sequence[Collection[RecordId]]
    ) -> set[RecordId]:
        """Return the author's records that all of `lists` accept.

        A list accepts its heads, all that precedes them among the author's own records,
        and the namings that they hang on.

        SUBTLE: one walk for all lists, from the last records back: an author may be revoked
        as often as it has records. What lists accept a record goes on to the one before
        it, as one set; where branches meet, the smaller is put into the larger.
        """
        by_head, hung = self._accepting(author, lists)
        own = self.by_author.get(author, [])
        after = Counter(record.prev for record in own)
        queue = [record for record in own if not after[record.id]]
        found: set[RecordId] = set()
        while queue:
            record = queue.pop()
            accepting = by_head.pop(record.id, set())
            more = sum(number not in accepting for number in hung.get(record.id, ()))
            if len(accepting) + more == len(lists):
                found.add(record.id)
            before = self.records.get(RecordId(record.prev))
            if before is None or before.author != author:
                continue
            small, large = sorted((accepting, by_head.get(before.id, set())), key=len)
            large |= small
            by_head[before.id] = large
            after[before.id] -= 1
            if not after[before.id]:
                queue.append(before)
        return found

    def _accepting(
        self, author: AuthorId, lists: Sequence[Collection[RecordId]]
    ) -> tuple[dict[RecordId, set[int]], dict[RecordId, set[int]]]:
        """Return by record of the author which lists name it, and have it hung on."""
        by_head: dict[RecordId, set[int]] = {}
        hung: dict[RecordId, set[int]] = {}
        for number, heads in enumerate(lists):
            for head in heads:
                by_head.setdefault(head, set()).add(number)
            for naming in self.hung_on(heads):
                if self.records[naming].author == author:
                    hung.setdefault(naming, set()).add(number)
        return by_head, hung

    def hung_on(self, heads: Iterable[RecordId]) -> set[RecordId]:
        """Return the namings of successors that `heads` name as their grants, in turn."""
        found: set[RecordId] = set()
        for head in heads:
            at = self.records.get(head)
            while at is not None:
                at = self.records.get(RecordId(at.auth))
                if at is None or not isinstance(at.body, Successor) or at.id in found:
                    break
                found.add(at.id)
        return found


def book_of(records: Mapping[RecordId, Record]) -> Book:
    """Return `records` as a book.

    Raises:
        WrongSpaceError: there is not exactly one genesis.
    """
    found = [r for r in records.values() if isinstance(r.body, Genesis)]
    if len(found) != 1:
        raise WrongSpaceError(f"a space has one genesis, not {len(found)}")
    by_author: dict[AuthorId, list[Record]] = {}
    by_auth: dict[bytes, list[Record]] = {}
    namings: dict[AuthorId, list[Record]] = {}
    claims: list[Record] = []
    approvals: dict[RecordId, list[Record]] = {}
    judgements: dict[AuthorId, list[Record]] = {}
    lifts: dict[RecordId, list[Record]] = {}
    for record in sorted(records.values(), key=lambda r: r.id):
        by_author.setdefault(record.author, []).append(record)
        by_auth.setdefault(record.auth, []).append(record)
        match record.body:
            case Successor(of=of) if of == record.author:
                namings.setdefault(of, []).append(record)
            case Successor():
                claims.append(record)
            case Approve(target=target):
                approvals.setdefault(target, []).append(record)
            case Revoke(author=author):
                judgements.setdefault(author, []).append(record)
            case Ban(subject="author", target=key):
                judgements.setdefault(AuthorId(key), []).append(record)
            case Lift(target=target):
                lifts.setdefault(target, []).append(record)
            case _:
                pass
    return Book(
        records=records,
        genesis=found[0],
        by_author=by_author,
        by_auth=by_auth,
        namings=namings,
        claims=claims,
        approvals=approvals,
        judgements=judgements,
        lifts=lifts,
    )
