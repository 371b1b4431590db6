"""The turns of the node: its inputs reach it one by one, and what follows is performed.

Owns that order, and the thread in which the node works. Does not own the node, what an
effect does (`runtime`), nor time.

Whose turn is next is decided by what each peer's turns have taken of the processor so far
(`fairness`): one that keeps the node busy waits for its own work, and others do not. What
comes from this machine, such as ticks and commands, is a flow like a peer's.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from .effects import Effect, Input
from .fairness import FairQueue

Turn = Callable[[], Sequence[Input]]
"""Says, once its turn has come, what to hand to the node."""

OWN: Final = b""
"""The flow of what comes from this machine."""


class Turns:
    """What waits for the node, and the one thing that it does now."""

    def __init__(
        self,
        handle: Callable[[Input, float], Sequence[Effect]],
        perform: Callable[[Effect], None],
        clock: Callable[[], float],
    ) -> None:
        """Hand inputs to `handle`, in a thread of their own; nobody else may call it."""
        self._handle = handle
        self._perform = perform
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "core")
        self._waiting: FairQueue[tuple[Turn, asyncio.Future[None]]] = FairQueue()
        self._some = asyncio.Event()
        self._began: float | None = None

    def __len__(self) -> int:
        """Return how many turns wait."""
        return len(self._waiting)

    def submit(self, turn: Turn, flow: bytes = OWN) -> asyncio.Future[None]:
        """Hand inputs to the node when it is their turn; done once all is performed."""
        done = self._loop.create_future()
        self._waiting.put(flow, (turn, done))
        self._some.set()
        return done

    def busy(self) -> float:
        """Return for how many seconds the node has been at the turn that is under way."""
        return 0.0 if self._began is None else self._clock() - self._began

    async def run(self) -> None:
        """Give the node its inputs, and perform what follows, in order; never ends.

        The node works in a thread of its own: it checks signatures and waits for the disk,
        and peers are served meanwhile.
        """
        while True:
            if not self._waiting:
                self._some.clear()
                await self._some.wait()
            flow, (turn, done) = self._waiting.take()
            self._began = began = self._clock()
            for item in turn():
                effects = await self._loop.run_in_executor(
                    self._thread, self._handle, item, self._clock()
                )
                for effect in effects:
                    self._perform(effect)
            self._began = None
            self._waiting.charge(flow, self._clock() - began)
            if not done.done():
                done.set_result(None)

    async def close(self) -> None:
        """Wait for the node to finish what it is at; nothing is handed to it any more."""
        await asyncio.to_thread(self._thread.shutdown, wait=True)
