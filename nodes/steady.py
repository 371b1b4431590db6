"""A clock that only grows, made of one that may be set back.

Owns what a step back means: no time passed. Does not own the clock. All that a node puts
off (back-offs, pauses, bans) is put off until a time of its clock. The clocks that systems
call monotonic were seen to go back under faulty hypervisors and firmware; without this, all
of it would last longer by as much.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock


@dataclass(slots=True)
class Steady:
    """Seconds since some time, by `clock`; any thread may ask."""

    clock: Callable[[], float]
    _read: float | None = None
    _shown: float = 0.0
    _made_up: float = 0.0
    """What `clock` lost by going back, in seconds."""
    _lock: Lock = field(default_factory=Lock)

    def __call__(self) -> float:
        """Return the seconds now, never fewer than before."""
        with self._lock:
            now = self.clock()
            if self._read is not None:
                self._made_up += max(0.0, self._read - now)
                self._shown = max(self._shown, now + self._made_up)
            else:
                self._shown = now
            self._read = now
            return self._shown
