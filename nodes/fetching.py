"""Blobs on their way between this node and its peers.

Owns the downloads that are under way, their turns, and what the node is told of them; and
the uploads (`serving`). Does not own which blob is fetched from whom (`choices`), the
course of one download (`receiving`), nor the disk (`store`).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.errors import (
    CrdtMergeError,
    MachineError,
    NoRoomError,
    NotFoundError,
    UnreachableError,
)
from crdtmerge.sync.pace import Pace
from crdtmerge.sync.sources import Fate
from crdtmerge.sync.swarm import Failed
from crdtmerge.sync.transfer import Wanted

from .channels import Channels
from .coding import Encoder
from .effects import (
    BlobFailed,
    BlobStored,
    Fetch,
    Input,
    MoreSources,
    SourceFailed,
)
from .lending import Loans
from .links import Submit
from .receiving import Inspection, Receiving, Works
from .serving import OpenBlob, Serving
from .spaces import Spaces
from .store.blobs import FileBlobs
from .traffic import Limits, Traffic
from .twins import Twins

TURN_S: Final = 60.0
TURN_BYTES: Final = 256 << 20
"""A fetch that brought less than this in a turn makes room for others, and goes on later:
nobody holds the places of a node by answering slowly."""

_log: Final = logging.getLogger(__name__)


class Fetching:
    """What this node serves of its blobs, and what it brings here."""

    def __init__(
        self,
        blobs: FileBlobs,
        spaces: Spaces,
        channels: Channels,
        submit: Submit,
        clock: Callable[[], float],
        *,
        limits: Limits = Limits(),  # noqa: B008  frozen
    ) -> None:
        """Use the blobs of a home; `submit` tells the node how a fetch ended.

        `clock` gives seconds that only grow.
        """
        self._clock = clock
        self._blobs = blobs
        self._spaces = spaces
        self._channels = channels
        self._submit = submit
        self._under_way: dict[BlobId, Receiving] = {}
        self.loans = Loans()
        """The calls that peers lend us: those that dialled us, and may not be dialled."""
        self.traffic = Traffic()
        """What happened since the start, in numbers."""
        self.failed: Counter[str] = Counter()
        """Why sources and fetches failed, by the kind of failure, since the start."""
        upload = Pace(limits.upload, limits.peer_upload)
        self.serving = Serving(self._open_for, self.traffic, upload, clock)
        download = Pace(limits.download, limits.peer_download)
        self.works = Works(blobs, self._stream, self.traffic, download, clock)

    @property
    def inspection(self) -> Inspection | None:
        """Looks at all that comes, if somebody does."""
        return self.works.inspection

    @inspection.setter
    def inspection(self, inspection: Inspection) -> None:
        self.works.inspection = inspection

    def use_twins(self, twins: Twins) -> None:
        """Encode chunks against the base, where both sides have it and that pays."""
        read = self._blobs.read_chunk

        def encoder(space: SpaceId, blob: BlobId, wanted: Wanted) -> Encoder | None:
            twin = twins.of(space, blob)
            return Encoder.of(twin, wanted.encodings, wanted.against, read)

        self.serving.encoder, self.works.twin = encoder, twins.of

    def close(self) -> None:
        """Wait for the threads; nothing may be under way any more."""
        self.serving.close()
        self.works.close()

    @property
    def brought(self) -> int:
        """Bytes of chunks that came and were stored, since the start."""
        return self.traffic.bytes_in

    def arriving(self) -> Mapping[BlobId, int]:
        """Return how much is here of each blob that is coming."""
        return {blob: work.here for blob, work in tuple(self._under_way.items())}

    # --- serving ------------------------------------------------------------------------

    def _open_for(self, peer: bytes, space: SpaceId, blob: BlobId) -> OpenBlob:
        """Return a blob that a member may have; NotFoundError does not tell why not."""
        member = space in self._spaces.shared_with(peer)
        if not member or not self._spaces.serves(space, blob):
            raise NotFoundError("no such blob")
        return self._blobs.outgoing(blob)

    # --- bringing -----------------------------------------------------------------------

    async def bring(self, fetch: Fetch) -> None:
        """Bring one blob here; every chunk is verified before it counts.

        Raises:
            MachineError: the disk failed; that it is full is no failure of the node.
        """
        work = Receiving(fetch, self.works, partial(self._source_failed, fetch.blob))
        ended: Input = BlobFailed(fetch.blob)
        try:
            self._under_way[fetch.blob] = work
            if await work.run(_Turn(self._clock).over):
                ended = BlobStored(fetch.blob)
        except NoRoomError as e:
            self.failed[type(e).__name__] += 1
            _log.warning("a contribution is not fetched: %s", e)
        except MachineError:
            raise
        except CrdtMergeError as e:
            self.failed[type(e).__name__] += 1
            _log.debug("a fetch failed: %s", e)
        finally:
            del self._under_way[fetch.blob]
            # SUBTLE: between two turns too, or the room that it reserved would be kept from
            # others for as long as nobody brings the rest.
            await asyncio.to_thread(self._blobs.pause, fetch.blob)
        self.traffic.failed += isinstance(ended, BlobFailed)
        self._submit(lambda: [ended])

    def add_sources(self, more: MoreSources) -> None:
        """Let a fetch use further peers, if it is still under way."""
        work = self._under_way.get(more.blob)
        if work is not None:
            work.add(more.sources)

    def _source_failed(self, blob: BlobId, failure: Failed) -> None:
        lied = failure.fate is Fate.LIED
        self.failed[failure.fate.name.lower()] += 1
        if lied:
            name, source = blob.hex()[:12], failure.source.hex()[:12]
            _log.warning("blob %s from peer %s: %s", name, source, failure.reason)
        item = SourceFailed(failure.source, blob, lied)
        self._submit(lambda: [item])

    async def _stream(
        self, peer: bytes, space: SpaceId, blob: BlobId, wanted: Wanted
    ) -> AsyncGenerator[bytes, None]:
        """Yield the messages of a peer's reply, over the connection that there is."""
        if self.loans.by(peer) and not self._channels.streaming(peer):
            lent = self.loans.fetch(peer, space, blob, wanted)
            async with aclosing(lent) as replies:
                async for reply in replies:
                    yield reply
            return
        known = await asyncio.to_thread(self._spaces.addresses)
        client = self._channels.to(peer, known.get(peer, ()))
        try:
            async with aclosing(client.fetch(space, blob, wanted)) as replies:
                async for reply in replies:
                    yield reply
        except UnreachableError:
            await self._channels.failed(peer, client)
            raise


class _Turn:
    """How long a download may go on while it brings little."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began, self._brought = clock(), 0
        self.ended = False

    def over(self, brought: int) -> bool:
        """Tell whether a turn brought so little that others come first."""
        if self._clock() - self._began > TURN_S:
            self.ended = brought - self._brought < TURN_BYTES
            self._began, self._brought = self._clock(), brought
        return self.ended
