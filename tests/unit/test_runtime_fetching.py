"""A download from begin to end: its turns, and what each kind of end leaves behind."""

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import cast

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import CHUNK_BYTES, blob_id_of, chunk_digests
from crdtmerge.sync.runs import clipped
from crdtmerge.sync.transfer import Wanted, announce
from nodes import fetching
from nodes.channels import Channels
from nodes.client import ReplicaClient
from nodes.effects import BlobFailed, BlobStored, Fetch, Input, SourceFailed
from nodes.effects import Source as Origin
from nodes.fetching import Fetching
from nodes.home import Home
from nodes.spaces import Spaces
from nodes.turns import OWN, Turn
from tests.integration.living import homes

PEER, SPACE = b"p" * 32, SpaceId(b"s" * 32)
DATA = bytes(range(256)) * (4 * CHUNK_BYTES // 256) + b"end"


class Source:
    """A peer that has one blob, and sends a chunk now and then."""

    def __init__(self, data: bytes, pause: float = 0.0, *, lie: bool = False) -> None:
        self.data, self.pause, self.lie = data, pause, lie
        self.sent = 0

    async def fetch(
        self, _: bytes, __: bytes, wanted: Wanted
    ) -> AsyncGenerator[bytes, None]:
        """Serve the blob."""
        digests = chunk_digests(self.data)
        for message in announce(
            len(self.data), digests, want_chunk_list=wanted.chunk_list
        ):
            yield message
        runs = clipped(wanted.runs, len(digests))
        for index in (i for run in runs for i in range(run.first, run.end)):
            await asyncio.sleep(self.pause)
            self.sent += 1
            chunk = self.data[index * CHUNK_BYTES :][:CHUNK_BYTES]
            yield bytes(len(chunk)) if self.lie else chunk


class One:
    """The channels of a node that reaches one peer."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def to(self, _: bytes, __: object) -> ReplicaClient:
        """Return the channel."""
        return cast(ReplicaClient, self.source)


def bring(home: Home, source: Source, turns: int) -> tuple[Fetching, list[Input]]:
    """Bring the blob of `source` in up to so many turns; return how each ended."""
    ended: list[Input] = []

    async def work() -> Fetching:
        def submit(turn: Turn, flow: bytes = OWN) -> asyncio.Future[None]:
            ended.extend(turn())
            return asyncio.get_running_loop().create_future()

        spaces = Spaces(home.records, home.blobs)
        works = Fetching(
            home.blobs, spaces, cast(Channels, One(source)), submit, time.monotonic
        )
        for _ in range(turns):
            blob, size = blob_id_of(source.data), len(source.data)
            await works.bring(Fetch(blob, size, (Origin(PEER, SPACE),)))
            if isinstance(ended[-1], BlobStored):
                break
        works.close()
        return works

    return asyncio.run(work()), ended


def test_a_slow_blob_comes_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each makes room for other fetches; a turn costs no more than the chunk it ends in."""
    monkeypatch.setattr(fetching, "TURN_S", 0.05)
    with homes(tmp_path, "one") as (home,):
        source, blob = Source(DATA, pause=0.06), blob_id_of(DATA)
        _, ended = bring(home, source, turns=6)
        assert ended[0] == BlobFailed(blob)
        assert ended[-1] == BlobStored(blob)
        assert len(ended) > 2
        assert source.sent <= len(chunk_digests(DATA)) + len(ended) - 1
        assert home.blobs.read(blob, len(DATA)) == DATA


def test_a_quick_blob_keeps_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sends enough in a turn goes on."""
    monkeypatch.setattr(fetching, "TURN_S", 0.2)
    monkeypatch.setattr(fetching, "TURN_BYTES", 1)
    with homes(tmp_path, "one") as (home,):
        _, ended = bring(home, Source(DATA[: 4 * CHUNK_BYTES], pause=0.1), turns=1)
        assert isinstance(ended[-1], BlobStored)


def test_a_lie_is_told_and_nothing_stays_open(tmp_path: Path) -> None:
    """A chunk of another digest ends the fetch, and its download is closed."""
    with homes(tmp_path, "one") as (home,):
        _, ended = bring(home, Source(DATA, lie=True), turns=1)
        blob = blob_id_of(DATA)
        assert ended == [SourceFailed(PEER, blob, lied=True), BlobFailed(blob)]
        assert home.blobs._arrivals._open == {}


def test_nothing_stays_reserved_between_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who claims a large blob and sends it slowly keeps the disk from nobody for long."""
    monkeypatch.setattr(fetching, "TURN_S", 0.05)
    with homes(tmp_path, "one") as (home,):
        _, ended = bring(home, Source(DATA, pause=0.1), turns=1)
        assert ended == [BlobFailed(blob_id_of(DATA))]
        assert home.blobs._arrivals.missing_bytes == 0
        assert home.blobs._arrivals._open == {}
        assert not home.blobs.leases.held()
        assert home.blobs.resumable(blob_id_of(DATA)) is not None
