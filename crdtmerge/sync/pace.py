"""How fast bytes may go, and how many transfers at once: limits without a clock.

Owns token buckets, and the slots of uploads. Does not own waiting, nor what is sent: the
caller passes the time and sleeps.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Final

BURST_S: Final = 0.1
"""What a bucket holds: bytes for so long may go at once after a rest."""
PEERS_MAX: Final = 4096
"""Peers whose buckets are kept; who was not heard of for longest is forgotten."""
UPLOADS_MAX: Final = 32
"""Fetches that are served at once; each holds some 6 MiB between disk and connection."""
UPLOADS_OF_PEER_MAX: Final = 8


@dataclass(slots=True)
class Bucket:
    """Lets `rate` bytes a second pass, on average; 0 means without limit.

    Bytes that were taken are never put back: more than there are make a debt, and the next
    caller waits until it is paid. So no message is ever too large.
    """

    rate: float
    _level: float = field(init=False)
    _at: float = 0.0

    def __post_init__(self) -> None:
        """Start full."""
        self._level = self.rate * BURST_S

    def take(self, amount: int, now: float) -> float:
        """Take `amount` bytes; return how many seconds to wait before they go."""
        if not self.rate:
            return 0.0
        earned = max(0.0, now - self._at) * self.rate
        self._level = min(self._level + earned, self.rate * BURST_S) - amount
        self._at = max(now, self._at)
        return max(0.0, -self._level / self.rate)


@dataclass(slots=True)
class Pace:
    """The limits of one direction, in bytes a second: of all peers, and of each."""

    total: float = 0.0
    per_peer: float = 0.0
    _all: Bucket = field(init=False)
    _peers: OrderedDict[bytes, Bucket] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        """Start with full buckets."""
        self._all = Bucket(self.total)

    def take(self, peer: bytes, amount: int, now: float) -> float:
        """Take `amount` bytes of `peer`; return how many seconds to wait for them."""
        wait = self._all.take(amount, now)
        if not self.per_peer:
            return wait
        bucket = self._peers.setdefault(peer, Bucket(self.per_peer))
        self._peers.move_to_end(peer)
        if len(self._peers) > PEERS_MAX:
            self._peers.popitem(last=False)
        return max(wait, bucket.take(amount, now))


@dataclass(slots=True)
class Slots:
    """Who is served now.

    A peer may hold as many as are free beside, up to its own most: alone it has what it
    wants, and however many it holds, others always find room until all are taken by as
    many peers.
    """

    most: int = UPLOADS_MAX
    of_peer: int = UPLOADS_OF_PEER_MAX
    _held: Counter[bytes] = field(default_factory=Counter)

    @property
    def taken(self) -> int:
        """How many are held."""
        return self._held.total()

    def take(self, peer: bytes) -> bool:
        """Take one for `peer`, if it may have one more."""
        free = self.most - self.taken
        if not free > 0 or self._held[peer] >= min(self.of_peer, free):
            return False
        self._held[peer] += 1
        return True

    def give_back(self, peer: bytes) -> None:
        """Give one back that `peer` held."""
        self._held[peer] -= 1
        if not self._held[peer]:
            del self._held[peer]
