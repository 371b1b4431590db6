"""What would pass the limit that a user set is refused before a byte of it is written."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id_of, chunk_digests
from crdtmerge.errors import BadInputError, MachineError, NoRoomError
from crdtmerge.sizes import size_of
from nodes.store.blobs import FileBlobs
from nodes.store.database import Database
from nodes.store.quota import Quota
from nodes.store.sqlite import SqliteLocal


def content(size: int, seed: int) -> bytes:
    """Return `size` bytes that differ by seed."""
    return np.random.default_rng(seed).bytes(size)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Return a new store file."""
    database = Database.create(tmp_path / "store.sqlite", bytes(16))
    yield database
    database.close()


@pytest.fixture
def blobs(tmp_path: Path, database: Database) -> Iterator[FileBlobs]:
    """Return the blobs of a new store."""
    blobs = FileBlobs(tmp_path, database, write=True)
    yield blobs
    blobs.close()


def begin(blobs: FileBlobs, data: bytes) -> BlobId:
    """Begin the download of `data`."""
    blob = blob_id_of(data)
    blobs.begin(blob, len(data), chunk_digests(data))
    return blob


def test_without_a_quota_the_disk_is_the_limit(blobs: FileBlobs) -> None:
    """A new home has none, and one that is ended is gone."""
    assert blobs.quota.limit is None
    blobs.quota.set(10)
    blobs.quota.set(None)
    assert blobs.quota.limit is None
    blobs.put(content(1000, 1))


def test_a_quota_is_kept_and_may_be_filled_to_its_last_byte(
    blobs: FileBlobs, database: Database
) -> None:
    """What fits exactly is taken; one byte more is not, and leaves nothing behind."""
    blobs.quota.set(3000)
    kept = [blobs.put(content(1000, seed)) for seed in (1, 2)]
    with pytest.raises(
        NoRoomError, match=r"1001 bytes are needed beside 2000, .* 3000"
    ):
        blobs.put(content(1001, 3))
    assert blobs.ids() == sorted(kept)
    last = blobs.put(content(1000, 4))
    assert blobs.read(last, 1000) == content(1000, 4)
    assert Quota(database).limit == 3000


def test_what_is_there_stays_under_a_lower_quota(blobs: FileBlobs) -> None:
    """It is a limit for what comes: the same bytes again cost nothing."""
    data = content(5000, 1)
    blob = blobs.put(data)
    blobs.quota.set(0)
    assert blobs.put(data) == blob
    assert blobs.read(blob, 5000) == data
    with pytest.raises(NoRoomError):
        blobs.put(b"x")


def test_open_downloads_are_counted_whole(blobs: FileBlobs) -> None:
    """What was promised to one is not given to another, however little has come of it."""
    first, second = content(2 * CHUNK_BYTES, 1), content(CHUNK_BYTES, 2)
    blobs.quota.set(2 * CHUNK_BYTES + CHUNK_BYTES // 2)
    blob = begin(blobs, first)
    for index in range(2):
        with pytest.raises(NoRoomError):
            blobs.require_room(blob_id_of(second), CHUNK_BYTES)
        with pytest.raises(NoRoomError):
            begin(blobs, second)
        start = index * CHUNK_BYTES
        blobs.write_chunk(blob, index, first[start : start + CHUNK_BYTES])
    blobs.finish(blob)
    with pytest.raises(NoRoomError):
        begin(blobs, second)
    blobs.quota.set(3 * CHUNK_BYTES)
    other = begin(blobs, second)
    blobs.write_chunk(other, 0, second)
    blobs.finish(other)
    assert blobs.read(other, CHUNK_BYTES) == second


def test_files_of_the_user_count_for_nothing(blobs: FileBlobs, tmp_path: Path) -> None:
    """A reference takes none of the home's room."""
    (tmp_path / "model").write_bytes(content(4000, 1))
    blobs.quota.set(1000)
    blobs.reference_range(tmp_path / "model", 0, 4000)
    blobs.put(content(1000, 2))


def test_a_damaged_quota_is_told(blobs: FileBlobs, database: Database) -> None:
    """It is not taken for none."""
    SqliteLocal(database).set_value("quota", b"much")
    with pytest.raises(MachineError, match="is damaged: its quota"):
        blobs.put(b"x")


@pytest.mark.parametrize(
    ("text", "size"),
    [("200GB", 200 * 10**9), ("1.5 MiB", 3 << 19), ("0", 0), ("7", 7), ("2k", 2000)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    """With thousands or 1024s."""
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "1iB", "100MB/s", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """A rate is none either."""
    with pytest.raises(BadInputError, match="is no size"):
        size_of(text)
