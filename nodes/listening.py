"""What every port of a node has in common: its limits, its start, who shakes hands there.

Owns the options of servers, the limits of connections, and the TLS of the sync and the join
port. Does not own what is served (`server`), nor the address (`ports`).

Whoever can reach a port costs it a connection and a handshake before we know of a caller.
gRPC bounds both for us: so many connections, and so many seconds until one has a name.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import grpc

from .channel import Options, channel_options
from .limits import FRAME_BYTES_MAX
from .tls import Leaf, root_for

T = TypeVar("T")

CONNECTIONS_MAX: Final = 1024
"""Connections of one port at once, with those that are still shaking hands; one more is
closed as it comes. Each peer has one for its stream, and one more if it fetches from us
over a stream that we dialled."""
JOIN_CONNECTIONS_MAX: Final = 256
HANDSHAKE_S: Final = 10
"""How long a caller may take to shake hands; as long as it waits for us to let it in."""
IDLE_S: Final = 120
"""After so many seconds without a call a connection is closed; a stream is a call."""
STREAMS_PER_CONNECTION_MAX: Final = 64


def server_options(
    receive_bytes_max: int = FRAME_BYTES_MAX, connections_max: int = CONNECTIONS_MAX
) -> Options:
    """Return the options of a server."""
    return [
        *channel_options(receive_bytes_max),
        # gRPC shares ports by default: a second node would take half of our calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
        ("grpc.max_allowed_incoming_connections", connections_max),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_S * 1000),
        ("grpc.max_connection_idle_ms", IDLE_S * 1000),
    ]


async def started(server: grpc.aio.Server, claim: Callable[[], T]) -> T:
    """Start `server` on what `claim` binds and returns; a failure leaves nothing open."""
    try:
        bound = claim()
        await server.start()
    except BaseException:
        await server.stop(None)
        raise
    return bound


class Roots:
    """The members whose leaves a handshake accepts; gRPC asks at each handshake."""

    def __init__(self, leaf: Leaf) -> None:
        """Accept nobody yet; `leaf` is what we show."""
        self._leaf = leaf
        self._served: frozenset[bytes] | None = None
        self.members: frozenset[bytes] = frozenset()
        self.handshakes = 0
        """Handshakes that callers began, since the start."""

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a port that asks for a certificate is bound with."""
        self._served = self.members
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._leaf, self._served),
            self._changed,  # type: ignore[arg-type]  # None means no change
            require_client_authentication=True,
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        # SUBTLE: runs in threads of gRPC's, but one at a time: it holds a lock of the port.
        self.handshakes += 1
        members = self.members
        if members == self._served:
            return None
        configuration = _configuration(self._leaf, members)
        self._served = members
        return configuration


def _configuration(
    leaf: Leaf, members: frozenset[bytes]
) -> grpc.ServerCertificateConfiguration:
    # SUBTLE: gRPC does not say what an empty list of roots means, so it never gets one. Our
    # own root lets nobody in: each call is checked against membership too.
    roots = b"".join(root_for(node) for node in sorted(members or {leaf.node}))
    return grpc.ssl_server_certificate_configuration(
        [(leaf.key_pem, leaf.chain_pem)], root_certificates=roots
    )


class Welcoming:
    """The handshakes of a port that asks callers for no certificate."""

    def __init__(self, leaf: Leaf) -> None:
        """Show `leaf`."""
        pair = (leaf.key_pem, leaf.chain_pem)
        self._configuration = grpc.ssl_server_certificate_configuration([pair])
        self.handshakes = 0
        """Handshakes that callers began, since the start."""

    def credentials(self) -> grpc.ServerCredentials:
        """Return what the port is bound with."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration,
            self._count,  # type: ignore[arg-type]  # None means no change
        )

    def _count(self) -> None:
        self.handshakes += 1
