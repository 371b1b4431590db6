"""Blobs on their way between this node and its peers.

Owns what a member may fetch from us, and one download from begin to end. Does not own which
blob is fetched from whom (`Node`), the parsing of a reply (`crdtmerge.sync.transfer`), nor
the disk (`store`).
"""

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import CHUNK_BYTES, BlobId
from crdtmerge.errors import (
    ContentMissingError,
    CorruptBlobError,
    CrdtMergeError,
    MachineError,
    MalformedMessageError,
    NoRoomError,
    NotFoundError,
    UnreachableError,
)
from crdtmerge.sync.transfer import Incoming, announce

from .client import ReplicaClient
from .effects import BlobFailed, BlobStored, Fetch, Input
from .inspection import Inspection
from .links import Channels, Submit
from .spaces import Spaces
from .store.blobs import FileBlobs

TURN_S: Final = 60.0
TURN_BYTES: Final = 256 << 20
"""A fetch that brought less than this in a turn makes room for others, and goes on later:
nobody holds the few fetches of a node by answering slowly."""
RESTING_MAX: Final = 16
"""Downloads between two turns that stay open; one opened anew is hashed anew."""
NO_CHUNK: Final = 2**62
"""As the first chunk to send: the chunk list alone is asked for."""

_log: Final = logging.getLogger(__name__)


class _TurnOverError(UnreachableError):
    """The blob came slowly, and others wait."""


class _UnneededError(CrdtMergeError):
    """What the blob belongs to was taken out of the merge while it came."""


class Fetching:
    """What this node serves of its blobs, and what it brings here."""

    def __init__(
        self,
        blobs: FileBlobs,
        spaces: Spaces,
        channels: Channels,
        submit: Submit,
        clock: Callable[[], float],
    ) -> None:
        """Use the blobs of a home; `submit` tells the node how a fetch ended.

        `clock` gives seconds that only grow: it says whose turn has been slow.
        """
        self._clock = clock
        self.inspection: Inspection | None = None
        """Looks at all that comes, if somebody does."""
        self._blobs = blobs
        self._spaces = spaces
        self._channels = channels
        self._submit = submit
        self._resting: OrderedDict[BlobId, None] = OrderedDict()
        self.brought = 0
        """Bytes of chunks that came and were stored, since the start."""
        self.failed: Counter[str] = Counter()
        """Fetches that brought no blob, by the kind of error, since the start."""
        self.arriving: dict[BlobId, int] = {}
        """How much is here of each blob that is coming."""

    # --- serving ------------------------------------------------------------------------

    async def serve(
        self,
        peer: bytes,
        space: SpaceId,
        blob: BlobId,
        *,
        want_chunk_list: bool,
        first_chunk: int,
    ) -> AsyncIterator[bytes]:
        """Serve the bytes of a blob to a member of the space that it belongs to.

        Raises:
            NotFoundError: we do not have it, the peer is no member there, or nothing
                there needs it. Which of these is not told.
        """
        if not await asyncio.to_thread(self._may_have, peer, space, blob):
            raise NotFoundError("no such blob")
        try:
            size, chunks = await asyncio.to_thread(self._blobs.chunk_list, blob)
            for message in announce(size, chunks, want_chunk_list=want_chunk_list):
                yield message
            for index in range(first_chunk, len(chunks)):
                yield await asyncio.to_thread(self._blobs.read_chunk, blob, index)
        except (ContentMissingError, CorruptBlobError) as e:
            if isinstance(e, CorruptBlobError):
                _log.warning("a damaged blob is not served: %s", e)
            raise NotFoundError("no such blob here yet") from e

    def _may_have(self, peer: bytes, space: SpaceId, blob: BlobId) -> bool:
        member = space in self._spaces.shared_with(peer)
        return member and self._spaces.serves(space, blob)

    # --- bringing -----------------------------------------------------------------------

    async def bring(self, fetch: Fetch) -> None:
        """Bring one blob here; every chunk is verified before it counts.

        Raises:
            MachineError: the disk failed; that it is full is no failure of the node.
        """
        self._resting.pop(fetch.blob, None)
        ended: Input = BlobFailed(fetch.peer, fetch.blob, lied=False)
        try:
            await asyncio.to_thread(self._blobs.require_room, fetch.blob, fetch.size)
            await self._download(fetch)
            ended = BlobStored(fetch.peer, fetch.blob)
        except (CorruptBlobError, MalformedMessageError) as e:
            self._count(e)
            ended = BlobFailed(fetch.peer, fetch.blob, lied=True)
        except _TurnOverError:
            await self._rest(fetch.blob)
        except NoRoomError as e:
            self._count(e)
            _log.warning("a contribution is not fetched: %s", e)
        except MachineError:
            raise
        except CrdtMergeError as e:
            self._count(e)
            _log.debug("a fetch failed: %s", e)
        finally:
            self.arriving.pop(fetch.blob, None)
            if fetch.blob not in self._resting:
                await asyncio.to_thread(self._blobs.pause, fetch.blob)
        self._submit(lambda: [ended])

    def _count(self, error: CrdtMergeError) -> None:
        self.failed[type(error).__name__] += 1

    async def _rest(self, blob: BlobId) -> None:
        """Keep a download open until its next turn, a few of them."""
        self._resting[blob] = None
        while len(self._resting) > RESTING_MAX:
            oldest, _ = self._resting.popitem(last=False)
            await asyncio.to_thread(self._blobs.pause, oldest)

    async def _download(self, fetch: Fetch) -> None:
        known = await asyncio.to_thread(self._spaces.addresses)
        client = self._channels.to(fetch.peer, known.get(fetch.peer, ()))
        try:
            await self._download_from(client, fetch)
        except _TurnOverError:
            raise
        except UnreachableError:
            await self._channels.failed(fetch.peer, client)
            raise

    async def _download_from(self, client: ReplicaClient, fetch: Fetch) -> None:
        blobs, blob = self._blobs, fetch.blob
        incoming = Incoming(blob, fetch.size)
        one_go = fetch.size <= CHUNK_BYTES
        await self._pump(client, fetch, incoming, first=0 if one_go else NO_CHUNK)
        if incoming.chunks is None:
            raise MalformedMessageError("the reply ended before the chunk list")
        # `incoming.size` is the true one by now, which may be smaller.
        first = await asyncio.to_thread(
            blobs.begin, blob, incoming.size, incoming.chunks
        )
        if first < len(incoming.chunks):
            rest = Incoming(blob, incoming.size, incoming.chunks, first)
            await self._pump(client, fetch, rest, first=first)
            if rest.next_chunk < len(incoming.chunks):
                raise UnreachableError("the reply ended before the last chunk")
        await asyncio.to_thread(blobs.finish, blob)
        if self.inspection is not None:
            await asyncio.to_thread(self.inspection.completed, blob)

    async def _pump(
        self, client: ReplicaClient, fetch: Fetch, incoming: Incoming, first: int
    ) -> None:
        listed = incoming.chunks is None
        replies = client.fetch(
            fetch.space, fetch.blob, want_chunk_list=listed, first_chunk=first
        )
        began, brought = self._clock(), 0
        async with contextlib.aclosing(replies):
            async for message in replies:
                chunk = incoming.take(message)
                if chunk is not None:
                    await asyncio.to_thread(self._store_chunk, incoming, *chunk)
                    self.brought += len(chunk[1])
                    self.arriving[fetch.blob] = chunk[0] * CHUNK_BYTES + len(chunk[1])
                brought += len(message)
                if self._clock() - began > TURN_S:
                    if brought < TURN_BYTES:
                        raise _TurnOverError("a slow fetch")
                    began, brought = self._clock(), 0

    def _store_chunk(self, incoming: Incoming, index: int, data: bytes) -> None:
        if index == 0 and incoming.chunks is not None:
            self._blobs.begin(incoming.blob, incoming.size, incoming.chunks)
        self._blobs.write_chunk(incoming.blob, index, data)
        if self.inspection is not None:
            needed = self.inspection.arrived(incoming.blob, index, data)
            if not needed:
                raise _UnneededError("nothing needs this blob any more")
