"""Blobs come back as the bytes that were put in, or not at all."""

import errno
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id_of, chunk_digests
from crdtmerge.errors import (
    BadInputError,
    ConflictError,
    ContentMissingError,
    CorruptBlobError,
    MachineError,
    NotFoundError,
)
from nodes.store.blobs import FileBlobs
from nodes.store.database import Database
from nodes.store.disk import SystemDisk, SystemFile

SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 5]


def content(size: int, seed: int = 0) -> bytes:
    """Return `size` bytes that compress badly and differ by seed."""
    return np.random.default_rng(seed).bytes(size)


def files(folder: Path) -> list[Path]:
    """Return all blob files below `folder`, whole, partial and temporary."""
    names = ("blobs", "partial", "temporary")
    found = [item for name in names for item in (folder / name).rglob("*")]
    return sorted(item for item in found if item.is_file())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder for the store."""
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def database(home: Path) -> Iterator[Database]:
    """Return a new store file."""
    database = Database.create(home / "store.sqlite", bytes(16))
    yield database
    database.close()


@pytest.fixture
def blobs(home: Path, database: Database) -> Iterator[FileBlobs]:
    """Return the blobs of a new store."""
    blobs = FileBlobs(home, database, write=True)
    yield blobs
    blobs.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file of the user, with three chunks and a bit from offset 100."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"h" * 100 + content(SIZES[-1]) + b"tail")
    return path


@pytest.mark.parametrize("size", SIZES)
def test_put_then_read_gives_the_same_bytes(blobs: FileBlobs, size: int) -> None:
    """Of any size, whole and chunk by chunk."""
    data = content(size)
    blob = blobs.put(data)
    assert blob == blob_id_of(data)
    assert blobs.read(blob, size) == data
    count, chunks = blobs.chunk_list(blob)
    assert (count, chunks) == (size, chunk_digests(data))
    pieces = [blobs.read_chunk(blob, index) for index in range(len(chunks))]
    assert b"".join(pieces) == data


def test_a_copied_range_outlives_its_source(blobs: FileBlobs, source: Path) -> None:
    """Import copies: what happens to the user's file later does not matter."""
    size = SIZES[-1]
    done: list[int] = []
    blob = blobs.import_range(source, 100, size, progress=done.append)
    source.unlink()
    assert blobs.read(blob, size) == content(size)
    assert sum(done) == size
    assert len(done) == 4


def test_an_unchanged_blob_is_not_written_again(
    blobs: FileBlobs, home: Path, source: Path
) -> None:
    """Neither importing nor putting touches the file that is there."""
    size = SIZES[-1]
    blob = blobs.import_range(source, 100, size)
    [path] = files(home)
    before = path.stat()
    assert blobs.import_range(source, 100, size) == blob
    assert blobs.put(content(size)) == blob
    source.unlink()
    assert blobs.import_range(source, 100, size, expected=blob) == blob
    assert files(home) == [path]
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_reference_keeps_the_bytes_in_place(
    blobs: FileBlobs, home: Path, source: Path
) -> None:
    """Only a row is written; the bytes are read from the user's file."""
    size = SIZES[-1]
    done: list[int] = []
    blob = blobs.reference_range(source, 100, size, done.append)
    assert files(home) == []
    assert blobs.read(blob, size) == content(size)
    assert blobs.read_chunk(blob, 3) == content(size)[3 * CHUNK_BYTES :]
    assert sum(done) == size


def test_a_changed_reference_is_refused_by_name(blobs: FileBlobs, source: Path) -> None:
    """No byte of a file that changed is used; the message names it."""
    size = SIZES[-1]
    blob = blobs.reference_range(source, 100, size)
    data = bytearray(source.read_bytes())
    data[100 + 2 * CHUNK_BYTES] ^= 1
    source.write_bytes(data)
    with pytest.raises(
        CorruptBlobError, match=r"chunk 2 .*model.safetensors"
    ) as caught:
        blobs.read(blob, size)
    assert "contribute again" in caught.value.hint
    with pytest.raises(CorruptBlobError, match="changed since it was referenced"):
        blobs.read_chunk(blob, 2)
    assert blobs.read_chunk(blob, 1) == content(size)[CHUNK_BYTES : 2 * CHUNK_BYTES]


def test_a_shortened_or_vanished_reference_is_refused(
    blobs: FileBlobs, source: Path
) -> None:
    """Both say which file it is."""
    size = SIZES[-1]
    blob = blobs.reference_range(source, 100, size)
    source.write_bytes(source.read_bytes()[:-10])
    with pytest.raises(CorruptBlobError, match=r"model.safetensors is too short"):
        blobs.read(blob, size)
    source.unlink()
    with pytest.raises(ContentMissingError, match=r"model.safetensors is not there"):
        blobs.read(blob, size)


def test_import_replaces_a_reference_that_went_bad(
    blobs: FileBlobs, tmp_path: Path, source: Path
) -> None:
    """An acknowledged import means that the bytes are there now."""
    size = SIZES[-1]
    blob = blobs.reference_range(source, 100, size)
    source.write_bytes(bytes(200 + size))
    other = tmp_path / "copy"
    other.write_bytes(content(size))
    assert blobs.import_range(other, 0, size, expected=blob) == blob
    other.unlink()
    assert blobs.read(blob, size) == content(size)


def test_a_moved_base_is_referenced_at_its_new_place(
    blobs: FileBlobs, tmp_path: Path, source: Path
) -> None:
    """The latest place counts; a copy in the home is never given up for a reference."""
    size = SIZES[-1]
    blobs.reference_range(source, 100, size)
    moved = source.rename(tmp_path / "moved")
    blob = blobs.reference_range(moved, 100, size)
    assert blobs.read(blob, size) == content(size)
    blobs.forget(blob)
    blobs.put(content(size))
    blobs.reference_range(moved, 100, size)
    moved.unlink()
    assert blobs.read(blob, size) == content(size)


@pytest.mark.parametrize("at", [0, CHUNK_BYTES, SIZES[-1] - 1])
def test_one_flipped_bit_on_the_disk_is_found(
    blobs: FileBlobs, home: Path, at: int
) -> None:
    """Whichever chunk it is in."""
    size = SIZES[-1]
    blob = blobs.put(content(size))
    [path] = files(home)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))
    with pytest.raises(CorruptBlobError, match=f"chunk {at // CHUNK_BYTES} .*damaged"):
        blobs.read(blob, size)


def test_a_changed_chunk_list_is_found(blobs: FileBlobs, database: Database) -> None:
    """Bytes and list that agree with each other, but not with the id, do not pass."""
    blob, other = blobs.put(content(50)), blobs.put(content(50, 1))
    with database.writing() as sql:
        query = "SELECT chunks FROM blobs WHERE blob = ?"
        chunks = sql.execute(query, [other]).fetchone()[0]
        sql.execute("UPDATE blobs SET chunks = ? WHERE blob = ?", (chunks, blob))
    with pytest.raises(CorruptBlobError, match="chunk list"):
        blobs.read(blob, 50)


def test_another_size_than_declared_is_refused(blobs: FileBlobs) -> None:
    """A manifest cannot claim a size that the blob does not have."""
    blob = blobs.put(content(10))
    with pytest.raises(CorruptBlobError, match="10 bytes, not 11"):
        blobs.read(blob, 11)


def test_what_is_not_there_is_said_to_be_missing(blobs: FileBlobs, home: Path) -> None:
    """By every call, and in the order asked."""
    blob, unknown, third = blobs.put(b"x"), BlobId(b"u" * 32), BlobId(b"a" * 32)
    assert blobs.has(blob)
    assert not blobs.has(unknown)
    assert blobs.missing([unknown, blob, third, unknown]) == [unknown, third]
    assert blobs.ids() == [blob]
    with pytest.raises(ContentMissingError):
        blobs.read(unknown, 1)
    with pytest.raises(ContentMissingError):
        blobs.chunk_list(unknown)
    with pytest.raises(NotFoundError, match="no 1"):
        blobs.read_chunk(blob, 1)
    [path] = files(home)
    path.unlink()
    with pytest.raises(ContentMissingError, match="is gone"):
        blobs.read(blob, 1)


def test_a_lost_file_is_restored_by_importing_again(
    blobs: FileBlobs, home: Path
) -> None:
    """A row without its file does not count as there when content is offered."""
    blob = blobs.put(b"data")
    [path] = files(home)
    path.unlink()
    blobs.put(b"data")
    assert blobs.read(blob, 4) == b"data"


def test_a_damaged_file_is_restored_by_importing_again(
    blobs: FileBlobs, home: Path
) -> None:
    """Bytes that rotted on the disk are written anew when they are offered again."""
    blob = blobs.put(b"data")
    [path] = files(home)
    path.chmod(0o600)
    path.write_bytes(b"dota")
    with pytest.raises(CorruptBlobError):
        blobs.read(blob, 4)
    blobs.put(b"data")
    assert blobs.read(blob, 4) == b"data"


def test_lost_copies_are_forgotten_when_a_node_starts(
    blobs: FileBlobs, home: Path, source: Path
) -> None:
    """What is gone or cut counts as missing from then on; a reference is left alone."""
    kept = blobs.reference_range(source, 0, 100)
    blob = blobs.put(b"data")
    [path] = files(home)
    path.chmod(0o600)
    path.write_bytes(b"dat")
    source.unlink()
    assert blobs.forget_lost() == 1
    assert blobs.missing([blob, kept]) == [blob]


def test_a_disk_that_refuses_loses_no_copy(
    blobs: FileBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start while it does forgets nothing: a use will tell what is wrong."""
    blob = blobs.put(b"data")

    def refused(_: SystemDisk, path: Path, **__: bool) -> NoReturn:
        raise OSError(errno.EIO, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(SystemDisk, "size", refused)
        patch.setattr(SystemDisk, "open", refused)
        assert blobs.forget_lost() == 0
    assert blobs.read(blob, 4) == b"data"


def test_forgetting_drops_row_and_file_but_no_file_of_the_user(
    blobs: FileBlobs, home: Path, source: Path
) -> None:
    """A referenced file is the user's and stays."""
    own, referenced = blobs.put(b"data"), blobs.reference_range(source, 0, 100)
    blobs.forget(own)
    blobs.forget(referenced)
    assert blobs.ids() == []
    assert files(home) == []
    assert source.exists()


@pytest.mark.parametrize("size", [SIZES[-1] + 5, 1 << 30])
def test_a_source_that_is_too_short_leaves_nothing(
    blobs: FileBlobs, home: Path, source: Path, size: int
) -> None:
    """Copied or referenced: no temporary file and no row remain."""
    with pytest.raises(BadInputError, match="too early"):
        blobs.import_range(source, 100, size)
    with pytest.raises(BadInputError, match="too early"):
        blobs.reference_range(source, 100, size)
    with pytest.raises(BadInputError, match="cannot read"):
        blobs.import_range(source.with_name("no"), 0, 1)
    assert files(home) == []
    assert blobs.ids() == []


def test_a_source_unlike_expected_leaves_nothing(
    blobs: FileBlobs, home: Path, source: Path
) -> None:
    """A file that changed after it was hashed is not kept under either name."""
    with pytest.raises(BadInputError, match="changed"):
        blobs.import_range(source, 100, 50, expected=blob_id_of(content(50, 9)))
    assert files(home) == []
    assert blobs.ids() == []


def test_more_than_the_free_space_is_refused_with_both_numbers(
    blobs: FileBlobs, source: Path
) -> None:
    """Before a byte is written."""
    with pytest.raises(
        MachineError, match=r"1152921504606846976 bytes .* \d+ are free"
    ):
        blobs.reserve(1 << 60)
    with pytest.raises(MachineError, match="are free"):
        blobs.import_range(source, 0, 1 << 60)
    blobs.reserve(1)


def test_a_failed_sync_is_fatal_and_acknowledges_nothing(
    blobs: FileBlobs, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried once; the blob is not there and neither is its file."""
    calls: list[SystemFile] = []

    def failing(file: SystemFile) -> None:
        calls.append(file)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(SystemFile, "sync", failing)
    with pytest.raises(MachineError, match="input/output error"):
        blobs.put(b"data")
    assert len(calls) == 1
    assert blobs.ids() == []
    assert files(home) == []


def test_data_then_name_then_row_in_this_order(
    blobs: FileBlobs, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes are synced before their name, the name before the row (real calls, logged)."""
    log: list[str] = []
    real_file, real_folder = SystemFile.sync, SystemDisk.sync_folder
    blob = blob_id_of(b"data")

    def state() -> str:
        placed = (home / "blobs" / blob.hex()[:2] / blob.hex()[2:]).exists()
        return f"{'named' if placed else 'unnamed'} {'row' if blobs.has(blob) else '-'}"

    def file(synced: SystemFile) -> None:
        real_file(synced)
        log.append(f"file {state()}")

    def folder(system: SystemDisk, path: Path) -> None:
        real_folder(system, path)
        log.append(f"{path.name} {state()}")

    monkeypatch.setattr(SystemFile, "sync", file)
    monkeypatch.setattr(SystemDisk, "sync_folder", folder)
    blobs.put(b"data")
    folders = ["blobs unnamed -", f"{blob.hex()[:2]} named -"]
    assert log == ["file unnamed -", *folders]
    assert blobs.has(blob)


def test_leftovers_of_a_crash_are_removed_by_the_writer_only(
    blobs: FileBlobs, home: Path, database: Database
) -> None:
    """A reader beside the writer leaves the writer's files alone."""
    done = blobs.put(b"done")
    unfinished = "ab" * 32
    (home / "temporary" / "7").write_bytes(b"torn")
    (home / "partial" / done.hex()).write_bytes(b"stale")
    (home / "partial" / "junk").write_bytes(b"?")
    (home / "partial" / unfinished).write_bytes(b"to be resumed")
    reader = FileBlobs(home, database, write=False)
    assert len(files(home)) == 5
    with pytest.raises(ConflictError, match="reading only"):
        reader.put(b"new")
    FileBlobs(home, database, write=True)
    names = [path.name for path in files(home)]
    assert names == [done.hex()[2:], unfinished]


def test_blobs_survive_threads_that_write_the_same_ones(
    blobs: FileBlobs, home: Path
) -> None:
    """Equal content from several threads ends as one file, whole."""
    contents = [content(1000 + n, n) for n in range(8)]
    failures: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for data in contents[start:] + contents[:start]:
                assert blobs.read(blobs.put(data), len(data)) == data
        except BaseException as e:  # noqa: BLE001 - reported by the assertion below
            failures.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(files(home)) == len(blobs.ids()) == 8
