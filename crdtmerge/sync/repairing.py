"""Repairs: a descent through the peer's trie, then the records that it found.

Owns the course of a repair and what ends it. Does not own how a level is compared
(`reconcile`, `compare`), nor when a repair begins (`session`).

A record that came and was not kept is dead here: a peer that has not heard so shows it in
each repair, and it is asked for once.

What bounds it: a descent bounds the nodes that a peer shows before a record comes of them;
here are bounded the heartbeats until one does, and how often ids may be shown of which no
record comes. Such an id is a lie if the peer's root is still the one that it told before; a
set may also have been compacted meanwhile.
"""

from dataclasses import dataclass
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import Domain, digest
from crdtmerge.errors import MalformedMessageError, UnansweredError
from crdtmerge.sync.compare import ClueDescent, first_prefixes
from crdtmerge.sync.messages import (
    IDS_MAX,
    SALT_BYTES,
    CompareReply,
    CompareRequest,
    Heartbeat,
    RecordsReply,
    RecordsRequest,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.pulls import AnyDescent, Cursor, Owed, Pull, Pulls
from crdtmerge.sync.reconcile import WholeDescent

FRUITLESS_MAX: Final = 6
"""Repairs in a row that brought nothing, each of which doubles the doubts before the next:
a peer may leave what we have for later, and then we differ for as long."""
UNDELIVERED_MAX: Final = 3
"""Repairs in a row that may end with ids of which no record came, though the root moved."""
NOT_KEPT_MAX: Final = 1 << 16
"""Ids of dead records that are remembered of one peer and space."""
REPAIR_BEATS_MAX: Final = 4096
"""Heartbeats that may come in one repair before it brings a record."""


@dataclass(frozen=True, slots=True)
class Repairing:
    """Repairs our sets from what one peer has.

    `secret` is random and never told: salts of comparisons are drawn from it.
    """

    pulls: Pulls
    secret: bytes

    def begin(self, space: SpaceId, pull: Pull, *, by_clues: bool) -> bool:
        """Begin a repair; tell whether it is over at once."""
        pull.doubts, pull.waits, pull.repair_beats = 0, -1, 0
        pull.fruitless = min(pull.fruitless + 1, FRUITLESS_MAX)
        pull.target = pull.latest
        pull.descent = self._comparison(space, pull) if by_clues else WholeDescent()
        return self._advance(space, pull, pull.descent)

    def _comparison(self, space: SpaceId, pull: Pull) -> ClueDescent:
        count = len(self.pulls.spaces.trie(space))
        gap = abs(pull.latest.count - count) if pull.latest else 0
        return ClueDescent(first_prefixes(count, gap), salt=self._salt())

    def _salt(self) -> bytes:
        """Return a salt that no peer could know before."""
        drawn = self.secret + self.pulls.questions.to_bytes(8, "little")
        return digest(Domain.SALT, drawn)[:SALT_BYTES]

    def beat(self, pull: Pull, theirs: Heartbeat) -> None:
        """Look at a heartbeat: has the peer moved since, and does the repair take long?

        Raises:
            MalformedMessageError: it showed ids that it does not have.
            UnansweredError: nothing has come of a repair for too long.
        """
        owed = pull.owed
        if owed is not None and theirs.answered >= owed.number:
            if theirs.root == owed.root:
                # Who shows an id, and has the same records still, can send what it names.
                raise MalformedMessageError(
                    "ids of records that the peer does not send"
                )
            pull.owed = None
        if pull.descent is not None:
            pull.repair_beats += 1
            if pull.repair_beats > REPAIR_BEATS_MAX:
                raise UnansweredError("a repair takes too long, and brings nothing")

    def take_nodes(self, space: SpaceId, reply: TrieReply) -> bool:
        """Take nodes with whole hashes; tell whether the repair is over."""
        answered = self.pulls.answered(space, reply.number, TrieRequest)
        if answered is None:
            return False
        pull = answered[0]
        assert isinstance(pull.descent, WholeDescent)
        self.pulls.showed(space, pull, len(reply.nodes))
        pull.descent.take(self.pulls.spaces.trie(space), reply)
        return self._advance(space, pull, pull.descent)

    def take_sections(self, space: SpaceId, reply: CompareReply) -> bool:
        """Take an answer to a comparison; tell whether the repair is over."""
        answered = self.pulls.answered(space, reply.number, CompareRequest)
        if answered is None:
            return False
        pull = answered[0]
        assert isinstance(pull.descent, ClueDescent)
        self.pulls.showed(space, pull, len(reply.sections))
        pull.descent.take(self.pulls.spaces.trie(space), reply)
        return self._advance(space, pull, pull.descent)

    def take_records(self, space: SpaceId, reply: RecordsReply) -> bool:
        """Take the records that were found; tell whether the repair is over."""
        answered = self.pulls.answered(space, reply.number, RecordsRequest)
        if answered is None:
            return False
        pull, asked = answered
        assert pull.descent is not None
        self.pulls.learn(space, reply.records)
        trie, waiting = self.pulls.spaces.trie(space), self.pulls.waiting
        rest = [i for i in asked.ids if i not in trie]
        came = {digest(Domain.RECORD, record.data) for record in reply.records}
        dead = [i for i in rest if i in came and self.pulls.spaces.listed(space, i)]
        if len(rest) < len(asked.ids):
            pull.settled()
        elif not dead and not any(waiting.left(space, i) for i in rest):
            return self._undelivered(pull, asked)
        pull.not_kept.update(dead[: NOT_KEPT_MAX - len(pull.not_kept)])
        for key in dead:
            del pull.descent.lacking[key]
        pull.descent.progressed()
        pull.repair_beats = 0
        return self._advance(space, pull, pull.descent)

    def _undelivered(self, pull: Pull, asked: RecordsRequest) -> bool:
        """End a repair that led to ids of which no record came."""
        pull.undelivered += 1
        if pull.undelivered > UNDELIVERED_MAX:
            raise MalformedMessageError("ids of records that the peer does not send")
        assert pull.target is not None
        pull.owed = Owed(asked.number, pull.target.root)
        pull.descent = None
        return True

    def _advance(self, space: SpaceId, pull: Pull, descent: AnyDescent) -> bool:
        """Ask for records once enough are lacking, for trie nodes until then."""
        lacking = self._still_lacking(space, pull, descent)
        trie = self.pulls.spaces.trie(space)
        if len(lacking) < IDS_MAX and (question := descent.question(space, trie)):
            self.pulls.ask(pull, question)
        elif lacking:
            self.pulls.ask(pull, RecordsRequest(space, lacking[:IDS_MAX]))
        else:
            pull.descent = None
            if pull.target is not None:
                target = pull.target
                cursor = Cursor(target.generation, target.sequence)
                self.pulls.cursors[space] = cursor
            return True
        return False

    def _still_lacking(
        self, space: SpaceId, pull: Pull, descent: AnyDescent
    ) -> tuple[bytes, ...]:
        """Return what the descent found, but for what came meanwhile or is to wait."""
        trie, waiting = self.pulls.spaces.trie(space), self.pulls.waiting
        unknown = [
            i for i in descent.lacking if i not in trie and i not in pull.not_kept
        ]
        lacking = tuple(i for i in unknown if not waiting.left(space, i))
        if len(lacking) < len(unknown):
            pull.waits = waiting.releases(space)
        descent.lacking = dict.fromkeys(lacking)
        return lacking
