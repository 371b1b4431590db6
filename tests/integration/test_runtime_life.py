"""A running node under load, and its end with work under way."""

import asyncio
import threading
import time
from pathlib import Path
from typing import cast

import pytest

from crdtmerge.digest import CHUNK_BYTES
from crdtmerge.errors import MachineError
from nodes.choices import InFlight
from nodes.effects import Fetch, Input, Source
from nodes.home import open_home
from nodes.node import Node
from nodes.runtime import Runtime
from nodes.tls import make_leaf
from tests.integration.living import (
    AFTER,
    ANY_PORT,
    BEFORE,
    admit,
    found,
    homes,
    living,
    offer,
    run,
    tensors,
    until,
)


def test_the_loop_goes_on_while_a_command_commits(tmp_path: Path) -> None:
    """The lock of the sets is held across a sync: peers are served meanwhile."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)

        async def works() -> None:
            async with living(owner) as host, living(guest, host):
                await until(lambda: bool(host.connected()), "a stream")
                held, free = threading.Event(), threading.Event()

                def hold() -> None:
                    with host.spaces.lock:
                        held.set()
                        free.wait(5)

                holding = asyncio.ensure_future(asyncio.to_thread(hold))
                await asyncio.to_thread(held.wait)
                longest, last = 0.0, time.monotonic()
                for _ in range(130):  # a tick of each node falls in
                    await asyncio.sleep(0.01)
                    longest, last = (
                        max(longest, time.monotonic() - last),
                        time.monotonic(),
                    )
                free.set()
                await holding
                assert longest < 1

        run(works())


def test_two_dials_at_once_end_as_one_stream(tmp_path: Path) -> None:
    """Each knows the other and both dial: one stream stays, and nobody is banished."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)

        async def meet() -> None:
            async with living(owner) as host, living(guest) as other:
                host.node.bootstrap[other.me] = other.addresses
                other.node.bootstrap[host.me] = host.addresses

                def same() -> bool:
                    roots = {n.spaces.opset(space).root for n in (host, other)}
                    return len(roots) == 1

                await until(same, "equal roots")
                for _ in range(10):
                    await asyncio.sleep(0.05)
                assert host.connected() == [other.me]
                assert other.connected() == [host.me]
                for node in (host, other):
                    assert node.node._backoff._banished_until == {}

        run(meet())


def test_a_node_ends_in_the_middle_of_a_fetch(tmp_path: Path) -> None:
    """What has arrived is found again; the home is free at once."""
    data = bytes(range(256)) * (64 * CHUNK_BYTES // 256)
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)
        owner.blobs.put(data)
        owner.records.append(space, [offer(owner, space, tensors(data))])
        blob = tensors(data).tensors[0].blob

        async def meet() -> None:
            async with living(owner) as host:
                async with living(guest, host):
                    partial = guest.path / "partial" / blob.hex()
                    await until(partial.exists, "the first chunk")
                assert not guest.blobs.has(blob)
                guest.close()
                again = open_home(guest.path, write=True, purpose="node")
                try:
                    async with living(again, host):
                        await until(lambda: again.blobs.has(blob), "the rest")
                finally:
                    again.close()

        run(meet())


class Broken:
    """A node whose store fails at the next input."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def handle(self, _: Input, __: float) -> None:
        """Fail."""
        raise self.error


@pytest.mark.parametrize("error", [MachineError("bad disk"), KeyError("a bug")])
def test_a_node_whose_store_failed_stops(tmp_path: Path, error: Exception) -> None:
    """Nothing goes on half done, and the failure is told."""
    with homes(tmp_path, "owner") as (owner,):
        found(owner)

        async def fails() -> None:
            runtime = Runtime(owner, make_leaf(owner.node.unlock(), BEFORE, AFTER))
            try:
                await runtime.start(ANY_PORT, ANY_PORT, "")
                runtime.node = cast(Node, Broken(error))
                await asyncio.wait_for(runtime.stopping.wait(), 5)
            finally:
                await runtime.stop()
            assert runtime.failure is error

        run(fails())


def test_a_failed_fetch_frees_its_place(tmp_path: Path) -> None:
    """From a peer with no address it fails at once, and the node hears of it."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)

        async def asks() -> None:
            async with living(owner) as host:
                blob = tensors(b"x").tensors[0].blob
                sources = (Source(guest.node.public, space),)
                peers = (guest.node.public,)
                flying = InFlight(
                    1,
                    frozenset({space}),
                    peers,
                    urgent=False,
                    author=guest.author.public,
                )
                host.node.choices.flying[blob] = flying
                host._perform(Fetch(blob, 1, sources))
                await until(
                    lambda: not host.node.choices.flying, "the end of the fetch"
                )

        run(asks())
