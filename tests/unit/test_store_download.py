"""A download keeps only what it verified, and goes on where it stopped."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id, blob_id_of, chunk_digests
from crdtmerge.errors import (
    ContentMissingError,
    CorruptBlobError,
    MachineError,
    NoRoomError,
    NotFoundError,
)
from nodes.store import arrivals, download, naming
from nodes.store.blobs import FileBlobs
from nodes.store.database import Database
from nodes.store.disk import SystemDisk, SystemFile

DATA = np.random.default_rng(1).bytes(4 * CHUNK_BYTES + 77)
CHUNKS = chunk_digests(DATA)
BLOB = blob_id_of(DATA)
PIECES = [
    DATA[start : start + CHUNK_BYTES] for start in range(0, len(DATA), CHUNK_BYTES)
]


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


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    """Return where the download lies before it is whole."""
    return tmp_path / "partial" / BLOB.hex()


def test_chunks_in_any_order_make_the_blob(blobs: FileBlobs, partial: Path) -> None:
    """The first missing one is told; after `finish` the blob is there."""
    assert blobs.begin(BLOB, len(DATA), CHUNKS) == 0
    for index in (4, 0, 2):
        blobs.write_chunk(BLOB, index, PIECES[index])
    assert blobs.begin(BLOB, len(DATA), CHUNKS) == 1
    assert not blobs.has(BLOB)
    for index in (3, 1, 1):
        blobs.write_chunk(BLOB, index, PIECES[index])
    assert blobs.begin(BLOB, len(DATA), CHUNKS) == 5
    blobs.finish(BLOB)
    assert blobs.read(BLOB, len(DATA)) == DATA
    assert not partial.exists()


def test_nothing_needs_no_chunk(blobs: FileBlobs) -> None:
    """The empty blob is whole at once."""
    empty = blob_id_of(b"")
    assert blobs.begin(empty, 0, []) == 0
    blobs.finish(empty)
    assert blobs.read(empty, 0) == b""


def test_a_chunk_list_of_another_blob_is_refused(
    blobs: FileBlobs, partial: Path
) -> None:
    """Before a file is made."""
    joined = b"".join(CHUNKS)
    shifted = [joined[:31], joined[31:64], *CHUNKS[2:]]
    assert blob_id(len(DATA), shifted) == BLOB
    for size, chunks in (
        (len(DATA), CHUNKS[::-1]),
        (len(DATA) - 1, CHUNKS),
        (len(DATA), CHUNKS[:-1]),
        (len(DATA), shifted),
        (-1, []),
        (1 << 50, CHUNKS),
    ):
        with pytest.raises(CorruptBlobError, match="chunk list"):
            blobs.begin(BLOB, size, chunks)
    assert not partial.exists()


def test_a_wrong_chunk_is_named_and_not_kept(blobs: FileBlobs, partial: Path) -> None:
    """A flipped bit, a cut, another chunk, an index outside: all caught at once."""
    blobs.begin(BLOB, len(DATA), CHUNKS)
    flipped = bytes([PIECES[1][0] ^ 1]) + PIECES[1][1:]
    for index, data in (
        (1, flipped),
        (1, PIECES[1][:-1]),
        (1, PIECES[2]),
        (4, PIECES[4] + b"x"),
        (5, PIECES[1]),
        (-1, PIECES[4]),
    ):
        with pytest.raises(CorruptBlobError, match=f"chunk {index} of blob"):
            blobs.write_chunk(BLOB, index, data)
    assert partial.stat().st_size == 0
    assert blobs.begin(BLOB, len(DATA), CHUNKS) == 0


def test_chunks_of_other_lengths_are_refused_though_their_digests_match(
    blobs: FileBlobs,
) -> None:
    """An author may sign a list whose chunks do not add up to the size: never kept."""
    chunks = chunk_digests(b"ab")
    lying = blob_id(5, chunks)
    blobs.begin(lying, 5, chunks)
    with pytest.raises(CorruptBlobError, match="has 2 bytes"):
        blobs.write_chunk(lying, 0, b"ab")


def test_finishing_too_early_keeps_the_download(blobs: FileBlobs) -> None:
    """The missing chunk is named, and the rest can still come."""
    blobs.begin(BLOB, len(DATA), CHUNKS)
    for index in (0, 1, 3, 4):
        blobs.write_chunk(BLOB, index, PIECES[index])
    with pytest.raises(ContentMissingError, match="chunk 2 "):
        blobs.finish(BLOB)
    blobs.write_chunk(BLOB, 2, PIECES[2])
    blobs.finish(BLOB)
    blobs.finish(BLOB)
    assert blobs.has(BLOB)


def test_a_restart_finds_what_is_there_by_its_bytes(
    tmp_path: Path, database: Database, blobs: FileBlobs, partial: Path
) -> None:
    """Torn and overlong partial files cost only the chunks that are not right."""
    blobs.begin(BLOB, len(DATA), CHUNKS)
    for index in (0, 1, 3):
        blobs.write_chunk(BLOB, index, PIECES[index])
    # the process ends here: nothing was synced, and nothing is vouched for
    with partial.open("r+b") as file:
        file.seek(CHUNK_BYTES + 5)
        file.write(b"torn by the crash")
        file.truncate(len(DATA) + 1000)
    again = FileBlobs(tmp_path, database, write=True)
    assert again.begin(BLOB, len(DATA), CHUNKS) == 1
    again.write_chunk(BLOB, 1, PIECES[1])
    assert again.begin(BLOB, len(DATA), CHUNKS) == 2
    again.write_chunk(BLOB, 2, PIECES[2])
    assert again.begin(BLOB, len(DATA), CHUNKS) == 4
    again.write_chunk(BLOB, 4, PIECES[4])
    again.finish(BLOB)
    assert again.read(BLOB, len(DATA)) == DATA
    name = BLOB.hex()
    whole = tmp_path / "blobs" / name[:2] / name[2:]
    assert whole.stat().st_size == len(DATA)
    again.close()


@contextmanager
def counted_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Note the offsets that are read from files."""
    read: list[int] = []
    real = SystemFile.read_at

    def read_at(file: SystemFile, offset: int, length: int) -> bytes:
        read.append(offset)
        return real(file, offset, length)

    with monkeypatch.context() as patched:
        patched.setattr(SystemFile, "read_at", read_at)
        yield read


def test_a_paused_download_goes_on_without_hashing_and_with_its_list(
    tmp_path: Path,
    database: Database,
    blobs: FileBlobs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The list is kept, and no byte is read but of chunks that nobody vouches for."""
    blobs.begin(BLOB, len(DATA), CHUNKS)
    assert blobs.missing_chunks(BLOB) == [0, 1, 2, 3, 4]
    for index in (0, 2, 4):
        blobs.write_chunk(BLOB, index, PIECES[index])
    blobs.close()
    again = FileBlobs(tmp_path, database, write=True)
    assert again.resumable(BLOB) == (len(DATA), CHUNKS)
    assert again.resumable(blob_id_of(b"other")) is None
    with pytest.raises(NotFoundError):
        again.missing_chunks(BLOB)
    with counted_reads(monkeypatch) as read:
        assert again.begin(BLOB, len(DATA), CHUNKS) == 1
    assert read == [CHUNK_BYTES, 3 * CHUNK_BYTES]
    assert again.missing_chunks(BLOB) == [1, 3]
    for index in (3, 1):
        again.write_chunk(BLOB, index, PIECES[index])
    again.finish(BLOB)
    assert again.read(BLOB, len(DATA)) == DATA
    assert again.missing_chunks(BLOB) == []
    assert again.resumable(BLOB) is None
    again.close()


def test_enough_bytes_are_vouched_for_while_it_runs(
    tmp_path: Path,
    database: Database,
    blobs: FileBlobs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a crash only what came since the last checkpoint is hashed."""
    monkeypatch.setattr(arrivals, "CHECKPOINT_BYTES", 2 * CHUNK_BYTES)
    monkeypatch.setattr(download, "CHECKPOINT_BYTES", 2 * CHUNK_BYTES)
    blobs.begin(BLOB, len(DATA), CHUNKS)
    for index in (3, 0, 1):
        blobs.write_chunk(BLOB, index, PIECES[index])
    again = FileBlobs(tmp_path, database, write=True)  # the process ended before
    with counted_reads(monkeypatch) as read:
        assert again.begin(BLOB, len(DATA), CHUNKS) == 2
    assert read == [CHUNK_BYTES, 2 * CHUNK_BYTES]
    assert again.missing_chunks(BLOB) == [2, 4]
    again.close()


@pytest.mark.parametrize("left", [0, CHUNK_BYTES, 2 * CHUNK_BYTES - 1, None])
def test_a_bitmap_vouches_for_no_file_that_is_shorter_or_gone(
    tmp_path: Path,
    database: Database,
    blobs: FileBlobs,
    partial: Path,
    left: int | None,
) -> None:
    """What is written into its holes afterwards is all that counts, even after a crash."""
    blobs.begin(BLOB, len(DATA), CHUNKS)
    for index in (0, 1, 2, 3):
        blobs.write_chunk(BLOB, index, PIECES[index])
    blobs.close()
    if left is None:
        partial.unlink()
    else:
        os.truncate(partial, left)
    whole = list(range((left or 0) // CHUNK_BYTES))
    again = FileBlobs(tmp_path, database, write=True)
    assert again.begin(BLOB, len(DATA), CHUNKS) == len(whole)
    again.write_chunk(BLOB, 4, PIECES[4])
    third = FileBlobs(tmp_path, database, write=True)  # the process ended before
    third.begin(BLOB, len(DATA), CHUNKS)
    assert third.missing_chunks(BLOB) == [n for n in range(4) if n not in whole]
    third.close()


def test_a_list_that_rotted_is_asked_for_again(
    database: Database, blobs: FileBlobs
) -> None:
    """It is verified against the id before anybody gets it, and its bits go unused."""
    blobs.begin(BLOB, len(DATA), CHUNKS)
    blobs.write_chunk(BLOB, 0, PIECES[0])
    blobs.pause(BLOB)
    assert blobs.resumable(BLOB) is not None
    with database.writing() as sql:
        sql.execute("UPDATE downloads SET size = size - 1, held = x'ff'")
    assert blobs.resumable(BLOB) is None
    blobs.begin(BLOB, len(DATA), CHUNKS)
    assert blobs.missing_chunks(BLOB) == [1, 2, 3, 4]


def test_a_copy_whose_removal_a_crash_undid_is_hashed(
    tmp_path: Path, blobs: FileBlobs
) -> None:
    """A bitmap speaks of the partial file, not of a damaged one that takes its place."""
    blobs.put(DATA)
    name = BLOB.hex()
    whole = tmp_path / "blobs" / name[:2] / name[2:]
    damaged = bytes(CHUNK_BYTES) + whole.read_bytes()[CHUNK_BYTES:]
    blobs.forget(BLOB)
    blobs.begin(BLOB, len(DATA), CHUNKS)
    blobs.write_chunk(BLOB, 0, PIECES[0])
    blobs.pause(BLOB)
    whole.write_bytes(damaged)
    assert blobs.begin(BLOB, len(DATA), CHUNKS) == 0
    assert blobs.missing_chunks(BLOB) == [0]


def test_an_abandoned_download_is_vouched_for_no_more(blobs: FileBlobs) -> None:
    """Its row goes before its file does."""
    blobs.begin(BLOB, len(DATA), CHUNKS)
    blobs.write_chunk(BLOB, 0, PIECES[0])
    blobs.pause(BLOB)
    blobs.abandon(BLOB)
    assert blobs.resumable(BLOB) is None
    assert blobs.begin(BLOB, len(DATA), CHUNKS) == 0


def test_a_failed_sync_amid_a_download_drops_it(
    blobs: FileBlobs, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at its end: a full disk met by a sync is final too."""

    def failing(_: SystemFile) -> None:
        raise OSError(28, "No space left on device")

    blobs.begin(BLOB, len(DATA), CHUNKS)
    blobs.write_chunk(BLOB, 0, PIECES[0])
    with monkeypatch.context() as patched:
        patched.setattr(SystemFile, "sync", failing)
        with pytest.raises(MachineError, match="the disk is full") as caught:
            blobs.pause(BLOB)
    assert type(caught.value) is MachineError
    assert not partial.exists()
    assert blobs.resumable(BLOB) is None


def test_a_crash_between_name_and_row_costs_no_transfer(
    database: Database, blobs: FileBlobs
) -> None:
    """The file without a row counts as missing, but its chunks are found again."""
    blobs.put(DATA)
    with database.writing() as sql:
        sql.execute("DELETE FROM blobs")
    assert not blobs.has(BLOB)
    assert blobs.begin(BLOB, len(DATA), CHUNKS) == 5
    blobs.finish(BLOB)
    assert blobs.read(BLOB, len(DATA)) == DATA


def test_what_is_there_needs_no_download(blobs: FileBlobs, partial: Path) -> None:
    """Beginning tells that no chunk is missing; the other calls do no harm."""
    blobs.put(DATA)
    assert blobs.begin(BLOB, len(DATA), CHUNKS) == 5
    blobs.write_chunk(BLOB, 0, PIECES[0])
    blobs.finish(BLOB)
    assert not partial.exists()


def test_a_blob_that_arrived_otherwise_ends_its_download(
    blobs: FileBlobs, partial: Path
) -> None:
    """Importing what is being downloaded leaves one whole blob."""
    blobs.begin(BLOB, len(DATA), CHUNKS)
    blobs.put(DATA)
    for index, piece in enumerate(PIECES):
        blobs.write_chunk(BLOB, index, piece)
    blobs.finish(BLOB)
    assert blobs.read(BLOB, len(DATA)) == DATA
    assert not partial.exists()


def test_an_abandoned_download_leaves_no_bytes(blobs: FileBlobs, partial: Path) -> None:
    """And chunks that still come in are refused."""
    blobs.begin(BLOB, len(DATA), CHUNKS)
    blobs.write_chunk(BLOB, 0, PIECES[0])
    blobs.abandon(BLOB)
    assert not partial.exists()
    with pytest.raises(NotFoundError):
        blobs.write_chunk(BLOB, 1, PIECES[1])
    with pytest.raises(NotFoundError):
        blobs.finish(BLOB)
    assert blobs.begin(BLOB, len(DATA), CHUNKS) == 0


def test_a_download_above_the_free_space_is_refused_before_it_begins(
    blobs: FileBlobs, tmp_path: Path
) -> None:
    """The disk's room is checked against the size that the list declares."""
    size = 1 << 40
    chunks = [bytes(32)] * (1 << 20)
    blob = blob_id(size, chunks)
    with pytest.raises(MachineError, match=r"1099511627776 bytes .* are free"):
        blobs.begin(blob, size, chunks)
    assert list((tmp_path / "partial").iterdir()) == []


def test_open_downloads_count_as_used_space(blobs: FileBlobs) -> None:
    """What was promised to one download is not promised to the next."""
    blobs.begin(BLOB, len(DATA), CHUNKS)
    blobs.write_chunk(BLOB, 0, PIECES[0])
    rest = len(DATA) - CHUNK_BYTES
    with pytest.raises(MachineError, match=f"{(1 << 60) + rest} bytes"):
        blobs.reserve(1 << 60)


def test_a_failed_sync_drops_the_download(
    tmp_path: Path,
    database: Database,
    blobs: FileBlobs,
    partial: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cache may still show pages that never reached the disk: all is fetched anew."""

    def failing(_: SystemFile) -> None:
        raise OSError(5, "Input/output error")

    blobs.begin(BLOB, len(DATA), CHUNKS)
    for index, piece in enumerate(PIECES):
        blobs.write_chunk(BLOB, index, piece)
    with monkeypatch.context() as patched:
        patched.setattr(SystemFile, "sync", failing)
        with pytest.raises(MachineError, match="input/output error"):
            blobs.finish(BLOB)
    assert not partial.exists()
    assert not blobs.has(BLOB)
    with pytest.raises(MachineError, match="nothing more is tried"):
        blobs.begin(BLOB, len(DATA), CHUNKS)
    again = FileBlobs(tmp_path, database, write=True)
    assert again.begin(BLOB, len(DATA), CHUNKS) == 0
    again.close()


def test_several_threads_bring_chunks_of_several_blobs(blobs: FileBlobs) -> None:
    """Each chunk may come on a thread of its own, and every thread may finish."""
    contents = [
        np.random.default_rng(n).bytes(2 * CHUNK_BYTES + n) for n in range(1, 5)
    ]
    failures: list[BaseException] = []

    def fetch(blob: BlobId, data: bytes, indices: list[int]) -> None:
        try:
            for index in indices:
                start = index * CHUNK_BYTES
                blobs.write_chunk(blob, index, data[start : start + CHUNK_BYTES])
            if blobs.begin(blob, len(data), chunk_digests(data)) == 3:
                blobs.finish(blob)
        except BaseException as e:  # noqa: BLE001 - reported by the assertion below
            failures.append(e)

    threads = []
    for data in contents:
        blob = blob_id_of(data)
        blobs.begin(blob, len(data), chunk_digests(data))
        pairs: list[list[int]] = [[0, 1], [1, 2], [2, 0]]
        for indices in pairs:
            argument = (blob, data, indices)
            threads.append(threading.Thread(target=fetch, args=argument))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for data in contents:
        assert blobs.read(blob_id_of(data), len(data)) == data


def test_a_file_that_is_being_named_is_left_to_who_names_it(
    blobs: FileBlobs,
    database: Database,
    partial: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A download of the same bytes that opens between their name and their row waits."""
    source = tmp_path / "data"
    source.write_bytes(DATA)
    named, begun = threading.Event(), threading.Event()
    bringing = threading.Thread(target=blobs.import_range, args=(source, 0, len(DATA)))
    sync_folder, take = SystemDisk.sync_folder, blobs.leases.take

    def naming(disk: SystemDisk, folder: Path) -> None:
        sync_folder(disk, folder)
        if folder.name == BLOB.hex()[:2]:
            named.set()
            begun.wait(0.5)  # the file has its name, and no row yet

    def opening(blob: BlobId) -> None:
        take(blob)
        bringing.start()  # just after a download has seen that nothing is there
        assert named.wait(10)

    monkeypatch.setattr(SystemDisk, "sync_folder", naming)
    monkeypatch.setattr(blobs.leases, "take", opening)
    blobs.begin(BLOB, len(DATA), CHUNKS)
    begun.set()
    bringing.join()
    assert blobs.path_of(BLOB).exists()
    blobs.close()
    again = FileBlobs(tmp_path, database, write=True)
    assert again.forget_lost() == 0
    assert again.read(BLOB, len(DATA)) == DATA
    assert not partial.exists()
    again.close()


def test_a_blob_that_came_otherwise_outlives_the_end_of_its_download(
    blobs: FileBlobs, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The download's file takes the place of the other; with no room for its row too."""
    blobs.begin(BLOB, len(DATA), CHUNKS)
    for index, piece in enumerate(PIECES):
        blobs.write_chunk(BLOB, index, piece)
    blobs.put(DATA)

    def full(*_: object) -> None:
        raise NoRoomError("the disk is full")

    monkeypatch.setattr(naming, "insert", full)
    with pytest.raises(NoRoomError):
        blobs.finish(BLOB)
    assert blobs.read(BLOB, len(DATA)) == DATA
    assert blobs.forget_lost() == 0
