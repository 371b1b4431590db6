"""Members of one space who want something of another that the same home holds."""

import contextlib
from dataclasses import replace
from typing import Final

import grpc
import pytest

from crdtmerge.bodies import NodeAddress, SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.errors import NotFoundError
from crdtmerge.sync.messages import (
    FEATURES,
    AttestationsRequest,
    FeedRequest,
    Heartbeat,
    Message,
    RecordsRequest,
    Rumour,
    TensorsRequest,
    TrieRequest,
)
from crdtmerge.sync.runs import Run
from crdtmerge.sync.transfer import Wanted
from tests.attacks.fortress import Fortress, model
from tests.attacks.siege import HELLO, Siege, framed, node_of, sent
from tests.properties.cast import CARL, STRANGER, Pen, add_of, genesis, write

SECRET: Final = b"what only members of the first space may have"


@pytest.fixture(name="two")
def fixture_two(fortress: Fortress) -> SpaceId:
    """Let the fortress hold a second, open space, of which a stranger is a member."""
    fortress.contribute(CARL, SECRET)
    other = genesis("open", nonce=b"second space    ")
    pen = Pen(other, {other.record.id: other}, {}, {})
    pen.write(STRANGER, NodeAddress(node_of(STRANGER).public, ()))
    space = SpaceId(other.record.id)
    fortress.spaces().commit(space, list(pen.known.values()))
    return space


async def all_said(siege: Siege, *frames: bytes) -> bytes:
    """Return every byte that the node says to the stranger who asks so."""
    heard = b""
    async with siege.raw(STRANGER) as call:
        for frame in (framed(HELLO), *frames):
            await call.write(frame)
        # A question about its own space: once that is answered, so are the others.
        with contextlib.suppress(grpc.aio.AioRpcError):
            while b"any generation" not in heard:
                heard += await call.read()
    return heard


def test_record_heads_of_another_space(fortress: Fortress, two: SpaceId) -> None:
    """Who is no member there hears no record, no id, no root, and not that it exists."""
    space, opset = fortress.space, fortress.spaces().opset(fortress.space)
    ids = tuple(sorted(opset.signed))
    questions: tuple[Message, ...] = (
        replace(HELLO, features=FEATURES, heard=True),
        Heartbeat(space, bytes(32), 0, bytes(16), 0),
        FeedRequest(space, fortress.home.records.generation, 0, 1),
        TrieRequest(space, ((),), 1),
        RecordsRequest(space, ids, 1),
        Rumour(space, sent(*opset.signed.values())),
        AttestationsRequest(space, ()),
        TensorsRequest(space, bytes(32), 0, 1),
    )

    async def attack(siege: Siege) -> None:
        last = FeedRequest(two, b"any generation..", 0, 1)
        beat = Heartbeat(two, bytes(32), 1, b"any generation..", 1)
        heard = await all_said(siege, *(framed(q) for q in (*questions, beat, last)))
        assert bytes(two) in heard
        assert opset.root not in heard
        assert siege.root not in heard
        for secret in (space, *ids):
            assert secret not in heard

    fortress.withstands(None, attack)


@pytest.mark.parametrize("named", ["theirs", "ours"])
def test_blob_of_another_space(fortress: Fortress, two: SpaceId, named: str) -> None:
    """A digest that leaked opens nothing, whichever space the request names."""
    manifest = model(SECRET)

    async def ask(siege: Siege, blob: BlobId) -> None:
        space = fortress.space if named == "theirs" else two
        async with siege.client(STRANGER) as client:
            wanted = Wanted(True, (Run(0, 9),))
            async for reply in client.fetch(space, blob, wanted):
                raise AssertionError(f"it got {len(reply)} bytes")

    async def attack(siege: Siege) -> None:
        for blob in (manifest.blob, manifest.tensors[0].blob):
            with pytest.raises(NotFoundError) as found:
                await ask(siege, blob)
            assert found.type is NotFoundError
            # What is not there at all is refused in the same words.
            with pytest.raises(NotFoundError) as absent:
                await ask(siege, BlobId(bytes(32)))
            assert str(absent.value) == str(found.value)

    fortress.withstands(None, attack)


def test_record_pushed_into_another_space(fortress: Fortress, two: SpaceId) -> None:
    """Not even a true record of the other space comes in through who is no member."""
    true = fortress.next(CARL, add_of(model(b"true").content_id))

    async def attack(siege: Siege) -> None:
        await siege.says(STRANGER, Rumour(fortress.space, sent(true)), space=two)

    fortress.withstands(None, attack)


def test_record_that_names_another_space(fortress: Fortress, two: SpaceId) -> None:
    """A record of the space where one is a member, sent as one of another, is ignored."""
    first = fortress.spaces().opset(two).get(two)  # type: ignore[arg-type]
    assert first is not None
    theirs = write(STRANGER, first, add_of(model(b"x").content_id), seq=0)

    async def attack(siege: Siege) -> None:
        await siege.says(STRANGER, Rumour(fortress.space, sent(theirs)), space=two)

    fortress.withstands(None, attack)
