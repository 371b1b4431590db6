"""Peers of which one alone can dial the other: both get everything over that connection.

Real homes, real gRPC on loopback. Who cannot be dialled announces an address where nobody
listens.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import CHUNK_BYTES, BlobId
from nodes.home import Home
from nodes.runtime import Runtime
from nodes.tls import make_leaf
from tests.integration.living import (
    AFTER,
    ANY_PORT,
    BEFORE,
    admit,
    found,
    homes,
    living,
    offer,
    run,
    tensors,
    until,
)

NOWHERE = "127.0.0.2"
"""An address of this machine where no node listens."""


@contextlib.asynccontextmanager
async def hidden(home: Home, *knows: Runtime) -> AsyncIterator[Runtime]:
    """Run a node that dials those it knows, and that nobody can dial."""
    for space in home.records.spaces():
        for other in knows:
            home.local.add_peer(space, other.me, other.addresses)
    runtime = Runtime(home, make_leaf(home.node.unlock(), BEFORE, AFTER))
    try:
        await runtime.start(ANY_PORT, ANY_PORT, NOWHERE)
        yield runtime
    finally:
        await runtime.stop()
    assert runtime.failure is None


def contributed(home: Home, space: SpaceId, data: bytes) -> BlobId:
    """Let the author of `home` contribute one tensor; return its blob id."""
    home.blobs.put(data)
    home.records.append(space, [offer(home, space, tensors(data))])
    return tensors(data).tensors[0].blob


def test_tensors_come_over_the_connection_that_exists(tmp_path: Path) -> None:
    """Who was dialled fetches from who dialled, whom it cannot dial."""
    data = [bytes([i]) * (3 * CHUNK_BYTES + 7) for i in range(2)]
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)
        wanted = [
            (guest, contributed(owner, space, data[0])),
            (owner, contributed(guest, space, data[1])),
        ]

        async def meet() -> None:
            async with living(owner) as host, hidden(guest, host) as other:

                def all_here() -> bool:
                    return all(home.blobs.has(blob) for home, blob in wanted)

                await until(all_here, "the tensors of both")
                assert host.spaces.opset(space).root == other.spaces.opset(space).root
                assert host.fetching.loans.used > 0
                assert other.fetching.loans.used == 0
                assert host.links.dials["let in"] == 0

        run(meet())
        for (home, blob), expected in zip(wanted, data, strict=True):
            stored = b"".join(home.blobs.read_chunk(blob, index) for index in range(4))
            assert stored == expected


def test_two_hidden_peers_meet_at_a_third(tmp_path: Path) -> None:
    """Neither can dial the other; what both contribute passes through who they dial."""
    with homes(tmp_path, "owner", "left", "right") as (owner, left, right):
        space = found(owner)
        admit(owner, space, left, right)
        blobs = [
            contributed(home, space, bytes([i]) * 100_000)
            for i, home in enumerate((left, right))
        ]

        async def meet() -> None:
            async with (
                living(owner) as host,
                hidden(left, host) as one,
                hidden(right, host) as two,
            ):

                def all_here() -> bool:
                    return all(h.blobs.has(b) for h in (left, right) for b in blobs)

                await until(all_here, "what the other contributed")
                roots = {n.spaces.opset(space).root for n in (host, one, two)}
                assert len(roots) == 1
                assert one.connected() == two.connected() == [host.me]

        run(meet())


def test_loans_end_with_the_stream(tmp_path: Path) -> None:
    """Who goes away leaves no call behind at who it lent them to."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)

        async def meet() -> None:
            async with living(owner) as host:
                async with hidden(guest, host) as other:
                    await until(lambda: host.fetching.loans.by(other.me), "a loan")
                    me = other.me
                await until(lambda: not host.fetching.loans.by(me), "its end")
                await asyncio.sleep(0)
                assert not host.fetching.loans._idle

        run(meet())
