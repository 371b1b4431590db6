"""What waits to be sent to one peer: all spaces share a stream, and take turns on it.

Owns the order in which messages go out, and how much may wait. Does not own the stream
(`links`), nor what becomes of a peer that does not read.

Messages of one space keep their order. Between spaces goes next what has sent least
(`fairness`): news of a small space passes the repair of a large one.
"""

import asyncio

from crdtmerge.sync.messages import Message

from .fairness import FairQueue
from .quotas import weight


def flow_of(message: Message) -> bytes:
    """Return the space that a message is about; empty if it is about none."""
    space: bytes = getattr(message, "space", b"")
    return space


class Outgoing:
    """The messages that wait for one peer; one task may take them."""

    def __init__(self) -> None:
        """Start with none."""
        self._queue: FairQueue[Message] = FairQueue()
        self._changed = asyncio.Event()
        self.size = 0
        """About how many bytes wait."""

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._queue)

    def put(self, message: Message) -> None:
        """Let a message wait for its turn."""
        self._queue.put(flow_of(message), message)
        self.size += weight(message)
        self._wake()

    async def take(self) -> Message:
        """Return the next message, once there is one."""
        while not self._queue:
            await self._next_change()
        flow, message = self._queue.take()
        cost = weight(message)
        self._queue.charge(flow, cost)
        self.size -= cost
        self._wake()
        return message

    async def below(self, size: int) -> None:
        """Wait until fewer bytes than `size` wait."""
        while self.size >= size:
            await self._next_change()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _next_change(self) -> None:
        await self._changed.wait()
