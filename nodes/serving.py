"""What members may fetch from this node, and how it goes out.

Owns who may have which blob, the slots and limits of uploads, and reading ahead. Does not
own the connection (`server`), nor the disk (`store`).
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
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
from crdtmerge.sync.transfer import Wanted, announce

from .traffic import RATE_LEAST, Traffic

AHEAD: Final = 2
"""Chunks that are read at a time, while as many are sent."""
READERS: Final = 4

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
        if not self._slots.take(peer):
            self._traffic.refused += 1
            raise OverloadedError("no room for one more fetch now")
        try:
            async with aclosing(self._reply(peer, space, blob, wanted)) as messages:
                async for message in messages:
                    self._traffic.wire_out += len(message)
                    wait = self._pace.take(peer, len(message), self._clock())
                    if wait:
                        await asyncio.sleep(wait)
                    yield message
        except (ContentMissingError, CorruptBlobError) as e:
            if isinstance(e, CorruptBlobError):
                _log.warning("a damaged blob is not served: %s", e)
            raise NotFoundError("no such blob here yet") from e
        finally:
            self._slots.give_back(peer)

    async def _reply(
        self, peer: bytes, space: SpaceId, blob: BlobId, wanted: Wanted
    ) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        source = await loop.run_in_executor(
            self._readers, self._open, peer, space, blob
        )
        reading: asyncio.Future[list[bytes]] | None = None
        try:
            listed = wanted.chunk_list
            for message in announce(source.size, source.chunks, want_chunk_list=listed):
                yield message
            runs = clipped(wanted.runs, len(source.chunks))
            indexes = (index for run in runs for index in range(run.first, run.end))
            reading = self._read(source, indexes)
            # SUBTLE: shielded, for a read that goes on must not find its file closed.
            while chunks := await asyncio.shield(reading):
                # The next are read while these are sent.
                reading = self._read(source, indexes)
                for chunk in chunks:
                    self._traffic.chunks_out += 1
                    self._traffic.bytes_out += len(chunk)
                    yield chunk
        finally:
            if reading is not None:
                await asyncio.wait({reading})
                reading.exception()  # seen: the first error is what counts
            source.close()

    def _read(
        self, source: OpenBlob, indexes: Iterator[int]
    ) -> "asyncio.Future[list[bytes]]":
        """Read the next few chunks, none at the end."""
        batch = list(islice(indexes, AHEAD))
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(
            self._readers, lambda: [source.read(index) for index in batch]
        )


def _slots(rate: float) -> int:
    """Return how many uploads are worth while: each must get on in time."""
    return min(UPLOADS_MAX, max(1, int(rate / RATE_LEAST))) if rate else UPLOADS_MAX
