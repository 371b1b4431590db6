"""What members may fetch from this node, and how it goes out.

Owns who may have which blob, the slots and limits of uploads, and reading ahead. Does not
own the connection (`server`), nor the disk (`store`).
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final, Protocol

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.errors import (
    ContentMissingError,
    CorruptBlobError,
    NotFoundError,
    OverloadedError,
)
from crdtmerge.sync.pace import UPLOADS_MAX, Pace, Slots
from crdtmerge.sync.runs import clipped
from crdtmerge.sync.thrift import Gain, Link, Links
from crdtmerge.sync.transfer import Wanted, announce

from .coding import Encoder
from .quotas import Buckets
from .traffic import RATE_LEAST, Traffic

AHEAD: Final = 2
"""Chunks that are read at a time, while as many are sent."""
READERS: Final = 4
ASKED_A_SECOND: Final = 256.0
ASKED_BURST_S: Final = 16.0
"""Fetches of one peer that are looked at in a second, and of how many seconds at once: each
costs us, also for what we do not have. More of them wait; a model has hundreds of blobs."""

_log: Final = logging.getLogger(__name__)


class OpenBlob(Protocol):
    """A blob that can be read from."""

    @property
    def size(self) -> int:
        """How many bytes it has."""
        ...

    @property
    def chunks(self) -> Sequence[bytes]:
        """Its verified chunk list."""
        ...

    def read(self, index: int) -> bytes:
        """Return a chunk."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk as it is sent; how long it took to encode it, 0 if nobody tried."""

    length: int
    message: bytes
    seconds: float = 0.0


class Serving:
    """The uploads of one node."""

    def __init__(
        self,
        open_blob: Callable[[bytes, SpaceId, BlobId], OpenBlob],
        traffic: Traffic,
        pace: Pace,
        clock: Callable[[], float],
    ) -> None:
        """Serve what `open_blob` gives out for a peer, a space and a blob.

        It raises `NotFoundError` for what the peer may not have, and may be called in any
        thread. `clock` gives seconds that only grow.
        """
        self._open = open_blob
        self._traffic = traffic
        self._pace = pace
        self._clock = clock
        self._readers = ThreadPoolExecutor(READERS, "reading")
        self._slots = Slots(most=_slots(pace.total))
        self._asked = Buckets(ASKED_A_SECOND, ASKED_BURST_S)
        self._links = Links()
        self.encoder: Callable[[SpaceId, BlobId, Wanted], Encoder | None] | None = None
        """Finds how chunks may be encoded for a request; any thread may call it."""

    def close(self) -> None:
        """Wait for the readers; nothing may be served afterwards."""
        self._readers.shutdown(wait=True)

    async def serve(
        self, peer: bytes, space: SpaceId, blob: BlobId, wanted: Wanted
    ) -> AsyncGenerator[bytes, None]:
        """Yield the reply to a member's request for bytes of a blob.

        Raises:
            NotFoundError: we do not have it, the peer is no member there, or nothing
                there needs it. Which of these is not told.
            OverloadedError: all slots are taken, or this peer holds its share.
        """
        asked, now = self._asked.of(peer), self._clock()
        asked.take(1, now)
        if wait := asked.wait(now):
            await asyncio.sleep(wait)
        if not self._slots.take(peer):
            self._traffic.refused += 1
            raise OverloadedError("no room for one more fetch now")
        try:
            link = self._links.to(peer)
            replies = self._reply(peer, space, blob, wanted, link)
            async with aclosing(replies) as messages:
                async for message in messages:
                    self._traffic.wire_out += len(message)
                    began = self._clock()
                    wait = self._pace.take(peer, len(message), began)
                    if wait:
                        await asyncio.sleep(wait)
                    yield message
                    link.drained(len(message), self._clock() - began)
        except (ContentMissingError, CorruptBlobError) as e:
            if isinstance(e, CorruptBlobError):
                _log.warning("a damaged blob is not served: %s", e)
            raise NotFoundError("no such blob here yet") from e
        finally:
            self._slots.give_back(peer)

    async def _opened(self, peer: bytes, space: SpaceId, blob: BlobId) -> OpenBlob:
        """Return the open blob; whoever goes away meanwhile leaves none open behind."""
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(self._readers, self._open, peer, space, blob)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait({opening})
            if not opening.exception():
                opening.result().close()
            raise

    async def _reply(
        self, peer: bytes, space: SpaceId, blob: BlobId, wanted: Wanted, link: Link
    ) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        source = await self._opened(peer, space, blob)
        reading: asyncio.Future[list[_Chunk]] | None = None
        try:
            listed = wanted.chunk_list
            for message in announce(source.size, source.chunks, want_chunk_list=listed):
                yield message
            runs = clipped(wanted.runs, len(source.chunks))
            indexes = (index for run in runs for index in range(run.first, run.end))
            gain, encoder = Gain(), None
            if wanted.encodings and self.encoder is not None:
                find = partial(self.encoder, space, blob, wanted)
                encoder = await loop.run_in_executor(self._readers, find)
            reading = self._read(source, indexes, encoder, gain.pays(link))
            # SUBTLE: shielded, for a read that goes on must not find its file closed.
            while chunks := await asyncio.shield(reading):
                for chunk in chunks:
                    if chunk.seconds:
                        gain.encoded(chunk.length, len(chunk.message))
                        link.encoded(chunk.length, chunk.seconds)
                # The next are read while these are sent.
                reading = self._read(source, indexes, encoder, gain.pays(link))
                for chunk in chunks:
                    self._traffic.chunks_out += 1
                    self._traffic.bytes_out += chunk.length
                    yield chunk.message
        finally:
            if reading is not None:
                await asyncio.wait({reading})
                reading.exception()  # seen: the first error is what counts
            source.close()

    def _read(
        self,
        source: OpenBlob,
        indexes: Iterator[int],
        encoder: Encoder | None,
        pays: bool,
    ) -> "asyncio.Future[list[_Chunk]]":
        """Read the next few chunks, none at the end, and encode them if that `pays`."""
        batch = list(islice(indexes, AHEAD))
        loop = asyncio.get_running_loop()

        def read(index: int) -> _Chunk:
            raw = source.read(index)
            if encoder is None or not pays:
                return _Chunk(len(raw), raw)
            began = self._clock()
            message = encoder.encoded(index, raw)
            return _Chunk(len(raw), message, max(self._clock() - began, 1e-6))

        return loop.run_in_executor(self._readers, lambda: list(map(read, batch)))


def _slots(rate: float) -> int:
    """Return how many uploads are worth while: each must get on in time."""
    return min(UPLOADS_MAX, max(1, int(rate / RATE_LEAST))) if rate else UPLOADS_MAX
