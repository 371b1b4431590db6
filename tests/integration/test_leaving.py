"""How a node leaves: what is under way ends, peers are told, and nobody storms its port."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crdtmerge.digest import CHUNK_BYTES
from nodes import runtime as runtimes
from nodes.gossip import LEFT_S
from nodes.home import Home
from nodes.runtime import Runtime
from nodes.tls import make_leaf
from nodes.traffic import Limits
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

DATA = bytes(range(256)) * (4 * CHUNK_BYTES // 256)
RATE = 4 * CHUNK_BYTES


@contextlib.asynccontextmanager
async def thin(home: Home) -> AsyncIterator[Runtime]:
    """Run a node that sends slowly."""
    leaf = make_leaf(home.node.unlock(), BEFORE, AFTER)
    node = Runtime(home, leaf, limits=Limits(upload=RATE))
    try:
        await node.start(ANY_PORT, ANY_PORT, "")
        yield node
    finally:
        await node.stop()


def refused(address: str) -> bool:
    """Tell whether nobody listens there."""
    host, _, port = address.rpartition(":")
    with socket.socket() as trial:
        return trial.connect_ex((host, int(port))) != 0


@pytest.mark.parametrize("patience", [5.0, 0.3])
def test_what_a_peer_fetches_ends_or_is_cut_off_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """The port is closed at once, and what goes on is bounded."""
    monkeypatch.setattr(runtimes, "DRAIN_S", patience)
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)
        owner.blobs.put(DATA)
        manifest = tensors(DATA)
        owner.records.append(space, [offer(owner, space, manifest)])
        blob = manifest.tensors[0].blob

        async def meet() -> None:
            async with thin(owner) as host, living(guest, host):
                partial = guest.path / "partial" / blob.hex()
                await until(partial.exists, "the first chunk")
                began = time.monotonic()
                draining = asyncio.ensure_future(host.drain())
                await asyncio.sleep(0.2)
                assert refused(host.addresses[0])
                await draining
                assert time.monotonic() - began < patience + 10
                await asyncio.sleep(0.3)
                assert guest.blobs.has(blob) == (patience == 5.0)

        run(meet())


def test_a_peer_that_was_told_does_not_dial_for_a_while(tmp_path: Path) -> None:
    """No failure is counted, and the closed port is left alone until it may be open."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)

        async def meet() -> None:
            async with living(owner) as host, living(guest, host) as joiner:
                await until(lambda: joiner.connected() == [host.me], "a stream")
                await until(lambda: host.connected() == [joiner.me], "a stream")
                await asyncio.sleep(0.3)
                before = joiner.links.dials.total()
                now = time.monotonic()
                await host.stop()
                await until(lambda: joiner.connected() == [], "the end of it")
                backoff = joiner.node._backoff
                assert host.me not in backoff._failures
                assert backoff._not_before[host.me] > now + 0.2 * LEFT_S
                await asyncio.sleep(1.5)
                assert joiner.links.dials.total() == before + 1  # that one ended
                assert joiner.links.ended["heard goodbye"] == 1
                assert host.links.ended["said goodbye"] == 1

        run(meet())


def test_a_node_that_was_killed_is_dialled_again_soon(tmp_path: Path) -> None:
    """Without a goodbye it is a failure like any other: the line may be back at once."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)

        async def meet() -> None:
            async with living(owner) as host, living(guest, host) as joiner:
                await until(lambda: joiner.connected() == [host.me], "a stream")
                await until(lambda: bool(host.connected()), "a stream")
                host.links._open[joiner.me].closed.set()
                await until(lambda: joiner.links.opened.total() >= 2, "another stream")
                assert joiner.links.ended["heard goodbye"] == 0

        run(meet())


@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_sigterm_ends_a_process_in_order(tmp_path: Path, times: int) -> None:
    """Exit code 0, no socket left behind; who is told twice does not wait."""
    with homes(tmp_path, "owner") as (owner,):
        found(owner)
        path = owner.path
    argv = [sys.executable, "-m", "nodes.cli", "node", "run", "--json"]
    env = {**os.environ, "CRDTMERGE_HOME": str(path)}
    node = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True)
    assert node.stdout is not None
    with node.stdout:
        assert "addresses" in node.stdout.readline()
        for _ in range(times):
            node.send_signal(signal.SIGTERM)
        assert node.wait(15) == 0
    assert not (path / "control.sock").exists()
