"""Connections on which nothing is said: kept open, noticed when dead, given back."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from crdtmerge.errors import UnreachableError
from crdtmerge.sync.messages import Hello, Message
from nodes import channel, listening
from nodes.client import ReplicaClient
from nodes.limits import FRAME_BYTES_MAX
from tests.integration.peers import (
    ALICE,
    HOST,
    SERVER,
    Echo,
    Send,
    greet,
    leaf_of,
    members,
    run,
    serving,
)
from tests.integration.proxies import between


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let seconds be what a third of a minute is else; all relations stay."""
    monkeypatch.setattr(channel, "KEEPALIVE_S", 1)
    monkeypatch.setattr(channel, "KEEPALIVE_ANSWER_S", 1)


def test_an_idle_stream_stays_open_and_is_heard_of() -> None:
    """Pings pass both ways, more than gRPC forgives by default, and nobody is cut off.

    A router that forgets a connection after some silence so never sees such a silence.
    """

    async def scenario() -> None:
        handler = Echo(members(ALICE))
        async with serving(handler) as served, between(served.address) as router:
            seen: list[int] = []

            async def talk(incoming: AsyncIterator[Message], send: Send) -> None:
                await send(Hello(1, "before"))
                await anext(incoming)
                for _ in range(3):
                    before = router.passed
                    await asyncio.sleep(1.6)
                    seen.append(router.passed - before)
                await send(Hello(1, "after"))
                assert await anext(incoming) == Hello(1, "after")

            leaf = leaf_of(ALICE)
            async with ReplicaClient(router.address, SERVER.public, leaf) as alice:
                await alice.open_stream(talk)
            assert all(seen), "no sign of life for two intervals"
            assert router.connections == 1

    run(scenario())


def test_both_ends_notice_a_peer_behind_a_dead_line() -> None:
    """Nobody says goodbye, nothing is reset: pings that nobody answers end the stream."""

    async def scenario() -> None:
        handler = Echo(members(ALICE))
        async with serving(handler) as served, between(served.address) as router:

            async def talk(incoming: AsyncIterator[Message], send: Send) -> None:
                await send(Hello(1, "before"))
                await anext(incoming)
                router.silent = True
                await anext(incoming)

            leaf = leaf_of(ALICE)
            async with ReplicaClient(router.address, SERVER.public, leaf) as alice:
                async with asyncio.timeout(15):
                    with pytest.raises(UnreachableError):
                        await alice.open_stream(talk)
                    await handler.closed.wait()
            assert handler.ended

    run(scenario())


@pytest.mark.slow
def test_a_connection_without_calls_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would take a place from others; who held it comes in again when it calls."""
    monkeypatch.setattr(listening, "IDLE_S", 1)
    monkeypatch.setattr(listening, "CONNECTIONS_MAX", 1)

    async def scenario() -> None:
        handler = Echo(members(ALICE))
        async with serving(handler) as served, between(served.address) as router:
            leaf = leaf_of(ALICE)
            async with ReplicaClient(router.address, SERVER.public, leaf) as alice:
                await greet(alice)
                async with asyncio.timeout(15):
                    while router.connections < 2:
                        await asyncio.sleep(2.5)
                        await greet(alice)

    run(scenario())


def test_who_never_shakes_hands_holds_a_place_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Places are counted before anybody has a name, and silence gives them back."""
    monkeypatch.setattr(listening, "HANDSHAKE_S", 4)
    limit = 4

    async def scenario() -> None:
        handler = Echo(members(ALICE))
        monkeypatch.setattr(
            listening.server_options, "__defaults__", (FRAME_BYTES_MAX, limit)
        )
        async with serving(handler) as served:
            port = int(served.address.rpartition(":")[2])
            held = [socket.create_connection((HOST, port)) for _ in range(limit)]
            try:
                await asyncio.sleep(0.3)
                began = time.monotonic()
                with socket.create_connection((HOST, port)) as one_more:
                    one_more.setblocking(False)
                    loop = asyncio.get_running_loop()
                    assert await asyncio.wait_for(loop.sock_recv(one_more, 1), 3) == b""
                assert time.monotonic() - began < 3
                async with asyncio.timeout(15):
                    while True:
                        try:
                            async with served.client(ALICE) as alice:
                                await greet(alice)
                            break
                        except UnreachableError:
                            await asyncio.sleep(0.2)
            finally:
                for connection in held:
                    connection.close()
            assert served.server.handshaking.handshakes == limit + 1

    run(scenario())
