"""One stream between two nodes: what is under way on it, and what holds it up.

Owns the order of arrival on a link, and its rate. Does not own what is said, nor when a
link ends (`network`).
"""

from collections import deque
from dataclasses import dataclass, field

Pair = tuple[bytes, bytes]


def pair(one: bytes, other: bytes) -> Pair:
    """Return the name of the link between two nodes, whoever dialled."""
    return min(one, other), max(one, other)


@dataclass(slots=True, eq=False)
class Link:
    """One stream between two nodes; what is under way is lost when it is cut."""

    dialler: bytes
    cut: bool = False
    left: bytes = b""
    """Who said goodbye on it."""
    gone: set[bytes] = field(default_factory=set)
    """The ends that have given it up, and are not waited for any more."""
    dead: set[bytes] = field(default_factory=set)
    """The ends of which nothing arrives any more, and nobody is told."""
    last_arrival: dict[bytes, float] = field(default_factory=dict)
    paused: dict[bytes, float] = field(default_factory=dict)
    """Until when nothing is read of what a node sends."""
    unread: dict[bytes, deque[bytes]] = field(default_factory=dict)
    """What waits with its sender meanwhile, in order."""
    held: dict[bytes, deque[bytes]] = field(default_factory=dict)
    """What waits with its sender until a wall is gone: it is sent again and again."""
    slow_until: float = 0.0
    bytes_per_s: float = 0.0
    """What it carries each way until then."""

    def carries(self, receiver: bytes, size: int, earliest: float, now: float) -> float:
        """Return when a frame arrives that nothing else holds up: none overtakes."""
        begin = max(now, self.last_arrival.get(receiver, 0.0))
        arrival = max(earliest, begin)
        if begin < self.slow_until:
            arrival = max(arrival, self.slowly(begin, size))
        self.last_arrival[receiver] = arrival
        return arrival

    def slowly(self, begin: float, size: int) -> float:
        """Return when `size` bytes are through at the rate of a slow link."""
        return min(begin + size / self.bytes_per_s, max(begin, self.slow_until))

    def reads(self, sender: bytes, now: float) -> bool:
        """Tell whether what a node sends is read now."""
        return now >= self.paused.get(sender, now)

    def waits(self, sender: bytes, now: float) -> bool:
        """Tell whether a message of `sender` must wait, or others wait before it."""
        return not self.reads(sender, now) or bool(self.unread.get(sender))
