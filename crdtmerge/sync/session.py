"""One session per pair of peers: pull what the other has and we lack.

Owns when something is pulled, and by which way. Does not own the ways (`feeding`,
`repairing`), what we answer (`serving`), the set, timers or connections: it is sans-IO over
a `Spaces` port. Each side only pulls; a heartbeat that differs is answered by ours, so one
is enough for both sides to pull.

For each space, three mechanisms, the cheapest that will do:
1. equal record roots in a heartbeat: nothing to do;
2. the feed: records after our cursor in the peer's store, nothing but the new ones;
3. trie repair: where there is no cursor, or the feed did not explain the difference.
Equality is proved by the root, never assumed.

A stream keeps its order and loses nothing until it is cut, but nothing here is unsafe where
messages get lost, come twice or overtake each other: what is lost is asked for again, what
answers no waiting question is ignored, and what we take is checked as ever.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, assert_never

from crdtmerge.bodies import SpaceId
from crdtmerge.errors import (
    MissingAuthorityError,
    UnansweredError,
    VersionsApartError,
)
from crdtmerge.sync.feeding import Feeding
from crdtmerge.sync.messages import (
    FEATURES,
    OLDEST_VERSION,
    PROTOCOL_VERSION,
    SPEAKS_COMPARE,
    Beside,
    CompareReply,
    CompareRequest,
    FeedReply,
    FeedRequest,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    Peers,
    Probes,
    RecordsReply,
    RecordsRequest,
    Rumour,
    SetMessage,
    SignedBytes,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.pulls import Cursor, Learned, Pull, Pulls, Spaces
from crdtmerge.sync.repairing import Repairing
from crdtmerge.sync.serving import Serving
from crdtmerge.sync.waiting import NothingWaits, Waiting

FEED_WITHOUT_CURSOR_MAX: Final = 64
"""Up to this many records at either side, the whole feed is cheaper than a repair."""
DOUBTS_MAX: Final = 3
"""Heartbeats that may differ with a drained feed before we repair: in most cases the
peer lacks something of ours and is about to pull it."""
WAITING_DOUBTS: Final = 256
"""Doubts after which we repair although what we left for later explains the difference."""
UNGREETED_MAX: Final = 1024
"""Messages that may come before the peer's hello, before we hang up."""
SECRET_BYTES: Final = 16


@dataclass(slots=True)
class Session:
    """Our side of the protocol with one peer.

    `cursors` outlive the session: a reconnect continues where the feed stopped. `secret`
    is `SECRET_BYTES` at random, drawn for this session.
    """

    spaces: Spaces
    shared: frozenset[SpaceId]
    cursors: dict[SpaceId, Cursor]
    agent: str
    secret: bytes
    waiting: Waiting = NothingWaits()  # noqa: RUF009  it has no state
    greeted: bool = False
    features: int = 0
    """What the peer said that it speaks beside."""
    version: int = 0
    """The newest version that both speak, once the peer said hello."""
    pulls: Pulls = field(init=False)
    _ungreeted: int = 0
    _feeding: Feeding = field(init=False)
    _repairing: Repairing = field(init=False)
    _serving: Serving = field(init=False)

    def __post_init__(self) -> None:
        """Set up the ways of pulling."""
        self.pulls = Pulls(self.spaces, self.cursors, self.waiting)
        self._feeding = Feeding(self.pulls)
        self._repairing = Repairing(self.pulls, self.secret)
        self._serving = Serving(self.spaces)

    def open(self) -> list[Message | Learned]:
        """Return what to say first."""
        self.pulls.send(self._hello())
        return self.heartbeats()

    def heartbeats(
        self, spaces: Iterable[SpaceId] | None = None
    ) -> list[Message | Learned]:
        """Return a heartbeat for every shared space, or for some of them."""
        for space in sorted(self.shared.intersection(spaces or self.shared)):
            self._tell(space)
        return self.pulls.flush()

    def share(self, shared: frozenset[SpaceId]) -> list[Message | Learned]:
        """Follow a change of what both sides take part in; return what to say of it."""
        for space in self.shared - shared:
            self.pulls.forget(space)
        self.shared = shared
        return self.heartbeats()

    def reported(self, space: SpaceId) -> Heartbeat | None:
        """Return where the peer last said that it stands; each report is a new object."""
        pull = self.pulls.get(space)
        return pull.latest if pull else None

    def handle(self, message: Message) -> list[Message | Learned]:
        """Return what follows from a message of the peer.

        Messages about a space that we do not share are ignored: membership may have
        changed while they were under way. So are answers to no waiting question, and
        what stands beside the set, a goodbye, and what is said of other nodes: they are
        for others to hear.

        Raises:
            RemoteError: the peer broke the protocol, or sent what breaks a rule.
            VersionsApartError: we share no version of the protocol.
            UnansweredError: it does neither, but does not answer either, or what it
                answers leads nowhere.
        """
        if isinstance(message, Hello):
            self._greet(message)
        elif isinstance(message, Goodbye | Peers | Probes):
            return []
        elif not self.greeted:
            self._ask_for_hello(message)
        elif message.space in self.shared and not isinstance(message, Beside):
            self._dispatch(SpaceId(message.space), message)
        return self.pulls.flush()

    def _greet(self, hello: Hello) -> None:
        ours, theirs = (OLDEST_VERSION, PROTOCOL_VERSION), hello.spoken
        self.version = min(ours[1], theirs[1])
        if self.version < max(ours[0], theirs[0]):
            raise VersionsApartError(ours, theirs)
        if self.greeted and not hello.heard:
            # Ours was lost, and the peer has ignored all that we said since.
            self.pulls.send(self._hello(heard=True))
            for space in sorted(self.shared):
                self._tell(space)
        self.greeted, self.features = True, hello.features

    def _hello(self, *, heard: bool = False) -> Hello:
        spoken = OLDEST_VERSION, PROTOCOL_VERSION
        return Hello(OLDEST_VERSION, self.agent, heard, FEATURES, *spoken)

    def _ask_for_hello(self, message: SetMessage | Beside) -> None:
        """Ignore what comes before the hello, which may be lost; ask for that."""
        self._ungreeted += 1
        if self._ungreeted > UNGREETED_MAX:
            raise UnansweredError("the peer does not say hello")
        if isinstance(message, Heartbeat):
            self.pulls.send(self._hello())

    def _dispatch(self, space: SpaceId, message: SetMessage) -> None:
        match message:
            case Heartbeat():
                self._take_beat(space, message)
            case CompareRequest() if not self.features & SPEAKS_COMPARE:
                pass  # who did not name comparisons would not know the answer
            case FeedRequest() | TrieRequest() | CompareRequest() | RecordsRequest():
                reply = self._serving.answer(space, self.pulls.of(space), message)
                if reply is not None:
                    self.pulls.send(reply)
            case FeedReply() | TrieReply() | CompareReply() | RecordsReply():
                if self._taken(space, message):
                    self._finish(space, self.pulls.of(space))
            case Rumour(records=records):
                self._hear(space, records)
            case Hello():
                raise AssertionError
            case _:
                assert_never(message)

    def _taken(
        self, space: SpaceId, reply: FeedReply | TrieReply | CompareReply | RecordsReply
    ) -> bool:
        """Take an answer; tell whether the pull is over with it."""
        match reply:
            case FeedReply():
                return self._feeding.take(space, reply)
            case TrieReply():
                return self._repairing.take_nodes(space, reply)
            case CompareReply():
                return self._repairing.take_sections(space, reply)
            case RecordsReply():
                return self._repairing.take_records(space, reply)
            case _:
                assert_never(reply)

    # --- deciding -----------------------------------------------------------------------

    def _take_beat(self, space: SpaceId, theirs: Heartbeat) -> None:
        pull = self.pulls.of(space)
        pull.latest = theirs
        if theirs.root != self.spaces.trie(space).root and not theirs.echo:
            # SUBTLE: the peer may lack ours too; an echo has none, so that this ends.
            self._tell(space, echo=True)
        self._repairing.beat(pull, theirs)
        if pull.asked is not None:
            self.pulls.wait(pull, pull.asked, theirs)
        else:
            self._compare(space, pull, theirs)

    def _compare(self, space: SpaceId, pull: Pull, theirs: Heartbeat) -> None:
        """Start a pull if the peer may have what we lack."""
        ours = self.spaces.heartbeat(space)
        cursor = self.cursors.get(space)
        if theirs.root == ours.root:
            self.cursors[space] = Cursor(theirs.generation, theirs.sequence)
            pull.doubts = 0
            pull.settled()
        elif cursor is None or cursor.generation != theirs.generation:
            if min(ours.count, theirs.count) <= FEED_WITHOUT_CURSOR_MAX:
                self._feeding.ask(space, pull, Cursor(theirs.generation, 0))
            elif not pull.fruitless or self._doubted(space, pull, more=False):
                self._repair(space, pull)
        elif cursor.sequence < theirs.sequence:
            self._feeding.ask(space, pull, cursor)
        elif self._doubted(space, pull, more=theirs.count > ours.count):
            self._repair(space, pull)

    def _doubted(self, space: SpaceId, pull: Pull, *, more: bool) -> bool:
        """Tell whether to repair, where the feed is drained and the roots differ.

        Not while what we left for later explains it: asking again brings nothing.
        """
        pull.doubts += 1
        if pull.waits >= 0:
            released = pull.waits != self.waiting.releases(space)
            return released or pull.doubts >= WAITING_DOUBTS
        if more and not pull.fruitless:
            return True
        return pull.doubts >= DOUBTS_MAX << pull.fruitless

    def _repair(self, space: SpaceId, pull: Pull) -> None:
        by_clues = bool(self.features & SPEAKS_COMPARE)
        if self._repairing.begin(space, pull, by_clues=by_clues):
            self._finish(space, pull)

    def _finish(self, space: SpaceId, pull: Pull) -> None:
        """End a pull; start the next if the peer moved on meanwhile."""
        done, latest = pull.target, pull.latest
        pull.target = None
        if latest is None or done is None:
            return
        if latest.generation != done.generation or latest.sequence > done.sequence:
            self._compare(space, pull, latest)

    # --- saying and hearing -------------------------------------------------------------

    def _hear(self, space: SpaceId, records: tuple[SignedBytes, ...]) -> None:
        """Take a rumour if we can; the feed brings what we cannot take yet."""
        try:
            self.pulls.learn(space, records)
        except MissingAuthorityError:
            return

    def _tell(self, space: SpaceId, *, echo: bool = False) -> None:
        ours = self.spaces.heartbeat(space)
        self.pulls.send(
            replace(ours, answered=self.pulls.of(space).answered, echo=echo)
        )
