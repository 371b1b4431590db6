"""Which blob is fetched next, and from whom: pure choices over what is wanted and known.

Owns the blobs in flight, their order, the share of each author, and whom not to ask for a
while. Does not own how a blob comes (`crdtmerge.sync.swarm`), how many bytes of an author
may (`offers`), nor sessions, clocks or the generator (`node`).
"""

import random
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.identity import AuthorId
from crdtmerge.sync.swarm import SOURCES_MAX

from .effects import Fetch, MoreSources, Source

FETCHES_LEAST: Final = 4
"""Blobs in flight at once, however large they are."""
FETCHES_MAX: Final = 64
"""Blobs in flight at once, however small they are."""
FETCHES_URGENT: Final = 16
"""Places among these for manifests, what somebody waits for, and the first blob of an
author who has none in flight; for nothing else."""
FETCHES_BYTES: Final = 64 << 20
"""Bytes of the blobs in flight above which no further one begins."""
FETCH_RETRY_S: Final = 2.0
"""How long we do not ask a peer again for a blob that it did not have."""
LIED_S: Final = 600.0
"""How long we do not ask a peer again for a blob of which it sent other bytes."""
LIES_MAX: Final = 4
"""Blobs of which a peer may send other bytes, as a bad disk makes it do, before it is
taken for a liar."""


@dataclass(frozen=True, slots=True)
class Part:
    """Blobs that one contribution needs and we lack, with sizes.

    `beyond` if its authors' bytes are used up: it comes only if somebody waits for it.
    `manifests` are the blobs that are named as manifests of it.
    """

    authors: tuple[AuthorId, ...]
    blobs: Mapping[BlobId, int]
    beyond: bool = False
    manifests: frozenset[BlobId] = frozenset()


class Contents(Protocol):
    """What is asked of the spaces of a home."""

    def all(self) -> list[SpaceId]:
        """Return the ids of the spaces."""
        ...

    def parts(self, space: SpaceId) -> list[Part]:
        """Return of a bounded number of contributions a bounded part of what we lack.

        Of many it is at others each time, of few at all.
        """
        ...


@dataclass(frozen=True, slots=True)
class InFlight:
    """A blob that is being fetched."""

    size: int
    spaces: frozenset[SpaceId]
    peers: tuple[bytes, ...]
    urgent: bool
    author: AuthorId
    """In whose turn it began."""


Sharing = Mapping[bytes, AbstractSet[SpaceId]]
"""The peers with an open stream, and the spaces that each shares with us."""


@dataclass(slots=True)
class Choices:
    """What one node fetches."""

    contents: Contents
    rng: random.Random
    flying: dict[BlobId, InFlight] = field(default_factory=dict)
    needed: frozenset[BlobId] = frozenset()
    """What somebody waits for."""
    _urgent: frozenset[BlobId] = frozenset()
    _manifests: frozenset[BlobId] = frozenset()
    _wanted: dict[BlobId, dict[SpaceId, int]] = field(default_factory=dict)
    _queues: dict[AuthorId, deque[BlobId]] = field(default_factory=dict)
    _tried: dict[BlobId, float] = field(default_factory=dict)
    _refused: dict[tuple[bytes, BlobId], float] = field(default_factory=dict)
    _lies: dict[bytes, set[BlobId]] = field(default_factory=dict)

    # --- what is wanted -----------------------------------------------------------------

    def look(self) -> None:
        """List what visible contributions need and no fetch is bringing, by author.

        Manifests come first, for they say what else there is; then what somebody waits
        for. Of equals, what was tried longest ago: blobs that nobody has, however many
        an author names, take their turn and no more.
        """
        found: dict[BlobId, dict[SpaceId, int]] = {}
        authors: dict[AuthorId, set[BlobId]] = {}
        manifests: set[BlobId] = set()
        for space in self.contents.all():
            for part in self.contents.parts(space):
                manifests |= part.manifests
                blobs = self._due(part)
                for blob, size in blobs.items():
                    sizes = found.setdefault(blob, {})
                    sizes[space] = max(size, sizes.get(space, 0))
                # SUBTLE: of each who needs it: who names another's blobs takes them not
                # into its own share, where they would wait.
                for author in part.authors:
                    authors.setdefault(author, set()).update(blobs)
        kept = found.keys() | self.flying.keys()
        self._tried = {b: tried for b, tried in self._tried.items() if b in kept}
        self._urgent = frozenset((manifests | self.needed) & kept)
        self._manifests = frozenset(manifests & found.keys())
        self._wanted = found
        order = sorted(authors)
        self.rng.shuffle(order)  # nobody is always the first of equals
        self._queues = {a: deque(sorted(authors[a], key=self._turn)) for a in order}

    def _due(self, part: Part) -> dict[BlobId, int]:
        """Return what may be fetched now of a part."""
        return {
            blob: size
            for blob, size in part.blobs.items()
            if blob not in self.flying and (not part.beyond or blob in self.needed)
        }

    def _class(self, blob: BlobId) -> tuple[bool, bool]:
        return blob not in self._manifests, blob not in self.needed

    def _turn(self, blob: BlobId) -> tuple[tuple[bool, bool], float, BlobId]:
        return self._class(blob), self._tried.get(blob, -1.0), blob

    def next(self, sharing: Sharing, now: float) -> list[Fetch]:
        """Return the fetches that begin now; what nobody has waits for the next look."""
        begun: list[Fetch] = []
        load = Counter(fetch.peers[0] for fetch in self.flying.values())
        while sharing and (author := self._whose_turn()) is not None:
            blob = self._queues[author].popleft()
            places = self._wanted.pop(blob)
            spaces = frozenset(places)
            peers = self._willing(blob, spaces, sharing, now)
            if not peers:
                continue
            # Who is asked first for few: a slow peer holds its share and no more.
            self.rng.shuffle(peers)
            peers.sort(key=lambda peer: load[peer])
            chosen = tuple(peers[:SOURCES_MAX])
            load[chosen[0]] += 1
            size, urgent = max(places.values()), blob in self._urgent
            self.flying[blob] = InFlight(size, spaces, chosen, urgent, author)
            self._tried[blob] = now
            begun.append(Fetch(blob, size, _sources(chosen, spaces, sharing)))
        return begun

    def _whose_turn(self) -> AuthorId | None:
        """Return the author whose next blob begins now, if one may.

        The most urgent first; of equals that of the author who has the fewest in flight,
        so a hundred contributions of one do not keep one of another waiting.
        """
        for author, queue in list(self._queues.items()):
            while queue and queue[0] not in self._wanted:
                queue.popleft()  # begun, or nobody has it, in another's turn
            if not queue:
                del self._queues[author]
        held = Counter(fetch.author for fetch in self.flying.values())
        by_turn = sorted(
            self._queues, key=lambda a: (self._class(self._queues[a][0]), held[a])
        )
        sharers = len(self._queues.keys() | held.keys())
        for author in by_turn:
            if self._has_room(self._queues[author][0], author, held[author], sharers):
                return author
        return None

    def more(self, sharing: Sharing, now: float) -> list[MoreSources]:
        """Let fetches that are under way use peers that came, or may be asked again."""
        found: list[MoreSources] = []
        for blob, fetch in self.flying.items():
            room = SOURCES_MAX - len(fetch.peers)
            willing = self._willing(blob, fetch.spaces, sharing, now) if room else []
            more = [peer for peer in willing if peer not in fetch.peers][:room]
            if more:
                self.flying[blob] = replace(fetch, peers=(*fetch.peers, *more))
                found.append(MoreSources(blob, _sources(more, fetch.spaces, sharing)))
        return found

    def _has_room(
        self, blob: BlobId, author: AuthorId, held: int, sharers: int
    ) -> bool:
        """Tell whether one more blob may be in flight, and this one of `author` be it."""
        flying = self.flying.values()
        if len(flying) < FETCHES_LEAST and held * sharers < FETCHES_LEAST:
            return True
        if not held:
            return len(flying) < FETCHES_MAX  # nobody waits for another's large blobs
        urgent = blob in self._urgent
        places = FETCHES_MAX if urgent else FETCHES_MAX - FETCHES_URGENT
        if len(flying) >= places or held * sharers >= places:
            return False
        # What somebody waits for does not stand behind what nobody does.
        beside = [f for f in flying if f.urgent or not urgent]
        own = sum(f.size for f in beside if f.author == author)
        total = sum(f.size for f in beside)
        return total < FETCHES_BYTES or own * sharers < FETCHES_BYTES

    def _willing(
        self, blob: BlobId, spaces: AbstractSet[SpaceId], sharing: Sharing, now: float
    ) -> list[bytes]:
        """Return the peers that may have the blob and may be asked for it, sorted."""
        return sorted(
            peer
            for peer, shared in sharing.items()
            if spaces & shared and self._refused.get((peer, blob), now) <= now
        )

    # --- how it ended -------------------------------------------------------------------

    def stored(self, blob: BlobId) -> None:
        """Note that a blob is here; look again if that may show what else there is."""
        fetch = self.flying.pop(blob, None)
        idle = not self._queues and not self.flying
        if idle or (fetch is not None and fetch.urgent):
            self.look()

    def failed(self, blob: BlobId, now: float) -> None:
        """Note that a fetch ended without its blob."""
        fetch = self.flying.pop(blob, None)
        for peer in fetch.peers if fetch is not None else ():
            self._leave_alone(peer, blob, now + FETCH_RETRY_S)

    def source_failed(
        self, peer: bytes, blob: BlobId, *, lied: bool, now: float
    ) -> bool:
        """Note that a peer did not bring a blob; tell whether it lied once too often."""
        self._leave_alone(peer, blob, now + (LIED_S if lied else FETCH_RETRY_S))
        if not lied:
            return False
        lies = self._lies.setdefault(peer, set())
        lies.add(blob)
        if len(lies) < LIES_MAX:
            return False
        del self._lies[peer]
        return True

    def forget(self, peers: AbstractSet[bytes], now: float) -> None:
        """Forget what is over, and the lies of all but `peers`."""
        self._refused = {key: t for key, t in self._refused.items() if t > now}
        self._lies = {p: lies for p, lies in self._lies.items() if p in peers}

    def _leave_alone(self, peer: bytes, blob: BlobId, until: float) -> None:
        self._refused[peer, blob] = max(until, self._refused.get((peer, blob), until))


def _sources(
    peers: Iterable[bytes], spaces: AbstractSet[SpaceId], sharing: Sharing
) -> tuple[Source, ...]:
    return tuple(Source(peer, min(spaces & sharing[peer])) for peer in peers)
