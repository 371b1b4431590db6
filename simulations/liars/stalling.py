"""Fault 38: a member that keeps its links, and does not answer on them.

Owns what of it falls silent, and for how long. Does not own when its peers lose patience
(`crdtmerge.sync.pulls`, `crdtmerge.sync.swarm`).
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Final

from crdtmerge.sync.messages import Heartbeat, Hello, Message
from simulations.links.downloads import Reply

from .liar import Liar, Lie

STALL_S: Final = (5.0, 40.0)
SLOW_S: Final = (1.0, 60.0)
"""By how much every message of a blob comes later."""


@dataclass(frozen=True, slots=True)
class SlowReply(Reply):
    """A blob that comes drop by drop."""

    slow_s: float = 0.0

    def delay(self, size: int) -> float:
        """Return how long one message takes."""
        return self.slow_s + Reply.delay(self, size)


@dataclass
class Stall(Lie):
    """Silence: of all, or of everything but heartbeats, which say that it is there."""

    slow_s: float
    beats: bool

    def says(self, _peer: bytes, message: Message) -> Iterable[Message]:
        """Let heartbeats pass, if at all."""
        alive = isinstance(message, Heartbeat | Hello)
        return (message,) if alive and self.beats else ()

    def serves(self, _peer: bytes, reply: Reply) -> Reply:
        """Be slow, instead of silent: silence is noticed sooner."""
        given = {f.name: getattr(reply, f.name) for f in fields(Reply)}
        return SlowReply(**given, slow_s=self.slow_s)


def stall(liar: Liar, rng: random.Random) -> bool:
    """Fall silent; now and then read nothing either, so that all waits with its peers."""
    peers, seconds = liar.peers(), rng.uniform(*STALL_S)
    if not peers:
        return False
    slow_s, beats = rng.uniform(*SLOW_S), rng.random() < 0.5
    liar.lies.append(Stall(liar.now + seconds, slow_s, beats))
    if rng.random() < 0.5:
        for peer in peers:
            liar.cluster.network.pause(peer, liar.machine.transport, seconds)
    return True
