"""Where a node listens: a TCP port, or a unix socket of its home.

Owns taking an address, and saying clearly why one cannot be taken. Does not own what is
served there.
"""

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final
from urllib.parse import quote

import grpc

from crdtmerge.errors import BadInputError, ConflictError, CrdtMergeError, MachineError

SOCKET_PATH_BYTES_MAX: Final = 100
"""Systems allow 104 to 108."""
PORT_MAX: Final = 65535

_PRIVATE_UMASK: Final = 0o177


def join_address(host: str, port: int) -> str:
    """Return `host` and `port` as one address; an IPv6 host gets its brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def claim_port(
    server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials
) -> int:
    """Bind `server` and return the port, which the system chooses if it is 0.

    Raises:
        ConflictError: the port is in use.
        BadInputError: `host` is no address of this machine.
        MachineError: the system does not let us.
    """
    host = host.removeprefix("[").removesuffix("]")
    # gRPC only says that it failed: a trial by ourselves knows why.
    _try_port(host, port)
    try:
        return server.add_secure_port(join_address(host, port), credentials)
    except RuntimeError as e:
        raise _in_use(host, port) from e


def _try_port(host: str, port: int) -> None:
    if not 0 <= port <= PORT_MAX:
        raise BadInputError(f"port {port} is not in 0 to {PORT_MAX}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except (OSError, UnicodeError) as e:
        raise _port_error(e, host, port) from e


def _port_error(error: OSError | UnicodeError, host: str, port: int) -> CrdtMergeError:
    number = None if isinstance(error, UnicodeError) else error.errno
    if number == errno.EADDRINUSE:
        return _in_use(host, port)
    if number in (errno.EACCES, errno.EPERM):
        return MachineError(
            f"the system does not let us listen on {join_address(host, port)}",
            hint="ports below 1024 are often reserved; choose a higher one",
        )
    if isinstance(error, socket.gaierror | UnicodeError) or number in (
        errno.EADDRNOTAVAIL,
        errno.EINVAL,
    ):
        return BadInputError(
            f"{host!r} is no address of this machine",
            hint="listen on 0.0.0.0 for all of them",
        )
    return MachineError(f"cannot listen on {join_address(host, port)}: {error}")


def _in_use(host: str, port: int) -> ConflictError:
    return ConflictError(
        f"port {port} of {host} is in use",
        hint="stop what uses it, or listen on another port (0 lets the system choose)",
    )


def socket_target(path: Path) -> str:
    """Return the gRPC name of the unix socket at `path`.

    Raises:
        MachineError: the path is longer than systems allow, or holds a comma.
    """
    absolute = os.path.abspath(path)  # noqa: PTH100  resolve() would follow links
    length = len(os.fsencode(absolute))
    if length > SOCKET_PATH_BYTES_MAX:
        raise MachineError(
            f"the path of the control socket has {length} bytes, above the "
            f"{SOCKET_PATH_BYTES_MAX} that a unix socket allows",
            hint="use a home with a shorter path",
        )
    if "," in absolute:
        # gRPC reads a list of addresses there, however the comma is escaped.
        raise MachineError(
            f"the path of the control socket holds a comma: {absolute}",
            hint="use a home whose path has none",
        )
    return f"unix:{quote(absolute)}"


def claim_socket(server: grpc.aio.Server, path: Path) -> None:
    """Bind `server` to a socket at `path` that only its owner may use.

    A socket left there by a process that died is removed: the caller holds the home's lock.

    Raises:
        ConflictError: something else lies at `path`.
        MachineError: the path is too long, or the system does not let us.
    """
    target = socket_target(path)
    remove_socket(path)
    # SUBTLE: the mask, not a chmod afterwards: no moment when others could connect.
    before = os.umask(_PRIVATE_UMASK)
    try:
        server.add_insecure_port(target)
    except RuntimeError as e:
        raise MachineError(
            f"cannot listen on {path}", hint="check that its folder can be written"
        ) from e
    finally:
        os.umask(before)


def remove_socket(path: Path) -> None:
    """Remove the socket at `path`, if there is one.

    Raises:
        ConflictError: something else lies there.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConflictError(
                f"{path} is in the way: it is no socket", hint="move it elsewhere"
            )
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as e:
        raise MachineError(f"cannot remove {path}: {e.strerror}") from e
