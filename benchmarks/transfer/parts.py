"""What both processes need: keys, a channel and a server without TLS, and a blob's bytes.

Owns the difference between a plain server and a node's, which is TLS and nothing else.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id, chunk_digest
from crdtmerge.identity import SigningKey
from nodes.channel import channel_options
from nodes.client import ReplicaClient
from nodes.home import Home, create_home
from nodes.server import ReplicaServer
from nodes.tls import Leaf, make_leaf

HOST: Final = "127.0.0.1"
SPACE: Final = SpaceId(bytes(32))
SERVER: Final = SigningKey(b"s" * 32)
CLIENT: Final = SigningKey(b"c" * 32)
MIB: Final = 1 << 20


def leaf_of(key: SigningKey) -> Leaf:
    """Return a certificate of `key`."""
    return make_leaf(
        key, datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    )


class PlainServer(ReplicaServer):
    """The server of a node without TLS; everybody is the client."""

    async def start_plain(self) -> int:
        """Listen, and return the port."""
        self._server = self.built()
        port = self._server.add_insecure_port(f"{HOST}:0")
        await self._server.start()
        return port

    async def admit(self, context: Any) -> bytes:
        """Let anybody in."""
        await context.send_initial_metadata(())
        return CLIENT.public


class PlainClient(ReplicaClient):
    """The channel of a node without TLS."""

    def __init__(self, address: str) -> None:  # pylint: disable=super-init-not-called
        self._who = address
        options = [*channel_options(), ("grpc.use_local_subchannel_pool", 1)]
        self._use(grpc.aio.insecure_channel(address, options=options))


def pattern(index: int) -> bytes:
    """Return chunk `index` of the blob that is sent: no two are alike."""
    return index.to_bytes(8, "big") * (CHUNK_BYTES // 8)


def blob_of(mib: int) -> tuple[BlobId, int]:
    """Return the blob of that many such chunks, and its size."""
    digests = [chunk_digest(pattern(index)) for index in range(mib)]
    return blob_id(mib * CHUNK_BYTES, digests), mib * CHUNK_BYTES


def home_at(folder: Path) -> Home:
    """Make a home."""
    return create_home(
        folder, author_seed=b"a" * 32, node_seed=b"n" * 32, generation=b"g" * 16
    )
