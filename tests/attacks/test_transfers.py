"""Hostile servers with a member's key, over real connections: a blob still arrives whole.

Each lie has a name and a count, costs its sender that blob, and nobody else anything.
"""

import asyncio
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crdtmerge.digest import CHUNK_BYTES
from crdtmerge.encodings import Form
from crdtmerge.sync import swarm
from crdtmerge.sync.sources import Fate
from crdtmerge.sync.transfer import Wanted
from nodes import server
from nodes.limits import FRAME_BYTES_MAX
from tests.integration.living import homes, run
from tests.integration.proxies import trickling
from tests.integration.transfers import (
    BLOB,
    COUNT,
    DATA,
    Lie,
    Messages,
    Outcome,
    Sender,
    listening,
    receive,
)

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


LIES: dict[str, Lie] = {
    "wrong bytes": _wrong,
    "too many": _many,
    "too few": _few,
    "none": _nothing,
    "a wrong list": _changed(1, bytes(32 * COUNT)),
    "half a list": _changed(1, bytes(32)),
    "a smaller size": _changed(0, (len(DATA) - 1).to_bytes(8, "little")),
    "no size": _changed(0, b"x"),
    "a short chunk": _changed(2, b"short"),
    "an empty chunk": _changed(2, b""),
    "a chunk above its length": _changed(2, bytes(CHUNK_BYTES + 1)),
    "more than a message may have": _changed(2, bytes(FRAME_BYTES_MAX + 1)),
}


def _download(folder: Path, *senders: Sender, size: int = len(DATA)) -> Outcome:
    """Receive from these into a new home; what is there must be the blob."""
    found: list[Outcome] = []
    with homes(folder, "receiver") as (home,):

        async def scenario() -> None:
            async with listening(*senders) as places:
                found.append(await receive(home.blobs, places, size=size))

        run(scenario())
        if found[0].stored:
            assert home.blobs.read(BLOB, len(DATA)) == DATA
    return found[0]


def _without_limits() -> list[tuple[str, int]]:
    """Return the options of a server that sends what it likes."""
    return [("grpc.max_send_message_length", -1)]


@pytest.mark.parametrize("name", LIES)
def test_a_liar_costs_itself_the_blob_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It is named, counted, and asked no more; the blob comes from the honest one."""
    monkeypatch.setattr(server, "_server_options", _without_limits)
    liar, honest = Sender(lie=LIES[name]), Sender(before=_late)
    outcome = _download(tmp_path, liar, honest)
    assert outcome.stored
    fates = [(f.source[:1], f.fate) for f in outcome.failures]
    assert [fate for _, fate in fates] == [Fate.LIED], outcome.failures
    assert outcome.traffic.bans == 1
    assert outcome.traffic.bad_chunks == (name == "wrong bytes")
    assert outcome.work.swarm.fates()[outcome.failures[0].source] is Fate.LIED
    assert outcome.traffic.chunks_in == COUNT


def test_a_larger_size_is_refused_before_anything_is_reserved(tmp_path: Path) -> None:
    """A terabyte is claimed in eight bytes; nobody is called a liar for it."""
    claim = Sender(lie=_changed(0, (1 << 40).to_bytes(8, "little")))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = _download(tmp_path, claim, Sender(before=_late))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert outcome.stored
    assert {f.fate for f in outcome.failures} == {Fate.LACKS}
    assert outcome.traffic.lacking >= 1
    assert outcome.traffic.bans == 0
    assert grown < 256 << 10  # KiB


def test_an_encoded_bomb_is_a_lie(tmp_path: Path) -> None:
    """What claims to be an encoding is decoded into a chunk's length and not beyond."""
    bomb = bytes([Form.PLAIN << 4]) + b"\x28\xb5\x2f\xfd" + bytes(64)
    outcome = _download(tmp_path, Sender(lie=_changed(2, bomb)), Sender(before=_late))
    assert outcome.stored
    assert outcome.traffic.bans == 1


def test_one_byte_a_second_holds_nobody_up(
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


def test_a_source_that_stands_still_alone_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
