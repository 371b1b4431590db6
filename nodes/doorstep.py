"""How often one host may knock, and how many are let in at once: joiners have no name yet.

Owns the limits of the join port, before anything is read. Does not own calls (`calls`), nor
what a joiner must show (`join`): the secret of a ticket first, which costs us no signature.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from crdtmerge.errors import OverloadedError
from crdtmerge.sync.pace import Slots

from .quotas import Buckets

JOINS_MAX: Final = 32
"""Joinings under way at once."""
JOINS_OF_HOST_MAX: Final = 8
"""Those of one host; who shares it, as behind one router, waits for a moment."""
JOIN_RATE: Final = 2.0
"""Joinings a second that one host may begin, after as many as these seconds bring:"""
JOIN_BURST_S: Final = 16.0
PATIENCE_S: Final = 20.0
"""How long one may wait at the door: less than a joiner waits for our first word."""
POLL_S: Final = 0.05


def host_of(peer: str) -> bytes:
    """Return who a caller counts as: its address, of IPv6 the network it may choose in."""
    address = unquote(peer).rpartition(":")[0]
    if address.startswith("ipv6:"):
        text = address.removeprefix("ipv6:").strip("[]").partition("%")[0]
        with contextlib.suppress(ValueError):
            return ipaddress.IPv6Address(text).packed[:8]
    return address.encode()


@dataclass(slots=True)
class Doorstep:
    """Who waits, and who is let in; on one event loop."""

    clock: Callable[[], float] | None = None
    """Seconds that only grow; those of the running loop if it is left out."""
    _slots: Slots = field(default_factory=lambda: Slots(JOINS_MAX, JOINS_OF_HOST_MAX))
    _hosts: Buckets = field(default_factory=lambda: Buckets(JOIN_RATE, JOIN_BURST_S))

    def knock(self, host: bytes, now: float) -> float:
        """Return how many seconds a caller must wait before it is heard.

        Raises:
            OverloadedError: too many of its host wait already. It costs them nothing, so
                that who knocks without end cannot keep its neighbours out for long.
        """
        bucket = self._hosts.of(host)
        if bucket.wait(now) > PATIENCE_S:
            raise OverloadedError("too many joinings from there; try again in a minute")
        bucket.take(1, now)
        return bucket.wait(now)

    @contextlib.asynccontextmanager
    async def place(self, host: bytes) -> AsyncIterator[None]:
        """Lend a place to one joining, as soon as it is its turn.

        Raises:
            OverloadedError: there was none for too long.
        """
        clock = self.clock or asyncio.get_running_loop().time
        end = clock() + PATIENCE_S
        await asyncio.sleep(self.knock(host, clock()))
        while not self._slots.take(host):
            if clock() > end:
                raise OverloadedError("no room for one more joining; try again")
            await asyncio.sleep(POLL_S)
        try:
            yield
        finally:
            self._slots.give_back(host)
