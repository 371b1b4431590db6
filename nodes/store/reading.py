"""Reading whole blobs: verified chunk by chunk, then lent as a mapping of the file.

Owns how the bytes of one blob are verified and handed out. Does not own which blobs there
are (`rows`), nor the messages for a range that is wrong (`ranges`).

Chunks are read into a small buffer and hashed there, which brings them into the system's
cache; then the file is mapped. Hashing the mapping itself costs as much, but a sector that
cannot be read would end the process by a signal; read, it is an error that names the file.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id, chunk_digest
from crdtmerge.errors import ContentMissingError, CorruptBlobError, MachineError

from .disk import Disk, File
from .download import chunk_length
from .ranges import Done, Stored, check_chunk, opened, read_range, too_short

STRIDE: Final = 8
"""Chunks that a thread takes at a time."""
SHARED_MIN: Final = 32
"""Below so many chunks a second thread is not worth its start."""


def read_mapped(
    disk: Disk, stored: Stored, helpers: ThreadPoolExecutor | None = None
) -> memoryview:
    """Return the bytes of a file of ours, mapped read-only, all verified.

    They stay readable when the blob is forgotten meanwhile.

    Raises:
        ContentMissingError: the file is not there.
        CorruptBlobError: the bytes are not those of the blob.
        MachineError: the disk refused.
    """
    with opened(disk, stored) as file:
        if file.size() < stored.size:
            raise too_short(stored)
        _verify(file, stored, helpers)
        return file.map()[: stored.size]


def read_copied(disk: Disk, stored: Stored) -> bytes:
    """Return a copy of a range of a file, all verified.

    SUBTLE: never a mapping of a file that is not ours: who shortens it would end every
    process that has it mapped, by a signal.

    Raises:
        CrdtMergeError: as `read_mapped` does.
    """
    data = read_range(disk, stored, 0, stored.size)
    view = memoryview(data)
    for index in range(len(stored.chunks)):
        start = index * CHUNK_BYTES
        check_chunk(stored, index, view[start : start + CHUNK_BYTES])
    return data


def bad_chunks(disk: Disk, stored: Stored, done: Done | None = None) -> list[int]:
    """Return which chunks of a blob are not right; what cannot be read is not right.

    Raises:
        ContentMissingError: the file is not there.
    """
    bad: list[int] = []
    try:
        with opened(disk, stored) as file:
            for index in range(len(stored.chunks)):
                if not _is_right(file, stored, index):
                    bad.append(index)
                if done:
                    done(chunk_length(stored.size, index))
    except (CorruptBlobError, MachineError):  # it cannot even be opened
        return list(range(len(stored.chunks)))
    return bad


def is_right(disk: Disk, stored: Stored, index: int) -> bool:
    """Tell whether one chunk is right; what cannot be read is not. No chunk is right."""
    if not stored.chunks:
        return True
    try:
        with opened(disk, stored) as file:
            return _is_right(file, stored, index)
    except (ContentMissingError, CorruptBlobError, MachineError):
        return False


def identify(disk: Disk, path: Path) -> tuple[BlobId, int, tuple[bytes, ...]] | None:
    """Return which blob a file holds, its size and its chunk list.

    None if it cannot be read.
    """
    try:
        with disk.open(path) as file:
            size = file.size()
            chunks = tuple(
                chunk_digest(file.read_at(start, min(CHUNK_BYTES, size - start)))
                for start in range(0, size, CHUNK_BYTES)
            )
    except OSError:
        return None
    return blob_id(size, chunks), size, chunks


def _is_right(file: File, stored: Stored, index: int) -> bool:
    """Tell whether a chunk is right: a bad sector is damage, not a refusal."""
    length = chunk_length(stored.size, index)
    try:
        data = file.read_at(stored.offset + index * CHUNK_BYTES, length)
    except OSError:
        return False
    return chunk_digest(data) == stored.chunks[index]


def _verify(file: File, stored: Stored, helpers: ThreadPoolExecutor | None) -> None:
    """Check all chunks, with a helper if that pays; who is free takes the next few.

    SUBTLE: the helpers may all be busy. Then this thread does everything, and takes back
    the work that has not begun.
    """
    strides = itertools.count(0, STRIDE)

    def work() -> None:
        while (first := next(strides)) < len(stored.chunks):
            for index in range(first, min(first + STRIDE, len(stored.chunks))):
                length = chunk_length(stored.size, index)
                data = file.read_at(stored.offset + index * CHUNK_BYTES, length)
                check_chunk(stored, index, data)

    if helpers is None or len(stored.chunks) < SHARED_MIN:
        work()
        return
    help_ = helpers.submit(work)
    try:
        work()
    finally:
        if not help_.cancel():
            help_.result()
