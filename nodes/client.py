"""How a node, or its command line, calls another: one channel, one pinned root.

Owns dialling. Does not own what is said: handlers are given an open stream, and only once
the other side has let us in.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Self

import grpc

from crdtmerge.errors import UnreachableError
from crdtmerge.sync.messages import Message
from crdtmerge.sync.transfer import Wanted

from .channel import (
    WRITE_PROGRESS_S,
    Options,
    Plain,
    Stream,
    answered,
    as_end,
    channel_options,
    peer_error,
    within,
)
from .convert import (
    from_frame,
    from_join_frame,
    to_fetch_request,
    to_frame,
    to_join_frame,
)
from .gossip import KEEPALIVE_S
from .health import check
from .join_messages import JoinMessage
from .limits import CONTROL_BYTES_MAX
from .ports import socket_target
from .tls import PEER_NAME, Leaf, root_for
from .wire import replica_pb2 as wire
from .wire import replica_pb2_grpc as services

CONNECT_S: Final = 10.0
"""How long a peer may take to let us in."""
READ_PROGRESS_S: Final = 60.0
"""How long a fetch may stand still, and a host of a joining be silent."""
CLOSE_S: Final = 2.0
"""How long the other side may take to end a stream that we have ended."""
BACKOFF_MIN_S: Final = 1
BACKOFF_MAX_S: Final = 15

Handler = Callable[
    [AsyncIterator[Message], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
"""Talks on an open sync stream until it returns."""
Answer = Callable[[wire.FetchRequest], AsyncGenerator[wire.Lent, None]]
"""Yields what is sent on a lent call, in answer to what was asked on it."""
JoinHandler = Callable[
    [AsyncIterator[JoinMessage], Callable[[JoinMessage], Awaitable[None]]],
    Awaitable[None],
]
"""Talks on an open join stream until it returns."""


class ReplicaClient:
    """A channel to one member: it is the pinned peer or no one."""

    def __init__(self, address: str, peer: bytes, leaf: Leaf) -> None:
        """Prepare a channel to `peer` at `address`; nothing is dialled before a call."""
        self._who = f"peer {peer.hex()[:12]} at {address}"
        credentials = grpc.ssl_channel_credentials(
            root_for(peer), leaf.key_pem, leaf.chain_pem
        )
        options = _pinned_options()
        self._use(grpc.aio.secure_channel(_target(address), credentials, options))

    def _use(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._stub: Any = services.ReplicaStub(self._channel)  # type: ignore[no-untyped-call]
        name = wire.DESCRIPTOR.services_by_name["Replica"].full_name
        self._fetch: grpc.aio.UnaryStreamMultiCallable[wire.FetchRequest, bytes] = (
            self._channel.unary_stream(
                f"/{name}/Fetch",
                request_serializer=wire.FetchRequest.SerializeToString,
            )
        )

    async def open_stream(self, handler: Handler) -> None:
        """Open a sync stream and let `handler` talk on it; return once it is closed.

        Raises:
            UnreachableError: no answer, or the peer went away.
            RefusedError: the peer does not let us in, or ended the stream.
        """
        call = _begun(self._stub.Sync, self._who)
        stream = Stream(call, self._who, from_frame, to_frame)
        await _converse(call, stream, handler, self._who)

    async def fetch(
        self, space: bytes, blob: bytes, wanted: Wanted
    ) -> AsyncGenerator[bytes, None]:
        """Yield the raw messages of a fetch reply, not yet verified.

        Raises:
            NotFoundError: the peer does not have it.
            UnreachableError: no answer, or the reply stands still.
            RefusedError: the peer does not let us in, or has no room for one more.
            MalformedMessageError: a message is larger than any may be.
        """
        request = to_fetch_request(space, blob, wanted)
        async with contextlib.aclosing(
            _replies(
                _begun(lambda: self._fetch(request), self._who),
                self._who,
                READ_PROGRESS_S,
            )
        ) as replies:
            async for reply in replies:
                yield reply

    async def health(self, seconds: float) -> dict[str, bool]:
        """Return how each part of the peer's node is, as `health` names them.

        Raises:
            UnreachableError: it did not answer within `seconds` each, or another did.
            RefusedError: it proved its key, and tells us nothing.
        """
        return await answered(check(self._channel, seconds), self._who)

    async def lend(self, answer: Answer) -> None:
        """Lend the peer a call; once it asks something on it, send what `answer` yields.

        Raises:
            UnreachableError: the peer went away, or takes nothing for too long.
            RefusedError: the peer takes no such call.
        """
        call = _begun(self._stub.Lend, self._who)
        try:
            await within(CONNECT_S, _let_in(call, self._who), self._who)
            request = await answered(call.read(), self._who)
            if request is grpc.aio.EOF:
                return
            async with contextlib.aclosing(answer(request)) as replies:
                async for reply in replies:
                    await within(WRITE_PROGRESS_S, call.write(reply), self._who)
            await answered(call.done_writing(), self._who)
            # Its end is waited for: a call that is cancelled takes along what is unread.
            await within(WRITE_PROGRESS_S, _drain(call), self._who)
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close the channel; calls under way end as unreachable."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def open_join(address: str, host: bytes, handler: JoinHandler) -> None:
    """Open a join stream to node `host` and let `handler` talk on it.

    Raises:
        UnreachableError: no answer, or the host went away.
        RefusedError: the host refused, and said why.
    """
    who = f"host {host.hex()[:12]} at {address}"
    credentials = grpc.ssl_channel_credentials(root_for(host))
    async with grpc.aio.secure_channel(
        _target(address), credentials, options=_pinned_options()
    ) as channel:
        call = services.JoinStub(channel).Join()  # type: ignore[no-untyped-call]
        stream = Stream(call, who, from_join_frame, to_join_frame, READ_PROGRESS_S)
        await _converse(call, stream, handler, who)


class ControlClient:
    """A channel to the node that runs on a home of this machine."""

    def __init__(self, path: Path) -> None:
        """Prepare a channel to the socket at `path`.

        Raises:
            MachineError: the path is longer than a unix socket allows.
        """
        options = [*channel_options(CONTROL_BYTES_MAX), *_direct_options()]
        self._channel = grpc.aio.insecure_channel(socket_target(path), options=options)
        self._stub: Any = services.ControlStub(self._channel)  # type: ignore[no-untyped-call]

    async def call(self, request: bytes) -> AsyncGenerator[bytes, None]:
        """Yield the replies to one request, both JSON documents; no deadline.

        Raises:
            UnreachableError: no node listens there, or it went away.
        """
        call = self._stub.Call(wire.ControlRequest(request_json=request))
        async with contextlib.aclosing(_replies(call, "the running node")) as replies:
            async for reply in replies:
                yield reply.reply_json

    async def health(self, seconds: float) -> dict[str, bool]:
        """Return how each part of the node is, as `health` names them.

        Raises:
            UnreachableError: no node listens there, or it did not answer within `seconds`.
        """
        return await answered(check(self._channel, seconds), "the running node")

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _target(address: str) -> str:
    """Return an address as gRPC must read it: a host and a port, nothing else.

    SUBTLE: members announce addresses, and gRPC also knows sockets of this machine
    (`unix:...`), lists, and names that a server of somebody's choice resolves.
    """
    return f"dns:///{address}"


def _begun(begin: Callable[[], Any], who: str) -> Any:
    """Return the call that `begin` starts.

    Raises:
        UnreachableError: the channel was closed meanwhile, which gRPC takes for misuse.
    """
    try:
        return begin()
    except grpc.aio.UsageError as e:
        raise UnreachableError(f"the channel to {who} is closed") from e


def _pinned_options() -> Options:
    """Return the options of a channel that knows its peer by key, not by host name."""
    return [
        *channel_options(),
        *_direct_options(),
        ("grpc.ssl_target_name_override", PEER_NAME),
        ("grpc.default_authority", PEER_NAME),
    ]


def _direct_options() -> Options:
    return [
        # SUBTLE: gRPC shares connections between channels to one address, so a new channel
        # would inherit one that was refused before we were let in.
        ("grpc.use_local_subchannel_pool", 1),
        # A proxy from the environment has no place between two nodes.
        ("grpc.enable_http_proxy", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.initial_reconnect_backoff_ms", BACKOFF_MIN_S * 1000),
        ("grpc.min_reconnect_backoff_ms", KEEPALIVE_S * 1000),
        ("grpc.max_reconnect_backoff_ms", BACKOFF_MAX_S * 1000),
    ]


async def _converse(
    call: Any,
    stream: Stream[Plain],
    handler: Callable[
        [AsyncIterator[Plain], Callable[[Plain], Awaitable[None]]], Awaitable[None]
    ],
    who: str,
) -> None:
    """Wait until we are let in, let `handler` talk, then close the stream in order."""
    try:
        await within(CONNECT_S, _let_in(call, who), who)
        await handler(stream, stream.send)
        await answered(call.done_writing(), who)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await answered(_drain(call), who)
    finally:
        call.cancel()


async def _let_in(call: Any, who: str) -> None:
    """Wait for the first sign of the other side, which it gives once it let us in."""
    await call.initial_metadata()
    if call.done() and (code := await call.code()) is not grpc.StatusCode.OK:
        raise peer_error(code, await call.details(), who)


async def _drain(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def _replies(
    call: Any, who: str, progress_s: float | None = None
) -> AsyncGenerator[Any, None]:
    """Yield what a server streams; the call ends with the generator."""
    end = as_end(call)
    try:
        while (reply := await within(progress_s, end.read(), who)) is not grpc.aio.EOF:
            yield reply
    finally:
        call.cancel()
