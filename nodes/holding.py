"""Which records of an author wait, because it said more than its share: delay, never loss.

Owns what each author may still say here, and the ids of what was left for later. Does not
own the records themselves, which stay with whoever sent them, nor asking for them again
(`crdtmerge.sync.session`: repair delivers the rest). Time is given.

What others hang on is never left for later: see `may_wait`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.faults import Fault
from crdtmerge.forks import Fork
from crdtmerge.identity import AuthorId
from crdtmerge.policy import NEEDED, Rank
from crdtmerge.record import Record

from .quotas import BYTES_A_UNIT, PROOF_UNITS, READ_UNITS, Bucket, Quotas

HELD_MAX: Final = 1 << 16
"""Ids that are remembered of what waits, some 10 MiB. Above, half of those of who has most
are forgotten, the oldest: a later repair finds them anew, at the price of their way."""
RELEASE_S: Final = 1.0
"""Shortest time between two releases of records of one author."""
FRUITLESS_S: Final = 10.0
"""Longest time between two: what was released and is not here by then was nobody's."""
FRUITLESS_MAX: Final = 16
"""Releases in a row of which nothing came, each of which doubles the next."""
SHARE: Final = 1 / 8
"""Of the burst of an author, how much must have come together before its records are asked
for: asking for a few at a time costs more than they are worth."""
ROOTS: Final = frozenset({"genesis", "grant", "successor"})
"""Kinds that other records name as what gives them their right."""


def may_wait(record: Record) -> bool:
    """Tell whether a record may be left for later.

    Not what gives or takes rights. Others hang on grants, so records of authors who are
    within their quota would wait too; and a revocation or ban must work at once, whatever
    its author said before. All that takes a maintainer's rank counts as such: whom a space
    trusts with it can do worse than say much. Faults and fork proofs may wait: any member
    can make them without end, they are the dearest to check, and who meets the fault in
    its own bytes shows it itself.
    """
    needed = NEEDED.get(type(record.body), Rank.READER)
    return record.kind not in ROOTS and needed < Rank.MAINTAINER


def weight_of(record: Record) -> int:
    """Return as how many records one counts: what it costs to check it, in signatures."""
    return PROOF_UNITS if isinstance(record.body, Fault | Fork) else 1


@dataclass(frozen=True, slots=True)
class Held:
    """What waits of one author: how many records, and whether time alone brings them."""

    author: AuthorId
    records: int
    full: bool
    """Whether as many records of the author are here as may be."""


@dataclass(slots=True)
class _Waiting:
    """What waits in one space, of each author in the order in which it came."""

    authors: dict[RecordId, AuthorId] = field(default_factory=dict)
    ids: dict[AuthorId, dict[RecordId, None]] = field(default_factory=dict)
    releases: int = 0

    def add(self, record: RecordId, author: AuthorId) -> bool:
        """Remember an id; tell whether it was not known."""
        known = record in self.authors
        self.authors[record] = author
        self.ids.setdefault(author, {})[record] = None
        return not known

    def drop(self, record: RecordId) -> None:
        """Forget an id, if it is known."""
        author = self.authors.pop(record, None)
        if author is not None:
            del self.ids[author][record]
            if not self.ids[author]:
                del self.ids[author]

    def drop_first(self, author: AuthorId, count: int) -> int:
        """Forget the oldest ids of an author; return how many."""
        ids = list(self.ids.pop(author, ()))
        for record in ids[:count]:
            del self.authors[record]
        if ids[count:]:
            self.ids[author] = dict.fromkeys(ids[count:])
        return min(len(ids), count)


@dataclass(slots=True)
class Holding:
    """What authors may still say on this node, and what of theirs waits."""

    quotas: Quotas
    counts: Callable[[AuthorId], int]
    """How many records of an author are here."""
    now: float = 0.0
    spent: float = 0.0
    """Units that reading and verifying takes, since the start; counted before it does."""
    held: Counter[str] = field(default_factory=Counter)
    """How often a record was left for later, by the quota that it met."""
    _buckets: dict[AuthorId, Bucket] = field(default_factory=dict)
    _released: dict[AuthorId, float] = field(default_factory=dict)
    _fruitless: Counter[AuthorId] = field(default_factory=Counter)
    """Releases in a row of which no record came."""
    _spaces: dict[SpaceId, _Waiting] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    """Commands look at what waits while the node works."""

    # --- what `Spaces.receive` asks -------------------------------------------------------

    def leave(
        self, records: Sequence[Record], own: AuthorId | None
    ) -> Mapping[RecordId, str]:
        """Return which of new records wait, and the quota that each meets.

        Called before a signature is verified, so nothing is counted against an author yet:
        anybody can name it. Of one author the oldest go first.
        """
        left: dict[RecordId, str] = {}
        room: dict[AuthorId, tuple[int, int]] = {}
        for record in sorted(records, key=_age):
            author = record.author
            rate, total = room.get(author) or self._room(author)
            quota = "rate" if rate < 1 else "total" if total < 1 else ""
            self.spent += READ_UNITS
            if quota and author != own and may_wait(record):
                left[record.id] = quota
            else:
                self.spent += weight_of(record) + len(record.data) / BYTES_A_UNIT
                rate, total = rate - weight_of(record), total - 1
            room[author] = rate, total
        return left

    def taken(
        self,
        space: SpaceId,
        records: Iterable[Record],
        left: Iterable[Record],
        quotas: Mapping[RecordId, str],
    ) -> None:
        """Note that `records` were verified and are here, and that those `left` wait."""
        with self._lock:
            waiting = self._spaces.setdefault(space, _Waiting())
            for record in records:
                self._bucket(record.author).take(weight_of(record), self.now)
                self._fruitless.pop(record.author, None)
                waiting.drop(record.id)
            for record in left:
                self.held[quotas[record.id]] += waiting.add(record.id, record.author)
            self._forget_some()

    # --- what a session asks (the port `crdtmerge.sync.session.Waiting`) ------------------

    def left(self, space: SpaceId, record: bytes) -> bool:
        """Tell whether a record waits: it is known, and not to be asked for now."""
        waiting = self._spaces.get(space)
        return waiting is not None and record in waiting.authors

    def releases(self, space: SpaceId) -> int:
        """Return how often records of the space that waited may have been taken since."""
        waiting = self._spaces.get(space)
        return waiting.releases if waiting is not None else 0

    # --- time -----------------------------------------------------------------------------

    def tick(self) -> None:
        """Let records be asked for whose authors may say something again.

        SUBTLE: what waits was not verified, so that anybody may have named its author. Ids
        that nobody can serve stand before true ones, and must not take their time.
        """
        waiting = self.waiting()
        for author in self._fruitless.keys() - waiting.keys():
            del self._fruitless[author]
        for author, count in sorted(waiting.items()):
            rate, total = self._room(author)
            if self.now < self._released.get(author, self.now) or total < 1:
                continue
            if rate >= min(count, self._bucket(author).most * SHARE):
                # The next once as much could be said again: these are on their way.
                earned = min(rate, total, count) / (self.quotas.author_rate or HELD_MAX)
                next_s = max(RELEASE_S, min(earned, FRUITLESS_S))
                self._released[author] = self.now + next_s
                times = min(self._fruitless[author], FRUITLESS_MAX)
                self._fruitless[author] += 1
                self._release(author, max(1, min(rate, total)) << times)
        self._released = {a: t for a, t in self._released.items() if t > self.now}
        full = [a for a, b in self._buckets.items() if b.full(self.now)]
        for author in full:
            del self._buckets[author]

    def _release(self, author: AuthorId, count: int) -> None:
        """Let the first of what waits be asked for: it counts as unknown from now on."""
        with self._lock:
            for _, waiting in sorted(self._spaces.items()):
                gone = waiting.drop_first(author, count)
                count -= gone
                waiting.releases += gone > 0

    def change(self, quotas: Quotas) -> None:
        """Hold to other limits from now on."""
        self.quotas = quotas
        self._buckets.clear()
        self._released.clear()
        self._fruitless.clear()

    # --- what people are told -------------------------------------------------------------

    def waiting(self) -> Counter[AuthorId]:
        """Return how many records of each author are known to wait."""
        found: Counter[AuthorId] = Counter()
        with self._lock:
            for waiting in self._spaces.values():
                found.update({a: len(ids) for a, ids in waiting.ids.items()})
        return found

    def in_space(self, space: SpaceId) -> list[Held]:
        """Return what waits in one space, by author; any thread may ask."""
        with self._lock:
            waiting = self._spaces.get(space)
            ids = {a: len(i) for a, i in waiting.ids.items()} if waiting else {}
        return [Held(a, n, self._room_here(a) < 1) for a, n in sorted(ids.items())]

    def by_quota(self) -> dict[str, int]:
        """Return how many records wait for time, and how many for a larger total."""
        found = {"rate": 0, "total": 0}
        for author, count in self.waiting().items():
            found["total" if self._room_here(author) < 1 else "rate"] += count
        return found

    # --- inside ---------------------------------------------------------------------------

    def _forget_some(self) -> None:
        """Forget the older half of the largest heap if there are too many ids."""
        while sum(len(w.authors) for w in self._spaces.values()) > HELD_MAX:
            most, author, waiting = max(
                (
                    (len(ids), author, waiting)
                    for waiting in self._spaces.values()
                    for author, ids in waiting.ids.items()
                ),
                key=lambda heap: heap[:2],
            )
            waiting.drop_first(author, (most + 1) // 2)

    def _bucket(self, author: AuthorId) -> Bucket:
        if author not in self._buckets:
            bucket = Bucket(self.quotas.author_rate, self.quotas.burst_s)
            self._buckets[author] = bucket
        return self._buckets[author]

    def _room(self, author: AuthorId) -> tuple[int, int]:
        """Return how many records of an author may come now, and how many in all."""
        bucket = self._bucket(author)
        rate = int(bucket.level(self.now)) if bucket.rate else HELD_MAX
        return rate, self._room_here(author)

    def _room_here(self, author: AuthorId) -> int:
        most = self.quotas.author_records
        return most - self.counts(author) if most else HELD_MAX


def _age(record: Record) -> tuple[AuthorId, int, RecordId]:
    return record.author, record.author_seq, record.id
