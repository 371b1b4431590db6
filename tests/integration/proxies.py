"""Connections that get thin, or silent: real TCP between two ends that know nothing of it.

Owns when they do. Does not own how bytes get from one socket to another (`relaying`).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass

from simulations.real.proxy import PIECE, relaying


@contextlib.asynccontextmanager
async def trickling(address: str, *, after: int) -> AsyncIterator[str]:
    """Pass on what `address` sends, and from `after` bytes on one byte a second.

    All connections together: the count never starts anew.
    """
    host, _, port = address.rpartition(":")
    passed = 0

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

    def works(
        near: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        far: asyncio.StreamReader,
        there: asyncio.StreamWriter,
    ) -> tuple[Awaitable[None], Awaitable[None]]:
        return pump(near, there, thin=False), pump(far, back, thin=True)

    async with relaying((host, int(port)), works) as place:
        yield place


@dataclass
class Middle:
    """What lies between two ends, such as a router."""

    address: str = ""
    silent: bool = False
    """Whether it swallows what comes: nobody is told that a connection is gone."""
    connections: int = 0
    passed: int = 0
    """Bytes that went on, both ways."""


@contextlib.asynccontextmanager
async def between(address: str) -> AsyncIterator[Middle]:
    """Pass on what `address` and its callers say, until it falls silent."""
    middle = Middle()
    host, _, port = address.rpartition(":")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while data := await reader.read(PIECE):
                if not middle.silent:
                    middle.passed += len(data)
                    writer.write(data)
                    await writer.drain()
            if middle.silent:
                await asyncio.Event().wait()

    def works(
        near: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        far: asyncio.StreamReader,
        there: asyncio.StreamWriter,
    ) -> tuple[Awaitable[None], Awaitable[None]]:
        middle.connections += 1
        return pump(near, there), pump(far, back)

    async with relaying((host, int(port)), works) as middle.address:
        yield middle
