"""Reading by mapping: the right bytes or an error, and no mapping of a user's file."""

import mmap
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crdtmerge.digest import CHUNK_BYTES
from crdtmerge.errors import ContentMissingError, CorruptBlobError
from nodes.store import reading
from nodes.store.blobs import FileBlobs
from nodes.store.database import Database
from tests.unit.test_store_blobs import content, files

LARGE = (reading.SHARED_MIN + 3) * CHUNK_BYTES + 5


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def blobs(home: Path) -> Iterator[FileBlobs]:
    database = Database.create(home / "store.sqlite", bytes(16))
    blobs = FileBlobs(home, database, write=True)
    yield blobs
    blobs.close()
    database.close()


@pytest.mark.parametrize("size", [1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5, LARGE])
def test_a_blob_of_the_home_is_mapped_and_cannot_be_written(
    blobs: FileBlobs, size: int
) -> None:
    """What is lent is a view of a mapping of the file, read-only, of the blob's size."""
    data = content(size)
    view = blobs.read(blobs.put(data), size)
    assert isinstance(view, memoryview)
    assert isinstance(view.obj, mmap.mmap)
    assert view.readonly
    assert view == data


def test_an_empty_blob_is_read(blobs: FileBlobs) -> None:
    """Nothing cannot be mapped."""
    assert bytes(blobs.read(blobs.put(b""), 0)) == b""


def test_a_file_of_the_user_is_never_mapped(blobs: FileBlobs, tmp_path: Path) -> None:
    """It is copied: whoever shortens it later does no harm to who has read it."""
    path = tmp_path / "theirs"
    path.write_bytes(content(2 * CHUNK_BYTES))
    blob = blobs.reference_range(path, 0, 2 * CHUNK_BYTES)
    data = blobs.read(blob, 2 * CHUNK_BYTES)
    os.truncate(path, 0)
    assert isinstance(data, bytes)
    assert data == content(2 * CHUNK_BYTES)


def test_mapping_a_file_that_shrinks_would_end_the_process(tmp_path: Path) -> None:
    """The reason for the copy, as this system has it."""
    path = tmp_path / "theirs"
    path.write_bytes(bytes(1 << 20))
    code = (
        "import mmap, os, sys; f = open(sys.argv[1], 'r+b');"
        " m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ);"
        " os.truncate(sys.argv[1], 0); m[1 << 19]"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert ended.returncode == -signal.SIGBUS


def test_bytes_that_were_lent_outlive_their_blob(blobs: FileBlobs, home: Path) -> None:
    """Who reads goes on with the right bytes when the blob is forgotten meanwhile."""
    data = content(3 * CHUNK_BYTES)
    blob = blobs.put(data)
    view = blobs.read(blob, len(data))
    blobs.forget(blob)
    assert files(home) == []
    assert view == data


@pytest.mark.parametrize("place", [0, LARGE // 2, LARGE - 1])
def test_a_flipped_bit_is_found_wherever_it_is(
    blobs: FileBlobs, home: Path, place: int
) -> None:
    """By whichever of the threads comes upon it."""
    blob = blobs.put(content(LARGE))
    [path] = files(home)
    with path.open("r+b") as file:
        file.seek(place)
        [byte] = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(CorruptBlobError, match=f"chunk {place // CHUNK_BYTES} "):
        blobs.read(blob, LARGE)
    assert blobs.examination.bad_chunks(blob) == [place // CHUNK_BYTES]


def test_a_file_that_was_cut_or_went_is_named(blobs: FileBlobs, home: Path) -> None:
    """Before it is mapped."""
    blob = blobs.put(content(LARGE))
    [path] = files(home)
    os.truncate(path, LARGE - 1)
    with pytest.raises(CorruptBlobError, match="too short"):
        blobs.read(blob, LARGE)
    assert blobs.examination.bad_chunks(blob) == [LARGE // CHUNK_BYTES]
    path.unlink()
    for read in (
        lambda: blobs.read(blob, LARGE),
        lambda: blobs.examination.bad_chunks(blob),
    ):
        with pytest.raises(ContentMissingError):
            read()


def test_what_was_appended_to_a_file_is_not_lent(blobs: FileBlobs, home: Path) -> None:
    """The view ends where the blob does."""
    data = content(CHUNK_BYTES)
    blob = blobs.put(data)
    [path] = files(home)
    with path.open("ab") as file:
        file.write(b"more")
    assert blobs.read(blob, len(data)) == data


def test_busy_helpers_hold_nobody_up(blobs: FileBlobs) -> None:
    """Whoever reads does all of the work itself when no helper is free."""
    data, free = content(LARGE), threading.Event()
    blob = blobs.put(data)
    busy = [blobs._helpers.submit(free.wait) for _ in range(8)]
    try:
        assert blobs.read(blob, LARGE) == data
    finally:
        free.set()
    assert all(b.result() for b in busy)


def test_many_threads_read_the_same_blob(blobs: FileBlobs) -> None:
    """As the workers of a resolve do."""
    data = content(LARGE)
    blob = blobs.put(data)
    with ThreadPoolExecutor(6) as threads:
        views = list(threads.map(lambda _: blobs.read(blob, LARGE), range(12)))
    assert all(view == data for view in views)
