"""One session per pair of peers: pull what the other has and we lack.

Owns the protocol state towards one peer: heartbeats, feed cursors, repairs. Does not own
the set, timers or connections: it is sans-IO over a `Spaces` port. Each side only pulls;
a heartbeat that differs is answered by ours, so one is enough for both sides to pull.

For each space, three mechanisms, the cheapest that will do:
1. equal record roots in a heartbeat: nothing to do;
2. the feed: records after our cursor in the peer's store, nothing but the new ones;
3. trie repair: where there is no cursor, or the feed did not explain the difference.
Equality is proved by the root, never assumed.

A stream keeps its order and loses nothing until it is cut, but nothing here is unsafe where
messages get lost, come twice or overtake each other: what is lost is asked for again, what
answers no waiting question is ignored, and what we take is checked as ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeVar, assert_never

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.errors import (
    MalformedMessageError,
    MissingAuthorityError,
    UnansweredError,
)
from crdtmerge.sync.messages import (
    FEATURES,
    IDS_MAX,
    PROTOCOL_VERSION,
    Beside,
    FeedReply,
    FeedRequest,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    RecordsReply,
    RecordsRequest,
    Rumour,
    SignedBytes,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.reconcile import Descent, answer
from crdtmerge.sync.waiting import NothingWaits, Waiting
from crdtmerge.trie import Trie

FEED_WITHOUT_CURSOR_MAX: Final = 64
"""Up to this many records at either side, the whole feed is cheaper than a repair."""
DOUBTS_MAX: Final = 3
"""Heartbeats that may differ with a drained feed before we repair: in most cases the
peer lacks something of ours and is about to pull it."""
FRUITLESS_MAX: Final = 6
"""Repairs in a row that brought nothing, each of which doubles the doubts before the next:
a peer may leave what we have for later, and then we differ for as long."""
WAITING_DOUBTS: Final = 256
"""Doubts after which we repair although what we left for later explains the difference."""
ASK_AGAIN_BEATS: Final = 2
"""Heartbeats that come while a question of ours waits, after which it is asked again."""
UNANSWERED_MAX: Final = 32
"""Heartbeats that may come while a question waits, before we hang up."""
UNGREETED_MAX: Final = 1024
"""Messages that may come before the peer's hello, before we hang up."""


_AboutSpace = (
    Heartbeat
    | FeedRequest
    | FeedReply
    | TrieRequest
    | TrieReply
    | RecordsRequest
    | RecordsReply
    | Rumour
)
_Question = FeedRequest | TrieRequest | RecordsRequest
_Answer = FeedReply | TrieReply | RecordsReply
_Q = TypeVar("_Q", FeedRequest, TrieRequest, RecordsRequest)


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
        """Check, persist and join `records`; return the ids that were new."""
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


@dataclass(slots=True)
class _Pull:
    """What we are doing about one space, towards one peer."""

    latest: Heartbeat | None = None
    asked: _Question | None = None
    beats: int = 0
    descent: Descent | None = None
    target: Heartbeat | None = None
    doubts: int = 0
    fruitless: int = 0
    """Repairs in a row that brought no record."""
    waits: int = -1
    """How many releases there were when a repair found that the rest waits; else -1."""
    answered: int = 0


@dataclass(slots=True)
class Session:
    """Our side of the protocol with one peer.

    `cursors` outlive the session: a reconnect continues where the feed stopped.
    """

    spaces: Spaces
    shared: frozenset[SpaceId]
    cursors: dict[SpaceId, Cursor]
    agent: str
    waiting: Waiting = NothingWaits()  # noqa: RUF009  it has no state
    outbox: list[Message | Learned] = field(default_factory=list)
    greeted: bool = False
    features: int = 0
    """What the peer said that it speaks beside."""
    _ungreeted: int = 0
    _questions: int = 0
    _pulls: dict[SpaceId, _Pull] = field(default_factory=dict)

    def open(self) -> list[Message | Learned]:
        """Return what to say first."""
        self._send(self._hello())
        return self.heartbeats()

    def heartbeats(self) -> list[Message | Learned]:
        """Return a heartbeat for every shared space."""
        for space in sorted(self.shared):
            self._tell(space)
        return self._flush()

    def share(self, shared: frozenset[SpaceId]) -> list[Message | Learned]:
        """Follow a change of what both sides take part in; return what to say of it."""
        for space in self.shared - shared:
            self._pulls.pop(space, None)
        self.shared = shared
        return self.heartbeats()

    def reported(self, space: SpaceId) -> Heartbeat | None:
        """Return where the peer last said that it stands; each report is a new object."""
        pull = self._pulls.get(space)
        return pull.latest if pull else None

    def handle(self, message: Message) -> list[Message | Learned]:
        """Return what follows from a message of the peer.

        Messages about a space that we do not share are ignored: membership may have
        changed while they were under way. So are answers to no waiting question, and
        what stands beside the set, and a goodbye: they are for others to hear.

        Raises:
            RemoteError: the peer broke the protocol, or sent what breaks a rule.
            UnansweredError: it does neither, but does not answer either.
        """
        if isinstance(message, Hello):
            self._greet(message)
        elif isinstance(message, Goodbye):
            return []
        elif not self.greeted:
            self._ask_for_hello(message)
        elif message.space in self.shared and not isinstance(message, Beside):
            self._dispatch(SpaceId(message.space), message)
        return self._flush()

    def _greet(self, hello: Hello) -> None:
        if hello.version != PROTOCOL_VERSION:
            raise MalformedMessageError(
                f"the peer speaks protocol {hello.version}, we speak {PROTOCOL_VERSION}"
            )
        if self.greeted and not hello.heard:
            # Ours was lost, and the peer has ignored all that we said since.
            self._send(self._hello(heard=True))
            for space in sorted(self.shared):
                self._tell(space)
        self.greeted, self.features = True, hello.features

    def _hello(self, *, heard: bool = False) -> Hello:
        return Hello(PROTOCOL_VERSION, self.agent, heard, FEATURES)

    def _ask_for_hello(self, message: _AboutSpace | Beside) -> None:
        """Ignore what comes before the hello, which may be lost; ask for that."""
        self._ungreeted += 1
        if self._ungreeted > UNGREETED_MAX:
            raise UnansweredError("the peer does not say hello")
        if isinstance(message, Heartbeat):
            self._send(self._hello())

    def _dispatch(self, space: SpaceId, message: _AboutSpace) -> None:
        match message:
            case Heartbeat():
                self._take_beat(space, message)
            case FeedRequest() | TrieRequest() | RecordsRequest():
                self._serve(space, message)
            case FeedReply():
                self._take_feed(space, message)
            case TrieReply():
                self._take_nodes(space, message)
            case RecordsReply():
                self._take_records(space, message)
            case Rumour(records=records):
                self._hear(space, records)
            case _:
                assert_never(message)

    # --- deciding -----------------------------------------------------------------------

    def _take_beat(self, space: SpaceId, theirs: Heartbeat) -> None:
        pull = self._pulls.setdefault(space, _Pull())
        pull.latest = theirs
        if theirs.root != self.spaces.trie(space).root and not theirs.echo:
            # SUBTLE: the peer may lack ours too; an echo has none, so that this ends.
            self._tell(space, echo=True)
        if pull.asked is not None:
            self._wait(pull, pull.asked, theirs)
        else:
            self._compare(space, pull, theirs)

    def _compare(self, space: SpaceId, pull: _Pull, theirs: Heartbeat) -> None:
        """Start a pull if the peer may have what we lack."""
        ours = self.spaces.heartbeat(space)
        cursor = self.cursors.get(space)
        if theirs.root == ours.root:
            self.cursors[space] = Cursor(theirs.generation, theirs.sequence)
            pull.doubts = pull.fruitless = 0
        elif cursor is None or cursor.generation != theirs.generation:
            if min(ours.count, theirs.count) <= FEED_WITHOUT_CURSOR_MAX:
                self._ask_feed(space, pull, Cursor(theirs.generation, 0))
            else:
                self._repair(space, pull)
        elif cursor.sequence < theirs.sequence:
            self._ask_feed(space, pull, cursor)
        else:
            pull.doubts += 1
            if self._in_doubt(space, pull, more=theirs.count > ours.count):
                self._repair(space, pull)

    def _in_doubt(self, space: SpaceId, pull: _Pull, *, more: bool) -> bool:
        """Tell whether to repair, where the feed is drained and the roots differ.

        Not while what we left for later explains it: asking again brings nothing.
        """
        if pull.waits >= 0:
            released = pull.waits != self.waiting.releases(space)
            return released or pull.doubts >= WAITING_DOUBTS
        if more and not pull.fruitless:
            return True
        return pull.doubts >= DOUBTS_MAX << pull.fruitless

    def _finish(self, space: SpaceId, pull: _Pull) -> None:
        """End a pull; start the next if the peer moved on meanwhile."""
        done, latest = pull.target, pull.latest
        pull.target = None
        if latest is None or done is None:
            return
        if latest.generation != done.generation or latest.sequence > done.sequence:
            self._compare(space, pull, latest)

    # --- questions ----------------------------------------------------------------------

    def _serve(self, space: SpaceId, question: _Question) -> None:
        """Answer a question, once under one number."""
        if question.number == 0:
            raise MalformedMessageError("a question without a number")
        pull = self._pulls.setdefault(space, _Pull())
        if question.number <= pull.answered:
            return  # asked again while the answer was under way, or doubled by the link
        pull.answered = question.number
        reply: _Answer
        match question:
            case FeedRequest(generation=generation, after=after):
                reply = self._feed(space, generation, after)
            case TrieRequest(prefixes=prefixes):
                nodes = tuple(answer(self.spaces.trie(space), prefixes))
                reply = TrieReply(space, nodes)
            case RecordsRequest(ids=ids):
                reply = self._records(space, ids)
            case _:
                assert_never(question)
        self._send(replace(reply, number=question.number))

    def _ask(self, pull: _Pull, question: _Question) -> None:
        """Ask for the first time."""
        pull.beats = 0
        self._number(pull, question)

    def _number(self, pull: _Pull, question: _Question) -> None:
        """Ask under a new number."""
        self._questions += 1
        pull.asked = replace(question, number=self._questions)
        self._send(pull.asked)

    def _wait(self, pull: _Pull, asked: _Question, theirs: Heartbeat) -> None:
        """Ask again if the peer has beaten a few times; in the end, hang up.

        SUBTLE: a stream in order brings the answer before the heartbeat that tells of it.
        So if that comes first the answer is lost, and it takes a new number to get another;
        until it comes, the number stays, and a slow stream fills with no second answers.
        """
        pull.beats += 1
        if pull.beats > UNANSWERED_MAX:
            raise UnansweredError("the peer does not answer a question")
        if theirs.answered >= asked.number:
            self._number(pull, asked)
        elif pull.beats % ASK_AGAIN_BEATS == 0:
            self._send(asked)

    def _answered(
        self, space: SpaceId, number: int, kind: type[_Q]
    ) -> tuple[_Pull, _Q] | None:
        """Return the pull and the question that an answer is for: it waits no more.

        None if no question waits for it: a link may deliver late and twice. An answer to
        what was never asked, or asked otherwise, is no accident.
        """
        if not 0 < number <= self._questions:
            raise MalformedMessageError("an answer to what was not asked")
        pull = self._pulls.get(space)
        if pull is None or pull.asked is None or pull.asked.number != number:
            return None
        asked = pull.asked
        if not isinstance(asked, kind):
            raise MalformedMessageError("an answer of another kind than was asked for")
        pull.asked = None
        return pull, asked

    # --- the feed -----------------------------------------------------------------------

    def _ask_feed(self, space: SpaceId, pull: _Pull, cursor: Cursor) -> None:
        pull.target = pull.target or pull.latest
        self.cursors[space] = cursor
        self._ask(pull, FeedRequest(space, cursor.generation, cursor.sequence))

    def _feed(self, space: SpaceId, generation: bytes, after: int) -> FeedReply:
        ours = self.spaces.heartbeat(space)
        if generation == ours.generation:
            return self.spaces.feed(space, after)
        return FeedReply(space, ours.generation, 0, more=False, records=())

    def _take_feed(self, space: SpaceId, reply: FeedReply) -> None:
        answered = self._answered(space, reply.number, FeedRequest)
        if answered is None:
            return
        pull, asked = answered
        if reply.generation != asked.generation:
            del self.cursors[space]  # another life of the peer's store: start over
            self._finish(space, pull)
            return
        # Numbers have no gap, so every record moves the feed by one at least.
        moved = reply.through - asked.after
        if moved < len(reply.records) or (reply.more and not reply.records):
            raise MalformedMessageError("a feed that does not move on")
        self._learn(space, reply.records)
        cursor = Cursor(reply.generation, reply.through)
        self.cursors[space] = cursor
        if reply.more:
            self._ask_feed(space, pull, cursor)
        else:
            self._finish(space, pull)

    # --- repair -------------------------------------------------------------------------

    def _repair(self, space: SpaceId, pull: _Pull) -> None:
        pull.doubts, pull.waits = 0, -1
        pull.fruitless = min(pull.fruitless + 1, FRUITLESS_MAX)
        pull.target = pull.latest
        pull.descent = Descent(self.spaces.trie(space))
        self._advance(space, pull, pull.descent)

    def _advance(self, space: SpaceId, pull: _Pull, descent: Descent) -> None:
        """Ask for records once enough are lacking, for trie nodes until then."""
        lacking = self._still_lacking(space, pull, descent)
        if len(lacking) < IDS_MAX and (prefixes := descent.ask()):
            self._ask(pull, TrieRequest(space, prefixes))
        elif lacking:
            self._ask(pull, RecordsRequest(space, lacking[:IDS_MAX]))
        else:
            pull.descent = None
            if pull.target is not None:
                target = pull.target
                self.cursors[space] = Cursor(target.generation, target.sequence)
            self._finish(space, pull)

    def _still_lacking(
        self, space: SpaceId, pull: _Pull, descent: Descent
    ) -> tuple[bytes, ...]:
        """Return what the descent found, but for what came meanwhile or is to wait."""
        trie = self.spaces.trie(space)
        unknown = [i for i in descent.lacking if i not in trie]
        lacking = tuple(i for i in unknown if not self.waiting.left(space, i))
        if len(lacking) < len(unknown):
            pull.waits = self.waiting.releases(space)
        descent.lacking = dict.fromkeys(lacking)
        return lacking

    def _take_nodes(self, space: SpaceId, reply: TrieReply) -> None:
        answered = self._answered(space, reply.number, TrieRequest)
        if answered is None:
            return
        pull, _ = answered
        assert pull.descent is not None
        pull.descent.take(reply.nodes)
        self._advance(space, pull, pull.descent)

    def _records(self, space: SpaceId, ids: tuple[bytes, ...]) -> RecordsReply:
        if not 0 < len(ids) <= IDS_MAX:
            raise MalformedMessageError(f"{len(ids)} records asked for at once")
        return self.spaces.fetch(space, ids)

    def _take_records(self, space: SpaceId, reply: RecordsReply) -> None:
        answered = self._answered(space, reply.number, RecordsRequest)
        if answered is None:
            return
        pull, asked = answered
        assert pull.descent is not None
        self._learn(space, reply.records)
        trie = self.spaces.trie(space)
        taken = any(i in trie for i in asked.ids)
        if not taken and not any(self.waiting.left(space, i) for i in asked.ids):
            # Records are never forgotten: who shows an id can send what it names.
            raise MalformedMessageError("ids of records that the peer does not send")
        if taken:
            pull.fruitless = 0
        pull.descent.progressed()
        self._advance(space, pull, pull.descent)

    # --- receiving ----------------------------------------------------------------------

    def _hear(self, space: SpaceId, records: tuple[SignedBytes, ...]) -> None:
        """Take a rumour if we can; the feed brings what we cannot take yet."""
        try:
            self._learn(space, records)
        except MissingAuthorityError:
            return

    def _learn(self, space: SpaceId, records: tuple[SignedBytes, ...]) -> None:
        fresh = self.spaces.receive(space, records) if records else ()
        if fresh:
            self.outbox.append(Learned(space, fresh))

    def _tell(self, space: SpaceId, *, echo: bool = False) -> None:
        ours = self.spaces.heartbeat(space)
        answered = self._pulls.setdefault(space, _Pull()).answered
        self._send(replace(ours, answered=answered, echo=echo))

    def _send(self, message: Message) -> None:
        self.outbox.append(message)

    def _flush(self) -> list[Message | Learned]:
        outbox, self.outbox = self.outbox, []
        return outbox
