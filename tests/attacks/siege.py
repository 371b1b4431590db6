"""A running node under siege: what an attacker's own program can say to it.

Owns streams of attackers over real gRPC, and what the node counted against them. Does not
own the home (`fortress`) nor what is compared before and after (`guard`).

An attacker holds a member's keys and no more, and writes frames by hand: our own client
would refuse to send most of them.
"""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import Domain, digest
from crdtmerge.errors import RefusedError, UnreachableError
from crdtmerge.identity import SigningKey
from crdtmerge.orset import OpSet
from crdtmerge.record import SignedRecord
from crdtmerge.sync.messages import (
    PROTOCOL_VERSION,
    Beside,
    FeedReply,
    FeedRequest,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    Peers,
    Probes,
    Rumour,
    SignedBytes,
)
from nodes import convert
from nodes.client import ReplicaClient
from nodes.runtime import Runtime
from nodes.tls import make_leaf
from nodes.wire import replica_pb2 as wire
from tests.integration.living import AFTER, BEFORE, until

HELLO: Final = Hello(PROTOCOL_VERSION, "attacker")
SYNC: Final = "/crdtmerge.v1.Replica/Sync"
Say = Callable[[Message], Awaitable[None]]
Talk = Callable[[AsyncIterator[Message], Say], Awaitable[None]]


def node_of(author: SigningKey) -> SigningKey:
    """Return the transport key of an author's node."""
    return SigningKey(digest(Domain.SEED, b"node of " + author.public))


def sent(*records: SignedRecord | SignedBytes) -> tuple[SignedBytes, ...]:
    """Return records as they travel."""
    return tuple(
        r if isinstance(r, SignedBytes) else SignedBytes(r.record.data, r.signature)
        for r in records
    )


def framed(message: Message) -> bytes:
    """Return a message as it travels, whatever it holds."""
    frame = wire.Frame()
    if isinstance(message, Goodbye):
        frame.goodbye.SetInParent()
    elif isinstance(message, Peers):
        convert._write_peers(message, frame)
    elif isinstance(message, Probes):
        convert._write_probes(message, frame)
    elif isinstance(message, Beside):
        convert._write_beside(message, frame)
    else:
        convert._write(message, frame)
    return frame.SerializeToString()


@dataclass
class Siege:
    """A running node, and what attackers do to it."""

    space: SpaceId
    node: Runtime
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # --- what became of it ---------------------------------------------------------------

    @property
    def errors(self) -> list[str]:
        """The names of the errors by which the node dropped a peer."""
        return sorted(self.node.node.dropped.elements())

    @property
    def opset(self) -> OpSet:
        """The set as the node holds it in memory."""
        return self.node.spaces.opset(self.space)

    @property
    def root(self) -> bytes:
        """The record root."""
        return self.opset.root

    @property
    def ids(self) -> frozenset[RecordId]:
        """The ids of all records."""
        return frozenset(self.opset.signed)

    async def settled(self) -> None:
        """Wait until every stream has ended and the node has nothing left to do."""
        await until(lambda: not self.node.connected(), "the end of all streams")
        for _ in range(3):  # what follows from the last, and from that
            await self.node.submit(list)

    # --- streams -------------------------------------------------------------------------

    def client(self, author: SigningKey) -> ReplicaClient:
        """Return a channel from the node of `author` to the fortress."""
        leaf = make_leaf(node_of(author), BEFORE, AFTER)
        return ReplicaClient(self.node.addresses[0], self.node.me, leaf)

    async def talks(self, author: SigningKey, talk: Talk) -> None:
        """Let the node of `author` talk until either side hangs up."""
        async with self.client(author) as client:
            with suppress(UnreachableError, RefusedError, StopAsyncIteration):
                await client.open_stream(talk)

    @asynccontextmanager
    async def raw(self, author: SigningKey) -> AsyncIterator[Any]:
        """Lend an open sync stream of plain bytes."""
        async with self.client(author) as client:
            call: Any = client._channel.stream_stream(SYNC)()
            await call.initial_metadata()
            yield call

    async def sends(self, author: SigningKey, *frames: bytes) -> None:
        """Send frames as they are, after a hello; return once the node hung up."""
        async with self.raw(author) as call:
            with suppress(grpc.aio.AioRpcError, grpc.aio.UsageError):
                for frame in (framed(HELLO), *frames):
                    await call.write(frame)
                while await call.read() is not grpc.aio.EOF:
                    pass

    async def says(
        self, author: SigningKey, *messages: Message, space: SpaceId | None = None
    ) -> None:
        """Send messages after a hello; return once the node has taken them all.

        `space` is one that the author is a member of, if that is not ours.
        """

        async def talk(incoming: AsyncIterator[Message], say: Say) -> None:
            for message in (HELLO, *messages):
                await say(message)
            await self._taken(incoming, say, space or self.space)

        await self.talks(author, talk)

    async def spreads(
        self, author: SigningKey, *records: SignedRecord | SignedBytes
    ) -> None:
        """Push records as news, which nobody asked for."""
        await self.says(author, Rumour(self.space, sent(*records)))

    async def feeds(
        self, author: SigningKey, *records: SignedRecord | SignedBytes
    ) -> None:
        """Say that we have what the node lacks, and answer its question with these.

        So records come in that hang on nothing: such news would be passed over.
        """
        await self.talks(author, self.feeding(sent(*records)))

    def feeding(self, records: Sequence[SignedBytes]) -> Talk:
        """Return the talk that answers the node's question with these records."""
        generation = b"life of a liar" + next(self._numbers).to_bytes(2, "big")
        count = len(records)

        async def talk(incoming: AsyncIterator[Message], say: Say) -> None:
            await say(HELLO)
            root = digest(Domain.SEED, generation)
            await say(Heartbeat(self.space, root, 1, generation, count))
            async for message in incoming:
                if isinstance(message, FeedRequest):
                    number = message.number
                    reply = FeedReply(
                        self.space, generation, count, False, tuple(records), number
                    )
                    await say(reply)
                    break
            await self._taken(incoming, say, self.space)

        return talk

    async def _taken(
        self, incoming: AsyncIterator[Message], say: Say, space: SpaceId
    ) -> None:
        """Wait until the node answers a question: it took all before that."""
        await say(FeedRequest(space, b"any generation.."[:16], 0, 1))
        async for message in incoming:
            if isinstance(message, FeedReply) and message.number == 1:
                return
