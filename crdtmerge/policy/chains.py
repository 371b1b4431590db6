"""Identities: the keys of one author, one after another, and what counts of each.

Owns succession (which key follows which) and acceptance (which records of a key may take
effect). Does not own who has a rank by a grant (`standing`), nor what owners do together
(`council`).

Why it ends, and why no order of arrival is in it. One *placing* is of one rank. What
higher ranks judged is known before and does not change. Then

1. each key has at most one *naming* that can count: decided by its own records, and by
   what was judged of that key alone;
2. chains grow from the holders of the rank along these namings, until none is added;
   where two keys name one, or keys name each other in a circle, those namings fall
   away, for good, and the chains grow again;
3. what was judged of any key falls on its whole chain;
4. of a chain the last key is decided first: only later keys end what earlier ones may say,
   and each key its own.

No step asks for what a later one decides.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from crdtmerge.bodies import Ban, Genesis, RecordId, Revoke, Successor
from crdtmerge.identity import AuthorId
from crdtmerge.policy.admissible import SUCCESSORS_MAX, authority_of
from crdtmerge.policy.book import Book
from crdtmerge.policy.ranks import Rank
from crdtmerge.record import Record

Judgement = Ban | Revoke
Kept = frozenset[RecordId] | None
"""Which records of a key may take effect; None means all."""


@dataclass(frozen=True, slots=True)
class Naming:
    """Who follows a key, and the records that say so: concurrent ones that agree."""

    key: AuthorId
    records: tuple[Record, ...]
    ids: frozenset[RecordId]


@dataclass(frozen=True, slots=True)
class Given:
    """What is known before a placing: all of it comes from higher ranks.

    `judged` stands against keys, from `numbers` on a key's records are cut off for a fork;
    `effective` takes effect, `taken` has a rank already, with what is `kept` of it, and in
    `lines` the keys before it and of its identity; `council` says who follows the keys of
    owners.
    """

    judged: Mapping[AuthorId, Sequence[Judgement]] = field(default_factory=dict)
    numbers: Mapping[AuthorId, int] = field(default_factory=dict)
    effective: Container[RecordId] = frozenset()
    taken: Mapping[AuthorId, Kept] = field(default_factory=dict)
    lines: Mapping[AuthorId, tuple[AuthorId, ...]] = field(default_factory=dict)
    council: Mapping[AuthorId, Record] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Placing:
    """The identities of one rank: chains of keys, and what is kept of each key."""

    chains: tuple[tuple[AuthorId, ...], ...]
    lines: Mapping[AuthorId, tuple[AuthorId, ...]]
    """By each key its chain, after the keys of a higher rank that this one comes from."""
    kept: Mapping[AuthorId, Kept]
    namings: frozenset[RecordId]
    """The successor records that count."""
    contested: Mapping[AuthorId, tuple[RecordId, ...]]
    judged: frozenset[AuthorId]
    """The keys of which higher ranks, or later keys, ended the rights."""
    endings: frozenset[RecordId]
    """The revocations by which later keys did it."""

    def keeps(self, record: Record) -> bool:
        """Tell whether `record` is of a key of this rank, and may take effect."""
        kept = self.kept.get(record.author, frozenset())
        return kept is None or record.id in kept


def place(book: Book, rank: Rank, holders: Iterable[AuthorId], given: Given) -> Placing:
    """Return the identities of the keys that hold `rank`."""
    growth = _Growth(book, rank, frozenset(holders), given)
    chains = growth.chains()
    placing = _Acceptance(book, given, frozenset(growth.valid), {}, set(), set())
    lines: dict[AuthorId, tuple[AuthorId, ...]] = {}
    for chain in chains:
        line = (*given.lines.get(growth.starts.get(chain[0], chain[0]), ()), *chain)
        lines |= dict.fromkeys(chain, line)
        placing.accept(chain, line)
    return Placing(
        chains=chains,
        lines=lines,
        kept=placing.kept,
        namings=frozenset(growth.valid),
        contested={k: v for k, v in growth.contested.items() if k in placing.kept},
        judged=frozenset(placing.judged),
        endings=frozenset(placing.endings),
    )


@dataclass(slots=True)
class _Growth:
    """Chains as they grow from the holders of one rank."""

    book: Book
    rank: Rank
    holders: frozenset[AuthorId]
    given: Given
    nexts: dict[AuthorId, AuthorId] = field(default_factory=dict)
    starts: dict[AuthorId, AuthorId] = field(default_factory=dict)
    """Keys that a key of higher rank named, which hands on what it had before; by whom."""
    valid: set[RecordId] = field(default_factory=set)
    named: dict[AuthorId, set[AuthorId]] = field(default_factory=dict)
    first: dict[AuthorId, Naming | None] = field(default_factory=dict)
    contested: dict[AuthorId, tuple[RecordId, ...]] = field(default_factory=dict)

    def chains(self) -> tuple[tuple[AuthorId, ...], ...]:
        """Return the chains, by their first keys."""
        barred: set[AuthorId] = set()
        while True:
            self._grow(barred)
            bad = {key for key, by in self.named.items() if len(by) > 1}
            bad |= self._circles()
            if not bad:
                break
            barred |= bad  # it only grows: what is barred is not followed again
        followers = set(self.nexts.values())
        firsts = sorted((self.holders | self.starts.keys()) - followers)
        return tuple(chain for first in firsts for chain in self._from(first))

    def _from(self, key: AuthorId) -> Iterable[tuple[AuthorId, ...]]:
        """Yield the chain from `key` on, in parts if it is too long for one identity.

        In an open space each key may name the genesis, so records do not bound chains.

        SUBTLE: a chain of owners is never parted, or its owner would vote twice. Only what
        councils say of lost keys makes it longer.
        """
        chain = [key]
        while key in self.nexts:
            key = self.nexts[key]
            if len(chain) > SUCCESSORS_MAX and self.rank is not Rank.OWNER:
                yield tuple(chain)
                chain = []
            chain.append(key)
        yield tuple(chain)

    def _grow(self, barred: Container[AuthorId]) -> None:
        """Follow the namings from every holder, and from what has a higher rank already.

        SUBTLE: a key's own naming is looked at when the key is reached, and again when the
        naming of it that this one has as its grant turns out to count; so the order of the
        queue is in nothing, and no record is looked at again for another's sake.
        """
        self.nexts, self.starts, self.valid, self.named = {}, {}, set(), {}
        taken, reached = self.given.taken, set[AuthorId]()
        who_named = self.book.namings.keys() | self.given.council.keys()
        queue: list[tuple[AuthorId, Record]] = []
        for key in who_named:
            if key in self.holders or key in taken:
                queue += self._look(key, None, reached)
        while queue:
            key, record = queue.pop()
            assert isinstance(record.body, Successor)
            following = record.body.key
            if (
                following in barred
                or record.id in self.valid
                or not self._counts(record)
            ):
                continue
            self.valid.add(record.id)
            if following not in taken:
                self.named.setdefault(following, set()).add(key)
                if key in taken:
                    self.starts[following] = key
                else:
                    self.nexts[key] = following
            queue += self._look(following, record, reached)

    def _look(
        self, key: AuthorId, by: Record | None, reached: set[AuthorId]
    ) -> list[tuple[AuthorId, Record]]:
        """Return the namings of who follows `key` to look at, now that `by` names it.

        All of them the first time, then those that hang on `by`.
        """
        naming = self._naming(key)
        if naming is None:
            return []
        if key not in reached:
            reached.add(key)
            return [(key, record) for record in naming.records]
        hanging = self.book.by_auth.get(by.id, ()) if by is not None else ()
        return [(key, record) for record in hanging if record.id in naming.ids]

    def _counts(self, naming: Record) -> bool:
        """Tell whether what a naming hands on is there to be had, and of this rank."""
        if isinstance(naming.body, Successor) and naming.body.of != naming.author:
            return self.rank is Rank.OWNER  # owners decided it together
        auth = RecordId(naming.auth)
        if auth not in self.given.effective and auth not in self.valid:
            return False
        return authority_of(naming, self.book.records.get).rank == self.rank

    def _circles(self) -> set[AuthorId]:
        """Return the keys that come after themselves."""
        seen: dict[AuthorId, AuthorId] = {}
        circles: set[AuthorId] = set()
        for start in self.nexts:
            key: AuthorId | None = start
            while key is not None and key not in seen:
                seen[key] = start
                key = self.nexts.get(key)
            if key is not None and seen[key] == start:
                while key not in circles:
                    circles.add(key)
                    key = self.nexts[key]
        return circles

    def _naming(self, key: AuthorId) -> Naming | None:
        """Return who follows `key`, as far as its own records and judges say."""
        if key not in self.first:
            self.first[key] = self._find_naming(key)
        return self.first[key]

    def _find_naming(self, key: AuthorId) -> Naming | None:
        if key in self.given.council:
            record = self.given.council[key]
            assert isinstance(record.body, Successor)
            return Naming(record.body.key, (record,), frozenset({record.id}))
        if key not in self.book.namings:
            return None
        firsts = first_namings(self.book, key, self._may_name(key))
        keys = {r.body.key for r in firsts if isinstance(r.body, Successor)}
        if len(keys) > 1 and key not in self.given.taken:
            self.contested[key] = tuple(record.id for record in firsts)
        if len(keys) != 1:
            return None
        return Naming(keys.pop(), firsts, frozenset(r.id for r in firsts))

    def _may_name(self, key: AuthorId) -> Kept:
        """Return which records of `key` may name its successor.

        SUBTLE: what was judged of this key alone says it; what falls on the chain of it
        falls on a chain that stands. A ban cuts nothing here: who follows is banned too.
        """
        if key in self.given.taken:
            return self.given.taken[key]
        own = self.given.judged.get(key, ())
        revokes = [j for j in own if isinstance(j, Revoke)]
        number = self.given.numbers.get(key)
        kept = _kept(self.book, key, revokes, number)
        leaving = [_end_of(r) for r in leavings(self.book, key, kept)]
        return _kept(self.book, key, [*revokes, *leaving], number) if leaving else kept


@dataclass(slots=True)
class _Acceptance:
    """What is kept of the keys of one chain after another."""

    book: Book
    given: Given
    namings: frozenset[RecordId]
    kept: dict[AuthorId, Kept]
    judged: set[AuthorId]
    endings: set[RecordId]

    def accept(self, chain: Sequence[AuthorId], line: Iterable[AuthorId]) -> None:
        """Find what is kept of each key of `chain`, the last one first.

        SUBTLE: what is judged of any key of its `line` falls on it. Who named a spare key
        and was given a higher rank later would else be revoked, and be back with the spare.
        """
        judged = [j for key in line for j in self.given.judged.get(key, ())]
        if judged:
            self.judged.update(chain)
        followers: set[AuthorId] = set()
        for key in reversed(chain):
            number = self.given.numbers.get(key)
            own = frozenset(self._own_namings(key))
            later = [*judged, *self._ended_by(key, followers)]
            kept = _kept(self.book, key, later, number, own)
            if leaving := leavings(self.book, key, kept):
                self.judged.add(key)
                self.endings.update(record.id for record in leaving)
                later += [_end_of(record) for record in leaving]
                kept = _kept(self.book, key, later, number, own)
            self.kept[key] = kept
            followers.add(key)

    def _own_namings(self, key: AuthorId) -> Iterable[RecordId]:
        """Yield the namings by `key` that count: its chain hangs on them."""
        return (r.id for r in self.book.namings.get(key, ()) if r.id in self.namings)

    def _ended_by(
        self, key: AuthorId, followers: Container[AuthorId]
    ) -> Iterable[Judgement]:
        """Yield the revocations of `key` by the keys after it: theirs are decided."""
        for record in self.book.judgements.get(key, ()):
            if record.author not in followers or not isinstance(record.body, Revoke):
                continue
            kept = self.kept[record.author]
            auth = RecordId(record.auth)
            holds = auth in self.given.effective or auth in self.namings
            if holds and (kept is None or record.id in kept):
                self.judged.add(key)
                self.endings.add(record.id)
                yield record.body


def leavings(book: Book, key: AuthorId, kept: Kept) -> list[Record]:
    """Return the kept records by which `key` ends itself.

    They need no right that could be missing: whoever signs for the key may end it.
    """
    return [
        record
        for record in book.judgements.get(key, ())
        if record.author == key
        and isinstance(record.body, Revoke)
        and (kept is None or record.id in kept)
    ]


def _end_of(leaving: Record) -> Revoke:
    """Return what a leaving comes to: what was said until then stays, it included."""
    return Revoke(leaving.author, (leaving.id,))


def first_namings(book: Book, key: AuthorId, kept: Kept) -> tuple[Record, ...]:
    """Return the kept namings by `key` that follow no other one of it.

    One, unless the author forked: on another branch stands another.
    """
    namings = [r for r in book.namings.get(key, ()) if kept is None or r.id in kept]
    ids = {record.id for record in namings}
    after: dict[RecordId, bool] = {}  # whether a record follows a naming
    return tuple(r for r in namings if not _follows(book, r, ids, after))


def _follows(
    book: Book,
    record: Record,
    namings: Container[RecordId],
    after: dict[RecordId, bool],
) -> bool:
    """Tell whether a naming precedes `record`; each record is walked over once."""
    walked: list[RecordId] = []
    at = RecordId(record.prev)
    found = False
    while (link := book.link(at)) and link.author == record.author:
        if at in namings or after.get(at):
            found = True
            break
        if at in after:
            break
        walked.append(at)
        after[at] = False  # a list may be false, and go round in a circle
        at = RecordId(link.prev)
    after.update(dict.fromkeys(walked, found))
    return found


def _kept(
    book: Book,
    key: AuthorId,
    judged: Iterable[Judgement],
    number: int | None,
    always: frozenset[RecordId] = frozenset(),
) -> Kept:
    """Return what `judged` leaves of the records of `key`; a revocation leaves `always`.

    SUBTLE: it leaves the namings, too, that accepted records of later keys hang on.
    """
    lists: list[tuple[RecordId, ...]] = []
    for body in judged:
        if isinstance(body, Ban):
            return frozenset()
        lists.append(body.accepted)
    kept: Kept = None
    if lists:
        kept = always.union(book.accepted(key, lists))
    if number is None:
        return kept
    return frozenset(
        record.id
        for record in book.by_author.get(key, ())
        if (record.author_seq < number or isinstance(record.body, Genesis))
        and (kept is None or record.id in kept)
    )
