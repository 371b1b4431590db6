"""Hostile servers with a member's key, over real connections: lies in place of a blob.

Each has a name and an error; it brings nothing here that was not signed, and beside an
honest peer the blob still arrives whole. It costs its sender that blob, and nobody else
anything.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import pytest

from crdtmerge.digest import CHUNK_BYTES, chunk_digest
from crdtmerge.encodings import Form
from crdtmerge.errors import (
    CorruptBlobError,
    CrdtMergeError,
    MalformedChunkError,
    MalformedMessageError,
    NotFoundError,
)
from crdtmerge.sync import swarm
from crdtmerge.sync.sources import Fate
from crdtmerge.sync.swarm import Ask
from crdtmerge.sync.transfer import Incoming, Piece, Wanted
from nodes import server
from nodes.coding import decoded
from nodes.limits import FRAME_BYTES_MAX
from nodes.receiving import STORING_MAX, Receiving
from tests.attacks.fortress import Fortress
from tests.attacks.guard import PROCESS_BYTES_MAX, within_memory
from tests.integration.living import homes, run
from tests.integration.proxies import trickling
from tests.integration.transfers import (
    BLOB,
    COUNT,
    DATA,
    DIGESTS,
    Lie,
    Messages,
    Outcome,
    Sender,
    listening,
    receive,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LATE_S = 0.01


async def _late(_: int) -> None:
    """Let the hostile one go first."""
    await asyncio.sleep(LATE_S)


def _changed(at: int, message: bytes) -> Lie:
    """Return a lie that sends `message` instead of the one at this place."""

    async def lie(_: Wanted, honest: Messages) -> AsyncIterator[bytes]:
        number = 0
        async for true in honest:
            yield message if number == at else true
            number += 1

    return lie


async def _wrong(_: Wanted, honest: Messages) -> AsyncIterator[bytes]:
    """Flip a bit of every chunk after the second."""
    number = 0
    async for message in honest:
        whole = len(message) == CHUNK_BYTES
        number += whole
        yield message[:-1] + bytes([message[-1] ^ 1]) if number > 2 else message


async def _many(_: Wanted, honest: Messages) -> AsyncIterator[bytes]:
    """Go on sending when all was sent."""
    async for message in honest:
        yield message
    while True:
        yield bytes(CHUNK_BYTES)


async def _few(_: Wanted, honest: Messages) -> AsyncIterator[bytes]:
    """End in good order, with a chunk too few."""
    held: list[bytes] = []
    async for message in honest:
        if held:
            yield held.pop()
        held.append(message)


async def _nothing(_: Wanted, honest: Messages) -> AsyncIterator[bytes]:
    """End in good order, with nothing said."""
    async for _message in honest:
        break
    for nothing in list[bytes]():
        yield nothing


BOMB: Final = bytes([Form.PLAIN << 4]) + b"\x28\xb5\x2f\xfd" + bytes(64)
LIES: dict[str, tuple[Lie, type[CrdtMergeError] | None]] = {
    "wrong chunks": (_wrong, CorruptBlobError),
    "an endless stream of chunks": (_many, MalformedMessageError),
    "too few chunks": (_few, None),
    "nothing": (_nothing, None),
    "a wrong list": (_changed(1, bytes(32 * COUNT)), CorruptBlobError),
    "half a list": (_changed(1, bytes(32)), MalformedMessageError),
    "a smaller size": (
        _changed(0, (len(DATA) - 1).to_bytes(8, "little")),
        CorruptBlobError,
    ),
    "a lying size of a tebibyte": (
        _changed(0, (1 << 40).to_bytes(8, "little")),
        NotFoundError,
    ),
    "no size": (_changed(0, b"x"), MalformedMessageError),
    "a short chunk": (_changed(2, b"short"), MalformedMessageError),
    "an empty chunk": (_changed(2, b""), MalformedMessageError),
    "a chunk above its length": (
        _changed(2, bytes(CHUNK_BYTES + 1)),
        MalformedMessageError,
    ),
    "more than a message may have": (
        _changed(2, bytes(FRAME_BYTES_MAX + 1)),
        MalformedMessageError,
    ),
    "a bomb that says it is encoded": (_changed(2, BOMB), MalformedMessageError),
}
"""What each sends, and by which error it is refused; None if it just ends."""


@pytest.fixture(name="raised")
def fixture_raised(monkeypatch: pytest.MonkeyPatch) -> list[type[BaseException]]:
    """Note by which errors a download refuses what comes."""
    found: list[type[BaseException]] = []
    keep, end, take = Receiving._keep, Receiving._read, Incoming.take

    def keeps(self: Receiving, piece: Piece, against: bytes) -> bool:
        try:
            return keep(self, piece, against)
        except Exception as e:
            found.append(type(e))
            raise

    async def reads(self: Receiving, ask: Ask) -> None:
        try:
            await end(self, ask)
        except Exception as e:
            found.append(type(e))
            raise

    def takes(self: Incoming, message: bytes) -> Piece | None:
        try:
            return take(self, message)
        except Exception as e:
            found.append(type(e))
            raise

    monkeypatch.setattr(Incoming, "take", takes)
    monkeypatch.setattr(Receiving, "_keep", keeps)
    monkeypatch.setattr(Receiving, "_read", reads)
    return found


def _download(fortress: Fortress, *senders: Sender, size: int = len(DATA)) -> Outcome:
    """Receive from these; what is there must be the blob, or nothing."""
    found: list[Outcome] = []
    blobs = fortress.home.blobs

    async def scenario() -> None:
        async with listening(*senders) as places:
            found.append(await receive(blobs, places, size=size))

    run(scenario())
    blobs.pause(BLOB)
    assert blobs.has(BLOB) == found[0].stored
    if found[0].stored:
        assert blobs.read(BLOB, len(DATA)) == DATA
    return found[0]


def _without_limits() -> list[tuple[str, int]]:
    """Return the options of a server that sends what it likes."""
    return [("grpc.max_send_message_length", -1)]


@pytest.fixture(name="lying")
def fixture_lying(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Sender]:
    """Make senders that say what they like."""
    monkeypatch.setattr(server, "server_options", _without_limits)
    return lambda name: Sender(lie=LIES[name][0])


@pytest.mark.parametrize("name", LIES)
def test_lie_in_a_fetch(
    fortress: Fortress,
    lying: Callable[[str], Sender],
    raised: list[type[BaseException]],
    name: str,
) -> None:
    """Alone, it brings nothing but right chunks, which wait for the rest in `partial`.

    Blobs and records are as they were, and no more is taken than was signed.
    """
    before = fortress.state
    with within_memory(process=PROCESS_BYTES_MAX + 4 * len(DATA)):
        outcome = _download(fortress, lying(name))
    assert not outcome.stored
    error = LIES[name][1]
    assert set(raised) == ({error} if error else set())
    after = fortress.state
    assert after.roots == before.roots
    new = after.files.keys() - before.files.keys()
    assert len(new) <= 1
    for path in new:
        assert Path(path).parent.name == "partial"
        assert after.files[path][0] <= len(DATA)
        held = (fortress.folder / path).read_bytes()
        for index, digest in enumerate(DIGESTS[: len(held) // CHUNK_BYTES]):
            chunk = held[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
            assert chunk_digest(chunk) == digest or not any(chunk)
    rest = {path: file for path, file in after.files.items() if path not in new}
    assert rest == before.files
    changed = {t for t in after.tables if after.tables[t] != before.tables[t]}
    assert {t.rpartition(":")[2] for t in changed} <= {"downloads"}


@pytest.mark.parametrize("name", LIES)
def test_lie_in_a_fetch_beside_an_honest_peer(
    fortress: Fortress, lying: Callable[[str], Sender], name: str
) -> None:
    """The liar is named, counted, and asked no more; the blob comes from the other."""
    outcome = _download(fortress, lying(name), Sender(before=_late))
    assert outcome.stored
    larger = LIES[name][1] is NotFoundError
    fates = [fate.fate for fate in outcome.failures]
    assert set(fates) == {Fate.LACKS if larger else Fate.LIED}, outcome.failures
    assert outcome.traffic.bans == (0 if larger else 1)
    # Another may be on its way to the disk when the first is seen.
    most = STORING_MAX + 1 if name == "wrong chunks" else 0
    assert min(1, most) <= outcome.traffic.bad_chunks <= most
    assert outcome.work.swarm.fates()[outcome.failures[0].source] in fates
    assert outcome.traffic.chunks_in == COUNT


def test_encoded_bomb(fortress: Fortress) -> None:
    """What claims to be an encoding is decoded into a chunk's length and not beyond."""
    bomb = bytes([Form.PLAIN << 4]) + zstd.compress(bytes(1 << 28))
    assert len(bomb) < 64 << 10
    with fortress.refuses(MalformedChunkError):
        decoded(bomb, 0, CHUNK_BYTES, b"", fortress.home.blobs.read_chunk)


def test_slow_loris_beside_an_honest_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a real connection that nearly stands still: others bring its chunks."""
    monkeypatch.setattr(swarm, "PROGRESS_S", 3.0)
    with homes(tmp_path, "receiver") as (home,):

        async def scenario() -> None:
            async with listening(Sender(), Sender(before=_late)) as places:
                (slow, address), honest = places
                async with trickling(address, after=3 << 20) as thin:
                    outcome = await receive(home.blobs, [(slow, thin), honest])
                    assert outcome.stored
                    assert outcome.traffic.stolen + outcome.traffic.hedged > 0
                    assert outcome.traffic.bans == 0

        run(scenario())
        assert home.blobs.read(BLOB, len(DATA)) == DATA


def test_slow_loris_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the stated time without a chunk; what came is kept."""
    monkeypatch.setattr(swarm, "PROGRESS_S", 0.7)
    with homes(tmp_path, "receiver") as (home,):

        async def scenario() -> None:
            async with listening(Sender()) as places:
                ((key, address),) = places
                async with trickling(address, after=5 << 20) as thin:
                    outcome = await receive(home.blobs, [(key, thin)])
                assert not outcome.stored
                assert [f.fate for f in outcome.failures] == [Fate.GONE]
                assert outcome.traffic.stalls == 1
                came = outcome.traffic.chunks_in
                assert came > 0
                home.blobs.pause(BLOB)
                again = await receive(home.blobs, places)
                assert again.stored
                assert again.traffic.resumed == 1
                assert again.traffic.chunks_in == COUNT - came

        run(scenario())
