"""Real nodes that fetch, converge, move and lose their rights, as verbs see it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import CHUNK_BYTES
from crdtmerge.errors import ContentMissingError, NotAllowedError
from crdtmerge.record import SignedRecord
from nodes.runtime import Runtime
from tests.integration.living import (
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


async def call(node: Runtime, verb: str, /, **asked: object) -> Any:
    """Run one verb in a node, as the control socket does."""
    return await asyncio.to_thread(node.operations.call, verb, asked, lambda _: None)


def root(node: Runtime, space: SpaceId) -> bytes:
    """Return the record root of a node."""
    return node.spaces.opset(space).root


async def says(node: Runtime, space: SpaceId, record: SignedRecord) -> None:
    """Publish a record in a node."""
    await asyncio.to_thread(node.spaces.publish, space, [record])


def test_a_wait_ends_with_what_every_peer_knew(tmp_path: Path) -> None:
    """Equal roots from before do not end it: here the host moved on and told nobody."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)

        async def test() -> None:
            async with living(owner) as host, living(guest, host) as other:
                first = await call(other, "wait", timeout=20)
                assert first["record_root"] == root(host, space).hex()
                record = replica(owner, space).announce(b"\x02" * 32, ())
                host.spaces.commit(space, [record])  # no rumour
                found = await call(other, "wait", timeout=20)
                assert record.record.id in other.spaces.opset(space)
                assert found["record_root"] == root(host, space).hex()
                assert found["peers"] == [host.me.hex()]

        run(test())


def test_a_fetch_ends_with_every_byte_here(tmp_path: Path) -> None:
    """Manifest first, then its tensors; of several spaces, those of all."""
    data = bytes(range(256)) * (3 * CHUNK_BYTES // 256)
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)
        owner.blobs.put(data)
        record = offer(owner, space, tensors(data))
        owner.records.append(space, [record])

        async def test() -> None:
            async with living(owner) as host, living(guest, host) as other:
                done = await call(other, "fetch", patience=20)
                assert done["compared"]
                assert done["fetched_bytes"] > len(data)
                assert other.spaces.missing(space) == {}
                assert guest.blobs.has(tensors(data).tensors[0].blob)
                assert done["contributions"] == [tensors(data).content_id.hex()]
                again = await call(other, "fetch", patience=20)
                assert again["fetched_bytes"] == 0

        run(test())


def test_a_fetch_of_what_nobody_has_says_so(tmp_path: Path) -> None:
    """A connected peer without it, and a node that is away, are told apart."""
    with homes(tmp_path, "owner", "guest", "away") as (owner, guest, away):
        space = found(owner)
        admit(owner, space, guest, away)
        owner.records.append(space, [offer(owner, space, tensors(b"gone"))])

        async def test() -> None:
            async with living(owner) as host, living(guest, host) as other:
                await until(lambda: bool(other.connected()), "a stream")
                with pytest.raises(ContentMissingError) as refusal:
                    await call(other, "fetch", patience=3)
                said = str(refusal.value)
                content = tensors(b"gone").content_id.hex()
                for word in (content[:12], host.me.hex()[:12]):
                    assert word in said
                assert f"not reached: {away.node.public.hex()[:12]}" in said

        run(test())


def test_an_added_address_is_used_at_once(tmp_path: Path) -> None:
    """The host is nowhere announced: only the user knows where it listens."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)

        async def test() -> None:
            async with living(owner) as host:
                # Its own word, that a node record would carry, is kept from the guest.
                address = host.addresses[0]
                guest_view = replica(guest, space).opset.view
                assert guest_view.nodes[host.me] == ()
                async with living(guest) as other:
                    await asyncio.sleep(0.5)
                    assert other.connected() == []
                    node = host.me.hex()[:8]
                    await call(other, "peers_add", node=node, addresses=[address])
                    await until(lambda: other.connected() == [host.me], "a stream")

        run(test())


def test_an_added_address_is_used_by_the_next_start(tmp_path: Path) -> None:
    """It lies in the home: a node that starts later knows no other."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        admit(owner, found(owner), guest)

        async def test() -> None:
            async with living(owner) as host:
                guest.local.set_addresses(host.me, host.addresses)
                async with living(guest) as other:
                    await until(lambda: other.connected() == [host.me], "a stream")

        run(test())


def test_a_revoked_authors_new_work_has_no_effect_on_others(tmp_path: Path) -> None:
    """Signed before it knows, nobody else sees it; a lift brings it in, and its node."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)
        key = guest.author.public.hex()
        for data in (b"early", b"late"):
            guest.blobs.put(data)

        async def test() -> None:
            async with living(owner) as host, living(guest, host) as other:
                await says(other, space, offer(guest, space, tensors(b"early")))
                await call(host, "wait", timeout=20)
                before = host.spaces.view(space).visible_root
                late = offer(guest, space, tensors(b"late"))
                await call(host, "space_revoke", author=key)
                await until(lambda: host.connected() == [], "the guest is cut off")
                await says(other, space, late)
                assert late.record.id in other.spaces.opset(space)
                # It reaches the host by another way: it is kept, without effect.
                host.spaces.commit(space, [late])
                view = host.spaces.view(space)
                assert late.record.id not in view.effective
                assert view.visible_root == before
                # Once the guest knows, it is told.
                other.spaces.commit(space, owner.records.load(space))
                assert root(host, space) == root(other, space)
                assert other.spaces.view(space).visible_root == before
                with pytest.raises(NotAllowedError, match="revoked"):
                    offer(guest, space, tensors(b"later"))
                await call(host, "space_revoke_lift", author=key)
                await call(host, "wait", timeout=20, peers=1)
                assert late.record.id in host.spaces.view(space).effective
                assert len(other.spaces.view(space).visible) == 2

        run(test())
