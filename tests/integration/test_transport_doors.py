"""Where a node listens: ports, the join port, the control socket."""

import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from crdtmerge.errors import (
    BadInputError,
    ConflictError,
    MachineError,
    RefusedError,
    UnreachableError,
)
from nodes.client import ControlClient, open_join
from nodes.join_messages import Challenge, Done, JoinHello, JoinMessage
from nodes.server import ControlServer, JoinServer, ReplicaServer
from tests.integration.peers import (
    ALICE,
    BLOB,
    HOST,
    SERVER,
    SPACE,
    Counting,
    Echo,
    Host,
    leaf_of,
    run,
    serving,
)

# --- ports ------------------------------------------------------------------------------


def test_a_port_in_use_is_a_conflict() -> None:
    """Two nodes never share a port, and the second says why it does not start."""

    async def scenario() -> None:
        async with serving(Echo(frozenset())) as served:
            port = int(served.address.rpartition(":")[2])
            for other in (
                ReplicaServer(Echo(frozenset()), leaf_of(ALICE)),
                JoinServer(Host(), leaf_of(ALICE)),
            ):
                with pytest.raises(ConflictError, match=f"port {port}") as conflict:
                    await other.start(HOST, port)
                assert conflict.value.exit_code == 5
                await other.stop(0)

    run(scenario())


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "a" * 300])
def test_a_host_of_another_machine_is_bad_input(host: str) -> None:
    """Listening where we are not is the user's mistake, and says so."""

    async def scenario() -> None:
        server = ReplicaServer(Echo(frozenset()), leaf_of(ALICE))
        with pytest.raises(BadInputError, match="no address of this machine"):
            await server.start(host, 0)

    run(scenario())


# --- joining ----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def hosting() -> AsyncIterator[str]:
    server = JoinServer(Host(), leaf_of(SERVER))
    port = await server.start(HOST, 0)
    try:
        yield f"{HOST}:{port}"
    finally:
        await server.stop(0.5)


def test_a_stranger_can_join() -> None:
    """The join port asks for no certificate, and carries the messages of joining."""
    got: list[JoinMessage] = []

    async def talk(
        incoming: AsyncIterator[JoinMessage],
        send: Callable[[JoinMessage], Awaitable[None]],
    ) -> None:
        await send(JoinHello(SPACE))
        got.append(await anext(incoming))
        await send(Done())
        got.append(await anext(incoming))

    async def scenario() -> None:
        async with hosting() as address:
            await open_join(address, SERVER.public, talk)
        assert got == [Challenge(b"n" * 32), Done()]

    run(scenario())


def test_a_joiner_is_told_why_it_is_refused() -> None:
    """The host's reason reaches the joiner."""

    async def talk(
        incoming: AsyncIterator[JoinMessage],
        send: Callable[[JoinMessage], Awaitable[None]],
    ) -> None:
        await send(JoinHello(BLOB))
        await anext(incoming)

    async def scenario() -> None:
        async with hosting() as address:
            with pytest.raises(RefusedError, match="the invite was revoked"):
                await open_join(address, SERVER.public, talk)
            with pytest.raises(UnreachableError):
                await open_join(address, ALICE.public, talk)

    run(scenario())


# --- control ----------------------------------------------------------------------------


def test_the_command_line_reaches_the_running_node(tmp_path: Path) -> None:
    """Requests go in and replies come out, also where the home's path has odd signs."""
    home = tmp_path / "100% mine? #1 ä"
    home.mkdir()
    path = home / "c.sock"

    async def scenario() -> None:
        server = ControlServer(Counting())
        await server.start(path)
        async with ControlClient(path) as control:
            assert [r async for r in control.call(b"one two")] == [b"one", b"two"]
            big = b"x" * (3 << 20)
            assert [r async for r in control.call(big)] == [big]
        await server.stop(0.5)
        assert not path.exists()

    run(scenario())


def test_the_control_socket_is_its_owners_alone(tmp_path: Path) -> None:
    """Mode 0600 whatever the mask, and the mask is as it was."""
    path = tmp_path / "c.sock"

    async def scenario() -> None:
        server = ControlServer(Counting())
        before = os.umask(0)
        try:
            await server.start(path)
            assert os.umask(0) == 0
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await server.stop(0.5)

    run(scenario())


def test_a_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    """A crash does not keep the next node from starting; other files are left alone."""
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def scenario() -> None:
        async with ControlClient(path) as control:
            with pytest.raises(UnreachableError):
                await anext(control.call(b"one"))
        server = ControlServer(Counting())
        await server.start(path)
        async with ControlClient(path) as control:
            assert [r async for r in control.call(b"one")] == [b"one"]
        await server.stop(0.5)
        path.write_text("kept")
        with pytest.raises(ConflictError, match="no socket"):
            await ControlServer(Counting()).start(path)
        assert path.read_text() == "kept"

    run(scenario())


@pytest.mark.parametrize("folder", ["x" * 100, "a,b"])
def test_a_home_that_no_socket_can_lie_in_is_said_clearly(
    tmp_path: Path, folder: str
) -> None:
    """No node starts on a socket that no client can name."""
    path = tmp_path / folder / "c.sock"

    async def scenario() -> None:
        with pytest.raises(MachineError, match="path of the control socket"):
            await ControlServer(Counting()).start(path)
        with pytest.raises(MachineError, match="path of the control socket"):
            ControlClient(path)

    run(scenario())
