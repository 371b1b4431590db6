"""The homes of a space with many members, and what each has contributed before they meet.

Owns making them at once: joining one by one would take as many tickets.
"""

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from crdtmerge.bodies import Add, SpaceId
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.policy import Rank
from crdtmerge.record import SignedRecord, make_record, sign_record
from crdtmerge.replica import Replica
from nodes.home import Home
from nodes.spaces import Spaces
from tests.integration.living import found, make_home, tensors


@dataclass(frozen=True)
class Made:
    """Homes of one space: that of its owner, and those of its members."""

    space: SpaceId
    owner: Path
    members: tuple[Path, ...]
    hub: bytes
    """The node of the owner."""
    records: int
    """How many records the space has once all of them met."""


def make(folder: Path, members: int, records_each: int = 0) -> Made:
    """Make the homes; each author has made `records_each` adds that nobody else has."""
    owner = make_home(folder / "owner")
    homes = [make_home(folder / f"m{number:03}") for number in range(members)]
    space = found(owner)
    known = _admit(owner, space, homes)
    for home in homes:
        home.records.append(space, known)
    for home in (owner, *homes):
        _contribute(home, space, records_each)
    for home in (owner, *homes):
        home.close()
    return Made(
        space,
        owner.path,
        tuple(home.path for home in homes),
        owner.node.public,
        len(known) + records_each * (members + 1),
    )


def _admit(owner: Home, space: SpaceId, homes: list[Home]) -> list[SignedRecord]:
    """Let the authors of `homes` be members with nodes; return all records."""
    spaces = Spaces(owner.records, owner.blobs)

    def replica(home: Home) -> Replica:
        return Replica(spaces.opset(space), home.author)

    spaces.take(space, [replica(owner).announce(owner.node.public, ())])
    for home in homes:
        granted = replica(owner).grant(home.author.public, Rank.CONTRIBUTOR)
        spaces.publish(space, [granted])
    announced = [replica(home).announce(home.node.public, ()) for home in homes]
    spaces.take(space, announced)
    return list(owner.records.load(space))


def _contribute(home: Home, space: SpaceId, count: int) -> None:
    """Add one small model under `count` notes: many records, one manifest to fetch."""
    if count:
        home.records.append(space, adds(home, space, count))


def adds(home: Home, space: SpaceId, count: int) -> list[SignedRecord]:
    """Return `count` adds of one small model that follow each other, not stored yet."""
    data = b"one small model"
    home.blobs.put(data)
    manifest = tensors(data)
    home.blobs.put(manifest.encode())
    opset = Spaces(home.records, home.blobs).opset(space)
    last = Replica(opset, home.author).contribute(
        manifest, weight=DECIMAL_UNIT, note=f"{home.path.name} 0"
    )
    made = [last]
    for number in range(1, count):
        before = last.record
        assert isinstance(before.body, Add)
        record = make_record(
            space=space,
            author=home.author.public,
            author_seq=before.author_seq + 1,
            prev=before.id,
            auth=before.auth,
            body=replace(before.body, note=f"{home.path.name} {number}"),
        )
        last = sign_record(record, home.author)
        made.append(last)
    return made


def knows(path: Path, made: Made, address: str) -> None:
    """Let a home know where the owner's node listens, as its ticket would say."""
    from nodes.home import open_home

    with closing(open_home(path, write=True, purpose="node")) as home:
        home.local.add_peer(made.space, made.hub, (address,))
