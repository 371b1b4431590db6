"""One blob on its way here, from several sources: streams in, verified chunks out.

Owns the tasks and threads of one download, and their end. Does not own who is asked for
what (`crdtmerge.sync.swarm`), which blob is fetched (`choices`), nor the disk (`store`).

The event loop reads streams; threads verify and store. The next chunk of a stream is read
while the last one is being stored.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, TypeVar

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.errors import (
    CorruptBlobError,
    CrdtMergeError,
    MalformedChunkError,
    MalformedMessageError,
    NotFoundError,
    OverloadedError,
    RemoteError,
)
from crdtmerge.sync.pace import Pace
from crdtmerge.sync.sources import Fate
from crdtmerge.sync.swarm import Ask, Drop, Failed, Swarm
from crdtmerge.sync.transfer import Piece, Wanted

from .coding import ACCEPTED, BYTES_MIN, OwnBaseError, decoded
from .effects import Fetch, Source
from .traffic import Traffic
from .twins import Twin

T = TypeVar("T")

POLL_S: Final = 0.25
"""How often a download looks at the time: for silence, and for sources to ask again."""
STORING_MAX: Final = 1
"""Chunks of one stream that are being stored while its next one is read: if this process is
killed, it has taken no more than both in vain."""
STORED_AT_ONCE_MAX: Final = 32
"""Chunks of all downloads that may."""
STREAMS_OF_PEER_MAX: Final = 8
"""Streams that we have open with one peer, of all downloads."""
STORERS: Final = 4

_log: Final = logging.getLogger(__name__)


class Arriving(Protocol):
    """Where the chunks of a blob go; any thread may call."""

    def require_room(self, blob: BlobId, size: int) -> None:
        """Check that so many bytes fit, before any is asked for."""
        ...

    def resumable(self, blob: BlobId) -> tuple[int, Sequence[bytes]] | None:
        """Return the size and the chunk list of an earlier download, if kept."""
        ...

    def has_part(self, blob: BlobId) -> bool:
        """Tell whether anything lies here of a download, known or not."""
        ...

    def begin(self, blob: BlobId, size: int, chunks: Sequence[bytes]) -> int:
        """Start or resume a download."""
        ...

    def missing_chunks(self, blob: BlobId) -> Sequence[int]:
        """Return which chunks to ask for, in order."""
        ...

    def add_chunk(self, blob: BlobId, index: int, data: bytes) -> bool:
        """Verify a chunk and keep it; tell whether it is time to `vouch`.

        Raises:
            CorruptBlobError: it is not the one.
        """
        ...

    def vouch(self, blob: BlobId) -> None:
        """Sync what was kept, and remember it; chunks may come meanwhile."""
        ...

    def read_chunk(self, blob: BlobId, index: int) -> bytes:
        """Return a verified chunk of a blob that is here."""
        ...

    def finish(self, blob: BlobId) -> None:
        """Make a whole download durable."""
        ...


Open = Callable[[bytes, SpaceId, BlobId, Wanted], AsyncGenerator[bytes, None]]
"""Opens a stream with a peer, and yields the messages of its reply."""


class Inspection(Protocol):
    """Looks at what comes; any thread may call."""

    def arrived(self, blob: BlobId, index: int, data: bytes) -> bool:
        """Look at a verified chunk; tell whether anybody needs its blob from now on."""
        ...

    def completed(self, blob: BlobId) -> None:
        """Look at a blob that is here now."""
        ...


class UnneededError(CrdtMergeError):
    """What a blob belongs to was taken out of the merge while it came."""


@dataclass(slots=True)
class Works:
    """What all downloads of a node share."""

    store: Arriving
    open: Open
    traffic: Traffic
    pace: Pace
    clock: Callable[[], float]
    inspection: Inspection | None = None
    twin: Callable[[SpaceId, BlobId], Twin | None] | None = None
    """Finds what a tensor may be encoded against; without it chunks travel as they are."""
    storers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(STORERS, "storing")
    )
    storing: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(STORED_AT_ONCE_MAX)
    )
    _streams: dict[bytes, asyncio.Semaphore] = field(default_factory=dict)

    def stream_of(self, peer: bytes) -> asyncio.Semaphore:
        """Return what a stream with `peer` takes first."""
        return self._streams.setdefault(peer, asyncio.Semaphore(STREAMS_OF_PEER_MAX))

    def close(self) -> None:
        """Wait for the threads."""
        self.storers.shutdown(wait=True)


@dataclass(slots=True)
class Receiving:
    """One download; `failed` is told of each source that fails in it."""

    fetch: Fetch
    works: Works
    failed: Callable[[Failed], None]
    brought: int = 0
    """Bytes that came and were stored."""
    swarm: Swarm = field(init=False)
    _spaces: dict[bytes, SpaceId] = field(default_factory=dict)
    _streams: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    _ending: set[asyncio.Task[None]] = field(default_factory=set)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _began: bool = False
    _under_way: int = 0
    _error: BaseException | None = None

    def __post_init__(self) -> None:
        """Know the sources; nothing is asked before `run`."""
        self.swarm = Swarm(self.fetch.blob, self.fetch.size)
        self.add(self.fetch.sources)

    async def run(self, over: Callable[[int], bool]) -> bool:
        """Bring the blob here; tell whether it is.

        It is not when no source is left, or `over` says of the bytes so far that it is
        another's turn. What came is kept.

        Raises:
            NoRoomError: it does not fit; nothing was asked for.
            UnneededError: nothing needs it any more.
            MachineError: the disk refused.
        """
        await self._prepare()
        try:
            while not self._at_end() and not over(self.brought):
                self._perform()
                await self._next()
        finally:
            await self._stop()
        if self._error is not None:  # of a sync that outlived the last chunk
            raise self._error
        if not self.swarm.done:
            return False
        await self._in_thread(self._finish)
        self.works.traffic.blobs_in += 1
        return True

    def _finish(self) -> None:
        self.works.store.finish(self.fetch.blob)
        if self.works.inspection is not None:
            self.works.inspection.completed(self.fetch.blob)

    def add(self, sources: Sequence[Source]) -> None:
        """Use further sources."""
        for source in sources:
            self._spaces.setdefault(source.peer, source.space)
            self.swarm.add(source.peer)
        self._wake.set()

    @property
    def here(self) -> int:
        """About how many bytes of the blob are here."""
        left = self.swarm.left
        if left is None or self.swarm.chunks is None:
            return 0
        count = len(self.swarm.chunks)
        return self.swarm.size * (count - left) // count if count else 0

    # --- the course -----------------------------------------------------------------------

    async def _prepare(self) -> None:
        """Reserve the room, and take up what an earlier download left."""
        fetch, store = self.fetch, self.works.store
        await self._in_thread(partial(store.require_room, fetch.blob, fetch.size))
        known = await self._in_thread(partial(store.resumable, fetch.blob))
        if fetch.size >= BYTES_MIN and fetch.sources and self.works.twin is not None:
            place = partial(self.works.twin, fetch.sources[0].space, fetch.blob)
            twin = await self._in_thread(place)
            if twin is not None:
                self.swarm.encodings = ACCEPTED
                self.swarm.against = twin.against or b""
        if known is not None and known[0] <= fetch.size:
            self.swarm.size, self.swarm.chunks = known
            await self._begin()
        else:
            # Chunks that are there are not asked for before it is known which.
            part = await self._in_thread(partial(store.has_part, fetch.blob))
            self.swarm.fresh = not part

    async def _begin(self) -> None:
        """Open the store for the chunks, now that their list is known."""
        fetch, store, chunks = self.fetch, self.works.store, self.swarm.chunks
        assert chunks is not None
        self._began = True
        begin = partial(store.begin, fetch.blob, self.swarm.size, chunks)
        await self._in_thread(begin)
        missing = await self._in_thread(partial(store.missing_chunks, fetch.blob))
        self.works.traffic.resumed += 0 < len(missing) < len(chunks)
        self.swarm.begin(missing)

    def _at_end(self) -> bool:
        if self._error is not None:
            raise self._error
        return self.swarm.done or self.swarm.hopeless

    async def _next(self) -> None:
        """Wait until something happened, or it is time to look."""
        timer = asyncio.get_running_loop().call_later(POLL_S, self._wake.set)
        await self._wake.wait()
        timer.cancel()
        self._wake.clear()

    async def _stop(self) -> None:
        """End all streams, and wait for what is being stored: nothing may outlive us."""
        self._carry_out(self.swarm.stop())
        while self._ending:
            await asyncio.wait(self._ending)
        while self._under_way:
            self._wake.clear()
            await self._wake.wait()
        tally, traffic = self.swarm.tally, self.works.traffic
        traffic.stolen += tally.stolen
        traffic.hedged += tally.hedged
        traffic.wasted += tally.wasted
        traffic.stalls += tally.stalls

    def _perform(self) -> None:
        """Do what the swarm says now."""
        self._carry_out(self.swarm.step(self.works.clock()))

    def _carry_out(self, steps: Sequence[Ask | Drop | Failed]) -> None:
        for step in steps:
            match step:
                case Ask():
                    task = asyncio.ensure_future(self._stream(step))
                    self._streams[step.number] = task
                case Drop(number):
                    if number in self._streams:
                        self._end(self._streams.pop(number))
                case Failed():
                    self._count(step)
                    self.failed(step)

    def _end(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _count(self, failure: Failed) -> None:
        traffic = self.works.traffic
        match failure.fate:
            case Fate.LIED:
                traffic.bans += 1
            case Fate.LACKS:
                traffic.lacking += 1
            case _:
                traffic.away += 1
        _log.debug(
            "blob %s from %s: %s (%s)",
            self.fetch.blob.hex()[:12],
            failure.source.hex()[:12],
            failure.reason,
            failure.fate.value,
        )

    # --- one stream -----------------------------------------------------------------------

    async def _stream(self, ask: Ask) -> None:
        """Read one stream to its end, and say how it ended."""
        fate, reason = Fate.WELL, ""
        try:
            async with self.works.stream_of(ask.source):
                self.swarm.opened(ask.number, self.works.clock())
                await self._read(ask)
        except RemoteError as e:
            fate, reason = _fate_of(e), str(e)
        except NotFoundError as e:
            fate, reason = Fate.LACKS, str(e)
        except asyncio.CancelledError:
            raise
        except BaseException as e:  # noqa: BLE001  a bug or a bad disk: the node is told
            self._error = self._error or e
        self.swarm.ended(ask.number, fate, reason, self.works.clock())
        self._streams.pop(ask.number, None)
        self._wake.set()

    async def _read(self, ask: Ask) -> None:
        works, number, peer = self.works, ask.number, ask.source
        waiting = asyncio.Semaphore(STORING_MAX)
        replies = works.open(peer, self._spaces[peer], self.fetch.blob, ask.wanted)
        async with contextlib.aclosing(replies):
            async for message in replies:
                works.traffic.wire_in += len(message)
                piece = self.swarm.message(number, message, works.clock())
                if self.swarm.chunks is not None and not self._began:
                    await self._meanwhile(number, self._begin())
                if piece is not None:
                    await waiting.acquire()
                    await works.storing.acquire()
                    self._store(ask, piece, waiting)
                else:
                    self._wake.set()
                wait = works.pace.take(peer, len(message), works.clock())
                if wait:
                    await self._meanwhile(number, asyncio.sleep(wait))

    async def _meanwhile(self, number: int, work: Awaitable[None]) -> None:
        """Do something before a stream is read on; its silence is ours."""
        self.swarm.waiting(number)
        await work
        self.swarm.opened(number, self.works.clock())

    # --- storing --------------------------------------------------------------------------

    def _store(self, ask: Ask, piece: Piece, waiting: asyncio.Semaphore) -> None:
        """Let a thread verify and keep a chunk."""
        loop = asyncio.get_running_loop()
        self._under_way += 1

        def stored(error: Exception | None) -> None:
            waiting.release()
            self._was_stored(ask.number, piece, error)

        def vouched(error: Exception | None) -> None:
            self._under_way -= 1
            self._error = self._error or error
            self._wake.set()

        def begun() -> None:
            self._under_way += 1

        def work() -> None:
            error: Exception | None = None
            due = False
            try:
                due = self._keep(piece, ask.wanted.against)
            except Exception as e:  # noqa: BLE001  it is raised where all is ended
                error = e
            if due:  # before the chunk counts, so that the end waits for it
                loop.call_soon_threadsafe(begun)
            loop.call_soon_threadsafe(stored, error)
            if due:
                try:
                    self.works.store.vouch(self.fetch.blob)
                except Exception as e:  # noqa: BLE001  as above
                    error = e
                loop.call_soon_threadsafe(vouched, error)

        self.works.storers.submit(work)

    def _keep(self, piece: Piece, against: bytes) -> bool:
        """Decode and verify a chunk, write it, and show it to who looks at what comes.

        Returns whether it is time to sync: the stream need not wait for that.
        It is encoded `against` what its own request named: later ones may name nothing.
        """
        blob, works = self.fetch.blob, self.works
        data = piece.data
        if piece.encoded:
            read = works.store.read_chunk
            data = decoded(data, piece.index, piece.length, against, read)
        due = works.store.add_chunk(blob, piece.index, data)
        if works.inspection is not None:
            needed = works.inspection.arrived(blob, piece.index, data)
            if not needed:
                raise UnneededError("nothing needs this blob any more")
        return due

    def _was_stored(self, number: int, piece: Piece, error: Exception | None) -> None:
        self.works.storing.release()
        self._under_way -= 1
        now, traffic = self.works.clock(), self.works.traffic
        if error is None:
            self.swarm.stored(number, piece.index, now)
            self.brought += piece.length
            traffic.chunks_in += 1
            traffic.bytes_in += piece.length
        elif isinstance(error, CorruptBlobError | MalformedChunkError):
            traffic.bad_chunks += 1
            self.swarm.bad(number, str(error), now)
        elif isinstance(error, OwnBaseError):
            # Nobody lied: the same chunks are asked for as they are.
            _log.warning("a chunk cannot be decoded here: %s", error)
            self.swarm.encodings = self.swarm.against = b""
            self.swarm.withdraw(number)
        else:
            self._error = self._error or error
        self._wake.set()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.works.storers, work)


def _fate_of(error: RemoteError) -> Fate:
    match error:
        case OverloadedError():
            return Fate.BUSY
        case MalformedMessageError() | CorruptBlobError():
            return Fate.LIED
        case _:
            return Fate.GONE
