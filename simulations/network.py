"""Links between simulated nodes: ordered and reliable until cut, unless faults say else.

Owns who is linked to whom, delays, losses, partitions, and the count of what travelled.
Messages cross as the bytes of real frames. Does not own who dials or what is said: that is
the node cores', through `world`.
"""

import random
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.sync.messages import Message
from nodes.convert import decode, encode

from .clock import Clock
from .faults import Dice

DELAY_MIN_S: Final = 0.005
"""Shortest time that a message takes."""
HELD_UP_S: Final = 2.0
"""Longest time by which a message, or its second copy, comes later than it should."""
BYTES_PER_S: Final = 10_000_000
NOTICE_S: Final = 0.2
"""How long both ends of a cut link take to notice."""

Pair = tuple[bytes, bytes]


def pair(one: bytes, other: bytes) -> Pair:
    """Return the name of the link between two nodes, whoever dialled."""
    return min(one, other), max(one, other)


@dataclass(slots=True)
class Traffic:
    """What crossed the network."""

    messages: int = 0
    message_bytes: int = 0
    cut_off: int = 0
    """Messages that were under way, or sent, when their link was cut."""
    kinds: Counter[str] = field(default_factory=Counter)
    blobs: int = 0
    blob_bytes: int = 0


@dataclass(slots=True, eq=False)
class Link:
    """One stream between two nodes; what is under way is lost when it is cut."""

    cut: bool = False
    last_arrival: dict[bytes, float] = field(default_factory=dict)
    paused: dict[bytes, float] = field(default_factory=dict)
    """Until when nothing is read of what a node sends."""
    unread: dict[bytes, deque[bytes]] = field(default_factory=dict)
    """What waits with its sender meanwhile, in order."""


@dataclass(slots=True)
class Network:
    """Every link, and the islands that it may not cross."""

    clock: Clock
    rng: random.Random
    dice: Dice
    deliver: Callable[[bytes, bytes, Message], None]
    closed: Callable[[bytes, bytes], None]
    traffic: Traffic = field(default_factory=Traffic)
    links: dict[Pair, Link] = field(default_factory=dict)
    islands: list[frozenset[bytes]] = field(default_factory=list)
    ways: dict[bytes, frozenset[bytes]] | None = None
    """Whom each node can dial, where that is not everybody."""

    def reaches(self, one: bytes, other: bytes) -> bool:
        """Tell whether no partition lies between two nodes."""
        return all((one in island) == (other in island) for island in self.islands)

    def can_dial(self, one: bytes, other: bytes) -> bool:
        """Tell whether `one` can open a stream to `other`."""
        way = self.ways is None or other in self.ways.get(one, ())
        return way and self.reaches(one, other)

    def linked(self, one: bytes, other: bytes) -> bool:
        """Tell whether a stream is open between two nodes, or cut and not noticed yet."""
        return pair(one, other) in self.links

    def delay(self, size: int) -> float:
        """Return how long `size` bytes take this time."""
        longest = max(DELAY_MIN_S, self.dice.faults.delay)
        return self.rng.uniform(DELAY_MIN_S, longest) + size / BYTES_PER_S

    def refuses(self, *between: bytes) -> bool:
        """Tell whether a dial or a fetch between two nodes fails this time."""
        return self.dice.strikes("refuse", *between)

    def open(self, one: bytes, other: bytes) -> None:
        """Open the stream between two nodes."""
        assert not self.linked(one, other)
        self.links[pair(one, other)] = Link()

    def send(self, sender: bytes, receiver: bytes, message: Message) -> None:
        """Send a message; it arrives after those sent before, but for what faults do."""
        link = self.links.get(pair(sender, receiver))
        if link is None or link.cut:
            self.traffic.cut_off += 1
            return
        frame = encode(message)
        self.traffic.messages += 1
        self.traffic.kinds[type(message).__name__] += 1
        self.traffic.message_bytes += len(frame)

        def arrive() -> None:
            if link.cut:
                self.traffic.cut_off += 1
            elif self._unread(link, sender):
                link.unread[sender].append(frame)
            else:
                self.deliver(sender, receiver, decode(frame))

        strikes = self.dice.strikes
        subject = sender, receiver, type(message).__name__
        if strikes("loss", *subject):
            pass
        elif strikes("reorder", *subject):
            self.clock.after(self._held_up(len(frame)), arrive)
        else:
            earliest = self.clock.now + self.delay(len(frame))
            arrival = max(earliest, link.last_arrival.get(receiver, 0.0))
            link.last_arrival[receiver] = arrival
            self.clock.after(arrival - self.clock.now, arrive)
        if strikes("duplicate", *subject):
            self.clock.after(self._held_up(len(frame)), arrive)

    def pause(self, sender: bytes, receiver: bytes, seconds: float) -> None:
        """Let `receiver` read nothing of `sender` for a while; no message is lost."""
        link = self.links.get(pair(sender, receiver))
        if link is None or link.cut:
            return
        until = self.clock.now + seconds
        link.paused[sender] = max(until, link.paused.get(sender, until))
        link.unread.setdefault(sender, deque())

        def resume() -> None:
            """Deliver what waits, one by one: each may pause the sender again."""
            while not link.cut and link.unread[sender] and self._read_now(link, sender):
                self.deliver(sender, receiver, decode(link.unread[sender].popleft()))

        self.clock.after(seconds, resume)

    def _read_now(self, link: Link, sender: bytes) -> bool:
        return self.clock.now >= link.paused.get(sender, self.clock.now)

    def _unread(self, link: Link, sender: bytes) -> bool:
        """Tell whether a message of `sender` must wait, or others wait before it."""
        return not self._read_now(link, sender) or bool(link.unread.get(sender))

    def _held_up(self, size: int) -> float:
        return self.delay(size) + self.rng.uniform(0, HELD_UP_S)

    def cut(self, one: bytes, other: bytes) -> None:
        """Cut the link between two nodes; both notice a little later."""
        link = self.links.get(pair(one, other))
        if link is None or link.cut:
            return
        link.cut = True

        def notice() -> None:
            del self.links[pair(one, other)]
            self.closed(one, other)
            self.closed(other, one)

        self.clock.after(NOTICE_S, notice)

    def cut_all(self, node: bytes) -> None:
        """Cut every link of one node."""
        for one, other in sorted(self.links):
            if node in {one, other}:
                self.cut(one, other)

    def partition(self, island: Collection[bytes]) -> None:
        """Separate the nodes of `island` from all others."""
        self.islands.append(frozenset(island))
        for one, other in sorted(self.links):
            if not self.reaches(one, other):
                self.cut(one, other)

    def heal(self) -> None:
        """Take all partitions away; the nodes dial again by themselves."""
        self.islands.clear()
