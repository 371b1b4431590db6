"""Whether a node does its work: asked by probes, members and the command line."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nodes import calls, cli, health
from nodes.client import ControlClient, ReplicaClient
from nodes.ports import socket_target
from nodes.runtime import Runtime
from nodes.tls import make_leaf
from tests.integration.living import (
    AFTER,
    BEFORE,
    admit,
    found,
    homes,
    living,
    replica,
    run,
    until,
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def asked(node: Runtime) -> dict[str, bool]:
    """Ask as the command line does."""
    async with ControlClient(node.home.control_socket) as client:
        return await client.health(5)


async def told(node: Runtime, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    """Run the command beside the node; return its exit code and what it printed."""
    words = ["--home", str(node.home.path), "node", "health", "--json"]
    code = await asyncio.to_thread(cli.run, words)
    out, err = capsys.readouterr()
    return code, json.loads(err if code else out)


def test_a_running_node_is_well_until_it_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A probe that knows nothing of us hears it too, at the control socket."""
    with homes(tmp_path, "owner") as (owner,):
        found(owner)

        async def lives() -> None:
            async with living(owner) as node:
                assert all((await asked(node)).values())
                code, facts = await told(node, capsys)
                assert (code, facts["serving"]) == (0, True)
                target = socket_target(node.home.control_socket)
                async with grpc.aio.insecure_channel(target) as channel:
                    stub = health_pb2_grpc.HealthStub(channel)
                    listed = await stub.List(health_pb2.HealthListRequest())
                    assert set(listed.statuses) == set(health.PARTS)
                    watching = stub.Watch(health_pb2.HealthCheckRequest(service=""))
                    assert (await watching.read()).status == SERVING
                    await node.drain()
                    assert (await watching.read()).status == NOT_SERVING
                    unknown = health_pb2.HealthCheckRequest(service="x" * 1000)
                    with pytest.raises(grpc.aio.AioRpcError) as refusal:
                        await stub.Watch(unknown).read()
                    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
                code, facts = await told(node, capsys)
                assert (code, facts["error"]["type"]) == (5, "ConflictError")
                assert health.SYNC in facts["error"]["message"]
            code, facts = await told(node, capsys)
            assert (code, facts["error"]["type"]) == (5, "NodeNeededError")

        run(lives())


class Standing:
    """Stands in the way of the node's turns until it is let go."""

    def __init__(self, handle: Callable[..., Any]) -> None:
        self.go = threading.Event()
        self._handle = handle

    def __call__(self, *given: Any) -> Any:
        """Wait, then do what the node does."""
        self.go.wait(20)
        return self._handle(*given)


def test_a_node_that_stands_still_is_not_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A turn that does not end, as on a disk that hangs, is told of by the loop."""
    monkeypatch.setattr(health, "STUCK_S", 0.5)
    with homes(tmp_path, "owner") as (owner,):
        found(owner)

        async def stands() -> None:
            async with living(owner) as node:
                standing = Standing(node.turns._handle)
                node.turns._handle = standing
                await until(lambda: node.turns.busy() > 0.5, "a turn that stands")
                await node._tell_health()
                assert await asked(node) == {
                    health.ALL: False,
                    health.SYNC: True,
                    health.TURNS: False,
                }
                code, facts = await told(node, capsys)
                assert code == 5
                assert health.TURNS in facts["error"]["message"]
                standing.go.set()
                await until(lambda: node.turns.busy() < 0.5, "the end of the turn")
                await node._tell_health()
                assert all((await asked(node)).values())

        run(stands())


def test_members_may_ask_and_others_may_not(tmp_path: Path) -> None:
    """At the sync port each question is checked, like any other call."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)

        async def asks() -> None:
            async with living(owner) as host:
                leaf = make_leaf(guest.node.unlock(), BEFORE, AFTER)
                request = health_pb2.HealthCheckRequest(service=health.SYNC)
                (address,) = host.addresses
                async with ReplicaClient(address, host.me, leaf) as client:
                    stub = health_pb2_grpc.HealthStub(client._channel)
                    assert (await stub.Check(request, timeout=5)).status == SERVING
                    ban = replica(owner, space).ban("author", guest.author.public)
                    await asyncio.to_thread(host.spaces.publish, space, [ban])
                    await until(lambda: guest.node.public not in host.trusted, "a ban")
                    for call in (
                        stub.Check(request, timeout=5),
                        stub.List(health_pb2.HealthListRequest(), timeout=5),
                        stub.Watch(request).read(),
                    ):
                        with pytest.raises(grpc.aio.AioRpcError) as refusal:
                            await call
                        denied = grpc.StatusCode.PERMISSION_DENIED
                        assert refusal.value.code() is denied

        run(asks())


def test_open_questions_of_a_member_are_bounded_and_end_with_membership(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They count as calls like others, or one member could take the places of all."""
    monkeypatch.setattr(calls, "PEER_CALLS_MAX", 2)
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)

        async def watches() -> None:
            async with living(owner) as host:
                leaf = make_leaf(guest.node.unlock(), BEFORE, AFTER)
                request = health_pb2.HealthCheckRequest(service=health.ALL)
                (address,) = host.addresses
                async with ReplicaClient(address, host.me, leaf) as client:
                    stub = health_pb2_grpc.HealthStub(client._channel)
                    watched = [stub.Watch(request) for _ in range(2)]
                    for call in watched:
                        assert (await call.read()).status == SERVING
                    with pytest.raises(grpc.aio.AioRpcError) as refusal:
                        await stub.Watch(request).read()
                    full = grpc.StatusCode.RESOURCE_EXHAUSTED
                    assert refusal.value.code() is full
                    ban = replica(owner, space).ban("author", guest.author.public)
                    await asyncio.to_thread(host.spaces.publish, space, [ban])
                    for call in watched:
                        with pytest.raises(grpc.aio.AioRpcError) as end:
                            await call.read()
                        denied = grpc.StatusCode.PERMISSION_DENIED
                        assert end.value.code() is denied

        run(watches())
