"""A download in virtual time, from sources that keep to the protocol or do not.

Owns the clock, the bytes, and the count of what was sent. The caller of `Swarm` that nodes
have is `nodes.fetching`; this one has no threads and no disk.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.digest import CHUNK_BYTES, blob_id, chunk_digest, chunk_digests
from crdtmerge.sync.runs import clipped
from crdtmerge.sync.sources import Fate
from crdtmerge.sync.swarm import Ask, Drop, Failed, Step, Swarm
from crdtmerge.sync.transfer import Wanted, announce

COUNT: Final = 24
DATA: Final = b"".join(
    n.to_bytes(2, "big") * (CHUNK_BYTES // 2) for n in range(COUNT - 1)
) + bytes(1234)
DIGESTS: Final = chunk_digests(DATA)
BLOB: Final = blob_id(len(DATA), DIGESTS)
POLL_S: Final = 0.25
LATENCY_S: Final = 0.01

Event = tuple[float, bytes | Fate]
"""After so many seconds a message comes, or the stream ends so."""


def chunk(index: int) -> bytes:
    """Return the true bytes of a chunk."""
    return DATA[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]


@dataclass
class Peer:
    """An honest source: `pace` seconds a chunk; away from `leaves` to `returns`."""

    pace: float = 0.01
    leaves: float = float("inf")
    returns: float = float("inf")
    asked: list[Wanted] = field(default_factory=list)

    honest = True

    def serve(self, wanted: Wanted) -> Iterator[Event]:
        """Yield what comes on one stream."""
        head = announce(len(DATA), DIGESTS, want_chunk_list=wanted.chunk_list)
        for message in head:
            yield LATENCY_S, message
        for run in clipped(wanted.runs, COUNT):
            for index in range(run.first, run.end):
                yield self.pace, chunk(index)
        yield 0.0, Fate.WELL

    def away(self, now: float) -> bool:
        """Tell whether it is unreachable."""
        return self.leaves <= now < self.returns


@dataclass
class Lacking(Peer):
    """An honest one that does not have the blob, or has no room, or is not there."""

    fate: Fate = Fate.LACKS

    def serve(self, _: Wanted) -> Iterator[Event]:
        """Yield the end."""
        yield LATENCY_S, self.fate


@dataclass
class Hostile(Peer):
    """One that does `what`, from the message `after` of each stream on."""

    what: str = "silent"
    after: int = 0

    honest = False

    def serve(self, wanted: Wanted) -> Iterator[Event]:
        """Yield what comes, true up to a point."""
        for number, (delay, what) in enumerate(super().serve(wanted)):
            if number < self.after:
                yield delay, what
            elif isinstance(what, Fate):
                # A lie beyond the end: one message more.
                yield from ((delay, b"more"),) if self.what == "many" else ()
                yield delay, what
            else:
                yield from self._lie(delay, what)

    def _lie(self, delay: float, message: bytes) -> Iterator[Event]:
        match self.what:
            case "silent":
                yield float("inf"), Fate.GONE
            case "wrong":
                yield delay, message[:-1] + bytes([message[-1] ^ 1])
            case "long":
                yield delay, message + b"x"
            case "short":
                yield delay, message[:-1]
            case "empty":
                yield delay, b""
            case "few":
                yield delay, Fate.WELL
            case "many":
                yield delay, message
            case _:
                yield delay, Fate.GONE


LIES: Final = ("silent", "wrong", "long", "short", "empty", "few", "many", "cut")


@dataclass
class Download:
    """A swarm at work; `held` are the chunks that were here before."""

    peers: list[Peer]
    held: set[int] = field(default_factory=set)
    size: int = len(DATA)
    now: float = 0.0
    taken: int = 0
    """Chunks that came on streams that were open."""
    asked: int = 0
    failures: list[Failed] = field(default_factory=list)
    stored: dict[int, bytes] = field(default_factory=dict)
    _events: list[tuple[float, int, int, bytes | Fate]] = field(default_factory=list)
    _streams: dict[int, tuple[Peer, Iterator[Event]]] = field(default_factory=dict)
    _order: int = 0

    def __post_init__(self) -> None:
        """Make the swarm."""
        self.swarm = Swarm(BLOB, self.size, fresh=not self.held)
        self.stored = {index: chunk(index) for index in self.held}
        for number in range(len(self.peers)):
            self.swarm.add(bytes([number]))

    def run(self, until: float = 1e6) -> "Download":
        """Download until it is done or hopeless, or that time has come."""
        poll = self.now
        self._perform(self.swarm.step(self.now))
        while not self.swarm.done and not self.swarm.hopeless and self.now < until:
            poll = poll + POLL_S if poll <= self.now else poll
            if self._events and self._events[0][0] <= poll:
                self.now, _, number, what = heapq.heappop(self._events)
                self._happen(number, what)
            else:
                self.now = poll
            self._perform(self.swarm.step(self.now))
        return self

    @property
    def data(self) -> bytes:
        """What is here, in order."""
        return b"".join(self.stored[index] for index in sorted(self.stored))

    def accused(self) -> set[int]:
        """Return which peers were found to lie."""
        return {f.source[0] for f in self.failures if f.fate is Fate.LIED}

    def _perform(self, steps: list[Step]) -> None:
        for step in steps:
            match step:
                case Ask(number, source, wanted):
                    peer = self.peers[source[0]]
                    peer.asked.append(wanted)
                    self.asked += sum(r.count for r in clipped(wanted.runs, COUNT))
                    self._streams[number] = peer, peer.serve(wanted)
                    self.swarm.opened(number, self.now)
                    self._go_on(number)
                case Drop(number):
                    self._streams.pop(number, None)
                case Failed():
                    self.failures.append(step)

    def _go_on(self, number: int) -> None:
        """Let the next thing happen on a stream, as soon as the last one is dealt with."""
        if number in self._streams:
            peer, events = self._streams[number]
            after, what = next(events, (float("inf"), Fate.GONE))
            when = self.now + after
            if peer.away(self.now) or self.now < peer.leaves < when < float("inf"):
                when, what = max(self.now, min(when, peer.leaves)), Fate.GONE
            self._order += 1
            heapq.heappush(self._events, (when, self._order, number, what))

    def _happen(self, number: int, what: bytes | Fate) -> None:
        if number not in self._streams:
            return
        if isinstance(what, Fate):
            del self._streams[number]
            self.swarm.ended(number, what, "told so", self.now)
            return
        piece = self.swarm.message(number, what, self.now)
        if self.swarm.chunks is not None and self.swarm.left is None:
            self.swarm.begin(set(range(len(self.swarm.chunks))) - self.held)
        if piece is not None:
            self.taken += 1
            assert self.swarm.chunks is not None
            if chunk_digest(piece.data) == self.swarm.chunks[piece.index]:
                self.stored[piece.index] = piece.data
                self.swarm.stored(number, piece.index, self.now)
            else:
                self.swarm.bad(number, "other bytes", self.now)
        self._go_on(number)
