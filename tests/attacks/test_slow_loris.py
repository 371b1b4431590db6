"""Peers that take their time on purpose: nobody else waits for them.

Of fetches that stand still: tests/attacks/test_transfers.py.
"""

import asyncio
import contextlib
import time
from typing import Any

import grpc
import pytest

from nodes import calls, server
from nodes.client import _pinned_options, _target
from nodes.convert import to_join_frame
from nodes.join_messages import JoinHello
from nodes.tls import root_for
from tests.attacks.fortress import Fortress
from tests.attacks.siege import HELLO, SYNC, Siege, framed, node_of
from tests.attacks.test_handshakes import JOIN
from tests.integration.living import until
from tests.properties.cast import CARL, CLEO, CONTENTS, add_of

PATIENCE_S = 8.0
"""An honest peer may take so long while a slow one tries its best: less than any of the
times after which a slow one is let go."""


@pytest.mark.parametrize("door", ["sync", "join"])
def test_slow_loris_before_the_handshake(fortress: Fortress, door: str) -> None:
    """A hundred connections that say a byte, or nothing: members come in at once."""

    async def attack(siege: Siege) -> None:
        node = siege.node
        (address,) = node.addresses if door == "sync" else node.join_addresses
        host, _, port = address.rpartition(":")
        async with contextlib.AsyncExitStack() as stack:
            for number in range(100):
                _, writer = await asyncio.open_connection(host, int(port))
                stack.callback(writer.close)
                if number % 2:
                    writer.write(b"\x16")
            began = time.monotonic()
            await siege.says(CARL)
            assert time.monotonic() - began < PATIENCE_S

    fortress.withstands(None, attack)


def test_slow_loris_on_the_sync_stream(fortress: Fortress) -> None:
    """A member that opens stream after stream and says nothing holds one of them."""
    news = fortress.next(CLEO, add_of(CONTENTS[0]))

    async def attack(siege: Siege) -> None:
        async with siege.client(CARL) as client:
            silent: list[Any] = []
            for _ in range(3 * calls.PEER_CALLS_MAX):
                call: Any = client._channel.stream_stream(SYNC)()
                await call.initial_metadata()
                silent.append(call)
            for call in silent[:-1]:  # ended, or refused where too many are open yet
                with contextlib.suppress(grpc.aio.AioRpcError):
                    while await call.read() is not grpc.aio.EOF:
                        pass
            began = time.monotonic()
            await siege.feeds(CLEO, news)
            assert time.monotonic() - began < PATIENCE_S
            assert siege.node.connected().count(node_of(CARL).public) == 1
            silent[-1].cancel()

    fortress.takes([news], attack)


def test_slow_loris_at_the_join_port(
    fortress: Fortress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A joiner that falls silent is let go after the stated time, and the next comes in."""
    monkeypatch.setattr(server, "JOIN_PROGRESS_S", 0.3)

    async def attack(siege: Siege) -> None:
        credentials = grpc.ssl_channel_credentials(root_for(siege.node.me))
        place = _target(siege.node.join_addresses[0])
        hello = to_join_frame(JoinHello(fortress.space)).SerializeToString()
        async with grpc.aio.secure_channel(
            place, credentials, _pinned_options()
        ) as channel:
            waiting: list[Any] = [channel.stream_stream(JOIN)() for _ in range(8)]
            for number, call in enumerate(waiting):
                await call.initial_metadata()
                if number % 2:
                    await call.write(hello)
            began = time.monotonic()
            for call in waiting:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    while await call.read() is not grpc.aio.EOF:
                        pass
                assert await call.code() is grpc.StatusCode.UNAVAILABLE
            assert time.monotonic() - began < PATIENCE_S

    fortress.withstands(None, attack)


def test_slow_loris_that_takes_no_answer(fortress: Fortress) -> None:
    """A stream whose other end reads nothing costs its queue; others go on."""
    news = fortress.next(CLEO, add_of(CONTENTS[0]))

    async def attack(siege: Siege) -> None:
        async with siege.raw(CARL) as call:
            await call.write(framed(HELLO))
            await until(lambda: bool(siege.node.connected()), "its stream")
            began = time.monotonic()
            await siege.feeds(CLEO, news)
            assert time.monotonic() - began < PATIENCE_S
            call.cancel()

    fortress.takes([news], attack)
