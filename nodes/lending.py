"""Fetches over a connection that the other side opened: calls are lent.

Owns both ends of a lent call, and how many there are. Does not own what is served
(`serving`), what is asked for (`receiving`), nor connections (`links`).

A node that nobody can dial still dials others, and they want its tensors too. gRPC lets
only who dialled begin a call. So who dialled begins one, and leaves it to the other side,
which asks on it once, as it would with Fetch, and gets the same reply. One such call always
waits to be used; more are lent as they are used, up to `LENT_MAX`. What comes is verified
as ever.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final

import grpc

from crdtmerge.errors import (
    CrdtMergeError,
    NotFoundError,
    OverloadedError,
    RefusedError,
)
from crdtmerge.sync.transfer import Wanted

from .channel import WRITE_PROGRESS_S, End, within
from .client import READ_PROGRESS_S, ReplicaClient
from .convert import from_fetch_request, to_fetch_request
from .wire import replica_pb2 as wire

LENT_MAX: Final = 6
"""Calls that one peer lends at once, used or not: its own and these are below what it may
have open."""
BORROW_S: Final = 2.0
"""How long a fetch waits for a call that is being lent."""
AGAIN_S: Final = 5.0
"""How long nothing is lent to who did not take the last call."""

NO_BLOB, NO_ROOM, OTHER = 1, 2, 3
"""Why a reply ends before it is whole."""

Serve = Callable[[bytes, bytes, Wanted], AsyncIterator[bytes]]
"""Serves what is asked for: of a space, of a blob."""

_log: Final = logging.getLogger(__name__)


# --- who was dialled: asks on what was lent -----------------------------------------------


class Loan:
    """A call that a peer lent us, for one question."""

    def __init__(self, end: End, who: str) -> None:
        """Hold a call that waits to be used."""
        self._end = end
        self._who = who
        self.used = asyncio.Event()

    async def fetch(
        self, space: bytes, blob: bytes, wanted: Wanted
    ) -> AsyncGenerator[bytes, None]:
        """Ask, and yield the raw messages of the reply, not yet verified.

        Raises:
            NotFoundError: the peer does not have it.
            OverloadedError: it has no room for one more.
            UnreachableError: the peer is gone, or the reply stands still.
            RefusedError: it failed there.
        """
        request = to_fetch_request(space, blob, wanted)
        try:
            await within(WRITE_PROGRESS_S, self._end.write(request), self._who)
            while (reply := await self._read()) is not grpc.aio.EOF:
                if reply.refused:
                    raise _refusal(reply.refused, self._who)
                yield reply.data
        finally:
            self.used.set()

    async def _read(self) -> Any:
        return await within(READ_PROGRESS_S, self._end.read(), self._who)


def _refusal(reason: int, who: str) -> CrdtMergeError:
    if reason == NO_BLOB:
        return NotFoundError(f"{who} does not have it")
    if reason == NO_ROOM:
        return OverloadedError(f"{who} has no room for that now")
    return RefusedError(f"{who} could not serve it")


class Loans:
    """The calls that peers lend us now."""

    def __init__(self) -> None:
        """Start with none."""
        self._open: Counter[bytes] = Counter()
        self._idle: dict[bytes, deque[Loan]] = {}
        self._more = asyncio.Event()
        self.used = 0
        """Fetches that went over lent calls, since the start."""

    def by(self, peer: bytes) -> bool:
        """Tell whether `peer` lends us calls."""
        return self._open[peer] > 0

    async def serve(self, peer: bytes, end: End, who: str) -> None:
        """Hold a call that `peer` lends until it was used.

        Raises:
            OverloadedError: it lends too many.
        """
        if self._open[peer] >= LENT_MAX:
            raise OverloadedError(f"more than {LENT_MAX} calls are lent")
        loan = Loan(end, who)
        idle = self._idle.setdefault(peer, deque())
        self._open[peer] += 1
        idle.append(loan)
        self._more.set()
        try:
            await loan.used.wait()
        finally:
            self._open[peer] -= 1
            if loan in idle:
                idle.remove(loan)
            if not self._open[peer]:
                del self._open[peer], self._idle[peer]

    async def fetch(
        self, peer: bytes, space: bytes, blob: bytes, wanted: Wanted
    ) -> AsyncGenerator[bytes, None]:
        """Fetch over a call that `peer` lends; raises as `Loan.fetch` does."""
        loan = await self._borrowed(peer)
        self.used += 1
        async with aclosing(loan.fetch(space, blob, wanted)) as replies:
            async for reply in replies:
                yield reply

    async def _borrowed(self, peer: bytes) -> Loan:
        try:
            async with asyncio.timeout(BORROW_S):
                while not (idle := self._idle.get(peer)):
                    self._more.clear()
                    await self._more.wait()
                return idle.popleft()
        except TimeoutError as e:
            raise OverloadedError("no call is lent to us now") from e


# --- who dialled: lends, and serves -------------------------------------------------------


async def lend(client: ReplicaClient, serve: Serve) -> None:
    """Lend calls to the peer of `client`, and serve what it asks, until cancelled."""
    room = asyncio.Semaphore(LENT_MAX)
    lent: set[asyncio.Task[None]] = set()
    try:
        while True:
            await room.acquire()
            taken = asyncio.Event()
            task = asyncio.ensure_future(_lend_one(client, serve, taken))
            lent.add(task)
            task.add_done_callback(lent.discard)
            task.add_done_callback(lambda _: room.release())
            waiting = asyncio.ensure_future(taken.wait())
            try:
                await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
            if not taken.is_set():
                await asyncio.sleep(AGAIN_S)
    finally:
        ending = list(lent)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)


async def _lend_one(client: ReplicaClient, serve: Serve, taken: asyncio.Event) -> None:
    async def answer(request: wire.FetchRequest) -> AsyncGenerator[wire.Lent, None]:
        taken.set()
        try:
            replies = serve(*from_fetch_request(request))
            async for reply in replies:
                yield wire.Lent(data=reply)
        except NotFoundError:
            yield wire.Lent(refused=NO_BLOB)
        except OverloadedError:
            yield wire.Lent(refused=NO_ROOM)
        except CrdtMergeError as e:
            _log.debug("what was asked on a lent call: %s", e)
            yield wire.Lent(refused=OTHER)

    try:
        await client.lend(answer)
    except CrdtMergeError as e:
        _log.debug("a lent call: %s", e)
