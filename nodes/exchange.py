"""Peer exchange: a few nodes that we reached lately, for who asks, and what we are told.

Owns when we ask, whom we answer how often, and what is in an answer. Does not own what is
kept of answers (`hearsay`), nor who is dialled by it (`neighbours`). Only addresses and
signs of life are exchanged, of members of spaces that both sides share: who is a member,
the sets say alone.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.sync.messages import (
    PEER_ADDRESSES_MAX,
    PEERS_MAX,
    SPEAKS_PEERS,
    Peers,
    PeerSaid,
    PeersReply,
)
from crdtmerge.sync.session import Session

from .gossip import pick
from .neighbours import Neighbours, Spaces

ASK_S: Final = 30.0
"""Mean time between two questions of ours, to a neighbour drawn anew each time."""
ANSWER_S: Final = 10.0
"""Least time between two answers to one peer; what it asks in between is not answered."""

Sessions = Mapping[bytes, Session]


@dataclass(slots=True)
class Exchange:
    """What one node asks and tells of other nodes."""

    me: bytes
    spaces: Spaces
    rng: random.Random
    neighbours: Neighbours
    _ask_at: float | None = None
    _asked: set[bytes] = field(default_factory=set)
    _answered: dict[bytes, float] = field(default_factory=dict)

    def closed(self, peer: bytes) -> None:
        """Forget what hung on the stream with `peer`.

        SUBTLE: not when it was answered last, or it would hang up to ask again.
        """
        self._asked.discard(peer)

    def ask(self, sessions: Sessions, now: float) -> list[bytes]:
        """Return whom to ask now: nobody while all members are connected."""
        if self._ask_at is None or now >= self._ask_at:
            due = self._ask_at is not None
            self._ask_at = now + ASK_S * self.rng.uniform(0.5, 1.5)
            self._answered = {
                peer: at for peer, at in self._answered.items() if now < at + ANSWER_S
            }
            away = self.spaces.addresses().keys() - sessions.keys() - {self.me}
            if due and away:
                able = [p for p, s in sessions.items() if s.features & SPEAKS_PEERS]
                chosen = pick(able, 1, self.rng)
                self._asked.update(chosen)
                return chosen
        return []

    def handle(
        self,
        peer: bytes,
        session: Session,
        message: Peers,
        sessions: Sessions,
        now: float,
    ) -> list[Peers]:
        """Take what a peer says of others, or answer its question.

        What was not asked for is ignored, and so is a question that comes too early.
        """
        if isinstance(message, PeersReply):
            if peer in self._asked:
                self._asked.discard(peer)
                self._take(peer, session, message, now)
            return []
        speaks = session.features & SPEAKS_PEERS
        if not speaks or now < self._answered.get(peer, now - ANSWER_S) + ANSWER_S:
            return []
        self._answered[peer] = now
        return [self._sample(peer, session.shared, sessions, now)]

    def _take(
        self, peer: bytes, session: Session, reply: PeersReply, now: float
    ) -> None:
        members = self._members(session.shared) - {self.me, peer}
        self.neighbours.hearsay.take(peer, reply, now, members.__contains__)

    def _members(self, shared: frozenset[SpaceId]) -> set[bytes]:
        return {node for s in shared for node in self.spaces.node_authors(s)}

    def _sample(
        self,
        peer: bytes,
        shared: frozenset[SpaceId],
        sessions: Sessions,
        now: float,
    ) -> PeersReply:
        """Return a few of those that are connected, or that we reached lately."""
        book = self.neighbours.book
        alive = self._members(shared) & (sessions.keys() | set(book.lately(now)))
        said: list[PeerSaid] = []
        for node in pick(alive - {peer, self.me}, PEERS_MAX, self.rng):
            age = 0.0 if node in sessions else book.age(node, now) or 0.0
            where = tuple(book.shareable(node, now)[:PEER_ADDRESSES_MAX])
            said.append(PeerSaid(node, where, int(age)))
        return PeersReply(tuple(said))
