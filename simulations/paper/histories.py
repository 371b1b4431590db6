"""Three replicas that were together, and then worked apart: adds, removes and re-adds.

Owns the story and which models count when all of it is known. Does not own what is checked
of it (`laws`). The states are bytes: what each replica holds, as it lies on a disk.
"""

from dataclasses import dataclass
from typing import Final

from crdtmerge.bodies import Add, RecordId, SpaceId
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import ContentId
from crdtmerge.manifest import Manifest
from crdtmerge.recipe import Recipe

from .catalogue import tag_of
from .replicas import Peer, State, Traffic, make_peer, meet, saved
from .spaces import begin, draw, model_of

SIDE: Final = 4
DTYPE: Final = "F64"
MODELS: Final = 10
TOGETHER: Final = ((1, 2, 3), (4, 5, 6), (7, 8))
"""Which models each replica adds before they part; the first one is the owner's."""
EXPECTED: Final = (1, 3, 4, 5, 6, 9, 10)
"""Which count once all three know all: see `apart`."""


@dataclass(frozen=True, slots=True)
class Parted:
    """Three states that differ, of one space, and the contents that count in their join."""

    space: SpaceId
    base: Manifest
    states: tuple[State, State, State]
    expected: frozenset[ContentId]


@dataclass(slots=True)
class Member:
    """One replica and the models that there are, which all can make."""

    peer: Peer
    space: SpaceId
    base: Manifest

    def model(self, number: int) -> Manifest:
        """Store model `number`; return its manifest."""
        data, base = draw(SIDE, number, DTYPE), self.base.content_id
        blobs = self.peer.blobs
        return model_of(blobs, "full", data, base=base, side=SIDE, dtype=DTYPE)

    def add(self, number: int, note: str = "") -> None:
        """Contribute model `number`; another note makes it another record."""
        signed = self.peer.replica(self.space).contribute(
            self.model(number), weight=DECIMAL_UNIT, note=note, tags=(tag_of(number),)
        )
        self.peer.say(self.space, signed)

    def remove(self, number: int) -> None:
        """Remove all adds of model `number` that are known here and that it may."""
        content, opset = (
            self.model(number).content_id,
            self.peer.spaces.opset(self.space),
        )
        owner = opset.records[RecordId(self.space)].author
        mine = self.peer.key.public
        adds = [
            record.id
            for record in opset.records.values()
            if isinstance(record.body, Add)
            and record.body.content == content
            and mine in {owner, record.author}
        ]
        self.peer.say(self.space, self.peer.replica(self.space).remove(adds))


def parted(recipe: Recipe) -> Parted:
    """Return three replicas of one space that have worked apart."""
    peers = tuple(make_peer(name) for name in ("ann", "ben", "cid"))
    space, base = begin(recipe, peers, SIDE, DTYPE)
    ann, ben, cid = (Member(peer, space, base) for peer in peers)
    for member, numbers in zip((ann, ben, cid), TOGETHER, strict=True):
        for number in numbers:
            member.add(number)
    for one, other in ((0, 1), (1, 2), (2, 0)):
        meet(peers[one], peers[other], space, Traffic())
    apart(ann, ben, cid)
    states = tuple(saved(peer, space) for peer in peers)
    expected = frozenset(ann.model(number).content_id for number in EXPECTED)
    return Parted(space, base, (states[0], states[1], states[2]), expected)


def apart(ann: Member, ben: Member, cid: Member) -> None:
    """Work apart: nobody hears of what another does here.

    1 is removed and added again; 2 removed. 4 is removed by the owner while its author adds
    it again, which survives. 5 is removed by its author while another adds it, which
    survives. 7 is removed; 8 removed, added again, and removed again. 9 and 10 are new.
    """
    ann.remove(1)
    ann.add(1, "again")
    ann.remove(2)
    ann.remove(4)
    ben.add(4, "again")
    ben.remove(5)
    ben.add(9)
    cid.add(5)
    cid.remove(7)
    cid.remove(8)
    cid.add(8, "again")
    cid.remove(8)
    cid.add(10)
