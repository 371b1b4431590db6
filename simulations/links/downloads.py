"""One blob on its way to a simulated machine: the real swarm, over simulated links.

Owns what `nodes.receiving` owns in a real process: streams, stored chunks, and their end;
and the faults of single streams. Does not own who is asked for what
(`crdtmerge.sync.swarm`), nor delays (`network`).
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import CHUNK_BYTES, BlobId, chunk_digest, chunk_digests
from crdtmerge.errors import CrdtMergeError
from crdtmerge.sync.runs import clipped
from crdtmerge.sync.sources import Fate
from crdtmerge.sync.swarm import Ask, Drop, Failed, Swarm
from crdtmerge.sync.transfer import Wanted, announce
from nodes.effects import BlobFailed, BlobStored, Fetch, Input, Source, SourceFailed
from simulations.clock import Clock
from simulations.disks.storage import Blobs

from .network import Network

POLL_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Reply:
    """What comes on one stream, message by message, while its sender is `reached`.

    Nothing comes while it `stands`, and nobody is told. `travel` says how long so many
    bytes take.
    """

    reached: Callable[[], bool]
    stands: Callable[[], bool]
    has: Callable[[], bool]
    travel: Callable[[int], float]
    blobs: Blobs
    network: Network
    wanted: Wanted

    def delay(self, size: int) -> float:
        """Return how long a message of `size` bytes takes."""
        return self.travel(size)

    def messages(self, blob: BlobId) -> Iterator[bytes]:
        """Yield the messages of the reply."""
        data = self.blobs.get(blob)
        digests = chunk_digests(data)
        yield from announce(len(data), digests, want_chunk_list=self.wanted.chunk_list)
        for run in clipped(self.wanted.runs, len(digests)):
            for index in range(run.first, run.end):
                yield data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]


Serve = Callable[[bytes, SpaceId, BlobId, Wanted], Reply]


@dataclass(slots=True, eq=False)
class Download:
    """A download that is under way on one machine."""

    fetch: Fetch
    blobs: Blobs
    clock: Clock
    serve: Serve
    submit: Callable[[Input], None]
    powered: Callable[[], AbstractContextManager[None]]
    now: Callable[[], float]
    """The clock of the machine, in seconds."""
    still: Callable[[], bool]
    """Tells whether the process stands still."""
    corrupted: Callable[[bytes], None]
    """Told whose bytes were changed on their way."""
    note: Callable[[str], None]
    """Called with what happens that the process is not told of."""
    swarm: Swarm = field(init=False)
    _spaces: dict[bytes, SpaceId] = field(default_factory=dict)
    _streams: set[int] = field(default_factory=set)
    _chunks: dict[int, bytes] = field(default_factory=dict)
    _spoiled: dict[int, random.Random] = field(default_factory=dict)
    """Streams of which the next chunk comes with other bytes, drawn from these."""
    _lives: Callable[[], bool] = field(init=False)
    _over: bool = False

    def __post_init__(self) -> None:
        """Begin with nothing: a machine in memory keeps no part of a blob."""
        self.swarm = Swarm(self.fetch.blob, self.fetch.size)
        self.add(self.fetch.sources)

    def add(self, sources: Sequence[Source]) -> None:
        """Use further sources."""
        for source in sources:
            self._spaces.setdefault(source.peer, source.space)
            self.swarm.add(source.peer)

    def start(self, lives: Callable[[], bool]) -> None:
        """Go on for as long as the process `lives`."""
        self._lives = lives
        self.clock.after(0.0, self._go_on)

    def _go_on(self) -> None:
        """Do what the swarm says, and look again after a while."""
        if self._lives() and not self._over:
            if not self.still():
                self._perform()
            self.clock.after(POLL_S, self._go_on)

    def _perform(self) -> None:
        for step in self.swarm.step(self.now()):
            match step:
                case Ask():
                    self._open(step)
                case Drop(number):
                    self._streams.discard(number)
                case Failed(source, fate):
                    blob, lied = self.fetch.blob, fate is Fate.LIED
                    self.submit(SourceFailed(source, blob, lied))
        if not self._over and (self.swarm.done or self.swarm.hopeless):
            self._over = True
            self._end()

    def _end(self) -> None:
        blob = self.fetch.blob
        if self.swarm.done:
            data = b"".join(self._chunks[n] for n in sorted(self._chunks))
            with self.powered():
                self.blobs.receive(blob, data)
                self.submit(BlobStored(blob))
        else:
            self.submit(BlobFailed(blob))

    # --- streams ------------------------------------------------------------------------

    def _open(self, ask: Ask) -> None:
        reply = self.serve(
            ask.source, self._spaces[ask.source], self.fetch.blob, ask.wanted
        )
        self._streams.add(ask.number)
        self.swarm.opened(ask.number, self.now())

        def answered() -> None:
            if not reply.reached() or reply.network.refuses(ask.source):
                self._close(ask.number, Fate.GONE)
            elif not reply.has():
                self._close(ask.number, Fate.LACKS)
            else:
                self._begin(ask, reply)

        self._later(ask.number, reply, reply.travel(0), answered)

    def _later(
        self, number: int, reply: Reply, seconds: float, action: Callable[[], None]
    ) -> None:
        """Go on with a stream, once nothing stands that it needs."""

        def happen() -> None:
            if not self._lives() or self._over or number not in self._streams:
                return
            if self.still() or (reply.reached() and reply.stands()):
                self.clock.after(POLL_S, happen)
            else:
                action()

        self.clock.after(seconds, happen)

    def _begin(self, ask: Ask, reply: Reply) -> None:
        """Read a reply, to its end or to where a fault strikes."""
        dice = reply.network.dice
        try:
            messages = deque(reply.messages(self.fetch.blob))
        except CrdtMergeError:  # the sender's copy is damaged, or its disk failed
            self._close(ask.number, Fate.GONE)
            return
        for fault in ("cut_stream", "stalled_stream"):
            if dice.arms(fault, ask.source) and messages:
                kept = dice.how(fault).randrange(len(messages))
                self._read(ask, reply, deque(list(messages)[:kept]), fault)
                return
        if dice.arms("bad_chunk", ask.source):
            self._spoiled[ask.number] = dice.how("bad_chunk")
        self._read(ask, reply, messages)

    def _read(
        self, ask: Ask, reply: Reply, messages: deque[bytes], fault: str = ""
    ) -> None:
        """Take the next message once it has arrived; a `fault` strikes after the last."""
        if not messages:
            if fault:
                reply.network.dice.struck[fault] += 1
            if fault != "stalled_stream":
                self._close(ask.number, Fate.GONE if fault else Fate.WELL)
            return
        message = messages.popleft()

        def arrived() -> None:
            if not reply.reached():
                self._close(ask.number, Fate.GONE)
                return
            self._take(ask, message, reply.network)
            self._perform()
            self._read(ask, reply, messages, fault)

        self._later(ask.number, reply, reply.delay(len(message)), arrived)

    def _take(self, ask: Ask, message: bytes, network: Network) -> None:
        swarm, number, now = self.swarm, ask.number, self.now()
        self.note(f"{len(message)} bytes on stream {number}")
        network.traffic.blob_bytes += len(message)
        piece = swarm.message(number, message, now)
        if swarm.chunks is not None and swarm.left is None:
            swarm.begin(range(len(swarm.chunks)))
        if piece is None:
            return
        assert swarm.chunks is not None
        data = piece.data
        if number in self._spoiled:
            data = self._spoil(ask, data, network)
        if chunk_digest(data) == swarm.chunks[piece.index]:
            self._chunks[piece.index] = data
            swarm.stored(number, piece.index, now)
        else:
            swarm.bad(number, "other bytes", now)

    def _spoil(self, ask: Ask, data: bytes, network: Network) -> bytes:
        """Return a chunk with one byte changed."""
        rng = self._spoiled.pop(ask.number)
        self.corrupted(ask.source)
        network.dice.struck["bad_chunk"] += 1
        spoiled = bytearray(data)
        spoiled[rng.randrange(len(spoiled))] ^= rng.randint(1, 255)
        return bytes(spoiled)

    def _close(self, number: int, fate: Fate) -> None:
        if self._lives() and not self._over and number in self._streams:
            self._streams.discard(number)
            self.note(f"stream {number} {fate.name}")
            self.swarm.ended(number, fate, "", self.now())
            self._perform()
