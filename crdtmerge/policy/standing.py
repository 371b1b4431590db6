"""Whose records are accepted and take effect: the first half of the third step.

Owns ranks and judgements, from the top rank down: revoking and banning an author works only
on a strictly lower rank, so nobody can act on whoever judged them. Does not own what the
effective records show (`elements`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from crdtmerge.bodies import Ban, Genesis, Grant, Lift, RecordId, Revoke
from crdtmerge.errors import WrongSpaceError
from crdtmerge.identity import AuthorId
from crdtmerge.policy.forked import forks_of, lifted_by
from crdtmerge.policy.ranks import OPEN, Rank
from crdtmerge.policy.view import ShownFork
from crdtmerge.record import Record


@dataclass(frozen=True, slots=True)
class Standing:
    """Who has which rank, who was judged, and which records take effect."""

    genesis: Record
    records: Mapping[RecordId, Record]
    ranks: Mapping[AuthorId, Rank]
    judged: frozenset[AuthorId]
    effective: Mapping[RecordId, Record]
    judgements: tuple[Record, ...]
    """The bans and revocations that stand."""
    forks: tuple[ShownFork, ...]
    quarantined: Mapping[AuthorId, int]
    """From which number on no record of a forked author takes effect."""


def stand(records: Mapping[RecordId, Record]) -> Standing:
    """Return who stands how by the admissible `records` of one space.

    Raises:
        WrongSpaceError: there is not exactly one genesis.
    """
    return _Evaluation(records).standing()


@dataclass(slots=True)
class _Evaluation:
    """The working state of one evaluation, from the top rank down."""

    records: Mapping[RecordId, Record]
    ranks: dict[AuthorId, Rank] = field(default_factory=dict)
    accepted: dict[AuthorId, frozenset[RecordId] | None] = field(default_factory=dict)
    effective: dict[RecordId, Record] = field(default_factory=dict)
    of_author: dict[AuthorId, list[Record]] = field(default_factory=dict)
    forks: tuple[ShownFork, ...] = ()
    quarantined: dict[AuthorId, int] = field(default_factory=dict)

    def standing(self) -> Standing:
        for record in sorted(self.records.values(), key=lambda r: r.id):
            self.of_author.setdefault(record.author, []).append(record)
        genesis = self._genesis()
        self.forks = forks_of(self.records)
        for rank in sorted(Rank, reverse=True):
            self._judge(rank, genesis)
        judged = frozenset(a for a in self.ranks if self.accepted[a] is not None)
        return Standing(
            genesis=genesis,
            records=self.records,
            ranks=self.ranks,
            judged=judged,
            effective=self.effective,
            judgements=tuple(self._standing()),
            forks=self.forks,
            quarantined=self.quarantined,
        )

    def _genesis(self) -> Record:
        found = [r for r in self.records.values() if isinstance(r.body, Genesis)]
        if len(found) != 1:
            raise WrongSpaceError(f"a space has one genesis, not {len(found)}")
        return found[0]

    def _judge(self, rank: Rank, genesis: Record) -> None:
        """Find who holds `rank`, what of theirs is accepted, and what takes effect.

        SUBTLE: acceptance of the whole rank is decided before any of its records takes
        effect; only higher ranks, judged earlier, can have acted on it.
        """
        holders = sorted(self._holders(rank, genesis) - self.ranks.keys())
        judgements = self._judgements(rank)
        for author in holders:
            self.accepted[author] = self._accepted(author, judgements.get(author, ()))
        for author in holders:
            self.ranks[author] = rank
        self._quarantine(rank, genesis)
        self._settle()

    def _quarantine(self, rank: Rank, genesis: Record) -> None:
        """Find the holders of `rank` of whom nothing from a forked number on counts."""
        assert isinstance(genesis.body, Genesis)
        if not genesis.body.quarantine:
            return
        self.forks = lifted_by(self.forks, self.records, self.effective, self.ranks)
        for fork in self.forks:
            if self.ranks.get(fork.author) == rank and not fork.lifted:
                self.quarantined.setdefault(fork.author, fork.author_seq)

    def _settle(self) -> None:
        """Let records take effect until nothing changes: grants hang on grants.

        SUBTLE: settled rank by rank. An author may name a grant by an author of the same
        rank; were that one admitted later than the next rank is judged, its bans and
        revocations would come too late.
        """
        before = -1
        while before != len(self.effective):  # grants chain at most once a rank
            before = len(self.effective)
            for author in self.ranks:
                self._admit(author)

    def _holders(self, rank: Rank, genesis: Record) -> set[AuthorId]:
        assert isinstance(genesis.body, Genesis)
        if rank is Rank.OWNER:
            return set(genesis.body.owners)
        holders = {
            r.body.author
            for r in self.effective.values()
            if isinstance(r.body, Grant) and r.body.rank == rank
        }
        if rank is OPEN.rank and genesis.body.mode == "open":
            holders |= {r.author for r in self.records.values() if r.auth == genesis.id}
        return holders

    def _judgements(self, rank: Rank) -> Mapping[AuthorId, Sequence[Ban | Revoke]]:
        """Return what stands against each author, by authors above `rank`."""
        judgements: dict[AuthorId, list[Ban | Revoke]] = {}
        for record in self._standing():
            match record.body:
                case Ban(subject="author", target=target) as body:
                    author = AuthorId(target)
                case Revoke(author=author) as body:
                    pass
                case _:
                    continue
            if self.ranks[record.author] > rank:
                judgements.setdefault(author, []).append(body)
        return judgements

    def _accepted(
        self, author: AuthorId, judgements: Iterable[Ban | Revoke]
    ) -> frozenset[RecordId] | None:
        """Return which records of `author` may take effect; None means all."""
        accepted: frozenset[RecordId] | None = None
        for body in judgements:
            if isinstance(body, Ban):
                return frozenset()
            closure = self._closure(author, body.accepted)
            accepted = closure if accepted is None else accepted & closure
        return accepted

    def _standing(self) -> Iterable[Record]:
        """Yield the effective bans and revocations that nobody of their rank lifted."""
        lifted = {
            r.body.target: self.ranks[r.author]
            for r in sorted(self.effective.values(), key=lambda r: self.ranks[r.author])
            if isinstance(r.body, Lift)
        }
        for record in self.effective.values():
            if isinstance(record.body, Ban | Revoke):
                lifter = lifted.get(record.id)
                if lifter is None or lifter < self.ranks[record.author]:
                    yield record

    def _closure(
        self, author: AuthorId, heads: Iterable[RecordId]
    ) -> frozenset[RecordId]:
        """Return `heads` and all that precedes them, among the author's own records."""
        closure: set[RecordId] = set()
        queue = list(heads)
        while queue:
            record = self.records.get(queue.pop())
            if record and record.author == author and record.id not in closure:
                closure.add(record.id)
                queue.append(RecordId(record.prev))
        return frozenset(closure)

    def _admit(self, author: AuthorId) -> None:
        """Let the accepted records of `author` take effect whose grant has effect."""
        accepted = self.accepted[author]
        for record in self.of_author.get(author, ()):
            if accepted is not None and record.id not in accepted:
                continue
            forked = self.quarantined.get(author, record.author_seq + 1)
            if record.author_seq >= forked and not isinstance(record.body, Genesis):
                continue
            grant_holds = RecordId(record.auth) in self.effective
            if isinstance(record.body, Genesis) or grant_holds:
                self.effective[record.id] = record
