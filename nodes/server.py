"""What a node serves: sync and blobs to members, joining to strangers, control to its user.

Owns the gRPC services and who may call them. Does not own what they do: that is behind the
handlers; nor certificates (`tls`), nor addresses (`ports`).

A handler is cancelled when its caller goes away, is removed, or the server stops.
"""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
)
from pathlib import Path
from typing import Any, Final, Protocol

import grpc

from crdtmerge.errors import NotMemberError, RefusedError
from crdtmerge.sync.messages import Message
from crdtmerge.sync.transfer import Wanted

from .calls import PEER_CALLS_MAX, Calls, Context, refuse
from .channel import WRITE_PROGRESS_S, End, Stream, as_end, within
from .convert import (
    from_fetch_request,
    from_frame,
    from_join_frame,
    to_frame,
    to_join_frame,
)
from .doorstep import Doorstep, host_of
from .health import Health
from .join_messages import JoinMessage
from .limits import CONTROL_BYTES_MAX, JOINER_FRAME_BYTES_MAX
from .listening import JOIN_CONNECTIONS_MAX, Roots, Welcoming, server_options, started
from .ports import claim_port, claim_socket, remove_socket
from .tls import Leaf, peer_of
from .wire import replica_pb2 as wire
from .wire import replica_pb2_grpc as services

CALLS_MAX: Final = 1024
"""Calls of all members at once."""
JOIN_CALLS_MAX: Final = 128
"""Calls of joiners at once: those that go on, and those that wait at the door."""
JOIN_PROGRESS_S: Final = 30.0
"""How long a joiner may be silent: nobody has vouched for it yet."""
COMMANDS_MAX: Final = PEER_CALLS_MAX
"""Calls of the command line at once."""
PROBES_MAX: Final = 16
"""Questions about the health of the node beside them."""
STREAMS_END_S: Final = 10.0
"""How long streams may stay open once a server that drains takes no more calls: they are
ended long before, in order."""

_LEAF_PROPERTY: Final = "x509_pem_cert"


class SyncHandler(Protocol):
    """What the node does for members."""

    def members(self) -> frozenset[bytes]:
        """Return the node ids that may call now."""
        ...

    async def stream(
        self,
        peer: bytes,
        incoming: AsyncIterator[Message],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Serve a sync stream that `peer` opened, until this returns."""
        ...

    def fetch(
        self, peer: bytes, space: bytes, blob: bytes, wanted: Wanted
    ) -> AsyncIterator[bytes]:
        """Yield the raw messages of a fetch reply; NotFoundError if we lack the blob."""
        ...


Lent = Callable[[bytes, End, str], Coroutine[Any, Any, None]]
"""Holds a call that a peer lends, until it was used."""


class JoinHandler(Protocol):
    """What the node does for who holds a ticket."""

    async def join(
        self,
        incoming: AsyncIterator[JoinMessage],
        send: Callable[[JoinMessage], Awaitable[None]],
    ) -> None:
        """Serve the host's side of one joining, until this returns."""
        ...


class ControlHandler(Protocol):
    """What the node does for its own command line."""

    def call(self, request: bytes) -> AsyncIterator[bytes]:
        """Yield the replies to one request, both JSON documents."""
        ...


class ReplicaServer:
    """Serves members over mutual TLS; each call is checked against `members()`."""

    def __init__(
        self,
        handler: SyncHandler,
        leaf: Leaf,
        health: Health | None = None,
        lent: Lent | None = None,
    ) -> None:
        """Make a server that does not listen yet and trusts nobody.

        Members may ask how the node is, if there is a `health`, and lend it calls, if it
        takes what is `lent`.
        """
        self._lent = lent
        self._handler = handler
        self._health = health
        self.handshaking = Roots(leaf)
        self._calls = Calls()
        self._origins: dict[bytes, str] = {}
        self._server: grpc.aio.Server | None = None
        self._stopping: asyncio.Future[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port; 0 lets the system choose.

        Raises:
            ConflictError: the port is in use.
            BadInputError: `host` is no address of this machine.
        """
        server = self.built()
        credentials = self.handshaking.credentials()
        bound = await started(
            server, lambda: claim_port(server, host, port, credentials)
        )
        self._server = server
        return bound

    def built(self) -> grpc.aio.Server:
        """Return a server of all that members may call, on no port yet."""
        server = grpc.aio.server(
            options=server_options(), maximum_concurrent_rpcs=CALLS_MAX
        )
        services.add_ReplicaServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        # Fetch is not in the generated code: its replies are raw bytes, sent as they are.
        fetch: grpc.RpcMethodHandler[wire.FetchRequest, bytes] = (
            grpc.unary_stream_rpc_method_handler(
                self._fetch,
                request_deserializer=wire.FetchRequest.FromString,
            )
        )
        name = wire.DESCRIPTOR.services_by_name["Replica"].full_name
        generic = grpc.method_handlers_generic_handler(name, {"Fetch": fetch})
        server.add_generic_rpc_handlers((generic,))
        if self._health is not None:
            self._health.serve_on(server, self)
        return server

    def set_members(self, members: frozenset[bytes]) -> None:
        """Accept new connections from `members` alone, and cut off everybody else."""
        if members != self.handshaking.members:
            self.handshaking.members = members
            self._calls.cut(lambda peer: peer in members)

    @property
    def refused_calls(self) -> int:
        """How many calls were one too many of their peer, since the start."""
        return self._calls.refused

    async def drain(self, seconds: float) -> None:
        """Take no more connections and calls, and let fetches end within `seconds`.

        Open streams stay: who serves them ends them.
        """
        if self._server is not None:
            stopping = self._server.stop(seconds + STREAMS_END_S)
            self._stopping = asyncio.ensure_future(stopping)
            await self._calls.drain(seconds)

    async def stop(self, grace: float) -> None:
        """Cut off every call, give them `grace` seconds to end, and stop listening."""
        self._calls.close()
        if self._server is not None:
            await self._server.stop(grace)
        if self._stopping is not None:
            await self._stopping

    async def Sync(self, _: object, context: Context) -> None:  # noqa: N802  the proto's name
        """Serve one sync stream."""
        peer = await self.admit(context)
        stream = Stream(as_end(context), _named(peer), from_frame, to_frame)
        work = self._handler.stream(peer, stream, stream.send)
        self._origins[peer] = origin = context.peer()
        try:
            await self._calls.run(context, peer, work, lasting=True)
        finally:
            if self._origins.get(peer) is origin:
                del self._origins[peer]

    def origin(self, peer: bytes) -> str:
        """Return where the stream of `peer` comes from, as gRPC writes it; or nothing."""
        return self._origins.get(peer, "")

    async def Lend(self, _: object, context: Context) -> None:  # noqa: N802
        """Hold one call that a member lends."""
        peer = await self.admit(context)
        if self._lent is None:
            await refuse(context, RefusedError("no lent calls are taken here"))
        work = self._lent(peer, as_end(context), _named(peer))
        await self._calls.run(context, peer, work, lasting=True)

    async def _fetch(self, request: wire.FetchRequest, context: Context) -> None:
        peer = await self.admit(context)
        await self._calls.run(context, peer, self._send_blob(peer, request, context))

    async def _send_blob(
        self, peer: bytes, request: wire.FetchRequest, context: Context
    ) -> None:
        replies = self._handler.fetch(peer, *from_fetch_request(request))
        await _send_all(replies, context, _named(peer), lambda reply: reply)

    async def hold(
        self, context: Context, caller: bytes, work: Coroutine[Any, Any, None]
    ) -> None:
        """Run a question about health that stays open, as a call of its member."""
        await self._calls.run(context, caller, work, lasting=True)

    async def admit(self, context: Context) -> bytes:
        """Return who calls, if it is a member now; tell it that it is in."""
        leaf = b"".join(context.auth_context().get(_LEAF_PROPERTY, ()))
        try:
            peer = peer_of(leaf, self._handler.members())
        except NotMemberError as e:
            await refuse(context, e)
        await context.send_initial_metadata(())
        return peer


class JoinServer:
    """Serves who holds a ticket; TLS proves this node to them, and not them to us."""

    def __init__(self, handler: JoinHandler, leaf: Leaf) -> None:
        """Make a server that does not listen yet."""
        self._handler = handler
        self.handshaking = Welcoming(leaf)
        self._calls = Calls()
        self._doorstep = Doorstep()
        self._server: grpc.aio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port; raises as `ReplicaServer.start` does."""
        server = grpc.aio.server(
            options=server_options(JOINER_FRAME_BYTES_MAX, JOIN_CONNECTIONS_MAX),
            maximum_concurrent_rpcs=JOIN_CALLS_MAX,
        )
        services.add_JoinServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        credentials = self.handshaking.credentials()
        bound = await started(
            server, lambda: claim_port(server, host, port, credentials)
        )
        self._server = server
        return bound

    async def stop(self, grace: float) -> None:
        """Cut off every call, give them `grace` seconds to end, and stop listening."""
        self._calls.close()
        if self._server is not None:
            await self._server.stop(grace)

    async def Join(self, _: object, context: Context) -> None:  # noqa: N802  the proto's name
        """Serve one joining."""
        await context.send_initial_metadata(())
        stream = Stream(
            as_end(context), "a joiner", from_join_frame, to_join_frame, JOIN_PROGRESS_S
        )
        # Who has no name yet is known by the host it calls from.
        host = host_of(context.peer())
        await self._calls.run(context, host, self._serve(host, stream))

    async def _serve(self, host: bytes, stream: Stream[JoinMessage]) -> None:
        async with self._doorstep.place(host):
            await self._handler.join(stream, stream.send)


class ControlServer:
    """Serves the command line on the same machine; the socket's mode is the guard."""

    def __init__(self, handler: ControlHandler, health: Health | None = None) -> None:
        """Make a server that does not listen yet."""
        self._handler = handler
        self._health = health
        self._calls = Calls()
        self._server: grpc.aio.Server | None = None
        self._path: Path | None = None

    async def start(self, path: Path) -> None:
        """Listen at `path`, mode 0600; the caller holds the lock of the home.

        Raises:
            MachineError: the path is too long, or the system does not let us.
            ConflictError: something that is no socket lies there.
        """
        server = grpc.aio.server(
            options=server_options(CONTROL_BYTES_MAX),
            maximum_concurrent_rpcs=COMMANDS_MAX + PROBES_MAX,
        )
        if self._health is not None:
            self._health.serve_on(server, self)
        services.add_ControlServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        await started(server, lambda: claim_socket(server, path))
        self._server, self._path = server, path

    async def stop(self, grace: float) -> None:
        """Cut off every command, stop listening, and remove the socket."""
        self._calls.close()
        if self._server is not None:
            await self._server.stop(grace)
        if self._path is not None:
            remove_socket(self._path)

    async def admit(self, _: Context) -> bytes:
        """Admit who could open the socket: the user who owns the home."""
        return b""

    async def hold(
        self, _context: Context, _caller: bytes, work: Coroutine[Any, Any, None]
    ) -> None:
        """Run a question about health that stays open, beside the commands."""
        await work

    async def Call(self, request: wire.ControlRequest, context: Context) -> None:  # noqa: N802
        """Serve one command."""
        replies = self._handler.call(request.request_json)
        work = _send_all(replies, context, "the command line", _control_reply)
        await self._calls.run(context, b"", work)


def _named(peer: bytes) -> str:
    return f"peer {peer.hex()[:12]}"


def _control_reply(reply: bytes) -> wire.ControlReply:
    return wire.ControlReply(reply_json=reply)


async def _send_all(
    replies: AsyncIterator[bytes],
    context: Context,
    who: str,
    frame: Callable[[bytes], object],
) -> None:
    """Send every reply as soon as the receiver has room, then let go of the source."""
    try:
        async for reply in replies:
            await within(WRITE_PROGRESS_S, context.write(frame(reply)), who)
    finally:
        if isinstance(replies, AsyncGenerator):
            await replies.aclose()
