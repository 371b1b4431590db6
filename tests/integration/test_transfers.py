"""One blob over real connections, from several nodes at once, cut and resumed."""

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id_of
from crdtmerge.errors import MachineError, NoRoomError
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.sync.pace import Pace
from crdtmerge.sync.sources import Fate
from crdtmerge.sync.swarm import STREAMS_PER_SOURCE_MAX
from nodes.home import Home, open_home
from nodes.receiving import STORING_MAX
from nodes.twins import Twin, Twins
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
from tests.integration.transfers import (
    BLOB,
    COUNT,
    DATA,
    Sender,
    listening,
    receive,
)

PAUSE_S = 0.01


async def _slowly(_: int) -> None:
    await asyncio.sleep(PAUSE_S)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """Lend a home to receive into."""
    with homes(tmp_path, "receiver") as (made,):
        yield made


def test_several_sources_bring_one_blob(home: Home) -> None:
    """Each sends a part, no chunk comes twice, and the bytes are those."""

    async def scenario() -> None:
        senders = [Sender(before=_slowly) for _ in range(3)]
        async with listening(*senders) as places:
            outcome = await receive(home.blobs, places)
        assert outcome.stored
        sent = [len(sender.sent) for sender in senders]
        assert all(sent)
        assert outcome.traffic.chunks_in == COUNT
        assert outcome.traffic.bytes_in == len(DATA)
        assert sum(sent) - outcome.traffic.stolen <= COUNT + 2 * 3

    run(scenario())
    assert home.blobs.read(BLOB, len(DATA)) == DATA


def test_a_source_that_dies_is_replaced(home: Home) -> None:
    """Its server goes away in the middle; another brings the rest, and nobody lied."""

    async def scenario() -> None:
        stuck = asyncio.Event()

        async def die(index: int) -> None:
            if index >= 2:
                stuck.set()
                await asyncio.sleep(60)

        dying, other = Sender(before=die), Sender(before=_slowly)
        async with listening(other) as others:
            async with listening(dying) as first:
                work = asyncio.ensure_future(receive(home.blobs, [*first, *others]))
                await stuck.wait()
            outcome = await work
        assert outcome.stored
        assert outcome.traffic.bans == 0
        assert outcome.traffic.chunks_in == COUNT

    run(scenario())
    assert home.blobs.read(BLOB, len(DATA)) == DATA


def test_a_cut_costs_one_chunk_a_stream_at_most(home: Home) -> None:
    """What the receiver took is not asked for again, however often it is cut."""

    async def scenario() -> None:
        asked = 0
        for _ in range(20):
            sender = Sender(before=_slowly)
            async with listening(sender) as places:
                work = asyncio.ensure_future(receive(home.blobs, places))
                await asyncio.sleep(0.12)
            outcome = await work
            asked += outcome.traffic.wire_in // CHUNK_BYTES
            home.blobs.pause(BLOB)
            if outcome.stored:
                break
        assert outcome.stored
        assert asked <= COUNT  # chunks that came whole came once

    run(scenario())
    assert home.blobs.read(BLOB, len(DATA)) == DATA


def test_sigkill_costs_what_is_not_written_yet(tmp_path: Path) -> None:
    """Of what a process took, one chunk a stream being stored, and the one behind it.

    What was sent and not taken lay in the connection, and went with it.
    """
    kills = 3

    async def scenario() -> None:
        sender = Sender(before=_slowly)
        async with listening(sender) as places:
            ((key, address),) = places
            for life in range(kills + 1):
                receiver = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "tests.integration.receiver"),
                    *(str(tmp_path / "home"), address, key.seed.hex()),
                    stdout=asyncio.subprocess.PIPE,
                )
                if life < kills:
                    mark = len(sender.sent) + 5
                    while len(sender.sent) < mark:  # noqa: ASYNC110  seen from outside
                        await asyncio.sleep(0.005)
                    receiver.kill()
                await receiver.wait()
            assert receiver.returncode == 0
        assert set(sender.sent) == set(range(COUNT))
        taken = (tmp_path / "home.log").stat().st_size
        streams = STREAMS_PER_SOURCE_MAX
        assert COUNT <= taken <= COUNT + kills * streams * (STORING_MAX + 1)

    run(scenario())
    with contextlib.closing(
        open_home(tmp_path / "home", write=True, purpose="command")
    ) as h:
        assert h.blobs.read(BLOB, len(DATA)) == DATA


def test_who_has_no_room_is_asked_later_and_is_no_liar(home: Home) -> None:
    """A refusal for want of a slot costs nothing but time."""

    async def scenario() -> None:
        async with listening(Sender(), Sender(before=_slowly)) as places:
            outcome = await receive(home.blobs, places)
        assert outcome.stored
        assert Fate.LIED not in outcome.work.swarm.fates().values()

    run(scenario())


def test_room_is_reserved_before_anything_is_asked_for(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob that does not fit costs no byte on the wire."""

    def full(_: BlobId, __: int) -> None:
        raise NoRoomError("the disk is full")

    monkeypatch.setattr(home.blobs, "require_room", full)

    async def scenario() -> None:
        sender = Sender()
        async with listening(sender) as places:
            with pytest.raises(NoRoomError):
                await receive(home.blobs, places)
        assert sender.sent == []

    run(scenario())


def test_a_sync_that_fails_after_the_last_chunk_fails_the_download(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks do not wait for a sync, but the blob does."""
    add = home.blobs.add_chunk

    def due(blob: BlobId, index: int, data: bytes) -> bool:
        add(blob, index, data)
        return not home.blobs.missing_chunks(blob)

    def fail(_: BlobId) -> None:
        time.sleep(0.3)
        raise MachineError("the disk reports an input/output error")

    monkeypatch.setattr(home.blobs, "add_chunk", due)
    monkeypatch.setattr(home.blobs, "vouch", fail)

    async def scenario() -> None:
        async with listening(Sender()) as places:
            with pytest.raises(MachineError, match="input/output"):
                await receive(home.blobs, places)

    run(scenario())
    assert home.blobs.ids() == []


def test_a_download_keeps_to_its_limit(home: Home) -> None:
    """Bytes a second, of all sources together; its own pace is nobody's silence."""

    async def scenario() -> None:
        async with listening(Sender(), Sender()) as places:
            began = time.monotonic()
            outcome = await receive(home.blobs, places, pace=Pace(total=20e6))
            took = time.monotonic() - began
        assert outcome.stored
        assert took >= 0.8 * len(DATA) / 20e6 - 0.2
        assert not outcome.failures

    run(scenario())


# --- whole nodes ------------------------------------------------------------------------


def test_chunks_come_encoded_over_a_slow_link(tmp_path: Path) -> None:
    """Where both have the base and the link is slower than the encoder: fewer bytes."""
    rng = random.Random(3)
    base = rng.randbytes(16 * CHUNK_BYTES)
    tuned = bytearray(base)
    for at in range(0, len(tuned), 64):
        tuned[at] ^= 1
    data, twin = bytes(tuned), blob_id_of(base)
    blob = blob_id_of(data)
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)
        entries = {
            b: TensorEntry("t", "I16", (len(data) // 2,), b) for b in (twin, blob)
        }
        theirs = Manifest("base", b"", (entries[twin],))
        for one in (owner, guest):
            one.blobs.put(base)
        owner.blobs.put(data)
        manifest = Manifest("full", BASE, (entries[blob],))
        record = offer(owner, space, manifest)

        async def meet() -> None:
            async with living(owner) as host, living(guest, host) as joiner:
                for node in (host, joiner):
                    has = node.home.blobs.has
                    twins = Twins(node.spaces, lambda _: theirs, has)
                    node.fetching.use_twins(twins)
                link = host.fetching.serving._links.to(joiner.me)
                link.sent, link.drain = 1 << 40, 10e6  # known to be slow
                await asyncio.to_thread(host.spaces.publish, space, [record])
                await until(lambda: guest.blobs.has(blob), "the tensor")
                came = joiner.fetching.traffic
                assert came.bytes_in >= len(data)
                assert came.wire_in < came.bytes_in // 2
                assert came.bad_chunks == 0

        run(meet())
        assert guest.blobs.read(blob, len(data)) == data


def test_only_the_true_twin_is_encoded_against(tmp_path: Path) -> None:
    """A peer that names another blob of ours learns nothing of it."""
    with homes(tmp_path, "owner") as (owner,):
        space = found(owner)
        data, secret = bytes(1 << 17), b"\x01" * (1 << 17)
        for content in (data, secret):
            owner.blobs.put(content)
        entry = TensorEntry("t", "U8", (len(data),), blob_id_of(data))
        twin = TensorEntry("t", "U8", (len(data),), blob_id_of(secret))
        record = offer(owner, space, Manifest("full", BASE, (entry,)))
        owner.records.append(space, [record])

        async def asks() -> None:
            async with living(owner) as host:

                def twins(entry: TensorEntry | None) -> Twin | None:
                    base = Manifest("base", b"", (entry,)) if entry else None
                    has = owner.blobs.has
                    found = Twins(host.spaces, lambda _: base, has)
                    return found.of(SpaceId(space), blob_id_of(data))

                assert twins(twin) == Twin(1, blob_id_of(secret))
                assert twins(None) == Twin(1, None)

        run(asks())


def test_our_own_damaged_base_is_no_fault_of_who_encodes(tmp_path: Path) -> None:
    """Chunks under way that we cannot decode are asked for again, as they are."""
    rng = random.Random(4)
    base = rng.randbytes(16 * CHUNK_BYTES)
    tuned = bytearray(base)
    for at in range(0, len(tuned), 64):
        tuned[at] ^= 1
    data, twin = bytes(tuned), blob_id_of(base)
    blob = blob_id_of(data)
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)
        entries = {
            b: TensorEntry("t", "I16", (len(data) // 2,), b) for b in (twin, blob)
        }
        theirs = Manifest("base", b"", (entries[twin],))
        for one in (owner, guest):
            one.blobs.put(base)
        guest.blobs.path_of(twin).write_bytes(bytes(len(base)))
        owner.blobs.put(data)
        record = offer(owner, space, Manifest("full", BASE, (entries[blob],)))

        async def meet() -> None:
            async with living(owner) as host, living(guest, host) as joiner:
                for node in (host, joiner):
                    has = node.home.blobs.has
                    node.fetching.use_twins(Twins(node.spaces, lambda _: theirs, has))
                link = host.fetching.serving._links.to(joiner.me)
                link.sent, link.drain = 1 << 40, 10e6  # known to be slow
                await asyncio.to_thread(host.spaces.publish, space, [record])
                await until(lambda: guest.blobs.has(blob), "the tensor")
                came = joiner.fetching.traffic
                assert (came.bad_chunks, came.bans, came.failed) == (0, 0, 0)

        run(meet())
        assert guest.blobs.read(blob, len(data)) == data
