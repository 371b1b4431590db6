"""How streams end: in order, refused, cut off, or without an answer."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from crdtmerge.errors import (
    MachineError,
    MalformedMessageError,
    NotFoundError,
    RefusedError,
    UnreachableError,
)
from crdtmerge.sync.messages import IDS_MAX, Hello, Message, RecordsRequest
from nodes import calls, channel
from nodes.client import ReplicaClient
from nodes.tls import PEER_NAME, root_for
from nodes.wire import replica_pb2 as wire
from tests.integration.peers import (
    ALICE,
    BLOB,
    BOB,
    HOST,
    SERVER,
    SPACE,
    Echo,
    Send,
    fetched,
    greet,
    leaf_of,
    members,
    run,
    serving,
)


def test_a_malformed_frame_ends_the_stream_with_a_reason() -> None:
    """The server's handler sees our own error, and the caller is told what was wrong."""

    async def scenario() -> None:
        leaf = leaf_of(ALICE)
        credentials = grpc.ssl_channel_credentials(
            root_for(SERVER.public), leaf.key_pem, leaf.chain_pem
        )
        options = [("grpc.ssl_target_name_override", PEER_NAME)]
        async with (
            serving(Echo(members(ALICE))) as served,
            grpc.aio.secure_channel(
                served.address, credentials, options=options
            ) as raw,
        ):
            call: Any = raw.stream_stream(
                "/crdtmerge.v1.Replica/Sync",
                request_serializer=wire.Frame.SerializeToString,
                response_deserializer=wire.Frame.FromString,
            )()
            await call.write(wire.Frame(hello=wire.Hello(version=0)))
            with pytest.raises(grpc.aio.AioRpcError, match="version") as refusal:
                await call.read()
            assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert served.handler.ended == ["MalformedMessageError"]

    run(scenario())


def test_an_error_of_the_clients_handler_comes_out_as_it_is() -> None:
    """The handler's own error ends the stream, and the server notices."""

    async def talk(incoming: AsyncIterator[Message], send: Send) -> None:
        await send(Hello(1, "test"))
        await anext(incoming)
        raise MalformedMessageError("seen by the session")

    async def scenario() -> None:
        handler = Echo(members(ALICE))
        async with serving(handler) as served, served.client(ALICE) as alice:
            with pytest.raises(MalformedMessageError, match="seen by the session"):
                await alice.open_stream(talk)
            await handler.closed.wait()

    run(scenario())


@pytest.mark.parametrize(
    ("failure", "seen"),
    [
        (MachineError("disk /secret is full"), "something is wrong"),
        (ZeroDivisionError("secret"), "something is wrong"),
        (NotFoundError("no such thing"), "no such thing"),
    ],
)
def test_a_caller_learns_nothing_of_our_own_matters(
    failure: Exception, seen: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Errors of this machine, and bugs, are logged here and not told."""

    async def scenario() -> None:
        handler = Echo(members(ALICE), failure=failure)
        async with serving(handler) as served, served.client(ALICE) as alice:
            with pytest.raises((RefusedError, NotFoundError), match=seen) as refusal:
                await greet(alice)
            assert "secret" not in str(refusal.value)
        assert ("secret" in caplog.text) == ("secret" in str(failure))

    run(scenario())


def test_a_server_that_stops_ends_open_streams_at_once() -> None:
    """Stopping does not wait for streams that never end by themselves."""

    async def scenario() -> None:
        async with serving(Echo(members(ALICE))) as served:

            async def talk(incoming: AsyncIterator[Message], send: Send) -> None:
                await send(Hello(1, "test"))
                await anext(incoming)
                async with asyncio.timeout(15):
                    await served.server.stop(60)
                await anext(incoming)

            async with served.client(ALICE) as alice:
                with pytest.raises(UnreachableError):
                    await alice.open_stream(talk)

    run(scenario())


def test_closing_a_channel_ends_its_streams_as_unreachable() -> None:
    """A task that talks on a channel which another task closes is not cancelled unseen."""

    async def scenario() -> None:
        handler = Echo(members(ALICE))
        async with serving(handler) as served:
            alice = served.client(ALICE)
            opened = asyncio.Event()

            async def talk(incoming: AsyncIterator[Message], send: Send) -> None:
                opened.set()
                await anext(incoming)

            talking = asyncio.create_task(alice.open_stream(talk))
            await opened.wait()
            await alice.close()
            with pytest.raises(UnreachableError):
                await talking

    run(scenario())


def test_nobody_listening_is_unreachable() -> None:
    """The handler is not called before the other side has let us in."""

    async def talk(incoming: AsyncIterator[Message], send: Send) -> None:
        raise AssertionError

    async def scenario() -> None:
        with socket.socket() as free:
            free.bind((HOST, 0))
            address = f"{HOST}:{free.getsockname()[1]}"
            async with ReplicaClient(address, SERVER.public, leaf_of(ALICE)) as alice:
                with pytest.raises(UnreachableError, match=address):
                    await alice.open_stream(talk)

    run(scenario())


def test_a_peer_that_lets_us_wait_is_unreachable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A port that accepts and stays silent does not hold a dialler for ever."""
    monkeypatch.setattr("nodes.client.CONNECT_S", 0.3)

    async def scenario() -> None:
        with socket.socket() as silent:
            silent.bind((HOST, 0))
            silent.listen()
            address = f"{HOST}:{silent.getsockname()[1]}"
            async with ReplicaClient(address, SERVER.public, leaf_of(ALICE)) as alice:
                with pytest.raises(UnreachableError, match="stood still"):
                    await greet(alice)

    run(scenario())


def test_a_receiver_that_takes_nothing_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A send waits for room, and not for ever: memory and tasks are bounded."""
    monkeypatch.setattr(channel, "WRITE_PROGRESS_S", 0.3)

    async def flood(incoming: AsyncIterator[Message], send: Send) -> None:
        message = RecordsRequest(SPACE, (BLOB,) * IDS_MAX)
        for _ in range(1000):
            await send(message)

    class Deaf(Echo):
        async def stream(self, *_: object) -> None:
            """Take nothing, for ever."""
            await asyncio.Event().wait()

    async def scenario() -> None:
        handler = Deaf(members(ALICE))
        async with serving(handler) as served, served.client(ALICE) as alice:
            with pytest.raises(UnreachableError, match="stood still"):
                await alice.open_stream(flood)

    run(scenario())


def test_one_peer_cannot_take_all_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer has a limit of its own, so that the others are still served."""
    monkeypatch.setattr(calls, "PEER_CALLS_MAX", 1)

    async def scenario() -> None:
        async with (
            serving(Echo(members(ALICE, BOB))) as served,
            served.client(ALICE) as alice,
            served.client(BOB) as bob,
        ):

            async def talk(incoming: AsyncIterator[Message], send: Send) -> None:
                with pytest.raises(RefusedError, match="more than 1 calls"):
                    await fetched(alice)
                await greet(bob)

            await alice.open_stream(talk)

    run(scenario())


BIG = RecordsRequest(SPACE, (bytes(32),) * IDS_MAX, 1)
"""A message of a quarter of a MiB."""
TAKEN_MAX = 64
"""As many of these lie between two ends at most: 16 MiB, in the buffers of both."""


class Deaf(Echo):
    """Takes a stream and reads nothing of it, or only writes to it."""

    sent = 0
    writes = False

    async def stream(
        self,
        peer: bytes,  # noqa: ARG002  the handler's form
        incoming: AsyncIterator[Message],  # noqa: ARG002
        send: Send,
    ) -> None:
        """Read nothing until the caller goes."""
        while self.writes:
            await send(BIG)
            self.sent += 1
        await asyncio.Event().wait()


@pytest.mark.parametrize("writes", [False, True])
def test_what_a_peer_does_not_read_waits_with_its_sender(*, writes: bool) -> None:
    """Either way the line takes so much and no more, and the writer stands still."""

    async def scenario() -> None:
        handler = Deaf(members(ALICE))
        handler.writes = writes
        async with serving(handler) as served, served.client(ALICE) as alice:
            count = 0

            async def talk(_: AsyncIterator[Message], send: Send) -> None:
                nonlocal count
                while not writes:
                    await send(BIG)
                    count += 1
                await asyncio.Event().wait()

            talking = asyncio.create_task(alice.open_stream(talk))
            before = -1
            while (now := count + handler.sent) != before or not now:
                before = now
                await asyncio.sleep(0.5)
            assert 0 < now <= TAKEN_MAX
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    run(scenario())
