"""A member that signs, serves or asks for what it should not harms no running node."""

import asyncio
import itertools
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from crdtmerge.bodies import Add, SpaceId
from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id, chunk_count
from crdtmerge.errors import NotFoundError
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.policy import BYTES_MAX_DEFAULT
from crdtmerge.sync.runs import Run
from crdtmerge.sync.transfer import Wanted
from nodes.client import ReplicaClient
from nodes.effects import BlobFailed, Fetch, Input, Source
from nodes.home import Home
from nodes.runtime import Runtime
from nodes.store.ranges import Stored
from nodes.tls import make_leaf
from nodes.turns import OWN, Turn
from tests.integration.living import (
    AFTER,
    BASE,
    BEFORE,
    admit,
    found,
    homes,
    living,
    offer,
    replica,
    run,
    tensors,
    until,
)

MEBI = random.Random(2).randbytes(CHUNK_BYTES + 5)


async def _ask(asker: Home, host: Runtime, space: SpaceId, blob: BlobId) -> bytes:
    """Fetch a blob as a member's own program might."""
    leaf = make_leaf(asker.node.unlock(), BEFORE, AFTER)
    async with ReplicaClient(host.addresses[0], host.me, leaf) as client:
        replies = client.fetch(space, blob, Wanted(False, (Run(0, 9),)))
        return b"".join([reply async for reply in replies][1:])


def test_a_banned_content_is_served_no_more(tmp_path: Path) -> None:
    """Poison does not spread from who knows of the ban."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)
        owner.blobs.put(b"poison")
        manifest = tensors(b"poison")
        owner.records.append(space, [offer(owner, space, manifest)])

        async def asks() -> None:
            async with living(owner) as host:
                blob = manifest.tensors[0].blob
                assert await _ask(guest, host, space, blob) == b"poison"
                arguments = {"id": manifest.content_id.hex()}
                await asyncio.to_thread(host.operations.call, "ban", arguments, print)
                with pytest.raises(NotFoundError):
                    await _ask(guest, host, space, blob)

        run(asks())


def test_a_claim_above_the_disk_stops_nobody(tmp_path: Path) -> None:
    """A tensor larger than a disk is signed in a second: it is not fetched, the rest is."""
    with homes(tmp_path, "owner", "liar") as (owner, liar):
        space = found(owner)
        admit(owner, space, liar)
        status = os.statvfs(owner.path)
        size = status.f_bavail * status.f_frsize + (8 << 30)
        if size >= BYTES_MAX_DEFAULT:
            pytest.skip("the disk has room for whatever a grant allows")
        chunks = (bytes(32),) * chunk_count(size)
        huge = TensorEntry("t", "U8", (size,), blob_id(size, chunks))
        # The liar lists its chunks, as one does who has the blob.
        liar.blobs.rows.write(Stored(huge.blob, size, chunks, tmp_path, 0, True))
        claim = offer(liar, space, Manifest("full", BASE, (huge,)))
        liar.records.append(space, [claim])

        async def meet() -> None:
            async with living(owner) as host, living(liar, host) as other:
                manifest = claim.record.body
                assert isinstance(manifest, Add)
                await until(lambda: owner.blobs.has(manifest.manifest), "its manifest")
                await asyncio.sleep(1.5)  # a tick, and what it asks for
                liar.blobs.put(b"real")
                real = offer(liar, space, tensors(b"real"))
                await asyncio.to_thread(other.spaces.publish, space, [real])
                tensor = tensors(b"real").tensors[0].blob
                await until(lambda: owner.blobs.has(tensor), "the real tensor")
                assert not host.stopping.is_set()

        run(meet())


def test_a_wrong_size_makes_no_liar_of_who_has_the_blob(tmp_path: Path) -> None:
    """A tensor named with false sizes arrives; who sends it keeps its stream."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)
        owner.blobs.put(MEBI)
        honest = tensors(MEBI)
        owner.records.append(space, [offer(owner, space, honest)])
        (entry,), last = honest.tensors, b""
        for wrong in (-CHUNK_BYTES, -1, 1, 2, 3, CHUNK_BYTES):
            false = replace(entry, shape=(len(MEBI) + wrong,))
            junk = Manifest("full", BASE, (false,))
            owner.records.append(space, [offer(owner, space, junk)])
            guest.blobs.put(junk.encode())
            last = max(last, junk.content_id)
        assert last > honest.content_id  # the order must not decide
        guest.blobs.put(honest.encode())

        async def meet() -> None:
            async with living(owner) as host, living(guest, host) as joiner:
                await until(lambda: guest.blobs.has(entry.blob), "the tensor")
                assert guest.blobs.read(entry.blob, len(MEBI)) == MEBI
                assert joiner.node._backoff._banished_until == {}
                assert joiner.connected() == [host.me]

        run(meet())


def test_a_wrong_size_of_a_manifest_hides_it_from_nobody(tmp_path: Path) -> None:
    """Who offers what another offers, and signs other sizes, stops nobody from it."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)
        manifest = tensors(b"true")
        owner.blobs.put(b"true")
        true = offer(owner, space, manifest)
        owner.records.append(space, [true])
        body, ids = true.record.body, [true.record.id]
        assert isinstance(body, Add)
        for number in itertools.count():
            size = (1, body.manifest_bytes - 1, 1 << 20)[number % 3]
            said = replace(body, manifest_bytes=size, note=f"no {number}")
            lie = replica(owner, space)._sign(said)
            owner.records.append(space, [lie])
            ids.append(lie.record.id)
            if number > 2 and min(ids) < true.record.id < max(ids):
                break  # the order must not decide

        async def meet() -> None:
            async with living(owner) as host, living(guest, host):
                blob = manifest.tensors[0].blob
                await until(lambda: guest.blobs.has(blob), "the tensor")

        run(meet())


def test_a_fetch_over_a_closed_channel_fails_alone(tmp_path: Path) -> None:
    """A channel may be replaced at any moment; the node goes on."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)

        async def meet() -> None:
            async with living(owner) as host, living(guest, host) as joiner:
                await until(lambda: joiner.connected() == [host.me], "a stream")
                client = joiner.links.channels.to(host.me, host.addresses)
                await client.close()  # as `dialled` does with the one before
                blob = tensors(b"any").tensors[0].blob
                inputs: list[Input] = []

                def submit(turn: Turn, flow: bytes = OWN) -> asyncio.Future[None]:
                    inputs.extend(turn())
                    return joiner.submit(list, flow)

                joiner.fetching._submit = submit
                await joiner.fetching.bring(Fetch(blob, 3, (Source(host.me, space),)))
                assert BlobFailed(blob) in inputs

        run(meet())


def test_junk_under_a_manifest_is_not_asked_for_by_others(tmp_path: Path) -> None:
    """What an add names as its manifest, but is none, is fetched once and not served on."""
    with homes(tmp_path, "owner", "liar") as (owner, liar):
        space = found(owner)
        admit(owner, space, liar)
        junk = liar.blobs.put(b"no manifest")
        signed = offer(liar, space, tensors(b"x"))
        body = signed.record.body
        assert isinstance(body, Add)
        forged = replace(body, manifest=junk, manifest_bytes=len(b"no manifest"))
        liar.records.append(space, [replica(liar, space)._sign(forged)])

        async def meet() -> None:
            async with living(owner) as host, living(liar, host):
                await until(lambda: owner.blobs.has(junk), "the junk")
                assert host.failure is None

        run(meet())
