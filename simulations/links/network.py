"""Links between simulated nodes: ordered and reliable until cut, unless faults say else.

Owns who is linked to whom, delays, losses, partitions, and the count of what travelled.
Messages cross as the bytes of real frames. Does not own who dials or what is said: that is
the node cores', through `world`; nor when links and walls are struck (`weather`).

A node core has no deadline of its own for a peer of which it hears nothing: in a real
process gRPC pings it, and gives the stream up; `nodes.gossip` says when. So do both ends
here.
"""

import random
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from crdtmerge.errors import RemoteError
from crdtmerge.sync.messages import Message
from nodes.convert import decode, encode
from nodes.gossip import KEEPALIVE_ANSWER_S, KEEPALIVE_S
from simulations.clock import Clock
from simulations.faults import Dice

from .link import Link, Pair, pair
from .walls import Wall, Walls, around

DELAY_MIN_S: Final = 0.005
"""Shortest time that a message takes."""
HELD_UP_S: Final = 2.0
"""Longest time by which a message, or its second copy, comes later than it should."""
TAIL_SHAPE: Final = 1.1
"""Of the Pareto distribution of long delays: its mean is eleven times its least."""
TAIL_MAX_S: Final = 30.0
BYTES_PER_S: Final = 10_000_000
NOTICE_S: Final = 0.2
"""How long both ends of a cut link take to notice."""
SILENT_S: Final = (KEEPALIVE_ANSWER_S, KEEPALIVE_S + KEEPALIVE_ANSWER_S)
"""How long an end takes to give up a link whose other end is not heard any more."""
BITS_FLIPPED_MAX: Final = 8


@dataclass(slots=True)
class Traffic:
    """What crossed the network."""

    messages: int = 0
    message_bytes: int = 0
    cut_off: int = 0
    """Messages that were under way, or sent, when their link was cut."""
    refused: int = 0
    """Frames with flipped bits that no message could be read from."""
    kinds: Counter[str] = field(default_factory=Counter)
    blobs: int = 0
    blob_bytes: int = 0


@dataclass(slots=True)
class Network:
    """Every link, and the walls that it may not cross.

    `closed` is told of an end, of the other, and whether that one said goodbye.
    """

    clock: Clock
    rng: random.Random
    dice: Dice
    deliver: Callable[[bytes, bytes, Message], None]
    closed: Callable[[bytes, bytes, bool], None]
    traffic: Traffic = field(default_factory=Traffic)
    links: dict[Pair, Link] = field(default_factory=dict)
    walls: Walls = field(default_factory=Walls)
    ways: dict[bytes, frozenset[bytes]] | None = None
    """Whom each node can dial, where that is not everybody."""

    # --- who reaches whom ---------------------------------------------------------------

    def reaches(self, one: bytes, other: bytes) -> bool:
        """Tell whether two nodes can talk: each hears the other."""
        return not (self.walls.stop(one, other) or self.walls.stop(other, one))

    def parted(self, one: bytes, other: bytes) -> bool:
        """Tell whether neither of two nodes hears the other."""
        return self.walls.stop(one, other) and self.walls.stop(other, one)

    def can_dial(self, one: bytes, other: bytes) -> bool:
        """Tell whether `one` can open a stream to `other`."""
        way = self.ways is None or other in self.ways.get(one, ())
        return way and self.reaches(one, other)

    def linked(self, one: bytes, other: bytes) -> bool:
        """Tell whether a stream is open between two nodes, or cut and not noticed yet."""
        return pair(one, other) in self.links

    def holds(self, one: bytes, other: bytes) -> bool:
        """Tell whether `one` takes a stream with `other` for open."""
        link = self.links.get(pair(one, other))
        return link is not None and one not in link.gone

    def refuses(self, *between: bytes) -> bool:
        """Tell whether a dial or a fetch between two nodes fails this time."""
        return self.dice.strikes("refuse", *between)

    # --- how long things take -----------------------------------------------------------

    def delay(self, size: int) -> float:
        """Return how long `size` bytes take this time."""
        longest = max(DELAY_MIN_S, self.dice.faults.delay)
        return self.rng.uniform(DELAY_MIN_S, longest) + size / BYTES_PER_S

    def travel(self, sender: bytes, receiver: bytes, size: int) -> float:
        """Return how long `size` bytes of a blob take between two nodes."""
        link, now = self.links.get(pair(sender, receiver)), self.clock.now
        delay = self.delay(size)
        if link is None or now >= link.slow_until:
            return delay
        return max(delay, link.slowly(now, size) - now)

    def _tail(self, *subject: str | bytes) -> float:
        """Return by how much a message comes later than it should."""
        if not self.dice.strikes("tail", *subject):
            return 0.0
        longest = max(DELAY_MIN_S, self.dice.faults.delay)
        drawn = longest * self.dice.how("tail").paretovariate(TAIL_SHAPE)
        return min(drawn, TAIL_MAX_S)

    def _held_up(self, size: int) -> float:
        return self.delay(size) + self.rng.uniform(0, HELD_UP_S)

    # --- messages -----------------------------------------------------------------------

    def open(self, dialler: bytes, callee: bytes) -> bool:
        """Open the stream between two nodes; tell whether the callee takes it.

        One that takes an old stream for open, whose other end gave it up, goes by the rule
        of `nodes.links`: it keeps one that the lower key dialled.
        """
        old = self.links.get(pair(dialler, callee))
        if old is not None:
            assert dialler in old.gone
            if old.dialler == min(dialler, callee) != dialler:
                return False
            self._give_up(old, callee, dialler)
        self.links[pair(dialler, callee)] = Link(dialler)
        return True

    def send(self, sender: bytes, receiver: bytes, message: Message) -> None:
        """Send a message; it arrives after those sent before, but for what faults do."""
        link = self.links.get(pair(sender, receiver))
        if link is None or link.cut:
            self.traffic.cut_off += 1
            return
        frame = encode(message)
        size = len(frame)
        self.traffic.messages += 1
        self.traffic.kinds[type(message).__name__] += 1
        self.traffic.message_bytes += size

        def arrive() -> None:
            self._arrive(link, sender, receiver, frame)

        strikes = self.dice.strikes
        subject = sender, receiver, type(message).__name__
        if strikes("loss", *subject):
            pass
        elif self.dice.arms("corrupt", *subject):
            flipped = _flipped(frame, self.dice.how("corrupt"))
            broken = partial(self._break, link, sender, receiver, flipped)
            self.clock.after(self.delay(size), broken)
        elif strikes("reorder", *subject):
            self.clock.after(self._held_up(size), arrive)
        else:
            earliest = self.clock.now + self.delay(size) + self._tail(*subject)
            arrival = link.carries(receiver, size, earliest, self.clock.now)
            self.clock.after(arrival - self.clock.now, arrive)
        if strikes("duplicate", *subject):
            self.clock.after(self._held_up(size), arrive)

    def _arrive(self, link: Link, sender: bytes, receiver: bytes, frame: bytes) -> None:
        """Let a frame be heard, or wait, or be lost with its link."""
        if link.cut or receiver in link.gone or sender in link.dead:
            self.traffic.cut_off += 1
        elif self.walls.stop(sender, receiver):
            link.held.setdefault(sender, deque()).append(frame)
        elif link.waits(sender, self.clock.now):
            link.unread[sender].append(frame)
        else:
            self.deliver(sender, receiver, decode(frame))

    def _break(self, link: Link, sender: bytes, receiver: bytes, frame: bytes) -> None:
        """Let a frame with flipped bits arrive: its link ends, and nobody hears of it.

        TLS sees to that; the decoder gets the frame all the same, and must not fail.
        """
        if link.cut or link.gone or not self._heard(link, sender, receiver):
            return
        self.dice.struck["corrupt"] += 1
        try:
            decode(frame)
        except RemoteError:
            self.traffic.refused += 1
        self.cut(sender, receiver)

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
            waiting = link.unread[sender]
            while waiting and link.reads(sender, self.clock.now):
                if link.cut or receiver in link.gone:
                    return
                self.deliver(sender, receiver, decode(waiting.popleft()))

        self.clock.after(seconds, resume)

    # --- the end of links ---------------------------------------------------------------

    def cut(self, one: bytes, other: bytes, left: bytes = b"") -> bool:
        """Cut the link between two nodes; both notice a little later.

        The end that `left` said goodbye before. Tell whether there was a link to cut.
        """
        link = self.links.get(pair(one, other))
        if link is None or link.cut:
            return False
        link.cut, link.left = True, left

        def notice() -> None:
            self._give_up(link, one, other)
            self._give_up(link, other, one)

        self.clock.after(NOTICE_S, notice)
        return True

    def leave(self, one: bytes, other: bytes) -> None:
        """Let one end close a link; the other hears of it, if it hears anything."""
        link = self.links.get(pair(one, other))
        if link is not None and not link.cut and not self._heard(link, one, other):
            self.clock.after(NOTICE_S, lambda: self._give_up(link, one, other))
        else:
            self.cut(one, other)

    def cut_all(self, node: bytes) -> None:
        """Cut every link of one node."""
        for one, other in sorted(self.links):
            if node in {one, other}:
                self.cut(one, other)

    def part(self, node: bytes, says: Callable[[bytes], bool]) -> None:
        """End every link of one node, which says goodbye to whom it `says` it."""
        for one, other in sorted(self.links):
            if node in {one, other}:
                peer = other if node == one else one
                self.cut(one, other, node if says(peer) else b"")

    def silence(self, sender: bytes, receiver: bytes) -> bool:
        """Let nothing of `sender` arrive any more; tell whether something would have.

        Each end gives the link up when pings have had no answer for too long.
        """
        link = self.links.get(pair(sender, receiver))
        if link is None or link.cut or link.gone or link.dead:
            return False
        link.dead.add(sender)
        self._await_silence(link, sender, receiver, lambda: True)
        return True

    def slow(self, one: bytes, other: bytes, rate: float, seconds: float) -> bool:
        """Let a link carry `rate` bytes a second each way; tell whether it did more."""
        link = self.links.get(pair(one, other))
        if link is None or link.cut or self.clock.now < link.slow_until:
            return False
        link.bytes_per_s, link.slow_until = rate, self.clock.now + seconds
        return True

    def _heard(self, link: Link, sender: bytes, receiver: bytes) -> bool:
        return sender not in link.dead and not self.walls.stop(sender, receiver)

    def _await_silence(
        self, link: Link, one: bytes, other: bytes, silent: Callable[[], bool]
    ) -> None:
        """Let both ends give a link up if it is `silent` for too long."""

        def miss(end: bytes, peer: bytes) -> None:
            if silent():
                self._give_up(link, end, peer)

        for end, peer in ((one, other), (other, one)):
            self.clock.after(self.rng.uniform(*SILENT_S), partial(miss, end, peer))

    def _give_up(self, link: Link, end: bytes, other: bytes) -> None:
        """Let one end of a link be told that it is over, once."""
        if end in link.gone:
            return
        link.gone.add(end)
        if other in link.gone:
            link.cut = True
            del self.links[pair(end, other)]
        elif not link.cut and self._heard(link, end, other):
            self.clock.after(NOTICE_S, lambda: self._give_up(link, other, end))
        self.closed(end, other, link.left == other)

    # --- walls --------------------------------------------------------------------------

    def partition(self, island: Collection[bytes]) -> Wall:
        """Separate the nodes of `island` from all others."""
        wall = around(island)
        self.put_up(wall)
        return wall

    def put_up(self, wall: Wall) -> None:
        """Let a wall stand: links across are cut, or hold back what it stops.

        Who hears but is not heard gives a link up when nobody answers its pings.
        """
        self.walls.put_up(wall)
        for one, other in sorted(self.links):
            link = self.links[one, other]
            if self.parted(one, other):
                self.cut(one, other)
            elif wall.stops(one, other) or wall.stops(other, one):
                self._await_silence(link, one, other, lambda: wall in self.walls)

    def take_down(self, wall: Wall) -> None:
        """Let a wall go; what it held back arrives."""
        self.walls.take_down(wall)
        self._release()

    def heal(self) -> None:
        """Take all walls away; the nodes dial again by themselves."""
        self.walls.clear()
        self._release()

    def _release(self) -> None:
        """Let what no wall holds back any more arrive, in its order; an end, too."""
        for one, other in sorted(self.links):
            link = self.links[one, other]
            for sender, receiver in ((one, other), (other, one)):
                if not self._heard(link, sender, receiver):
                    continue
                for frame in link.held.pop(sender, ()):
                    held = partial(self._arrive, link, sender, receiver, frame)
                    self.clock.after(0.0, held)
                if sender in link.gone:
                    over = partial(self._give_up, link, receiver, sender)
                    self.clock.after(NOTICE_S, over)


def _flipped(frame: bytes, rng: random.Random) -> bytes:
    """Return a frame of which some bits flipped on the way."""
    flipped = bytearray(frame)
    for _ in range(rng.randint(1, BITS_FLIPPED_MAX)):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)
