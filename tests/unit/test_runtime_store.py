"""Downloads of a node that never ends its life: no descriptor, no reservation is left."""

import errno
import os
from pathlib import Path

import pytest

from crdtmerge.digest import CHUNK_BYTES, blob_id, blob_id_of, chunk_digests
from crdtmerge.errors import ContentMissingError, MachineError, NoRoomError
from nodes.store import disk
from nodes.store.blobs import FileBlobs
from nodes.store.disk import SystemFile
from tests.integration.living import homes

DATA = bytes(range(256)) * (CHUNK_BYTES // 128)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_a_paused_download_holds_no_descriptor(tmp_path: Path) -> None:
    """Who lists chunks and sends none could use up all that a process may open."""
    with homes(tmp_path, "one") as (home,):
        before = descriptors()
        for number in range(50):
            data = number.to_bytes(2) + DATA
            blob, chunks = blob_id_of(data), chunk_digests(data)
            home.blobs.begin(blob, len(data), chunks)
            home.blobs.pause(blob)
        assert descriptors() <= before + 1


def test_a_paused_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Nothing that was verified comes twice."""
    with homes(tmp_path, "one") as (home,):
        blob, chunks = blob_id_of(DATA), chunk_digests(DATA)
        assert home.blobs.begin(blob, len(DATA), chunks) == 0
        home.blobs.write_chunk(blob, 0, DATA[:CHUNK_BYTES])
        home.blobs.pause(blob)
        home.blobs.pause(blob)  # twice does no harm
        assert home.blobs.begin(blob, len(DATA), chunks) == 1
        home.blobs.write_chunk(blob, 1, DATA[CHUNK_BYTES:])
        home.blobs.finish(blob)
        assert home.blobs.read(blob, len(DATA)) == DATA


def test_a_paused_download_reserves_no_room(tmp_path: Path) -> None:
    """A claim that came to nothing must not keep others from the disk."""
    with homes(tmp_path, "one") as (home,):
        free = os.statvfs(home.path)
        size = free.f_bavail * free.f_frsize // 2 // CHUNK_BYTES * CHUNK_BYTES
        chunks = [bytes(32)] * (size // CHUNK_BYTES)

        blob = blob_id(size, chunks)
        home.blobs.begin(blob, size, chunks)
        with pytest.raises(NoRoomError):
            home.blobs.reserve(size * 5 // 4)
        home.blobs.pause(blob)
        home.blobs.reserve(size * 5 // 4)


def test_room_is_asked_for_before_a_byte_comes(tmp_path: Path) -> None:
    """What has arrived of a blob is not asked for again."""
    with homes(tmp_path, "one") as (home,):
        blob = blob_id_of(DATA)
        home.blobs.require_room(blob, len(DATA))
        with pytest.raises(NoRoomError):
            home.blobs.require_room(blob, 1 << 60)
        home.blobs.put(DATA)
        home.blobs.require_room(blob, 1 << 60)


def test_a_full_disk_is_told_from_a_bad_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node goes on without room; a sync that failed ends it, whatever the reason."""
    kinds = {
        number: type(disk.machine_error(OSError(number, ""), "x"))
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
    }
    assert kinds == {
        errno.ENOSPC: NoRoomError,
        errno.EDQUOT: NoRoomError,
        errno.EIO: MachineError,
    }

    def full(_: SystemFile) -> None:
        raise OSError(errno.ENOSPC, "")

    with homes(tmp_path, "one") as (home,):
        blob, chunks = blob_id_of(DATA), chunk_digests(DATA)
        home.blobs.begin(blob, len(DATA), chunks)
        _fill(home.blobs)
        monkeypatch.setattr(SystemFile, "sync", full)
        with pytest.raises(MachineError) as failed:
            home.blobs.finish(blob)
        assert type(failed.value) is MachineError
        with pytest.raises(ContentMissingError):
            home.blobs.read(blob, len(DATA))


def _fill(blobs: FileBlobs) -> None:
    for index, start in enumerate(range(0, len(DATA), CHUNK_BYTES)):
        blobs.write_chunk(blob_id_of(DATA), index, DATA[start : start + CHUNK_BYTES])
