"""Whose records are accepted and take effect: the first half of the third step.

Owns ranks, judgements and what takes effect, from the top rank down: revoking and banning
an author works only on a strictly lower rank, so nobody can act on whoever judged them.
Does not own the chains of keys (`chains`), what owners decide together (`council`), nor
what the effective records show (`elements`).

Why it ends: ranks are judged once each, from the top. Of a rank, who holds it, and what is
kept of them, is decided by records of higher ranks alone; then the kept records take
effect, each once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from crdtmerge.bodies import (
    Ban,
    Grant,
    Lift,
    RecordId,
    Remove,
    Revoke,
    Successor,
)
from crdtmerge.identity import AuthorId
from crdtmerge.policy.book import Book, book_of
from crdtmerge.policy.chains import Given, Judgement, Kept, Placing, place
from crdtmerge.policy.council import (
    COUNCIL,
    Council,
    Votes,
    by_council,
    council_of,
    target_of,
    votes_of,
)
from crdtmerge.policy.dead import Listing
from crdtmerge.policy.forked import forks_of, lifts_of, numbers_of
from crdtmerge.policy.ranks import OPEN, Rank
from crdtmerge.policy.view import ShownFork
from crdtmerge.record import Record

SIGNED_KINDS = (Grant, Ban, Revoke, Lift, Remove)
"""The kinds that reach further the higher the rank they are acted with."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Who has which rank, who was judged, and which records take effect."""

    book: Book
    ranks: Mapping[AuthorId, Rank]
    chains: Mapping[AuthorId, tuple[AuthorId, ...]]
    """By each key the keys of its identity, the first one first."""
    lines: Mapping[AuthorId, tuple[AuthorId, ...]]
    """The same, after the keys of a higher rank that the first one comes from."""
    kept: Mapping[AuthorId, Kept]
    """Which records of who has a rank may take effect."""
    judged: frozenset[AuthorId]
    contested: Mapping[AuthorId, tuple[RecordId, ...]]
    effective: Mapping[RecordId, Record]
    judgements: tuple[Record, ...]
    """The bans and revocations that stand."""
    endings: frozenset[RecordId]
    """The revocations of keys by those that follow them."""
    acts: Mapping[RecordId, int]
    """What records are acted as, where it is not the rank of their author."""
    council: Council
    votes: Votes
    forks: tuple[ShownFork, ...]
    quarantined: Mapping[AuthorId, int]
    """From which number on no record of a forked author takes effect."""

    def acting(self, record: Record) -> int:
        """Return with which rank `record` is acted."""
        return _acting(record, self.acts, self.ranks)

    def follows(self, later: AuthorId, earlier: AuthorId) -> bool:
        """Tell whether the key `later` came after `earlier`, of the same identity."""
        chain = self.chains[later]
        return earlier in chain and chain.index(earlier) < chain.index(later)

    def lets(self, record: Record) -> bool:
        """Tell whether a record that gives and takes no rights takes effect.

        It need not be among those by which it was found who stands how.
        """
        if record.author not in self.ranks:
            return False
        kept = self.kept[record.author]
        held = kept is None or record.id in kept
        return held and RecordId(record.auth) in self.effective


def stand(
    records: Mapping[RecordId, Record],
    listing: Listing | None = None,
    direct: frozenset[AuthorId] | None = None,
) -> Standing:
    """Return who stands how by the admissible `records` of one space.

    With a `listing` none of them is dead by it. With `direct` they are those that decide
    it (`rights`), and these authors hang any record on the genesis.

    Raises:
        WrongSpaceError: there is not exactly one genesis.
    """
    book = book_of(records, listing, direct)
    forks = forks_of(records)
    quarantine = book.rules.quarantine
    council = council_of(book, numbers_of(forks, {}, COUNCIL) if quarantine else {})
    return _Evaluation(book, forks, council).standing()


@dataclass(slots=True)
class _Evaluation:
    """The working state of one evaluation, from the top rank down."""

    book: Book
    forks: tuple[ShownFork, ...]
    council: Council
    ranks: dict[AuthorId, Rank] = field(default_factory=dict)
    chains: dict[AuthorId, tuple[AuthorId, ...]] = field(default_factory=dict)
    kept: dict[AuthorId, Kept] = field(default_factory=dict)
    lines: dict[AuthorId, tuple[AuthorId, ...]] = field(default_factory=dict)
    judged: set[AuthorId] = field(default_factory=set)
    contested: dict[AuthorId, tuple[RecordId, ...]] = field(default_factory=dict)
    namings: set[RecordId] = field(default_factory=set)
    endings: set[RecordId] = field(default_factory=set)
    effective: dict[RecordId, Record] = field(default_factory=dict)
    acts: dict[RecordId, int] = field(default_factory=dict)
    quarantined: dict[AuthorId, int] = field(default_factory=dict)

    def standing(self) -> Standing:
        """Judge one rank after another, and return what came of it."""
        self._found()
        for rank in sorted(Rank, reverse=True):
            placing = self._place(rank)
            if rank is Rank.OWNER:
                votes = votes_of(self.book, placing)
                self._count(votes)
            self._settle(placing)
        return Standing(
            book=self.book,
            ranks=self.ranks,
            chains=self.chains,
            lines=self.lines,
            kept=self.kept,
            judged=frozenset(self.judged),
            contested=self.contested,
            effective=self.effective,
            judgements=tuple(self._standing()),
            endings=frozenset(self.endings),
            acts=self.acts,
            council=self.council,
            votes=votes,
            forks=self._shown_forks(),
            quarantined=self.quarantined,
        )

    def _found(self) -> None:
        """Let genesis take effect, and what councils decided."""
        genesis = self.book.genesis
        self.effective[genesis.id] = genesis
        votes = self.council.votes
        lifts = (lift for found in self.book.lifts.values() for lift in found)
        lifts_together = [lift for lift in lifts if by_council(votes, lift)]
        for act in (*self.council.acts, *lifts_together):
            self.effective[act.id] = act
            self.acts[act.id] = COUNCIL

    def _place(self, rank: Rank) -> Placing:
        """Find who holds `rank`, and what is kept of theirs."""
        numbers = self._numbers(rank)
        given = Given(
            judged=self._judgements(rank),
            numbers=numbers,
            effective=self.effective.keys(),
            taken=self.kept,
            lines=self.lines,
            council=self.council.successions,
        )
        placing = place(self.book, rank, self._holders(rank), given)
        self.kept = {**self.kept, **placing.kept}
        self.lines = {**self.lines, **placing.lines}
        for chain in placing.chains:
            self.ranks.update(dict.fromkeys(chain, rank))
            self.chains.update(dict.fromkeys(chain, chain))
        self.quarantined |= {k: n for k, n in numbers.items() if k in placing.kept}
        self.judged |= placing.judged
        self.contested |= placing.contested
        self.namings |= placing.namings
        self.endings |= placing.endings
        return placing

    def _count(self, votes: Votes) -> None:
        """Find what owners act as: alone as a maintainer, where several must sign."""
        threshold = self.book.rules.threshold
        if threshold == 1:
            return
        for key in votes.identities:
            for record in self.book.by_author.get(key, ()):
                if isinstance(record.body, SIGNED_KINDS) and record.id not in self.acts:
                    enough = len(votes.signers(record)) >= threshold
                    self.acts[record.id] = Rank.OWNER if enough else Rank.MAINTAINER

    def _settle(self, placing: Placing) -> None:
        """Let the kept records of a rank take effect, and what hangs on them.

        SUBTLE: settled rank by rank. An author may name a grant by an author of the same
        rank; were that one admitted later than the next rank is judged, its bans and
        revocations would come too late.
        """
        queue = [r for k in placing.kept for r in self.book.by_author.get(k, ())]
        queue += [self.book.records[key] for key in placing.namings]
        queue += self.book.by_auth.get(self.book.genesis.id, ())
        while queue:
            record = queue.pop()
            if record.id not in self.effective and self._takes_effect(record):
                self.effective[record.id] = record
                queue.extend(self.book.by_auth.get(record.id, ()))

    def _takes_effect(self, record: Record) -> bool:
        """Tell whether `record` is kept, and all that it hangs on has effect."""
        if isinstance(record.body, Successor):
            if record.id not in self.namings:
                return False
            if record.body.of != record.author:
                return True  # decided, whatever became of who proposed it
        if record.author not in self.ranks:
            return False
        kept = self.kept[record.author]
        if kept is not None and record.id not in kept:
            return False
        if isinstance(record.body, Grant) and record.body.rank >= self._acting(record):
            return False
        return RecordId(record.auth) in self.effective

    def _acting(self, record: Record) -> int:
        return _acting(record, self.acts, self.ranks)

    def _holders(self, rank: Rank) -> set[AuthorId]:
        """Return who has `rank` by a grant, and no higher one."""
        rules = self.book.rules
        if rank is Rank.OWNER:
            return set(rules.owners)
        holders = {
            r.body.author
            for r in self.effective.values()
            if isinstance(r.body, Grant) and r.body.rank == rank
        }
        if rank is OPEN.rank and rules.mode == "open":
            holders |= self.book.direct
        return holders - self.ranks.keys()

    def _judgements(self, rank: Rank) -> Mapping[AuthorId, Sequence[Judgement]]:
        """Return what stands against each author, by authors above `rank`."""
        judgements: dict[AuthorId, list[Judgement]] = {}
        for record in self._standing():
            of_author = isinstance(record.body, Revoke) or (
                isinstance(record.body, Ban) and record.body.subject == "author"
            )
            if of_author and self._acting(record) > rank:
                assert isinstance(record.body, Ban | Revoke)
                judgements.setdefault(target_of(record.body), []).append(record.body)
        return judgements

    def _standing(self) -> Iterable[Record]:
        """Yield the effective bans and revocations that nobody of their rank lifted."""
        lifted: dict[RecordId, int] = {}
        for record in self.effective.values():
            if isinstance(record.body, Lift):
                target = record.body.target
                lifted[target] = max(lifted.get(target, -1), self._acting(record))
        for record in self.effective.values():
            judges = isinstance(record.body, Ban | Revoke)
            judges = judges and record.id not in self.endings
            if judges and lifted.get(record.id, -1) < self._acting(record):
                yield record

    def _numbers(self, rank: Rank) -> Mapping[AuthorId, int]:
        """Return from which number on nothing of forked authors of `rank` counts."""
        if not (self.book.rules.quarantine and self.forks):
            return {}
        return numbers_of(self.forks, self._lifts(), rank)

    def _lifts(self) -> Mapping[tuple[AuthorId, int], int]:
        return lifts_of(self.book.records, self.effective.values(), self._acting)

    def _shown_forks(self) -> tuple[ShownFork, ...]:
        if not (self.book.rules.quarantine and self.forks):
            return self.forks
        lifts = self._lifts()
        return tuple(
            ShownFork(
                fork.author,
                fork.author_seq,
                fork.record,
                lifts.get(fork.place, -1) > self.ranks.get(fork.author, -1),
            )
            for fork in self.forks
        )


def _acting(
    record: Record, acts: Mapping[RecordId, int], ranks: Mapping[AuthorId, Rank]
) -> int:
    acted = acts.get(record.id)
    return ranks[record.author] if acted is None else acted
