"""Virtual time: what happens, when, in one order that the seed alone decides.

Owns the queue of future events. Does not own what an event does.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

Action = Callable[[], None]


@dataclass(slots=True)
class Clock:
    """A queue of actions by virtual time; ties run in the order they were planned."""

    now: float = 0.0
    _planned: int = 0
    _queue: list[tuple[float, int, Action]] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        """How many actions wait for their time."""
        return len(self._queue)

    def after(self, delay: float, action: Action) -> None:
        """Run `action` once `delay` seconds have passed.

        Raises:
            ValueError: the delay is negative: nothing happens in the past.
        """
        if delay < 0:
            raise ValueError(f"a delay of {delay} s")
        # SUBTLE: the number breaks ties, or the heap would compare the actions.
        self._planned += 1
        heapq.heappush(self._queue, (self.now + delay, self._planned, action))

    def run_until(self, time: float) -> None:
        """Run all that happens up to `time`, and stop there."""
        while self._queue and self._queue[0][0] <= time:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = time
