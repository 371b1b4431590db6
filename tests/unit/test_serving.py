"""What a node serves, and what is left of a peer that goes away."""

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import CHUNK_BYTES, blob_id_of, chunk_digests
from crdtmerge.errors import NotFoundError
from crdtmerge.sync.pace import Pace
from crdtmerge.sync.transfer import Wanted
from nodes.serving import ASKED_A_SECOND, OpenBlob, Serving
from nodes.traffic import Traffic

DATA = bytes(CHUNK_BYTES) + b"end"
SPACE = SpaceId(b"s" * 32)


class Blob:
    """A blob that is open until it is closed."""

    size = len(DATA)
    chunks: Sequence[bytes] = chunk_digests(DATA)

    def __init__(self) -> None:
        self.closed = threading.Event()

    def read(self, index: int) -> bytes:
        """Return a chunk."""
        return DATA[index * CHUNK_BYTES :][:CHUNK_BYTES]

    def close(self) -> None:
        """Close it."""
        self.closed.set()


def test_who_goes_away_while_a_blob_is_opened_leaves_none_open() -> None:
    """Its lease would keep it for good, and its descriptor would be lost."""
    blob, opening, goes = Blob(), threading.Event(), threading.Event()

    def open_slowly(*_: object) -> OpenBlob:
        opening.set()
        assert goes.wait(10)
        return blob

    async def leave() -> None:
        serving = Serving(open_slowly, Traffic(), Pace(), time.monotonic)
        replies = serving.serve(
            b"peer", SpaceId(b"s" * 32), blob_id_of(DATA), Wanted(True, ())
        )
        first = asyncio.ensure_future(anext(replies))
        assert await asyncio.to_thread(opening.wait, 10)
        first.cancel()
        asyncio.get_running_loop().call_later(0.05, goes.set)
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await asyncio.to_thread(blob.closed.wait, 5)
        assert serving._slots.taken == 0
        serving.close()

    asyncio.run(leave())


def test_who_asks_without_end_is_looked_at_at_a_rate() -> None:
    """For what we do not have too; another peer is served at once."""

    def nothing(*_: object) -> OpenBlob:
        raise NotFoundError("no such blob")

    async def ask(serving: Serving, peer: bytes, times: int) -> float:
        began = time.monotonic()
        for _ in range(times):
            wanted = Wanted(True, ())
            with pytest.raises(NotFoundError):
                await anext(serving.serve(peer, SPACE, blob_id_of(DATA), wanted))
        return time.monotonic() - began

    async def test() -> None:
        serving = Serving(nothing, Traffic(), Pace(), time.monotonic)
        serving._asked.burst_s = 0.1
        flood = asyncio.ensure_future(ask(serving, b"flooder", 128))
        await asyncio.sleep(0.1)
        assert await ask(serving, b"peer", 3) < 0.2
        assert await flood > 0.9 * (128 - 0.1 * ASKED_A_SECOND) / ASKED_A_SECOND
        serving.close()

    asyncio.run(test())
