"""The node's core: `handle(input, now) -> effects`, no I/O of its own.

Owns sessions, gossip rounds and rumours. Does not own what is fetched from whom, which is
`choices`, nor sockets, threads, clocks or blob bytes: `runtime` performs the effects, and
so does the simulator. Records are reached through the synchronous `Spaces` port, so what a
session accepted is durable before anything that follows from it is sent.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Protocol, assert_never

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.errors import (
    CorruptBlobError,
    RemoteError,
    UnansweredError,
    VersionsApartError,
)
from crdtmerge.identity import AuthorId
from crdtmerge.sync.messages import (
    MESSAGE_BYTES_MAX,
    Beside,
    Heartbeat,
    Hello,
    Message,
    PeersReply,
    PeersRequest,
    Probes,
    Rumour,
)
from crdtmerge.sync.pulls import Cursor, Learned
from crdtmerge.sync.pulls import Spaces as SyncSpaces
from crdtmerge.sync.session import SECRET_BYTES, Session

from .attesting import Attesters, Attesting, Say
from .choices import Choices, Contents
from .effects import (
    BlobFailed,
    BlobsNeeded,
    BlobStored,
    Close,
    Dial,
    DialEnded,
    Effect,
    Input,
    MessageReceived,
    Pause,
    PeerClosed,
    PeerFound,
    PeerMoved,
    PeerOpened,
    ProbeEnded,
    ProbesWanted,
    QuotasChanged,
    RecordsCommitted,
    Resolved,
    Send,
    SourceFailed,
    TensorsWanted,
    Ticked,
    Trust,
)
from .exchange import Exchange
from .gossip import BEATS_MAX, RUMOUR_FANOUT, Backoff, pick
from .holding import Holding
from .neighbours import Neighbours
from .neighbours import Spaces as Known
from .probing import Probing
from .probing import Spaces as Announced
from .quotas import DEFAULT, Accounts, Quotas, price_of, units_of_answer


class Spaces(SyncSpaces, Contents, Attesters, Known, Announced, Protocol):
    """What the node asks of the spaces that it hosts."""

    admission: Holding | None
    """Who decides which records of others wait."""
    author_bytes: int
    """Bytes of one author's contributions that come unasked; 0 is without limit."""

    def said(self, author: AuthorId) -> int:
        """Return how many records of `author` are here, in all spaces."""
        ...

    def members(self) -> frozenset[bytes]:
        """Return the transport keys of all members."""
        ...

    def shared_with(self, node: bytes) -> frozenset[SpaceId]:
        """Return the spaces that `node` takes part in."""
        ...


@dataclass(slots=True)
class Node:
    """One running node.

    `bootstrap` are addresses from tickets, for peers whose node record is not here yet.
    """

    me: bytes
    spaces: Spaces
    rng: random.Random
    agent: str
    bootstrap: dict[bytes, tuple[str, ...]] = field(default_factory=dict)
    quotas: InitVar[Quotas] = DEFAULT
    rumours: int = RUMOUR_FANOUT
    """Peers that a new record is pushed to; with none, news waits for an exchange."""
    sessions: dict[bytes, Session] = field(default_factory=dict)
    neighbours: Neighbours = field(init=False)
    exchange: Exchange = field(init=False)
    probing: Probing = field(init=False)
    choices: Choices = field(init=False)
    accounts: Accounts = field(init=False)
    holding: Holding = field(init=False)
    attesting: Attesting = field(init=False)
    dropped: Counter[str] = field(default_factory=Counter)
    """How often a peer was dropped, by the rule that it broke, since the start."""
    apart: dict[bytes, VersionsApartError] = field(default_factory=dict)
    """The members with which we shared no version when we last met, and why."""
    _backoff: Backoff = field(init=False)
    _cursors: dict[bytes, dict[SpaceId, Cursor]] = field(default_factory=dict)
    _trusted: frozenset[bytes] | None = None
    _effects: list[Effect] = field(default_factory=list)

    def __post_init__(self, quotas: Quotas) -> None:
        """Start with nothing in flight, and nothing owed."""
        self.neighbours = Neighbours(self.me, self.spaces, self.rng, self.bootstrap)
        self._backoff = self.neighbours.backoff
        self.exchange = Exchange(self.me, self.spaces, self.rng, self.neighbours)
        self.probing = Probing(self.spaces, self.rng)
        self.choices = Choices(self.spaces, self.rng)
        self.accounts = Accounts(quotas)
        self.holding = Holding(quotas, self.spaces.said)
        self.spaces.admission = self.holding
        self.spaces.author_bytes = quotas.author_bytes
        self.attesting = Attesting(self.me, self.spaces, self.rng)

    def handle(self, item: Input, now: float) -> list[Effect]:  # noqa: C901, PLR0912  one case an input
        """Return the effects of one input, in the order they must be performed."""
        self.holding.now = now
        match item:
            case Ticked():
                self._tick(now)
            case PeerOpened(peer, address):
                self.neighbours.opened(peer, address, now)
                self._open(peer, now)
            case PeerClosed(peer, broken, left):
                self._closed(peer, broken, now, left=left)
            case PeerFound(peer, addresses):
                self.neighbours.found(peer, addresses)
            case PeerMoved(peer):
                self._backoff.succeeded(peer)
                self._dial(now, first=peer)
            case DialEnded(peer, failed):
                connected = peer in self.sessions
                self.neighbours.dial_ended(peer, failed, now, connected=connected)
            case MessageReceived(peer, message):
                self._receive(peer, message, now)
            case RecordsCommitted(space, records):
                self._spread(space, records, self.sessions)
                self._members_may_have_changed(now)
                self.choices.look()
            case BlobStored(blob):
                self.choices.stored(blob)
            case BlobFailed(blob):
                self.choices.failed(blob, now)
            case SourceFailed(peer, blob, lied):
                self._source_failed(peer, blob, lied=lied, now=now)
            case QuotasChanged(quotas):
                self.accounts.change(quotas)
                self.holding.change(quotas)
                self.spaces.author_bytes = quotas.author_bytes
                self.choices.look()
            case BlobsNeeded(blobs):
                self.choices.needed = frozenset(blobs)
                self.choices.look()
            case Resolved(signed, tensors):
                self.attesting.mine(signed, tensors)
            case ProbesWanted():
                self._effects += self.probing.ask(self.sessions)
            case ProbeEnded(peer, found, seen_from):
                self._effects += self.probing.ended(
                    peer, found, seen_from, self.sessions.get(peer)
                )
            case TensorsWanted(space, node):
                self.attesting.want(space, node)
            case _:
                assert_never(item)
        self._effects += self.choices.next(self._sharing, now)
        effects, self._effects = self._effects, []
        return effects

    def reports(self, space: SpaceId) -> dict[bytes, Heartbeat | None]:
        """Return the peers that share `space` now, and where each last said it stands."""
        return {
            peer: session.reported(space)
            for peer, session in sorted(self.sessions.items())
            if space in session.shared
        }

    # --- gossip -------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        """One round: dial who is missing, and compare roots with one random peer."""
        self.holding.tick()
        self.accounts.forget(now)
        self._members_may_have_changed(now)
        self.choices.look()
        self._dial(now)
        self._part_with_surplus()
        for peer in self.neighbours.partner(self.sessions):
            shared = map(SpaceId, pick(self.sessions[peer].shared, BEATS_MAX, self.rng))
            self._say(peer, self.sessions[peer].heartbeats(shared))
        self._tell(self.attesting.tick(self.sessions))
        asked = self.exchange.ask(self.sessions, now)
        self._effects += [Send(peer, PeersRequest()) for peer in asked]
        self.neighbours.decay(self._trusted or frozenset(), now)
        self.choices.forget(self._trusted or frozenset(), now)
        self._effects += self.choices.more(self._sharing, now)

    def _dial(self, now: float, first: bytes = b"") -> None:
        for peer, addresses in self.neighbours.dial(self._sharing, now, first):
            self._effects.append(Dial(peer, addresses))

    def _part_with_surplus(self) -> None:
        """Hang up on one neighbour whose place others have taken, at most one a tick."""
        peer = self.neighbours.surplus(self._sharing)
        if peer is not None:
            self.sessions.pop(peer)
            self.neighbours.closed(peer)
            self._effects.append(Close(peer, "others have taken its place"))

    def _spread(
        self, space: SpaceId, records: Sequence[RecordId], to: Iterable[bytes]
    ) -> None:
        """Push new records to a few peers of the space."""
        listeners = [p for p in to if space in self.sessions[p].shared]
        chosen = self.neighbours.listeners(listeners, self.rumours)
        if not chosen or not records:
            return
        reply = self.spaces.fetch(space, records)
        size = sum(len(r.data) + len(r.signature) for r in reply.records)
        if size > MESSAGE_BYTES_MAX // 4:
            return  # news of this size travels by the feed
        for peer in chosen:
            self._effects.append(Send(peer, Rumour(space, reply.records)))

    # --- sessions -----------------------------------------------------------------------

    def _open(self, peer: bytes, now: float) -> None:
        shared = self.spaces.shared_with(peer)
        if not shared or self._backoff.banished(peer, now):
            self._effects.append(Close(peer, "no space in common"))
            return
        cursors = self._cursors.setdefault(peer, {})
        secret = self.rng.randbytes(SECRET_BYTES)
        session = Session(
            self.spaces, shared, cursors, self.agent, secret, self.holding
        )
        self.sessions[peer] = session
        self._say(peer, session.open())
        self._pause(peer, now)

    def _closed(self, peer: bytes, broken: str, now: float, *, left: bool) -> None:
        self.neighbours.closed(peer)
        self.sessions.pop(peer, None)
        self.attesting.closed(peer)
        self.exchange.closed(peer)
        if broken:
            self.dropped[broken] += 1
            self._backoff.banish(peer, now)
        if left:
            self._backoff.left(peer, now, self.rng)
        elif peer in self.apart:
            self._backoff.apart(peer, now, self.rng)
        else:
            self._backoff.failed(peer, now, self.rng)

    def _receive(self, peer: bytes, message: Message, now: float) -> None:
        session = self.sessions.get(peer)
        if session is None:
            return  # closed while the message was under way
        if not session.greeted:
            self._backoff.succeeded(peer)  # who only let us in may refuse us yet
        # Paid for before it is handled, also by who is parted with for it.
        price, spent = price_of(message), self.holding.spent
        self.accounts.pay(peer, price, now)
        self._hear(peer, session, message, now)
        if price.records:
            cost = self.holding.spent - spent
            self.accounts.settle(peer, price.units, cost, now)
        if self.sessions.get(peer) is session:
            self._pause(peer, now)

    def _pause(self, peer: bytes, now: float) -> None:
        """Leave a peer alone for as long as it owes."""
        if seconds := self.accounts.pause(peer, now):
            self._effects.append(Pause(peer, seconds))

    def _hear(
        self, peer: bytes, session: Session, message: Message, now: float
    ) -> None:
        """Do what follows from a message that is paid for."""
        try:
            if isinstance(message, PeersRequest | PeersReply):
                told = self.exchange.handle(peer, session, message, self.sessions, now)
                self._effects += [Send(peer, message) for message in told]
                return
            if isinstance(message, Probes):
                self._effects += self.probing.handle(peer, session, message, now)
                return
            if isinstance(message, Beside):
                heard = self.attesting.handle(peer, session, message, self.sessions)
                self._tell(heard)
                return
            said = session.handle(message)
        except UnansweredError as e:
            self._hang_up(peer, str(e), now)
            return
        except VersionsApartError as e:
            self._part_until_upgraded(peer, e, now)
            return
        except RemoteError as e:
            self.dropped[type(e).__name__] += 1
            self._drop(peer, f"{type(e).__name__}: {e}", now)
            return
        if isinstance(message, Hello):
            self.apart.pop(peer, None)
        self.accounts.settle(peer, 0, sum(map(units_of_answer, said)), now)
        self._say(peer, said)
        if isinstance(message, Heartbeat):
            self._tell(self.attesting.beat(peer, session, message))
        if any(isinstance(item, Learned) for item in said):
            self._members_may_have_changed(now)

    def _say(self, peer: bytes, items: Iterable[Message | Learned]) -> None:
        for item in items:
            if isinstance(item, Learned):
                others = self.sessions.keys() - {peer}
                self._spread(item.space, item.records, others)
                self.choices.look()
            else:
                said: Message = item
                if isinstance(item, Heartbeat):
                    said = self.attesting.marked(item)
                self._effects.append(Send(peer, said))

    def _tell(self, said: Iterable[Say]) -> None:
        self._effects += [Send(peer, message) for peer, message in said]

    def _drop(self, peer: bytes, reason: str, now: float) -> None:
        """Part with a peer that broke the rules."""
        self._backoff.banish(peer, now)
        if self.sessions.pop(peer, None) is not None:
            self._effects.append(Close(peer, reason, broke_rules=True))

    def _part_until_upgraded(
        self, peer: bytes, error: VersionsApartError, now: float
    ) -> None:
        """End the stream with a peer that did no wrong; try again now and then."""
        self.dropped[type(error).__name__] += 1
        self.apart[peer] = error
        self._hang_up(peer, str(error), now)
        self._backoff.apart(peer, now, self.rng)

    def _hang_up(self, peer: bytes, reason: str, now: float) -> None:
        """End the stream with a peer; it is dialled again after a while."""
        self._backoff.failed(peer, now, self.rng)
        self.sessions.pop(peer)
        self._effects.append(Close(peer, reason))

    def _members_may_have_changed(self, now: float) -> None:
        """Follow the sets: whom to trust, which sessions share which spaces.

        SUBTLE: who leaves one space may stay in another: the members of all spaces can be
        the same while what a session shares is not.
        """
        members = self.spaces.members()
        if members != self._trusted:
            for peer in members - (self._trusted or members):
                self._backoff.forgive(peer)  # it may have been cut off as no member
            self._trusted = members
            self._effects.append(Trust(members))
            self.neighbours.keep_only(members)
            self.apart = {p: why for p, why in self.apart.items() if p in members}
            self._cursors = {p: c for p, c in self._cursors.items() if p in members}
        for peer, session in sorted(self.sessions.items()):
            shared = self.spaces.shared_with(peer)
            if not shared:
                self.sessions.pop(peer)
                self._backoff.banish(peer, now)
                self._effects.append(Close(peer, "no longer a member"))
            elif shared != session.shared:
                self._say(peer, session.share(shared))

    # --- contents -----------------------------------------------------------------------

    @property
    def _sharing(self) -> dict[bytes, frozenset[SpaceId]]:
        return {peer: session.shared for peer, session in self.sessions.items()}

    def _source_failed(
        self, peer: bytes, blob: BlobId, *, lied: bool, now: float
    ) -> None:
        if self.choices.source_failed(peer, blob, lied=lied, now=now):
            self.dropped[CorruptBlobError.__name__] += 1
            self._drop(peer, "it sent other bytes for too many blobs", now)
