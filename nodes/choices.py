"""Which blob is fetched next, and from whom: pure choices over what is wanted and known.

Owns the blobs in flight, their order, and whom not to ask for a while. Does not own how a
blob comes (`crdtmerge.sync.swarm`), nor sessions, clocks or the generator (`node`).
"""

import random
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.sync.swarm import SOURCES_MAX

from .effects import Fetch, MoreSources, Source

FETCHES_LEAST: Final = 4
"""Blobs in flight at once, however large they are."""
FETCHES_MAX: Final = 64
"""Blobs in flight at once, however small they are."""
FETCHES_URGENT: Final = 16
"""Places among these for manifests and what somebody waits for, and for nothing else."""
FETCHES_BYTES: Final = 64 << 20
"""Bytes of the blobs in flight above which no further one begins."""
FETCH_RETRY_S: Final = 2.0
"""How long we do not ask a peer again for a blob that it did not have."""
LIED_S: Final = 600.0
"""How long we do not ask a peer again for a blob of which it sent other bytes."""
LIES_MAX: Final = 4
"""Blobs of which a peer may send other bytes, as a bad disk makes it do, before it is
taken for a liar."""


class Contents(Protocol):
    """What is asked of the spaces of a home."""

    def all(self) -> list[SpaceId]:
        """Return the ids of the spaces."""
        ...

    def wanted(self, space: SpaceId) -> dict[BlobId, int]:
        """Return blobs that visible contributions need and we lack, with sizes."""
        ...

    def manifests(self, space: SpaceId) -> frozenset[BlobId]:
        """Return the blobs that are named as manifests of visible contributions."""
        ...


@dataclass(frozen=True, slots=True)
class InFlight:
    """A blob that is being fetched."""

    size: int
    spaces: frozenset[SpaceId]
    peers: tuple[bytes, ...]
    urgent: bool


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
    _wanted: deque[tuple[BlobId, dict[SpaceId, int]]] = field(default_factory=deque)
    _tried: dict[BlobId, float] = field(default_factory=dict)
    _refused: dict[tuple[bytes, BlobId], float] = field(default_factory=dict)
    _lies: dict[bytes, set[BlobId]] = field(default_factory=dict)

    # --- what is wanted -----------------------------------------------------------------

    def look(self) -> None:
        """List what visible contributions need and no fetch is bringing.

        Manifests come first, for they say what else there is; then what somebody waits
        for. Of equals, what was tried longest ago: blobs that nobody has, however many
        an author names, take their turn and no more.
        """
        found: dict[BlobId, dict[SpaceId, int]] = {}
        manifests: set[BlobId] = set()
        for space in self.contents.all():
            wanted = self.contents.wanted(space)
            if wanted:
                manifests |= self.contents.manifests(space)
            for blob, size in wanted.items():
                if blob not in self.flying:
                    found.setdefault(blob, {})[space] = size
        kept = found.keys() | self.flying.keys()
        self._tried = {b: tried for b, tried in self._tried.items() if b in kept}
        self._urgent = frozenset((manifests | self.needed) & kept)

        def order(blob: BlobId) -> tuple[bool, bool, float, BlobId]:
            tried = self._tried.get(blob, -1.0)
            return blob not in manifests, blob not in self.needed, tried, blob

        self._wanted = deque((blob, found[blob]) for blob in sorted(found, key=order))

    def next(self, sharing: Sharing, now: float) -> list[Fetch]:
        """Return the fetches that begin now; what nobody has waits for the next look."""
        begun: list[Fetch] = []
        load = Counter(fetch.peers[0] for fetch in self.flying.values())
        while self._wanted and sharing and self._has_room(self._wanted[0][0]):
            blob, places = self._wanted.popleft()
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
            self.flying[blob] = InFlight(size, spaces, chosen, urgent)
            self._tried[blob] = now
            begun.append(Fetch(blob, size, _sources(chosen, spaces, sharing)))
        return begun

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

    def _has_room(self, blob: BlobId) -> bool:
        """Tell whether one more blob may be in flight, and this one be it."""
        if len(self.flying) < FETCHES_LEAST:
            return True
        urgent = blob in self._urgent
        places = FETCHES_MAX if urgent else FETCHES_MAX - FETCHES_URGENT
        # What somebody waits for does not stand behind what nobody does.
        beside = (f.size for f in self.flying.values() if f.urgent or not urgent)
        return len(self.flying) < places and sum(beside) < FETCHES_BYTES

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
        idle = not self._wanted and not self.flying
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
