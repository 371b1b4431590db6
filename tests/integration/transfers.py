"""Blobs over real connections: servers that send what a test says, and one that receives.

Owns keys, ports, and the parts of a node around one download. TLS, gRPC and the store are a
node's own.
"""

import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id, chunk_digests
from crdtmerge.identity import SigningKey
from crdtmerge.sync.pace import Pace
from crdtmerge.sync.runs import clipped
from crdtmerge.sync.swarm import Failed
from crdtmerge.sync.transfer import Wanted, announce
from nodes.client import ReplicaClient
from nodes.effects import Fetch, Source
from nodes.receiving import Arriving, Receiving, Works
from nodes.server import ReplicaServer
from nodes.traffic import Traffic
from tests.integration.peers import HOST, leaf_of

SPACE: Final = SpaceId(b"s" * 32)
RECEIVER: Final = SigningKey(b"receiver".ljust(32))
COUNT: Final = 24
DATA: Final = b"".join(
    n.to_bytes(2, "big") * (CHUNK_BYTES // 2) for n in range(COUNT - 1)
) + bytes(1234)
DIGESTS: Final = chunk_digests(DATA)
BLOB: Final = blob_id(len(DATA), DIGESTS)

_NUMBERS: Final = itertools.count(1)
Messages = AsyncIterator[bytes]
Lie = Callable[[Wanted, Messages], Messages]
"""Turns an honest reply into what a hostile server sends."""


@dataclass
class Sender:
    """Serves one blob, honestly or as `lie` makes of it; counts the chunks it sent."""

    data: bytes = DATA
    lie: Lie | None = None
    before: Callable[[int], Awaitable[None]] | None = None
    """Is called before each chunk."""
    sent: list[int] = field(default_factory=list)

    def members(self) -> frozenset[bytes]:
        """Return the one member."""
        return frozenset({RECEIVER.public})

    async def stream(self, *_: object) -> None:
        """Nobody syncs here."""

    def fetch(
        self, _: bytes, __: bytes, ___: bytes, wanted: Wanted
    ) -> AsyncIterator[bytes]:
        """Serve the blob."""
        honest = self._honest(wanted)
        return honest if self.lie is None else self.lie(wanted, honest)

    async def _honest(self, wanted: Wanted) -> AsyncIterator[bytes]:
        digests = chunk_digests(self.data)
        for message in announce(
            len(self.data), digests, want_chunk_list=wanted.chunk_list
        ):
            yield message
        for run in clipped(wanted.runs, len(digests)):
            for index in range(run.first, run.end):
                if self.before is not None:
                    await self.before(index)
                self.sent.append(index)
                yield self.data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]


@contextlib.asynccontextmanager
async def listening(*senders: Sender) -> AsyncIterator[list[tuple[SigningKey, str]]]:
    """Run a server for each; lend their keys and addresses."""
    servers, places = [], []
    try:
        for sender in senders:
            key = SigningKey(next(_NUMBERS).to_bytes(32, "big"))
            server = ReplicaServer(sender, leaf_of(key))
            server.set_members(sender.members())
            servers.append(server)
            places.append((key, f"{HOST}:{await server.start(HOST, 0)}"))
        yield places
    finally:
        for server in servers:
            await server.stop(0.0)


@dataclass
class Outcome:
    """How a download ended."""

    stored: bool
    traffic: Traffic
    failures: list[Failed]
    work: Receiving


async def receive(
    store: Arriving,
    places: Sequence[tuple[SigningKey, str]],
    *,
    size: int = len(DATA),
    blob: BlobId = BLOB,
    pace: Pace | None = None,
) -> Outcome:
    """Bring the blob from servers at these places."""
    clients: dict[bytes, ReplicaClient] = {
        key.public: ReplicaClient(address, key.public, leaf_of(RECEIVER))
        for key, address in places
    }

    async def open_stream(
        peer: bytes, space: SpaceId, blob: BlobId, wanted: Wanted
    ) -> AsyncGenerator[bytes, None]:
        async for message in clients[peer].fetch(space, blob, wanted):
            yield message

    traffic, failures = Traffic(), list[Failed]()
    works = Works(store, open_stream, traffic, pace or Pace(), time.monotonic)
    sources = tuple(Source(peer, SPACE) for peer in clients)
    work = Receiving(Fetch(blob, size, sources), works, failures.append)
    try:
        stored = await work.run(lambda _: False)
    finally:
        works.close()
        for client in clients.values():
            await client.close()
    return Outcome(stored, traffic, failures, work)
