"""Trying whether a peer answers at an address that it announced.

Owns what is tried, and what is said of it. Does not own who may ask, or how often
(`probing`).

A member may announce whatever address it likes, so nothing is tried that only we can reach:
an address inside of a network (loopback, private, of a link) is tried if the peer's own
stream comes from there, and else left alone. A name is looked up once, and what it stands
for is what is called. One connection is opened to see whether anything listens, and one
that only the peer's key can answer.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.errors import CrdtMergeError, UnreachableError
from crdtmerge.sync.messages import SEEN_FROM_MAX, Outcome, Probed

from .client import ReplicaClient
from .tls import Leaf

STEP_S: Final = 3.0
"""How long each of name, connection and handshake may take."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
IPV6: Final = 6
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Trial:
    """Whom to find: its key, and where its open stream comes from or was dialled."""

    peer: bytes
    origin: str
    """The host that its stream comes from; empty if we dialled."""
    dialled: str
    """The address where we dialled it; empty if it dialled us."""
    leaf: Leaf = field(repr=False)


async def tried(trial: Trial, addresses: Sequence[str]) -> list[Probed]:
    """Return what was found at each address."""
    outcomes = await asyncio.gather(*(_outcome(trial, a) for a in addresses))
    return [
        Probed(address, int(outcome))
        for address, outcome in zip(addresses, outcomes, strict=True)
    ]


def host_in(target: str) -> str:
    """Return the host in an address as gRPC writes those of callers; empty if none."""
    kind, _, rest = target.partition(":")
    host = rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "")
    host = host.strip("[]")
    known = kind in {"ipv4", "ipv6"} and _parsed(host) is not None
    return host if known and len(host) <= SEEN_FROM_MAX else ""


def may_try(address: Address, origin: Address | None) -> bool:
    """Tell whether calling `address` can reach nobody but the public, or the asker."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return may_try(address.ipv4_mapped, origin)
        if address.sixtofour or address.teredo or address in _NAT64:
            return (
                False  # what they lead to is another address, maybe inside of a network
            )
    if address == origin:
        return True
    return address.is_global and not address.is_multicast


def _parsed(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


async def _outcome(trial: Trial, address: str) -> Outcome:
    if address == trial.dialled:
        return Outcome.REACHED  # the stream that this is asked on was opened there
    host, _, port = address.rpartition(":")
    found = await _looked_up(host.strip("[]"), int(port))
    if not found:
        return Outcome.NOWHERE
    origin = _parsed(trial.origin)
    public = [ip for ip in found if may_try(ip, origin)]
    if not public:
        return Outcome.OURS
    ip = public[0]
    nothing = await _listens(str(ip), int(port))
    if nothing is not None:
        return nothing
    literal = f"[{ip}]" if ip.version == IPV6 else str(ip)
    return await _proved(trial, f"{literal}:{port}")


async def _looked_up(host: str, port: int) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(STEP_S):
            rows = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        return []
    found = (_parsed(str(row[4][0])) for row in rows)
    return [address for address in found if address is not None]


async def _listens(host: str, port: int) -> Outcome | None:
    """Return why nothing can be said there; None if something listens."""
    try:
        async with asyncio.timeout(STEP_S):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return Outcome.REFUSED
    except (OSError, TimeoutError):
        return Outcome.SILENT
    writer.close()
    return None


async def _proved(trial: Trial, address: str) -> Outcome:
    """Tell whether the peer's own key answers."""
    async with ReplicaClient(address, trial.peer, trial.leaf) as client:
        try:
            await client.health(STEP_S)
        except UnreachableError:
            return Outcome.STRANGER
        except CrdtMergeError:
            return Outcome.REACHED  # it proved its key, and only then refused
    return Outcome.REACHED
