"""What we pull from one peer: one question at a time about each space, and its number.

Owns the ports to the sets, the numbers of our questions, and when to ask again. Does not
own what is asked for, which is up to the feed (`feeding`) and to repairs (`repairing`), nor
when a pull begins (`session`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeVar

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.errors import MalformedMessageError, UnansweredError
from crdtmerge.sync.compare import ClueDescent
from crdtmerge.sync.messages import (
    CompareReply,
    CompareRequest,
    FeedReply,
    FeedRequest,
    Heartbeat,
    Message,
    RecordsReply,
    RecordsRequest,
    SignedBytes,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.reconcile import WholeDescent
from crdtmerge.sync.waiting import Waiting
from crdtmerge.trie import Trie

ASK_AGAIN_BEATS: Final = 2
"""Heartbeats that come while a question of ours waits, after which it is asked again."""
UNANSWERED_MAX: Final = 32
"""Heartbeats that may come while a question waits, before we hang up."""
IN_VAIN_SPARE: Final = 1 << 17
"""What a peer may show and feed before something of it is new to us, beside six times what
we hold: a feed shows each record once, and a repair at most two nodes a record."""

Question = FeedRequest | TrieRequest | CompareRequest | RecordsRequest
Answer = FeedReply | TrieReply | CompareReply | RecordsReply
AnyDescent = WholeDescent | ClueDescent
_Q = TypeVar("_Q", FeedRequest, TrieRequest, CompareRequest, RecordsRequest)


class Spaces(Protocol):
    """The sets, as a session sees them. `receive` is durable when it returns."""

    def heartbeat(self, space: SpaceId) -> Heartbeat:
        """Return where `space` stands here."""
        ...

    def trie(self, space: SpaceId) -> Trie:
        """Return the trie over the record ids of `space`."""
        ...

    def feed(self, space: SpaceId, after: int) -> FeedReply:
        """Return the records after sequence `after`, as many as fit one message."""
        ...

    def fetch(self, space: SpaceId, ids: Sequence[bytes]) -> RecordsReply:
        """Return the records with these ids, chains first."""
        ...

    def receive(
        self, space: SpaceId, records: Sequence[SignedBytes]
    ) -> tuple[RecordId, ...]:
        """Check, persist and join `records`; return the ids that were new.

        What is dead is checked, and not kept.
        """
        ...

    def listed(self, space: SpaceId, record: bytes) -> bool:
        """Tell whether the set lists an id as dead, be it truly or not."""
        ...


@dataclass(frozen=True, slots=True)
class Learned:
    """Records that this session brought in, new to us."""

    space: SpaceId
    records: tuple[RecordId, ...]


@dataclass(slots=True)
class Cursor:
    """How far we have read a peer's feed."""

    generation: bytes
    sequence: int


@dataclass(frozen=True, slots=True)
class Owed:
    """A question for records whose ids the peer showed, and which it did not send."""

    number: int
    root: bytes
    """The root that the peer told before it showed them."""


@dataclass(slots=True)
class Pull:
    """What we are doing about one space, towards one peer."""

    latest: Heartbeat | None = None
    asked: Question | None = None
    beats: int = 0
    heard: int = 0
    """How many answers of the peer there were at the last of these heartbeats."""
    descent: AnyDescent | None = None
    repair_beats: int = 0
    """Heartbeats since a repair began, or last brought a record."""
    target: Heartbeat | None = None
    doubts: int = 0
    fruitless: int = 0
    """Repairs in a row that brought no record."""
    undelivered: int = 0
    """Repairs in a row that ended with ids of which no record came."""
    owed: Owed | None = None
    not_kept: set[bytes] = field(default_factory=set)
    """Ids of records that came and were not kept: they are dead here, and stay so."""
    in_vain: int = 0
    """Nodes and records that the peer has shown since something of it was new."""
    waits: int = -1
    """How many releases there were when a repair found that the rest waits; else -1."""
    answered: int = 0

    def settled(self) -> None:
        """Note that both sides agree, or that the peer brought something new."""
        self.fruitless = self.undelivered = self.in_vain = 0
        self.owed = None


@dataclass(slots=True)
class Pulls:
    """All pulls from one peer.

    `cursors` outlive the session: a reconnect continues where the feed stopped.
    """

    spaces: Spaces
    cursors: dict[SpaceId, Cursor]
    waiting: Waiting
    outbox: list[Message | Learned] = field(default_factory=list)
    questions: int = 0
    answers: int = 0
    """Answers to questions that waited, of all spaces."""
    _of: dict[SpaceId, Pull] = field(default_factory=dict)

    def of(self, space: SpaceId) -> Pull:
        """Return the pull of `space`, idle if there was none."""
        return self._of.setdefault(space, Pull())

    def get(self, space: SpaceId) -> Pull | None:
        """Return the pull of `space`, if there is one."""
        return self._of.get(space)

    def forget(self, space: SpaceId) -> None:
        """Forget what was asked about a space that is shared no more."""
        self._of.pop(space, None)

    def send(self, message: Message) -> None:
        """Say something to the peer."""
        self.outbox.append(message)

    def flush(self) -> list[Message | Learned]:
        """Return what was said and learned since the last call."""
        outbox, self.outbox = self.outbox, []
        return outbox

    def ask(self, pull: Pull, question: Question) -> None:
        """Ask for the first time."""
        pull.beats = 0
        self._number(pull, question)

    def _number(self, pull: Pull, question: Question) -> None:
        """Ask under a new number."""
        self.questions += 1
        pull.asked = replace(question, number=self.questions)
        self.send(pull.asked)

    def wait(self, pull: Pull, asked: Question, theirs: Heartbeat) -> None:
        """Ask again if the peer has beaten a few times; in the end, hang up.

        Not while it answers other questions of ours: they take turns on one stream.

        SUBTLE: a stream in order brings the answer before the heartbeat that tells of it.
        So if that comes first the answer is lost, and it takes a new number to get another;
        until it comes, the number stays, and a slow stream fills with no second answers.

        Raises:
            UnansweredError: it does not answer.
        """
        if pull.heard != self.answers:
            pull.heard, pull.beats = self.answers, 0
        pull.beats += 1
        if pull.beats > UNANSWERED_MAX:
            raise UnansweredError("the peer does not answer a question")
        if theirs.answered >= asked.number:
            self._number(pull, asked)
        elif pull.beats % ASK_AGAIN_BEATS == 0:
            self.send(asked)

    def answered(
        self, space: SpaceId, number: int, kind: type[_Q]
    ) -> tuple[Pull, _Q] | None:
        """Return the pull and the question that an answer is for: it waits no more.

        None if no question waits for it: a link may deliver late and twice. An answer to
        what was never asked, or asked otherwise, is no accident.

        Raises:
            MalformedMessageError: such an answer.
        """
        if not 0 < number <= self.questions:
            raise MalformedMessageError("an answer to what was not asked")
        pull = self._of.get(space)
        if pull is None or pull.asked is None or pull.asked.number != number:
            return None
        asked = pull.asked
        if not isinstance(asked, kind):
            raise MalformedMessageError("an answer of another kind than was asked for")
        pull.asked = None
        self.answers += 1
        return pull, asked

    def learn(self, space: SpaceId, records: tuple[SignedBytes, ...]) -> bool:
        """Take records; tell whether one was new."""
        fresh = self.spaces.receive(space, records) if records else ()
        if fresh:
            self.outbox.append(Learned(space, fresh))
            self.of(space).in_vain = 0
        return bool(fresh)

    def showed(self, space: SpaceId, pull: Pull, amount: int) -> None:
        """Count what the peer showed and what is not new.

        Raises:
            UnansweredError: it has shown so much that nothing will come of it.
        """
        pull.in_vain += amount
        if pull.in_vain > IN_VAIN_SPARE + 6 * len(self.spaces.trie(space)):
            raise UnansweredError("the peer differs without end, and brings nothing")
