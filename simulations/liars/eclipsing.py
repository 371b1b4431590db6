"""Fault 40: hostile members crowd around one machine, and hide the rest from it.

Owns the crowd and what it tells its victim: of nobody but itself, and of an old set. Does
not own how the victim finds the others all the same (`nodes.neighbours`).
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from crdtmerge.sync.messages import (
    CompareReply,
    FeedReply,
    Heartbeat,
    Message,
    PeerSaid,
    PeersReply,
    RecordsReply,
    Rumour,
    TrieReply,
)
from nodes.effects import PeerMoved

from .liar import Liar, Lie

ECLIPSE_S: Final = (5.0, 30.0)


@dataclass
class Eclipse(Lie):
    """What one of the crowd tells the victim; all others hear the truth."""

    victim: bytes
    crowd: tuple[bytes, ...]
    beats: dict[bytes, Heartbeat] = field(default_factory=dict)
    """Where it stood in each space when it began: there it stays."""

    def says(self, peer: bytes, message: Message) -> Iterable[Message]:
        """Tell the victim of nothing new."""
        if peer != self.victim:
            return (message,)
        if isinstance(message, Rumour | TrieReply):
            return ()
        return (self._old(message),)

    def _old(self, message: Message) -> Message:
        """Return what it could have said when all began, or seems to be all there is."""
        match message:
            case Heartbeat():
                first = self.beats.setdefault(message.space, message)
                return replace(first, answered=message.answered, echo=message.echo)
            case FeedReply():
                return replace(message, records=(), more=False)
            case CompareReply():
                return replace(message, sections=())
            case RecordsReply():
                return replace(message, records=())
            case PeersReply():
                return self._crowd()
            case _:
                return message

    def _crowd(self) -> PeersReply:
        nowhere = ("nowhere.sim:1",)
        return PeersReply(tuple(PeerSaid(node, nowhere, 0) for node in self.crowd))


def eclipse(liar: Liar, rng: random.Random) -> bool:
    """Choose a machine, take its other links away once, and surround it."""
    cluster = liar.cluster
    victims = [machine for machine in cluster.honest if machine.node is not None]
    if len(victims) < 2:
        return False
    victim, seconds = rng.choice(victims), rng.uniform(*ECLIPSE_S)
    crowd = [m for m in cluster.machines if isinstance(m.liar, Liar)]
    keys = tuple(machine.transport for machine in crowd)
    for machine in cluster.honest:
        cluster.network.cut(victim.transport, machine.transport)
    for machine in crowd:
        assert isinstance(machine.liar, Liar)
        lie = Eclipse(liar.now + seconds, victim.transport, keys)
        machine.liar.lies.append(lie)
        cluster.submit(machine, PeerMoved(victim.transport))
    return True
