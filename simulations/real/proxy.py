"""TCP proxies: connections between two ends that know nothing of what lies between.

Owns the bytes between two sockets, and how they are cut, stalled and made thin. Does not
own what they say. They see connections and no packets: nothing is lost in one, it ends.
"""

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

PIECE: Final = 1 << 16
THIN_PIECE: Final = 1 << 12
"""What goes on at once while a storm lasts."""

Place = tuple[str, int]

Works = Callable[
    [
        asyncio.StreamReader,
        asyncio.StreamWriter,
        asyncio.StreamReader,
        asyncio.StreamWriter,
    ],
    tuple[Awaitable[None], Awaitable[None]],
]
"""Both directions of one connection: near and back, far and there."""


@contextlib.asynccontextmanager
async def relaying(
    target: Place, works: Works, at: Place = ("127.0.0.1", 0)
) -> AsyncIterator[str]:
    """Take connections and let `works` carry them to `target`; return the address."""
    tasks: set[asyncio.Future[None]] = set()

    async def connected(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            far, there = await asyncio.open_connection(*target)
        except OSError:
            back.close()
            return
        for work in works(near, back, far, there):
            task = asyncio.ensure_future(work)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, *at)
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"{host}:{port}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a storm does to connections; chances are of each piece that passes."""

    cut: float
    stall: float
    stall_s: float
    """Longest time for which nothing passes."""
    bytes_per_s: float


class Proxies(threading.Thread):
    """Proxies on an event loop of their own; `trouble` is what they do, if anything."""

    def __init__(self, seed: int) -> None:
        """Know nobody."""
        super().__init__(daemon=True)
        self._loop = asyncio.new_event_loop()
        self._rng = random.Random(seed)
        self._stack = contextlib.AsyncExitStack()
        self.trouble: Trouble | None = None
        self.fates: Counter[str] = Counter()
        """What was done to connections, and how often."""

    def run(self) -> None:
        """Run the loop, in this thread."""
        self._loop.run_forever()
        self._loop.close()

    def add(self, at: Place, target: Place) -> None:
        """Pass on to `target` what comes to `at`."""
        relay = relaying(target, self._works, at)
        self._do(self._stack.enter_async_context(relay)).result()

    def stop(self) -> None:
        """End every connection, and the thread."""
        self._do(self._stack.aclose()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.join()

    def _do(self, work: Awaitable[object]) -> "Future[object]":
        async def waited() -> object:
            return await work

        return asyncio.run_coroutine_threadsafe(waited(), self._loop)

    def _works(
        self,
        near: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        far: asyncio.StreamReader,
        there: asyncio.StreamWriter,
    ) -> tuple[Awaitable[None], Awaitable[None]]:
        return self._pump(near, there), self._pump(far, back)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(THIN_PIECE if self.trouble else PIECE):
                if self.trouble and await self._harm(self.trouble, len(data)):
                    writer.transport.abort()
                    return
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _harm(self, trouble: Trouble, size: int) -> bool:
        """Let a piece wait for its turn; tell whether its connection is cut instead."""
        if self._rng.random() < trouble.cut:
            self.fates["cut"] += 1
            return True
        wait = size / trouble.bytes_per_s
        if self._rng.random() < trouble.stall:
            self.fates["stalled"] += 1
            wait += self._rng.uniform(0, trouble.stall_s)
        self.fates["throttled"] += 1
        await asyncio.sleep(wait)
        return False
