"""A connection that gets thin: real TCP between two ends that know nothing of it.

Owns the bytes between two sockets. Does not own what they say.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

PIECE = 1 << 16


@contextlib.asynccontextmanager
async def trickling(address: str, *, after: int) -> AsyncIterator[str]:
    """Pass on what `address` sends, and from `after` bytes on one byte a second.

    All connections together: the count never starts anew.
    """
    host, _, port = address.rpartition(":")
    passed = 0
    tasks: set[asyncio.Task[None]] = set()

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, thin: bool
    ) -> None:
        nonlocal passed
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while data := await reader.read(1 if thin and passed >= after else PIECE):
                if thin:
                    passed += len(data)
                    if passed >= after:
                        await asyncio.sleep(1)
                writer.write(data)
                await writer.drain()

    async def connected(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        for work in (
            pump(reader, back, thin=False),
            pump(there, writer, thin=True),
        ):
            task = asyncio.ensure_future(work)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
