"""One hostile machine: what its member has heard and said, and the lies that are in force.

Owns the memory, and what passes to and from the honest node within. Does not own the kinds
of lies, nor when one is told (`weather.members`).
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.bodies import Body
from crdtmerge.digest import ContentId
from crdtmerge.identity import AuthorId, SigningKey
from crdtmerge.orset import OpSet
from crdtmerge.record import Record, SignedRecord, make_record
from crdtmerge.replica import Replica, best_grant
from crdtmerge.sync.messages import Message, SignedBytes
from simulations.cluster import Cluster
from simulations.links.downloads import Reply
from simulations.world import Machine

MEMORY: Final = 256
"""Messages that a liar keeps, to say them again."""


def signed_bytes(signed: SignedRecord) -> SignedBytes:
    """Return a record as it travels."""
    return SignedBytes(signed.record.data, signed.signature)


@dataclass
class Lie:
    """What a liar does for some time; this one does nothing."""

    until: float

    def says(self, _peer: bytes, message: Message) -> Iterable[Message]:
        """Return what leaves where the node says `message`."""
        return (message,)

    def hears(self, _peer: bytes, _message: Message) -> bool:
        """Tell whether the node gets to know of a message."""
        return True

    def serves(self, _peer: bytes, reply: Reply) -> Reply:
        """Return what a peer gets where the node serves it a blob."""
        return reply


@dataclass
class Ghost:
    """A key of a revoked author, and what it saw before: it goes on from there."""

    key: SigningKey
    past: OpSet
    void: set[ContentId] = field(default_factory=set)
    """What it contributed afterwards: it must never count."""


@dataclass
class Liar:
    """A member and its machine."""

    cluster: Cluster
    machine: Machine
    memory: deque[Message] = field(default_factory=lambda: deque(maxlen=MEMORY))
    lies: list[Lie] = field(default_factory=list)
    ghost: Ghost | None = None
    told: int = 0
    """How many things it made so far: each has a name of its own."""

    @property
    def now(self) -> float:
        """The time, in seconds of the world."""
        return self.cluster.clock.now

    @property
    def replica(self) -> Replica:
        """The space as its author sees it."""
        return self.cluster.replica(self.machine)

    def peers(self) -> list[bytes]:
        """Return the honest nodes that it has a stream with, sorted."""
        if self.machine.node is None:
            return []
        honest = {machine.transport for machine in self.cluster.honest}
        me, network = self.machine.transport, self.cluster.network
        known = sorted(self.machine.node.sessions.keys() & honest)
        return [peer for peer in known if network.linked(me, peer)]

    def tell(self, peer: bytes, message: Message) -> None:
        """Send a frame of its own making."""
        self.cluster.network.send(self.machine.transport, peer, message)

    def label(self) -> str:
        """Return a new name for something that it makes."""
        self.told += 1
        return f"{self.machine.name}/lie {self.told}"

    # --- what passes ----------------------------------------------------------------------

    def says(self, peer: bytes, message: Message) -> Iterable[Message]:
        """Return what leaves: what the node says, as the lies in force make it."""
        self.memory.append(message)
        said = [message]
        for lie in self._in_force():
            said = [other for one in said for other in lie.says(peer, one)]
        return said

    def hears(self, peer: bytes, message: Message) -> bool:
        """Remember what comes; tell whether the node gets to know of it."""
        self.memory.append(message)
        return all(lie.hears(peer, message) for lie in self._in_force())

    def serves(self, peer: bytes, reply: Reply) -> Reply:
        """Return what a peer gets of a blob."""
        for lie in self._in_force():
            reply = lie.serves(peer, reply)
        return reply

    def _in_force(self) -> list[Lie]:
        self.lies = [lie for lie in self.lies if self.now < lie.until]
        return self.lies


def next_record(
    liar: Liar, author: AuthorId, body: Body, auth: bytes | None = None
) -> Record:
    """Return what an author would say next, by what the liar knows of it."""
    opset = liar.machine.spaces.opset(liar.cluster.space)
    known = [(s.record.author_seq, s.record.id) for s in opset.signed.of_author(author)]
    number, prev = max(known, default=(-1, b""))
    if auth is None:
        grant = best_grant(opset, author)
        auth = grant[0] if grant else liar.cluster.space
    return make_record(
        space=liar.cluster.space,
        author=author,
        author_seq=number + 1,
        prev=prev,
        auth=auth,
        body=body,
    )
