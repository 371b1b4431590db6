"""Who comes next, of those that wait: who has had least so far.

Owns the order between flows. Does not own what a flow is (a peer for the node's turns, a
space for what goes to one peer), nor what is had: bytes, seconds, whatever is charged.

Inside a flow things keep their order. Between flows, each is served up to an equal amount
while it waits. Next is who would have had least after its next thing, if that costs as much
as its last: so a flow with little to do waits for the one thing that is being done, not for
one of each busy flow. Who was idle earns nothing by it: it enters with what the last served
flow had had.
"""

import heapq
import statistics
from collections import deque
from typing import Final, Generic, TypeVar

T = TypeVar("T")

IDLE_MAX: Final = 1024
"""Flows that are remembered while nothing of them waits."""


class FairQueue(Generic[T]):
    """Things that wait, by flow; each `take` must be followed by its `charge`."""

    def __init__(self) -> None:
        """Start empty."""
        self._flows: dict[bytes, deque[T]] = {}
        self._order: list[tuple[float, int, bytes, float]] = []
        """Who may be served: what it would have had then, when it entered, what it has."""
        self._had: dict[bytes, float] = {}
        """What each flow has had that was served."""
        self._last: dict[bytes, float] = {}
        """What its last thing cost."""
        self._now = 0.0
        """What was had by who is served, at most so far: who comes new enters with it."""
        self._start = 0.0
        self._entered = 0
        self._size = 0

    def __len__(self) -> int:
        """Return how many things wait."""
        return self._size

    def put(self, flow: bytes, item: T) -> None:
        """Let `item` wait behind what waits of its flow."""
        if flow in self._flows:
            self._flows[flow].append(item)
        else:
            self._flows[flow] = deque([item])
            self._enter(flow)
        self._size += 1

    def take(self) -> tuple[bytes, T]:
        """Return the next thing and its flow, which waits until it is charged.

        Raises:
            IndexError: nothing waits.
        """
        _, _, flow, self._start = heapq.heappop(self._order)
        # Never back: one that waited long for a dear thing has had little, and who comes
        # after it would be served before all that worked meanwhile.
        self._now = max(self._now, self._start)
        self._size -= 1
        return flow, self._flows[flow].popleft()

    def charge(self, flow: bytes, cost: float) -> None:
        """Count what the thing that was taken last cost, and let its flow wait again."""
        self._had[flow] = self._start + cost
        self._last[flow] = cost
        if self._flows[flow]:
            self._enter(flow)
        else:
            del self._flows[flow]
            if len(self._had) > 2 * (len(self._flows) + IDLE_MAX):
                self._forget()

    def _enter(self, flow: bytes) -> None:
        start = max(self._now, self._had.get(flow, 0.0))
        self._entered += 1
        after = start + self._last.get(flow, 0.0)
        heapq.heappush(self._order, (after, self._entered, flow, start))

    def _forget(self) -> None:
        """Forget the idle half that has had least: it enters with what the others had."""
        self._now = max(self._now, statistics.median_low(self._had.values()))
        waits = self._flows.keys()
        self._had = {f: h for f, h in self._had.items() if h > self._now or f in waits}
        self._last = {f: cost for f, cost in self._last.items() if f in self._had}
