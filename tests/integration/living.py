"""Whole nodes in this process: real homes, real servers on loopback, one event loop.

Owns how such a node is made, what its author contributes, and how one waits for it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path

from crdtmerge.bodies import SpaceId
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import BlobId, ContentId, Domain, blob_id_of, digest
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.policy import Rank
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica, found_space
from nodes.home import Home, create_home
from nodes.runtime import Runtime
from nodes.spaces import Spaces
from nodes.tls import make_leaf

ANY_PORT = "127.0.0.1:0"
BASE = ContentId(digest(Domain.CONTENT, b"the base of these tests"))
BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
AFTER = datetime(2040, 1, 1, tzinfo=UTC)
DEADLINE_S = 30.0


def make_home(path: Path) -> Home:
    """Return a new home whose keys its name decides."""
    seeds = [digest(Domain.SEED, f"{path.name} {i}".encode()) for i in range(3)]
    return create_home(
        path, author_seed=seeds[0], node_seed=seeds[1], generation=seeds[2][:16]
    )


def found(home: Home, name: str = "living", *, mode: str = "members") -> SpaceId:
    """Found a space that the author of `home` owns."""
    genesis = found_space(
        home.author,
        name=name,
        mode=mode,
        base=BASE,
        nonce=digest(Domain.SEED, b"")[:16],
    )
    space = SpaceId(genesis.record.id)
    home.records.append(space, [genesis])
    return space


def replica(home: Home, space: SpaceId) -> Replica:
    """Return a space as the author of `home` sees it in its store."""
    return Replica(Spaces(home.records, home.blobs).opset(space), home.author)


def admit(owner: Home, space: SpaceId, *members: Home) -> None:
    """Make the authors of `members` contributors, with all records of the owner."""
    owner.records.append(space, [replica(owner, space).announce(owner.node.public, ())])
    for member in members:
        granted = replica(owner, space).grant(member.author.public, Rank.CONTRIBUTOR)
        owner.records.append(space, [granted])
    for member in members:
        member.records.append(space, owner.records.load(space))
        node = replica(member, space).announce(member.node.public, ())
        owner.records.append(space, [node])
    for member in members:
        member.records.append(space, owner.records.load(space))


def tensors(*parts: bytes) -> Manifest:
    """Return a manifest of these tensors."""
    entries = tuple(
        TensorEntry(f"t{i}", "U8", (len(data),), blob_of(data))
        for i, data in enumerate(parts)
    )
    return Manifest("full", BASE, entries)


def blob_of(data: bytes) -> BlobId:
    """Return the id of these bytes."""
    return blob_id_of(data)


def offer(home: Home, space: SpaceId, manifest: Manifest) -> SignedRecord:
    """Put the manifest into the home, and return an add of it that is not stored."""
    home.blobs.put(manifest.encode())
    return replica(home, space).contribute(manifest, weight=DECIMAL_UNIT, note="")


@contextlib.asynccontextmanager
async def living(home: Home, knows: Runtime | None = None) -> AsyncIterator[Runtime]:
    """Run a node on `home`, which may know another; it must not have failed at the end."""
    if knows is not None:
        for space in home.records.spaces():
            home.local.add_peer(space, knows.me, knows.addresses)
    runtime = Runtime(home, make_leaf(home.node.unlock(), BEFORE, AFTER))
    try:
        await runtime.start(ANY_PORT, ANY_PORT, "")
        yield runtime
    finally:
        await runtime.stop()
    assert runtime.failure is None


async def until(done: Callable[[], bool], what: str) -> None:
    """Wait until `done`."""
    for _ in range(int(DEADLINE_S / 0.02)):
        if done():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"in vain: {what}")


def run(work: Coroutine[object, object, None]) -> None:
    """Run one test on an event loop of its own, and not for ever."""
    asyncio.run(asyncio.wait_for(work, 60))


@contextlib.contextmanager
def homes(folder: Path, *names: str) -> Iterator[list[Home]]:
    """Lend new homes; they are closed at the end."""
    made = [make_home(folder / name) for name in names]
    try:
        yield made
    finally:
        for home in made:
            home.close()
