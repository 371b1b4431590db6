"""The records of one space, looked up in the ways that the evaluation asks.

Owns these ways alone, each found in one pass. Does not own any rule.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from crdtmerge.bodies import (
    Approve,
    Ban,
    Genesis,
    Lift,
    Link,
    RecordId,
    Revoke,
    Successor,
)
from crdtmerge.errors import WrongSpaceError
from crdtmerge.identity import AuthorId
from crdtmerge.policy.dead import NOTHING_LISTED, Listing, link_of, living
from crdtmerge.record import Record


@dataclass(frozen=True, slots=True)
class Book:
    """Admissible records of one space that are not dead, each list by id."""

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
    listing: Listing = NOTHING_LISTED
    """Where dead records stood: what precedes what goes through them."""
    direct: frozenset[AuthorId] = frozenset()
    """Who hangs a record on the genesis."""

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
        own = self._own(author)
        after = Counter(own.values())
        queue = [record for record in own if not after[record]]
        found: set[RecordId] = set()
        while queue:
            record = queue.pop()
            accepting = by_head.pop(record, set())
            more = sum(number not in accepting for number in hung.get(record, ()))
            if len(accepting) + more == len(lists):
                found.add(record)
            before = RecordId(own[record])
            if before not in own:
                continue
            small, large = sorted((accepting, by_head.get(before, set())), key=len)
            large |= small
            by_head[before] = large
            after[before] -= 1
            if not after[before]:
                queue.append(before)
        return found

    def _own(self, author: AuthorId) -> dict[RecordId, bytes]:
        """Return by each record of `author`, dead or not, the one that it follows."""
        own = {
            record: link.prev
            for record, link in self.listing.of_author(author)
            if record not in self.records and self.listing.link(record) == link
        }
        own |= {record.id: record.prev for record in self.by_author.get(author, ())}
        return own

    def link(self, record: RecordId) -> Link | None:
        """Return where a record stands or stood, if it is here or listed."""
        found = self.records.get(record)
        return link_of(found) if found else self.listing.link(record)

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
            link = self.link(head)
            at = self.records.get(RecordId(link.auth)) if link else None
            while at is not None and isinstance(at.body, Successor):
                if at.id in found:
                    break
                found.add(at.id)
                at = self.records.get(RecordId(at.auth))
        return found


def book_of(
    records: Mapping[RecordId, Record],
    listing: Listing | None = None,
    direct: frozenset[AuthorId] | None = None,
) -> Book:
    """Return those of `records` that are not dead as a book.

    With a `listing` none of them is; without, what they list is found out. With `direct`
    they are not all there are, and these hang a record on the genesis.

    Raises:
        WrongSpaceError: there is not exactly one genesis.
    """
    if listing is None:
        records, listing = living(records)
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
    on_genesis = by_auth.get(found[0].id, ())
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
        listing=listing,
        direct=frozenset(r.author for r in on_genesis) if direct is None else direct,
    )
