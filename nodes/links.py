"""The open streams and channels of a running node, at most one stream a peer.

Owns dialling, which of two streams with one peer stays, what waits to be sent, and the
channels that fetches share with streams. Does not own what is said: that is `Node`'s.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from crdtmerge.errors import (
    CrdtMergeError,
    RefusedError,
    RemoteError,
    UnreachableError,
)
from crdtmerge.sync.messages import Message

from .client import ReplicaClient
from .effects import Dial, DialEnded, Input, MessageReceived, PeerClosed, PeerOpened
from .quotas import weight
from .tls import Leaf

SendMessage = Callable[[Message], Awaitable[None]]
Turn = Callable[[], Sequence[Input]]
"""Says, once its turn has come, what to hand to the node."""
Submit = Callable[[Turn], Awaitable[None]]
"""Takes a turn; done once its inputs are handled and their effects performed."""

OUTGOING_MAX: Final = 1024
OUTGOING_BYTES_MAX: Final = 32 << 20
"""What may wait for one peer; one that asks faster than it reads is cut off."""

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Link:
    """One stream with a peer."""

    peer: bytes
    dialler: bytes
    outgoing: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    waiting_bytes: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    broken: str = ""
    """The name of the error by which the peer broke a rule, if it did."""
    pause: float = 0.0
    """How many seconds pass before its next message is read."""


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


class Links:
    """The streams that are open now, by peer."""

    def __init__(self, me: bytes, leaf: Leaf, submit: Submit) -> None:
        """Start with none; `submit` gives the node its inputs, in order."""
        self._me = me
        self._leaf = leaf
        self._submit = submit
        self._open: dict[bytes, Link] = {}
        self.channels = Channels(leaf)

    def peers(self) -> list[bytes]:
        """Return the peers with an open stream; any thread may ask."""
        return sorted(self._open)

    # --- what the node decides ----------------------------------------------------------

    def send(self, peer: bytes, message: Message) -> None:
        """Put a message on its way; who does not take what it asked for is cut off."""
        link = self._open.get(peer)
        if link is None:
            return
        link.waiting_bytes += weight(message)
        full = link.outgoing.qsize() >= OUTGOING_MAX
        if full or link.waiting_bytes > OUTGOING_BYTES_MAX:
            link.closed.set()
        else:
            link.outgoing.put_nowait(message)

    def pause(self, peer: bytes, seconds: float) -> None:
        """Let `seconds` pass before the next message of `peer` is read.

        What it sends meanwhile waits with it: the buffers between us are bounded.
        """
        if peer in self._open:
            self._open[peer].pause = seconds
            _log.debug("peer %s owes %.1f s: not read from", peer.hex()[:12], seconds)

    def close(self, peer: bytes) -> None:
        """End the stream with `peer`."""
        if peer in self._open:
            self._open[peer].closed.set()

    def close_all(self) -> None:
        """End every stream."""
        for link in self._open.values():
            link.closed.set()

    async def dial(self, dial: Dial) -> None:
        """Open a stream at the first address that answers, and serve it to its end."""
        for address in dial.addresses:
            client = ReplicaClient(address, dial.peer, self._leaf)
            let_in = False
            try:
                let_in = await self._talk(client, dial.peer)
            finally:
                if not let_in:
                    await client.close()
            if let_in:
                break
        self._submit(lambda: [DialEnded(dial.peer)])

    async def _talk(self, client: ReplicaClient, peer: bytes) -> bool:
        """Serve a stream that we open; tell whether the peer let us in."""
        let_in = False

        async def handler(incoming: AsyncIterator[Message], send: SendMessage) -> None:
            nonlocal let_in
            let_in = True
            await self.channels.dialled(peer, client)
            await self.serve(Link(peer, dialler=self._me), incoming, send)

        try:
            await client.open_stream(handler)
        except CrdtMergeError as e:
            _log.debug("the stream with %s: %s", peer.hex()[:12], e)
        finally:
            self.channels.stream_ended(peer, client)
        return let_in

    # --- one stream ---------------------------------------------------------------------

    async def serve(
        self, link: Link, incoming: AsyncIterator[Message], send: SendMessage
    ) -> None:
        """Run one stream until either side ends it."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            await self._submit(lambda: self._opened(link))
            if self._open.get(link.peer) is link:
                works = (
                    self._read(link, incoming),
                    self._write(link, send),
                    _until(link.closed),
                )
                tasks |= {asyncio.ensure_future(work) for work in works}
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            # Not awaited: the node may have stopped listening.
            self._submit(lambda: self._ended(link))
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, CrdtMergeError):
                raise end  # a bug of ours

    def _opened(self, link: Link) -> list[Input]:
        """Take up a stream, unless another with this peer stays.

        Two peers that dial each other at once keep the stream of the lower key; both
        sides decide alike. The same dialler twice means that it lost the first.

        SUBTLE: decided in the order of the node's inputs, so that what a session says
        never goes out on the stream of the session before or after.
        """
        peer, old = link.peer, self._open.get(link.peer)
        inputs: list[Input] = []
        if old is not None:
            if old.dialler == min(self._me, peer) != link.dialler:
                return []
            old.closed.set()
            inputs.append(PeerClosed(peer, old.broken))
        self._open[peer] = link
        return [*inputs, PeerOpened(peer)]

    def _ended(self, link: Link) -> list[Input]:
        if self._open.get(link.peer) is not link:
            return []
        del self._open[link.peer]
        return [PeerClosed(link.peer, link.broken)]

    async def _read(self, link: Link, incoming: AsyncIterator[Message]) -> None:
        """Hand over messages one by one: none is read before the last was handled.

        Nor before it is paid for: the node says when a peer is to be left alone.
        """
        try:
            await _over(link)
            async for message in incoming:
                received = MessageReceived(link.peer, message)
                await self._submit(partial(self._said, link, received))
                await _over(link)
        except (UnreachableError, RefusedError):
            raise  # it is gone, or wants us no more: both may change
        except RemoteError as e:
            link.broken = type(e).__name__
            raise

    def _said(self, link: Link, received: MessageReceived) -> list[Input]:
        return [received] if self._open.get(link.peer) is link else []

    async def _write(self, link: Link, send: SendMessage) -> None:
        while True:
            message = await link.outgoing.get()
            link.waiting_bytes -= weight(message)
            await send(message)


async def _over(link: Link) -> None:
    """Wait until the pause of a stream is over; the loop's other work goes on."""
    seconds, link.pause = link.pause, 0.0
    if seconds > 0:
        await asyncio.sleep(seconds)


async def _until(event: asyncio.Event) -> None:
    await event.wait()
