"""Real gRPC on loopback: who gets in, who does not, and what arrives."""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from crdtmerge.digest import CHUNK_BYTES, chunk_count, chunk_digests
from crdtmerge.errors import (
    BadInputError,
    ConflictError,
    MachineError,
    MalformedMessageError,
    NotFoundError,
    RefusedError,
    UnreachableError,
)
from crdtmerge.identity import SigningKey
from crdtmerge.sync.messages import FeedRequest, Hello, Message
from crdtmerge.sync.transfer import announce
from nodes import calls, channel, client
from nodes.client import ControlClient, ReplicaClient, open_join
from nodes.join_messages import Challenge, Done, JoinHello, JoinMessage
from nodes.server import ControlServer, JoinServer, ReplicaServer
from nodes.tls import PEER_NAME, Leaf, make_leaf
from nodes.wire import replica_pb2 as wire

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

    def members(self) -> frozenset[bytes]:
        """Return who is allowed now."""
        return self.allowed

    async def stream(
        self, peer: bytes, incoming: AsyncIterator[Message], send: Send
    ) -> None:
        """Echo until the caller ends the stream."""
        self.streams.append(peer)
        if self.failure:
            raise self.failure
        try:
            async for message in incoming:
                await send(message)
        except BaseException as e:
            self.ended.append(type(e).__name__)
            raise
        self.ended.append("in order")

    async def fetch(
        self,
        peer: bytes,
        space: bytes,
        blob: bytes,
        want_chunk_list: bool,
        first_chunk: int,
    ) -> AsyncIterator[bytes]:
        """Serve the blob in the form that the proto's README states."""
        if (space, blob) != (SPACE, BLOB):
            raise NotFoundError("no such blob")
        digests = chunk_digests(self.data)
        for message in announce(
            len(self.data), digests, want_chunk_list=want_chunk_list
        ):
            yield message
        for index in range(first_chunk, len(digests)):
            yield self.data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]


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
    replies = peer.fetch(SPACE, BLOB, want_chunk_list=True, first_chunk=first)
    return [reply async for reply in replies]


# --- who gets in ------------------------------------------------------------------------


def test_members_talk() -> None:
    """A member's messages arrive, the answers come back, and both sides end in order."""

    async def scenario() -> None:
        message = FeedRequest(SPACE, GENERATION, 7)
        async with serving(Echo(members(ALICE))) as served:
            async with served.client(ALICE) as alice:
                assert await greet(alice, message) == message
            assert served.handler.streams == [ALICE.public]
            assert served.handler.ended == ["in order"]

    run(scenario())


def test_a_stranger_is_refused() -> None:
    """Who is no member gets no stream and no bytes, and learns no more than that."""

    async def scenario() -> None:
        async with serving(Echo(members(ALICE), b"secret")) as served:
            async with served.client(BOB) as bob:
                with pytest.raises(UnreachableError, match="no answer"):
                    await greet(bob)
                with pytest.raises(UnreachableError):
                    await fetched(bob)
            assert served.handler.streams == []

    run(scenario())


def test_nobody_gets_in_where_there_are_no_members() -> None:
    """An empty membership does not mean that no certificate is asked for."""

    async def scenario() -> None:
        async with serving(Echo(frozenset())) as served:
            for key in (ALICE, SERVER):
                async with served.client(key) as peer:
                    with pytest.raises((UnreachableError, RefusedError)):
                        await greet(peer)
            options = [("grpc.ssl_target_name_override", PEER_NAME)]
            anonymous = grpc.ssl_channel_credentials(client.root_for(SERVER.public))
            await refused_raw(served.address, anonymous, options)
            assert served.handler.streams == []

    run(scenario())


def test_a_removed_member_is_refused_on_its_open_channel() -> None:
    """The handshake lies in the past: the next call is checked all the same."""

    async def scenario() -> None:
        async with serving(Echo(members(ALICE, BOB), b"data")) as served:
            async with served.client(ALICE) as alice, served.client(BOB) as bob:
                await greet(alice)
                served.change(BOB)
                with pytest.raises(RefusedError, match="not a member"):
                    await greet(alice)
                with pytest.raises(RefusedError, match="not a member"):
                    await fetched(alice)
                await greet(bob)

    run(scenario())


def test_a_removed_member_fails_the_next_handshake() -> None:
    """A new channel of a removed member does not come about."""

    async def scenario() -> None:
        async with serving(Echo(members(ALICE, BOB))) as served:
            async with served.client(ALICE) as alice:
                await greet(alice)
            served.change(BOB)
            async with served.client(ALICE) as alice:
                with pytest.raises(UnreachableError):
                    await greet(alice)

    run(scenario())


def test_a_removed_member_loses_its_open_stream() -> None:
    """A stream that never ends by itself ends when its peer is removed."""

    async def scenario() -> None:
        async with serving(Echo(members(ALICE, BOB))) as served:

            async def talk(incoming: AsyncIterator[Message], send: Send) -> None:
                await send(Hello(1, "test"))
                await anext(incoming)
                served.change(BOB)
                await anext(incoming)

            async with served.client(ALICE) as alice:
                with pytest.raises(RefusedError, match="no member any more"):
                    await alice.open_stream(talk)
            assert served.handler.ended == ["CancelledError"]

    run(scenario())


def test_a_member_added_at_run_time_gets_in() -> None:
    """Membership grows without a restart; also keys that fit no curve do no harm."""

    async def scenario() -> None:
        async with serving(Echo(members(ALICE))) as served:
            async with served.client(BOB) as bob:
                with pytest.raises(UnreachableError):
                    await greet(bob)
            served.change(ALICE, BOB)
            served.server.set_members(served.handler.allowed | {b"\xff" * 32, bytes(32)})
            for key in (ALICE, BOB):
                async with served.client(key) as peer:
                    await greet(peer)
            assert served.handler.streams == [ALICE.public, BOB.public]

    run(scenario())


def test_a_server_with_another_key_is_refused() -> None:
    """A client talks to the pinned key alone, though its own key is welcome there."""

    async def scenario() -> None:
        async with serving(Echo(members(ALICE)), BOB) as served:
            async with served.client(ALICE, SERVER.public) as alice:
                with pytest.raises(UnreachableError):
                    await greet(alice)
            assert served.handler.streams == []

    run(scenario())


def rogue_chain(issuer_name: str, intermediate: Any) -> grpc.ChannelCredentials:
    """Return Bob's attempt to appear as Alice.

    Bob, a member, signs an authority named `issuer_name`, which signs a leaf.
    """

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def certificate(
        subject: str, issuer: str, public: Any, number: int, *, ca: bool
    ) -> x509.CertificateBuilder:
        names = x509.SubjectAlternativeName([x509.DNSName(PEER_NAME)])
        constraints = x509.BasicConstraints(ca=ca, path_length=None)
        return (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named(issuer))
            .public_key(public)
            .serial_number(number)
            .not_valid_before(BEFORE)
            .not_valid_after(AFTER)
            .add_extension(names, critical=False)
            .add_extension(constraints, critical=True)
        )

    key = ec.generate_private_key(ec.SECP256R1())
    authority = certificate(
        issuer_name, BOB.public.hex(), intermediate.public_key(), 2, ca=True
    ).sign(Ed25519PrivateKey.from_private_bytes(BOB.seed), None)
    algorithm = (
        None
        if isinstance(intermediate, Ed25519PrivateKey)
        else x509.load_pem_x509_certificate(leaf_pem_of(ALICE)).signature_hash_algorithm
        or calls_sha256()
    )
    leaf = certificate("rogue", issuer_name, key.public_key(), 3, ca=False).sign(
        intermediate, algorithm
    )
    chain = leaf.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return grpc.ssl_channel_credentials(client.root_for(SERVER.public), pem, chain)
