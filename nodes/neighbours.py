"""The active view: whom we dial, whom we keep, whom we talk to.

Owns the choice of neighbours. Up to `MESH_MAX` other nodes, all are dialled. Above, each
space gets a few neighbours of our own choice, and who dials us comes on top: the graph of
each space is a random one, which stays connected though a third of it vanishes. Does not
own what is said to whom (`node`), nor streams.

Nobody fills this view from outside. Membership is what the sets say; half of our choices in
a space are drawn at random from its authors, and then from the nodes of the one drawn, so
who runs many nodes gains nothing; and half of what we say goes to those that we chose,
however many others dial us.
"""

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from crdtmerge.bodies import SpaceId
from crdtmerge.identity import AuthorId

from .book import Book
from .gossip import CONNECTIONS_MAX, DIAL_ADDRESSES_MAX, DIALS_PER_TICK, Backoff, pick
from .hearsay import Hearsay

MESH_MAX: Final = 64
"""Other nodes, in all spaces, up to which every one is dialled."""
CHOSEN: Final = 8
"""Neighbours of our own choice in each space above that; others dial us beside."""
UNIFORM: Final = 4
"""How many of them at least are drawn from all members, not from who is known to work."""
ROTATE_S: Final = 30.0
"""Mean time until one neighbour makes room for another: parts of a network that fell apart
find each other by it, and nobody who got near stays for ever."""
FRUITLESS: Final = 32
"""Dials in a row that led nowhere, after which only one is begun a tick."""
CROWDED_S: Final = 5.0
"""Mean time until one neighbour goes where all places are taken, and in some space there is
no stream at all: more spaces than places take turns."""
DRAWS: Final = 16
"""Authors drawn blindly before those with an idle node are looked up."""
DECAY_S: Final = 60.0
LOCAL_ADDRESSES_MAX: Final = 4
LATE_ADDRESSES: Final = 2
"""Addresses of hearsay that one dial tries, after all others."""

Shared = Mapping[bytes, frozenset[SpaceId]]
"""The peers with a stream, and the spaces that both take part in."""


class Spaces(Protocol):
    """What the choice of neighbours asks of the sets."""

    def all(self) -> list[SpaceId]:
        """Return the ids of the spaces."""
        ...

    def addresses(self) -> Mapping[bytes, tuple[str, ...]]:
        """Return the addresses of every member node, as announced or added."""
        ...

    def node_authors(self, space: SpaceId) -> Mapping[bytes, tuple[AuthorId, ...]]:
        """Return the member nodes of a space, and the authors that claim each."""
        ...


@dataclass(slots=True)
class Choice:
    """Why and since when a neighbour is one of our choice."""

    uniform: bool
    since: float = 0.0


@dataclass(slots=True)
class Neighbours:
    """Whom one node dials and keeps; `bootstrap` are addresses from tickets and lists."""

    me: bytes
    spaces: Spaces
    rng: random.Random
    bootstrap: dict[bytes, tuple[str, ...]]
    book: Book = field(default_factory=Book)
    hearsay: Hearsay = field(default_factory=Hearsay)
    backoff: Backoff = field(default_factory=Backoff)
    local: dict[bytes, tuple[str, ...]] = field(default_factory=dict)
    """Addresses that were found on the local network."""
    dialling: dict[bytes, Choice] = field(default_factory=dict)
    chosen: dict[bytes, Choice] = field(default_factory=dict)
    """Neighbours that we dialled, and have a stream with."""
    partial: bool = False
    """Whether there are too many nodes to dial all."""
    _crowded: bool = False
    """Whether somebody must go, or a space stays without a stream."""
    _rotate_at: float | None = None
    _fruitless: int = 0
    _decay_at: float = 0.0
    _counted: tuple[Mapping[bytes, tuple[str, ...]] | None, frozenset[bytes]] = (
        None,
        frozenset(),
    )

    # --- what happened ------------------------------------------------------------------

    def opened(self, peer: bytes, address: str, now: float) -> None:
        """Note a stream, whoever dialled; `address` is where we found the peer, if so."""
        choice = self.dialling.pop(peer, None)
        if choice is not None:
            choice.since = now
            self.chosen[peer] = choice
            self._fruitless = 0
            self.hearsay.tried(peer)
        if address:
            local = address in self.local.get(peer, ())
            self.book.worked(peer, address, now, local=local)

    def closed(self, peer: bytes) -> None:
        """Note that the stream with `peer` is over, or never came to be."""
        self.dialling.pop(peer, None)
        self.chosen.pop(peer, None)

    def dial_ended(
        self, peer: bytes, failed: Collection[str], now: float, *, connected: bool
    ) -> None:
        """Note the end of a dial, and where `peer` was not found."""
        for address in failed:
            self.book.failed(peer, address, now)
        if self.dialling.pop(peer, None) is not None and not connected:
            self._fruitless += 1
            self.hearsay.tried(peer)
            self.backoff.failed(peer, now, self.rng)

    def found(self, peer: bytes, addresses: Collection[str]) -> None:
        """Take up where a member listens on the local network, or that it no longer does.

        Who is no member is ignored, so the table is as large as the spaces at most.
        """
        self.local.pop(peer, None)
        if addresses and peer in self.spaces.addresses() and peer != self.me:
            self.local[peer] = tuple(addresses)[:LOCAL_ADDRESSES_MAX]

    def keep_only(self, members: frozenset[bytes]) -> None:
        """Forget what is kept of nodes that are no members."""
        self.hearsay.keep_only(members)
        self.local = {n: a for n, a in self.local.items() if n in members}

    def decay(self, members: frozenset[bytes], now: float) -> None:
        """Forget now and then what the book holds of long ago, and of who left."""
        if now >= self._decay_at:
            self._decay_at = now + DECAY_S
            self.book.decay(members, now)

    # --- whom to dial -------------------------------------------------------------------

    def dial(
        self, shared: Shared, now: float, first: bytes = b""
    ) -> list[tuple[bytes, tuple[str, ...]]]:
        """Return whom to dial now, at most a few at a time, and where.

        `first` is somebody whom the user wants to be tried, if it can be.
        """
        known = self.spaces.addresses()
        self.partial = self._reachable(known) > MESH_MAX
        peers: list[bytes] = []
        busy = first in shared or first in self.dialling or first == self.me
        if first and not busy and self._ready(first, known, now):
            self.dialling[first] = Choice(uniform=False)
            peers.append(first)
        choose = self._partial if self.partial else self._mesh
        peers += choose(known, shared, now)
        return [(peer, self._where(peer, known)) for peer in peers]

    def _reachable(self, known: Mapping[bytes, tuple[str, ...]]) -> int:
        """Return of how many others it is known where they listen."""
        if len(known) + len(self.bootstrap) + len(self.local) <= MESH_MAX:
            return 0
        if self._counted[0] is not known:  # it is a value, and asked for every second
            counted = frozenset(node for node, where in known.items() if where)
            self._counted = known, counted
        elsewhere = self.bootstrap.keys() | self.local.keys()
        announced = self._counted[1]
        beside = len(elsewhere - announced - {self.me})
        return len(announced) - (self.me in announced) + beside

    def _mesh(
        self, known: Mapping[bytes, tuple[str, ...]], shared: Shared, now: float
    ) -> list[bytes]:
        busy = shared.keys() | self.dialling.keys() | {self.me}
        idle = [
            peer
            for peer in (known.keys() | self.bootstrap.keys()) - busy
            if self._ready(peer, known, now)
        ]
        # Who dials us takes none of our places: it might run as many nodes as there are.
        room = CONNECTIONS_MAX - len(self.chosen) - len(self.dialling)
        chosen = pick(idle, max(0, min(DIALS_PER_TICK, room)), self.rng)
        for peer in chosen:
            self.dialling[peer] = Choice(uniform=True)
        return chosen

    def _partial(
        self, known: Mapping[bytes, tuple[str, ...]], shared: Shared, now: float
    ) -> list[bytes]:
        """Draw one to rotate, if it is time; then fill the spaces with the fewest first."""
        spaces = self.spaces.all()
        tired = self._fruitless >= FRUITLESS
        room = min(
            1 if tired else DIALS_PER_TICK,
            CONNECTIONS_MAX - len(self.chosen) - len(self.dialling),
        )
        peers: list[bytes] = []
        # First: where many are away there is always somebody else to dial.
        if spaces and room > 0 and self._rotates(now, ROTATE_S):
            peer = self._draw(self.rng.choice(spaces), known, shared, now, uniform=True)
            peers += [peer] if peer is not None else []
        ours = {space: self._ours(space, shared) for space in spaces}
        lacking = {space for space in spaces if len(ours[space]) < CHOSEN}
        while lacking and len(peers) < room:
            space = self._neediest(lacking, ours, tired=tired)
            drawn = sum(choice.uniform for choice in ours[space].values())
            peer = self._draw(space, known, shared, now, uniform=drawn < UNIFORM)
            if peer is None:
                lacking.discard(space)
                continue
            peers.append(peer)
            for other in spaces:
                if peer in self.spaces.node_authors(other):
                    ours[other][peer] = self.dialling[peer]
            lacking = {s for s in lacking if len(ours[s]) < CHOSEN}
        if len(self.chosen) >= CONNECTIONS_MAX:
            alone = self._alone(lacking, known, shared, now)
            self._crowded = alone and self._rotates(now, CROWDED_S)
        return peers

    def _neediest(
        self,
        lacking: Collection[SpaceId],
        ours: Mapping[SpaceId, Collection[bytes]],
        *,
        tired: bool,
    ) -> SpaceId:
        """Return the space with the fewest neighbours; among equals, one by chance.

        Any by chance while no dial leads anywhere, and one is begun a tick: a space of
        which nobody is left would get them all.
        """

        def need(space: SpaceId) -> tuple[int, float]:
            return 0 if tired else len(ours[space]), self.rng.random()

        return min(sorted(lacking), key=need)

    def _alone(
        self,
        lacking: Collection[SpaceId],
        known: Mapping[bytes, tuple[str, ...]],
        shared: Shared,
        now: float,
    ) -> bool:
        """Tell whether a space has no stream, whoever dialled, and somebody to try."""
        met = frozenset[SpaceId]().union(*shared.values())
        return any(
            node != self.me and node not in shared and self._ready(node, known, now)
            for space in lacking
            if space not in met
            for node in self.spaces.node_authors(space)
        )

    def _rotates(self, now: float, mean: float) -> bool:
        """Tell whether it is time to draw one neighbour more; the oldest then goes."""
        due = self._rotate_at is not None and now >= self._rotate_at
        if due or self._rotate_at is None:
            self._rotate_at = now + mean * self.rng.uniform(0.5, 1.5)
        return due

    def _ours(self, space: SpaceId, shared: Shared) -> dict[bytes, Choice]:
        """Return the neighbours of our choice in a space, and those under way to be."""
        nodes = self.spaces.node_authors(space)
        under_way = {p: c for p, c in self.dialling.items() if p in nodes}
        there = {p: c for p, c in self.chosen.items() if space in shared.get(p, ())}
        return under_way | there

    def _draw(
        self,
        space: SpaceId,
        known: Mapping[bytes, tuple[str, ...]],
        shared: Shared,
        now: float,
        *,
        uniform: bool,
    ) -> bytes | None:
        """Draw a member of a space to dial; None if there is nobody to try."""
        claimed = self.spaces.node_authors(space)
        by_author: dict[AuthorId, list[bytes]] = {}
        for node in claimed if uniform else self._warm(claimed, now):
            for author in claimed[node]:
                by_author.setdefault(author, []).append(node)

        def idle(author: AuthorId) -> list[bytes]:
            return sorted(
                node
                for node in by_author[author]
                if node not in shared
                and node not in self.dialling
                and node != self.me
                and self._ready(node, known, now)
            )

        peer = self._draw_from(sorted(by_author), idle)
        if peer is not None:
            self.dialling[peer] = Choice(uniform)
        elif not uniform:
            return self._draw(space, known, shared, now, uniform=True)
        return peer

    def _draw_from(
        self, authors: list[AuthorId], idle: Callable[[AuthorId], list[bytes]]
    ) -> bytes | None:
        """Draw an author, then one of its idle nodes; as if only those with any stood."""
        for _ in range(DRAWS if authors else 0):
            if nodes := idle(self.rng.choice(authors)):
                return self.rng.choice(nodes)
        left = {author: nodes for author in authors if (nodes := idle(author))}
        return self.rng.choice(left[self.rng.choice(list(left))]) if left else None

    def _warm(self, nodes: Collection[bytes], now: float) -> list[bytes]:
        """Return those that are known, or said, to be there."""
        warm = {*self.book.lately(now), *self.hearsay.nodes()}
        return sorted(node for node in warm if node in nodes)

    def _ready(
        self, peer: bytes, known: Mapping[bytes, tuple[str, ...]], now: float
    ) -> bool:
        somewhere = (
            known.get(peer)
            or peer in self.bootstrap
            or peer in self.local
            or self.hearsay.of(peer)
        )
        return bool(somewhere) and self.backoff.ready(peer, now)

    def _where(
        self, peer: bytes, known: Mapping[bytes, tuple[str, ...]]
    ) -> tuple[str, ...]:
        """Return the addresses that one dial tries: a claim may name many in vain."""
        own = (*self.local.get(peer, ()), *known.get(peer, ()))
        own += self.bootstrap.get(peer, ())
        ordered = self.book.order(peer, own, self.rng)
        late = [a for a in self.hearsay.of(peer) if a not in own][:LATE_ADDRESSES]
        return (*ordered[: DIAL_ADDRESSES_MAX - len(late)], *late)

    # --- whom to keep, and whom to talk to ----------------------------------------------

    def surplus(self, shared: Shared) -> bytes | None:
        """Return the oldest neighbour of our choice that no space needs, if any.

        Or the oldest of all, where a space without a stream needs its place.
        """
        if not self.partial:
            return None
        counts: dict[SpaceId, int] = {}
        ours = [peer for peer in self.chosen if peer in shared]
        for peer in ours:
            for space in shared[peer]:
                counts[space] = counts.get(space, 0) + 1
        ours.sort(key=lambda peer: (self.chosen[peer].since, peer))
        crowded, self._crowded = self._crowded, False
        for peer in ours:
            if crowded or all(counts[space] > CHOSEN for space in shared[peer]):
                return peer
        return None

    def listeners(self, peers: Collection[bytes], count: int) -> list[bytes]:
        """Draw peers to tell of something; above a mesh, half of our own choice or more."""
        if not self.partial:
            return pick(peers, count, self.rng)
        own = [peer for peer in peers if peer in self.chosen]
        first = pick(own, (count + 1) // 2, self.rng)
        left = [peer for peer in peers if peer not in first]
        return first + pick(left, count - len(first), self.rng)

    def partner(self, peers: Collection[bytes]) -> list[bytes]:
        """Draw the peer of this tick's exchange: every second time one of our choice."""
        if self.partial and self.rng.random() < 0.5:
            own = [peer for peer in peers if peer in self.chosen]
            return pick(own or peers, 1, self.rng)
        return pick(peers, 1, self.rng)
