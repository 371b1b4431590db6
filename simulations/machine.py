"""One simulated machine: what survives its process, and what stands between it and others.

Owns its parts. Does not own what happens to it (`world`).
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from crdtmerge.digest import BlobId
from crdtmerge.identity import SigningKey
from crdtmerge.sync.messages import Message
from nodes.effects import Effect, Input, Resolved
from nodes.forks import Forks
from nodes.node import Node
from nodes.spaces import Spaces
from nodes.store.base import RecordStore
from simulations.disks.storage import Blobs, Storage
from simulations.links.downloads import Download, Reply

from .releases import CURRENT, Release


@dataclass(slots=True)
class Interruption:
    """What happens to a process once it has performed `effects` more."""

    effects: int
    action: Callable[[], None]


class Liar(Protocol):
    """A hostile member: it stands between the node of its machine and all others.

    The node itself is as any other. What it says passes here, and may leave as something
    else, more than once, or never.
    """

    def says(self, peer: bytes, message: Message) -> Iterable[Message]:
        """Return what leaves the machine where its node says `message`."""

    def hears(self, peer: bytes, message: Message) -> bool:
        """Take note of what comes; tell whether the node gets to know of it."""

    def serves(self, peer: bytes, reply: Reply) -> Reply:
        """Return what a peer gets where the node would serve it a blob."""


@dataclass(slots=True, eq=False)
class Machine:
    """One simulated machine: what survives a crash, and the core if it runs."""

    name: str
    author: SigningKey
    key: SigningKey
    storage: Storage
    spaces: Spaces
    node: Node | None = None
    forks: Forks | None = None
    life: int = 0
    members: frozenset[bytes] = frozenset()
    downloads: dict[BlobId, Download] = field(default_factory=dict)
    attested: Resolved | None = None
    """What it attests: kept on its disk, unlike what others do."""
    liar: Liar | None = None
    """Who uses it for other ends than its node's; none on an honest one."""
    ahead: float = 0.0
    """Seconds by which its clock is ahead of the world's; it may jump."""
    now: Callable[[], float] = float
    """What its process makes of that clock."""
    release: Release = CURRENT
    """What its program speaks."""
    interruption: "Interruption | None" = None
    """What befalls its process amid the effects of an input."""
    still: deque[Input | Effect] | None = None
    """While the process stands still: what it has to do, and what reaches it meanwhile."""

    @property
    def runs(self) -> bool:
        """Whether its process runs, and does not stand still."""
        return self.node is not None and self.still is None

    @property
    def transport(self) -> bytes:
        """Its node: the key that its peers expect."""
        return self.key.public

    @property
    def records(self) -> RecordStore:
        """Its records."""
        return self.storage.records

    @property
    def blobs(self) -> Blobs:
        """Its blobs."""
        return self.storage.blobs

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{self.name}.sim:7000"
