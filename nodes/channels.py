"""The channels of a node: one to each peer that it dialled or fetches from.

Owns which address a channel goes to, and when it is dropped. Does not own the channel
(`client`), nor what is said on it (`links`, `fetching`).
"""

from collections import Counter
from collections.abc import Collection, Sequence

from crdtmerge.errors import UnreachableError

from .client import ReplicaClient
from .tls import Leaf


class Channels:
    """One channel to each peer that we dialled or fetch from."""

    def __init__(self, leaf: Leaf) -> None:
        """Start with none; `leaf` is what we show."""
        self._leaf = leaf
        self._clients: dict[bytes, ReplicaClient] = {}
        self._streaming: dict[bytes, ReplicaClient] = {}
        self._failures: Counter[bytes] = Counter()

    def to(self, peer: bytes, addresses: Sequence[str]) -> ReplicaClient:
        """Return the channel to `peer`: what is there, or one to an address of these.

        Raises:
            UnreachableError: there is no address.
        """
        if peer not in self._clients:
            if not addresses:
                raise UnreachableError(f"no address of peer {peer.hex()[:12]}")
            address = addresses[self._failures[peer] % len(addresses)]
            self._clients[peer] = ReplicaClient(address, peer, self._leaf)
        return self._clients[peer]

    def streaming(self, peer: bytes) -> bool:
        """Tell whether a stream that we opened to `peer` is open."""
        return peer in self._streaming

    async def dialled(self, peer: bytes, client: ReplicaClient) -> None:
        """Use the channel that a stream is open on for all that goes to `peer`."""
        old = self._clients.get(peer)
        self._clients[peer] = self._streaming[peer] = client
        if old is not None and old is not client:
            await old.close()

    def stream_ended(self, peer: bytes, client: ReplicaClient) -> None:
        """Note that no stream is open on this channel any more."""
        if self._streaming.get(peer) is client:
            del self._streaming[peer]

    async def failed(self, peer: bytes, client: ReplicaClient) -> None:
        """Drop a channel that brought no answer: the peer may have moved."""
        if self._clients.get(peer) is client is not self._streaming.get(peer):
            del self._clients[peer]
            self._failures[peer] += 1
            await client.close()

    async def keep_only(self, members: Collection[bytes]) -> None:
        """Close the channels to who is no member any more."""
        for peer in self._clients.keys() - set(members):
            self._streaming.pop(peer, None)
            self._failures.pop(peer, None)
            await self._clients.pop(peer).close()

    async def close(self) -> None:
        """Close all of them."""
        await self.keep_only(())
