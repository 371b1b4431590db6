"""Servers, clients and handlers that the transport tests share."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from crdtmerge.digest import CHUNK_BYTES, chunk_digests
from crdtmerge.errors import (
    NotFoundError,
    RefusedError,
)
from crdtmerge.identity import SigningKey
from crdtmerge.sync.messages import Hello, Message
from crdtmerge.sync.runs import Run, clipped
from crdtmerge.sync.transfer import Wanted, announce
from nodes.client import ReplicaClient
from nodes.join_messages import Challenge, Done, JoinHello, JoinMessage
from nodes.server import ReplicaServer
from nodes.tls import PEER_NAME, Leaf, make_leaf

HOST = "127.0.0.1"
BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
AFTER = datetime(2040, 1, 1, tzinfo=UTC)
SERVER = SigningKey(b"s" * 32)
ALICE = SigningKey(b"a" * 32)
BOB = SigningKey(b"b" * 32)
SPACE = b"S" * 32
BLOB = b"B" * 32
GENERATION = b"g" * 16

Send = Callable[[Message], Awaitable[None]]


def leaf_of(key: SigningKey) -> Leaf:
    """Return a fresh leaf of `key`, as a node makes at each start."""
    return make_leaf(key, BEFORE, AFTER)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run one test on an event loop of its own, and not for ever."""

    async def bounded() -> None:
        async with asyncio.timeout(30):
            await work
        lingering = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [t for t in lingering if "nodes" in repr(t.get_coro())]

    asyncio.run(bounded())


@dataclass
class Echo:
    """Answers each message with the same message, and serves one blob."""

    allowed: frozenset[bytes]
    data: bytes = b""
    streams: list[bytes] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    failure: Exception | None = None
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def members(self) -> frozenset[bytes]:
        """Return who is allowed now."""
        return self.allowed

    async def stream(
        self, peer: bytes, incoming: AsyncIterator[Message], send: Send
    ) -> None:
        """Echo until the caller ends the stream."""
        self.streams.append(peer)
        if self.failure:
            # A caller that is still writing would learn only that its stream broke.
            await anext(incoming)
            raise self.failure
        try:
            async for message in incoming:
                await send(message)
        except BaseException as e:
            self.ended.append(type(e).__name__)
            raise
        else:
            self.ended.append("in order")
        finally:
            self.closed.set()

    async def fetch(
        self,
        peer: bytes,  # noqa: ARG002  the handler's form
        space: bytes,
        blob: bytes,
        wanted: Wanted,
    ) -> AsyncIterator[bytes]:
        """Serve the blob in the form that the proto's README states."""
        if (space, blob) != (SPACE, BLOB):
            raise NotFoundError("no such blob")
        digests = chunk_digests(self.data)
        for message in announce(
            len(self.data), digests, want_chunk_list=wanted.chunk_list
        ):
            yield message
        for run in clipped(wanted.runs, len(digests)):
            for index in range(run.first, run.end):
                yield self.data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]


@dataclass
class Served:
    """A server that listens."""

    server: ReplicaServer
    address: str
    handler: Echo

    def client(self, key: SigningKey, peer: bytes = SERVER.public) -> ReplicaClient:
        """Return a channel of `key` to this server."""
        return ReplicaClient(self.address, peer, leaf_of(key))

    def change(self, *members: SigningKey) -> None:
        """Make these the members from now on."""
        self.handler.allowed = frozenset(key.public for key in members)
        self.server.set_members(self.handler.allowed)


@contextlib.asynccontextmanager
async def serving(handler: Echo, key: SigningKey = SERVER) -> AsyncIterator[Served]:
    """Run a server for `handler` on a port of the system's choice."""
    server = ReplicaServer(handler, leaf_of(key))
    server.set_members(handler.allowed)
    port = await server.start(HOST, 0)
    try:
        yield Served(server, f"{HOST}:{port}", handler)
    finally:
        await server.stop(0.5)


def members(*keys: SigningKey) -> frozenset[bytes]:
    return frozenset(key.public for key in keys)


async def greet(peer: ReplicaClient, message: Message | None = None) -> Message:
    """Send one message and return the echo."""
    got: list[Message] = []

    async def talk(incoming: AsyncIterator[Message], send: Send) -> None:
        await send(message or Hello(1, "test"))
        got.append(await anext(incoming))

    await peer.open_stream(talk)
    return got[0]


async def fetched(peer: ReplicaClient, *, first: int = 0) -> list[bytes]:
    """Return the raw messages of a fetch."""
    replies = peer.fetch(SPACE, BLOB, Wanted(True, (Run(first, 99),)))
    return [reply async for reply in replies]


class Host:
    """A host that knows one space."""

    async def join(
        self,
        incoming: AsyncIterator[JoinMessage],
        send: Callable[[JoinMessage], Awaitable[None]],
    ) -> None:
        """Challenge who asks for the space, refuse everybody else."""
        hello = await anext(incoming)
        if hello != JoinHello(SPACE):
            raise RefusedError("the invite was revoked")
        await send(Challenge(b"n" * 32))
        async for _ in incoming:
            await send(Done())


class Counting:
    """Replies to each command with its words, one by one."""

    async def call(self, request: bytes) -> AsyncIterator[bytes]:
        """Yield the words."""
        for word in request.split():
            yield word


async def refused_raw(
    address: str, credentials: grpc.ChannelCredentials
) -> grpc.StatusCode:
    """Check that a plain gRPC client with these credentials gets nowhere."""
    options = [("grpc.ssl_target_name_override", PEER_NAME)]
    async with grpc.aio.secure_channel(address, credentials, options=options) as raw:
        fetch: Any = raw.unary_stream("/crdtmerge.v1.Replica/Fetch")
        call = fetch(b"")
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await call.read()
    assert refusal.value.code() in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.PERMISSION_DENIED,
    )
    return refusal.value.code()
