"""A member whose node sends what it should not, among whole nodes on real connections."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id_of
from crdtmerge.errors import OverloadedError
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.sync.pace import Pace
from crdtmerge.sync.runs import Run
from crdtmerge.sync.transfer import Wanted
from nodes.choices import LIES_MAX
from nodes.runtime import Runtime
from nodes.serving import Serving
from nodes.traffic import Traffic
from tests.integration.living import (
    BASE,
    admit,
    found,
    homes,
    living,
    offer,
    run,
    until,
)

TENSORS = 3 * LIES_MAX


def _model(tensors: list[bytes]) -> Manifest:
    entries = tuple(
        TensorEntry(f"t{n:02}", "U8", (len(data),), blob_id_of(data))
        for n, data in enumerate(tensors)
    )
    return Manifest("full", BASE, entries)


def _lying(host: Runtime, manifest: Manifest) -> None:
    """Let a node send other bytes of every tensor, and the truth of manifests."""
    honest, tensors = host.fetching.serving.serve, manifest.blobs()

    async def serve(
        peer: bytes, space: SpaceId, blob: BlobId, wanted: Wanted
    ) -> AsyncGenerator[bytes, None]:
        number = 0
        async for message in honest(peer, space, blob, wanted):
            number += 1
            head = blob not in tensors or number <= 1 + wanted.chunk_list
            yield message if head else bytes(len(message))

    host.fetching.serving.serve = serve  # type: ignore[method-assign]


def test_a_node_that_sends_other_bytes_is_dropped_and_all_arrives(
    tmp_path: Path,
) -> None:
    """Blob by blob it is passed over, and as a liar it loses its stream in the end."""
    data = [bytes([n + 1]) * (CHUNK_BYTES + 9) for n in range(TENSORS)]
    manifest = _model(data)
    with homes(tmp_path, "owner", "liar", "guest") as (owner, liar, guest):
        space = found(owner)
        admit(owner, space, liar, guest)
        for home in (owner, liar):
            for part in data:
                home.blobs.put(part)
        record = offer(owner, space, manifest)
        liar.blobs.put(manifest.encode())
        for home in (owner, liar):
            home.records.append(space, [record])

        async def meet() -> None:
            async with (
                living(owner) as honest,
                living(liar, honest) as hostile,
            ):
                _lying(hostile, manifest)
                guest.local.add_peer(space, hostile.me, hostile.addresses)
                async with living(guest, honest) as joiner:
                    blobs = manifest.blobs()
                    await until(lambda: not guest.blobs.missing(blobs), "all tensors")
                    traffic = joiner.fetching.traffic
                    dropped = joiner.node.dropped["CorruptBlobError"]
                    # Both chunks of a lie may be on their way to the disk.
                    assert traffic.bans <= traffic.bad_chunks <= 2 * traffic.bans
                    assert traffic.wasted == 0
                    assert dropped == (traffic.bans >= LIES_MAX)
                    assert honest.me in joiner.connected()

        run(meet())
        for part in data:
            assert guest.blobs.read(blob_id_of(part), len(part)) == part


class _Zeros:
    """A large blob that is nothing but zeros."""

    size = 64 * CHUNK_BYTES
    chunks = (bytes(32),) * 64

    def read(self, _: int) -> bytes:
        """Return a chunk."""
        return bytes(CHUNK_BYTES)

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("greedy", [4, 64])
def test_a_greedy_peer_holds_its_share_of_the_uploads(greedy: int) -> None:
    """What is above it is refused and counted; another peer is served meanwhile."""

    async def scenario() -> None:
        traffic = Traffic()
        clock = asyncio.get_running_loop().time
        serving = Serving(lambda *_: _Zeros(), traffic, Pace(), clock)
        space, blob = SpaceId(bytes(32)), BlobId(bytes(32))

        async def begun(peer: bytes) -> AsyncGenerator[bytes, None] | None:
            reply = serving.serve(peer, space, blob, Wanted(False, (Run(0, 64),)))
            try:
                await anext(reply)
            except OverloadedError:
                return None
            return reply

        mine = [await begun(b"greedy") for _ in range(greedy)]
        served = [reply for reply in mine if reply is not None]
        assert len(served) == min(greedy, 8)
        assert traffic.refused == greedy - len(served)
        other = await begun(b"other")
        assert other is not None
        for reply in (*served, other):
            await reply.aclose()
        assert serving._slots.taken == 0
        serving.close()

    run(scenario())


def test_an_upload_limit_holds_for_all_peers_together() -> None:
    """Bytes a second, however many ask; and as few at once as can all get on."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        pace = Pace(total=40e6)
        serving = Serving(lambda *_: _Zeros(), Traffic(), pace, loop.time)
        space, blob = SpaceId(bytes(32)), BlobId(bytes(32))

        async def take(peer: bytes) -> int:
            wanted = Wanted(False, (Run(0, 10),))
            replies = serving.serve(peer, space, blob, wanted)
            return sum([len(message) async for message in replies])

        began = loop.time()
        took = await asyncio.gather(*(take(bytes([n])) for n in range(4)))
        seconds = loop.time() - began
        assert sum(took) / seconds < 40e6 * 1.2
        serving.close()

    run(scenario())
