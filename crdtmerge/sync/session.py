"""One session per pair of peers: pull what the other has and we lack.

Owns the protocol state towards one peer: heartbeats, feed cursors, repairs. Does not own
the set, timers or connections: it is sans-IO over a `Spaces` port. Each side only pulls;
a heartbeat that differs is answered by ours, so one is enough for both sides to pull.

For each space, three mechanisms, the cheapest that will do:
1. equal record roots in a heartbeat: nothing to do;
2. the feed: records after our cursor in the peer's store, nothing but the new ones;
3. trie repair: where there is no cursor, or the feed did not explain the difference.
Equality is proved by the root, never assumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, assert_never

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.errors import (
    MalformedMessageError,
    MissingAuthorityError,
)
from crdtmerge.sync.messages import (
    IDS_MAX,
    PROTOCOL_VERSION,
    FeedReply,
    FeedRequest,
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
from crdtmerge.trie import Trie

FEED_WITHOUT_CURSOR_MAX: Final = 64
"""Up to this many records at either side, the whole feed is cheaper than a repair."""
DOUBTS_MAX: Final = 3
"""Heartbeats that may differ with a drained feed before we repair: in most cases the
peer lacks something of ours and is about to pull it."""
UNANSWERED_MAX: Final = 32
"""Heartbeats in a row that may come while a request of ours waits: a stream keeps its
order, so a peer that goes on beating does not mean to answer."""


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
    feeding: bool = False
    descent: Descent | None = None
    target: Heartbeat | None = None
    wanted: tuple[bytes, ...] = ()
    doubts: int = 0
    unanswered: int = 0
    told: Heartbeat | None = None

    @property
    def busy(self) -> bool:
        return self.feeding or self.descent is not None


@dataclass(slots=True)
class Session:
    """Our side of the protocol with one peer.

    `cursors` outlive the session: a reconnect continues where the feed stopped.
    """

    spaces: Spaces
    shared: frozenset[SpaceId]
    cursors: dict[SpaceId, Cursor]
    agent: str
    outbox: list[Message | Learned] = field(default_factory=list)
    greeted: bool = False
    _pulls: dict[SpaceId, _Pull] = field(default_factory=dict)

    def open(self) -> list[Message | Learned]:
        """Return what to say first."""
        self._send(Hello(PROTOCOL_VERSION, self.agent))
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
        changed while they were under way.

        Raises:
            RemoteError: the peer broke the protocol, or sent what breaks a rule.
        """
        if isinstance(message, Hello):
            self._greet(message)
        elif not self.greeted:
            raise MalformedMessageError("the first message was no hello")
        elif message.space in self.shared:
            self._dispatch(SpaceId(message.space), message)
        return self._flush()

    def _greet(self, hello: Hello) -> None:
        if self.greeted:
            raise MalformedMessageError("a second hello")
        if hello.version != PROTOCOL_VERSION:
            raise MalformedMessageError(
                f"the peer speaks protocol {hello.version}, we speak {PROTOCOL_VERSION}"
            )
        self.greeted = True

    def _dispatch(self, space: SpaceId, message: _AboutSpace) -> None:
        match message:
            case Heartbeat():
                self._compare(space, message)
            case FeedRequest(generation=generation, after=after):
                self._serve_feed(space, generation, after)
            case FeedReply():
                self._take_feed(space, message)
            case TrieRequest(prefixes=prefixes):
                nodes = tuple(answer(self.spaces.trie(space), prefixes))
                self._send(TrieReply(space, nodes))
            case TrieReply():
                self._take_nodes(space, message)
            case RecordsRequest(ids=ids):
                self._serve_records(space, ids)
            case RecordsReply():
                self._take_records(space, message)
            case Rumour(records=records):
                self._hear(space, records)
            case _:
                assert_never(message)

    # --- deciding -----------------------------------------------------------------------

    def _compare(self, space: SpaceId, theirs: Heartbeat) -> None:
        """Start a pull if the peer may have what we lack."""
        pull = self._pulls.setdefault(space, _Pull())
        pull.latest = theirs
        ours = self.spaces.heartbeat(space)
        if theirs.root != ours.root and ours != pull.told:
            # SUBTLE: the peer may lack ours too; told once, so that two never echo.
            self._tell(space)
        if pull.busy:
            pull.unanswered += 1
            if pull.unanswered > UNANSWERED_MAX:
                raise MalformedMessageError("the peer does not answer a request")
            return
        cursor = self.cursors.get(space)
        if theirs.root == ours.root:
            self.cursors[space] = Cursor(theirs.generation, theirs.sequence)
            pull.doubts = 0
        elif cursor is None or cursor.generation != theirs.generation:
            if min(ours.count, theirs.count) <= FEED_WITHOUT_CURSOR_MAX:
                self._ask_feed(space, pull, Cursor(theirs.generation, 0))
            else:
                self._repair(space, pull)
        elif cursor.sequence < theirs.sequence:
            self._ask_feed(space, pull, cursor)
        else:
            pull.doubts += 1
            if theirs.count > ours.count or pull.doubts >= DOUBTS_MAX:
                self._repair(space, pull)

    def _finish(self, space: SpaceId, pull: _Pull) -> None:
        """End a pull; start the next if the peer moved on meanwhile."""
        done, latest = pull.target, pull.latest
        pull.target = None
        if latest is None or done is None:
            return
        if latest.generation != done.generation or latest.sequence > done.sequence:
            self._compare(space, latest)

    # --- the feed -----------------------------------------------------------------------

    def _ask_feed(self, space: SpaceId, pull: _Pull, cursor: Cursor) -> None:
        pull.feeding = True
        pull.unanswered = 0
        pull.target = pull.target or pull.latest
        self.cursors[space] = cursor
        self._send(FeedRequest(space, cursor.generation, cursor.sequence))

    def _serve_feed(self, space: SpaceId, generation: bytes, after: int) -> None:
        ours = self.spaces.heartbeat(space)
        if generation == ours.generation:
            self._send(self.spaces.feed(space, after))
        else:
            self._send(FeedReply(space, ours.generation, 0, more=False, records=()))

    def _take_feed(self, space: SpaceId, reply: FeedReply) -> None:
        pull = self._pulls.get(space)
        cursor = self.cursors.get(space)
        if pull is None or cursor is None or not pull.feeding:
            raise MalformedMessageError("records that were not asked for")
        pull.feeding = False
        if reply.generation != cursor.generation:
            del self.cursors[space]  # another life of the peer's store: start over
            self._finish(space, pull)
            return
        # Numbers have no gap, so every record moves the feed by one at least.
        moved = reply.through - cursor.sequence
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
        pull.doubts = 0
        pull.target = pull.latest
        pull.descent = Descent(self.spaces.trie(space))
        self._advance(space, pull, pull.descent)

    def _advance(self, space: SpaceId, pull: _Pull, descent: Descent) -> None:
        """Ask for records once enough are lacking, for trie nodes until then."""
        pull.unanswered = 0
        lacking = self._still_lacking(space, descent)
        if len(lacking) < IDS_MAX and (prefixes := descent.ask()):
            self._send(TrieRequest(space, prefixes))
        elif lacking:
            pull.wanted = lacking[:IDS_MAX]
            self._send(RecordsRequest(space, pull.wanted))
        else:
            pull.descent = None
            if pull.target is not None:
                target = pull.target
                self.cursors[space] = Cursor(target.generation, target.sequence)
            self._finish(space, pull)

    def _still_lacking(self, space: SpaceId, descent: Descent) -> tuple[bytes, ...]:
        """Return what the descent found; some may have come from others meanwhile."""
        trie = self.spaces.trie(space)
        lacking = tuple(i for i in descent.lacking if i not in trie)
        descent.lacking = dict.fromkeys(lacking)
        return lacking

    def _take_nodes(self, space: SpaceId, reply: TrieReply) -> None:
        pull = self._pulls.get(space)
        if pull is None or pull.descent is None:
            raise MalformedMessageError("trie nodes that were not asked for")
        pull.descent.take(reply.nodes)
        self._advance(space, pull, pull.descent)

    def _serve_records(self, space: SpaceId, ids: tuple[bytes, ...]) -> None:
        if not 0 < len(ids) <= IDS_MAX:
            raise MalformedMessageError(f"{len(ids)} records asked for at once")
        self._send(self.spaces.fetch(space, ids))

    def _take_records(self, space: SpaceId, reply: RecordsReply) -> None:
        pull = self._pulls.get(space)
        if pull is None or pull.descent is None or not pull.wanted:
            raise MalformedMessageError("records that were not asked for")
        asked, pull.wanted = pull.wanted, ()
        self._learn(space, reply.records)
        trie = self.spaces.trie(space)
        if not any(i in trie for i in asked):
            # Records are never forgotten: who shows an id can send what it names.
            raise MalformedMessageError("ids of records that the peer does not send")
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

    def _tell(self, space: SpaceId) -> None:
        ours = self.spaces.heartbeat(space)
        self._pulls.setdefault(space, _Pull()).told = ours
        self._send(ours)

    def _send(self, message: Message) -> None:
        self.outbox.append(message)

    def _flush(self) -> list[Message | Learned]:
        outbox, self.outbox = self.outbox, []
        return outbox
