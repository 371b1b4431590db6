"""Members on the local network, by mDNS: python-zeroconf speaks it, and is optional.

Owns announcing this node and finding others. Does not own the sign in the announcement
(`blinding`), nor who is dialled. Whatever is heard may be a lie: it is a place to try.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from crdtmerge.bodies import SpaceId, is_address
from crdtmerge.errors import BadInputError, ConflictError

from .blinding import SIGN_BYTES, sign_of, whose

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncZeroconf

SERVICE: Final = "_crdtmerge._tcp.local."
RENEW_S: Final = 3600.0
"""How long one sign is used; then another, under a name that looks like a new node's."""
LOOK_S: Final = 30.0
"""How often it is looked whether spaces or members changed: then the sign is another, and
who was nobody may be a member."""
ASK_MS: Final = 3000
HEARD_MAX: Final = 256
"""Announcements looked at; more are not until one of them is gone."""

Found = Callable[[bytes, tuple[str, ...]], None]


class LocalNetwork:
    """One node's announcement, and what it hears of others."""

    def __init__(
        self,
        node: bytes,
        members: Callable[[], Mapping[SpaceId, Iterable[bytes]]],
        found: Found,
        rng: random.Random,
    ) -> None:
        """`members` are the nodes of each space now; `found` hears where one listens."""
        self._node = node
        self._members = members
        self._found = found
        self._rng = rng
        self._net: AsyncZeroconf | None = None
        self._browser: Any = None
        self._info: Any = None
        self._heard: dict[str, tuple[bytes, tuple[str, ...]] | None] = {}
        """By name of an announcement whose it is and where; None until that is known."""
        self._asking: set[asyncio.Task[None]] = set()

    async def run(self, port: int, interfaces: Sequence[str] | None = None) -> None:
        """Announce `port` and look for members, until cancelled.

        Raises:
            BadInputError: the library is not installed.
            ConflictError: the network does not let us.
        """
        try:
            from zeroconf import InterfaceChoice
            from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf
        except ImportError as e:
            raise BadInputError(
                "--mdns needs the package zeroconf",
                hint="pip install 'crdtmerge[mdns]'",
            ) from e
        chosen = list(interfaces) if interfaces else InterfaceChoice.Default
        try:
            self._net = AsyncZeroconf(interfaces=chosen)
        except OSError as e:
            raise ConflictError(f"mDNS cannot be used here: {e}") from e
        try:
            self._browser = AsyncServiceBrowser(
                self._net.zeroconf, SERVICE, handlers=[self._changed]
            )
            while True:
                await self._announce(port, interfaces)
                await self._until_renewed()
        finally:
            await self._close()

    async def _until_renewed(self) -> None:
        """Wait until it is time for another sign; look again at whom we did not know."""
        loop, before = asyncio.get_running_loop(), self._known()
        spaces, end = before.keys(), loop.time() + RENEW_S
        while loop.time() < end:
            await asyncio.sleep(LOOK_S)
            now = self._known()
            if now != before:
                for name in [name for name, said in self._heard.items() if not said]:
                    self._look_at(name)
            if now.keys() != spaces:
                return
            before = now

    def _known(self) -> dict[SpaceId, frozenset[bytes]]:
        return {space: frozenset(nodes) for space, nodes in self._members().items()}

    async def _announce(self, port: int, interfaces: Sequence[str] | None) -> None:
        """Take another name and sign, and then let go of the one before."""
        from zeroconf.asyncio import AsyncServiceInfo

        assert self._net is not None
        name = self._rng.randbytes(8).hex()
        sign = sign_of(self._node, self._members(), self._rng)
        info = AsyncServiceInfo(
            SERVICE,
            f"{name}.{SERVICE}",
            port=port,
            properties={"s": sign.hex()},
            server=f"{name}.local.",
            parsed_addresses=list(interfaces or _own_addresses()),
        )
        before, self._info = self._info, info
        await (await self._net.async_register_service(info))
        if before is not None:
            await (await self._net.async_unregister_service(before))

    async def _close(self) -> None:
        for task in list(self._asking):
            task.cancel()
        assert self._net is not None
        if self._browser is not None:
            await self._browser.async_cancel()
        if self._info is not None:
            await (await self._net.async_unregister_service(self._info))
        await self._net.async_close()

    def _changed(
        self,
        zeroconf: Any,  # noqa: ARG002  the library names its arguments
        service_type: str,  # noqa: ARG002  the same
        name: str,
        state_change: Any,
    ) -> None:
        """Hear that an announcement is there, is another, or is gone."""
        if state_change.name == "Removed":
            self._gone(self._heard.pop(name, None))
        elif name in self._heard or len(self._heard) < HEARD_MAX:
            self._heard.setdefault(name, None)
            self._look_at(name)

    def _look_at(self, name: str) -> None:
        assert self._net is not None
        task = asyncio.ensure_future(self._look(self._net.zeroconf, SERVICE, name))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def _gone(self, said: tuple[bytes, tuple[str, ...]] | None) -> None:
        """Tell that an announcement of a member is gone, unless another of it is there.

        SUBTLE: who takes another sign announces that first, and then lets go of this one.
        """
        if said is not None:
            node = said[0]
            left = [
                other[1] for other in self._heard.values() if other and other[0] == node
            ]
            self._found(node, left[-1] if left else ())

    async def _look(self, zeroconf: Any, service_type: str, name: str) -> None:
        """Ask for an announcement; tell of it if it is that of a member."""
        from zeroconf.asyncio import AsyncServiceInfo

        info = AsyncServiceInfo(service_type, name)
        if not await info.async_request(zeroconf, ASK_MS) or name not in self._heard:
            return
        node = whose(_sign(info.properties), self._members())
        if node is None or node == self._node:
            return
        places = [_place(host, info.port) for host in info.parsed_addresses()]
        good = tuple(place for place in places if is_address(place))
        if good:
            self._heard.pop(name)  # the newest last
            self._heard[name] = node, good
            self._found(node, good)


def _sign(properties: Mapping[Any, Any]) -> bytes:
    value = properties.get(b"s") or b""
    try:
        return bytes.fromhex(value.decode("ascii")[: 2 * SIGN_BYTES])
    except ValueError:
        return b""


def _place(host: str, port: int | None) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _own_addresses() -> list[str]:
    """Return the addresses of this machine that others on its networks may reach."""
    import ifaddr

    found = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    return sorted(ip for ip in found if isinstance(ip, str) and ip != "127.0.0.1")
