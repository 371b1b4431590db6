"""One blob that is arriving: which of its chunks are on the disk, and are right.

Owns the partial file and the set of verified chunks. Does not own where it lies, what is
kept of it across a crash, nor what happens once it is whole (`arrivals`).

What is held is found by hashing the bytes at the start, but for the chunks that the caller
vouches for: `checkpoint` told of them, and synced them first.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from crdtmerge.digest import (
    BLOB_BYTES_MAX,
    CHUNK_BYTES,
    DIGEST_BYTES,
    BlobId,
    blob_id,
    chunk_count,
    chunk_digest,
)
from crdtmerge.errors import (
    ContentMissingError,
    CorruptBlobError,
)

from .disk import Disk, explained, open_or_create

CHECKPOINT_BYTES: Final = 64 << 20
"""Bytes that are written before they are synced and vouched for: what is hashed again after
a crash, at most."""


def check_chunk_list(blob: BlobId, size: int, chunks: Sequence[bytes]) -> None:
    """Check that these chunk digests are those of `blob`.

    Raises:
        CorruptBlobError: they are not.
    """
    whole = (
        0 <= size <= BLOB_BYTES_MAX
        and len(chunks) == chunk_count(size)
        # SUBTLE: the id is over the joined list, so digests of other lengths could join
        # to the same bytes
        and all(len(chunk) == DIGEST_BYTES for chunk in chunks)
    )
    if not whole or blob_id(size, chunks) != blob:
        raise CorruptBlobError(f"a chunk list that is not of blob {blob.hex()[:12]}")


def chunk_length(size: int, index: int) -> int:
    """Return how long chunk `index` of a blob of `size` bytes is."""
    return min(CHUNK_BYTES, size - index * CHUNK_BYTES)


class Download:
    """An open partial file; several threads may write different chunks at once."""

    def __init__(
        self,
        disk: Disk,
        path: Path,
        blob: BlobId,
        size: int,
        chunks: Sequence[bytes],
        *,
        vouched: bytes = b"",
    ) -> None:
        """Open or create the file and find what is there; the list was checked.

        `vouched` is what the latest `checkpoint` of this very file returned, which is no
        shorter than it was.

        Raises:
            MachineError: the file cannot be opened or read.
        """
        self.path = path
        self.blob = blob
        self.size = size
        self.chunks = tuple(chunks)
        with explained(f"opening {path}"):
            # kept open, so that the sync at the end learns of every failed write
            self._file = open_or_create(disk, path)
        self._open = True
        self._unsynced = 0
        # SUBTLE: a descriptor closed during a write could name another file by then.
        self._lock = threading.Lock()
        # Held during a sync, so that writers need not wait for it; taken before `_lock`.
        self._syncing = threading.Lock()
        self._held = bytearray(len(self.chunks))
        try:
            with explained(f"reading {path}"):
                self._find_held(unpacked(vouched, len(self.chunks)))
        except BaseException:
            self.close()
            raise

    def _find_held(self, vouched: bytes) -> None:
        """Mark the chunks whose bytes are there; cut off what lies beyond the blob."""
        there = self._file.size()
        if there > self.size:
            self._file.truncate(self.size)
        for index in range(chunk_count(min(there, self.size))):
            start, length = index * CHUNK_BYTES, chunk_length(self.size, index)
            if vouched[index]:
                self._held[index] = True
                continue
            data = self._file.read_at(start, length)
            if chunk_digest(data) == self.chunks[index]:
                self._held[index] = True
                self._unsynced += length  # it may lie in the system's memory alone

    @property
    def missing_bytes(self) -> int:
        """How many bytes have yet to come."""
        missing = self._held.count(0) * CHUNK_BYTES
        last = len(self.chunks) - 1
        if missing and not self._held[last]:
            missing -= CHUNK_BYTES - chunk_length(self.size, last)
        return missing

    def first_missing(self) -> int:
        """Return the index of the first chunk to ask for; the count when none is."""
        index = self._held.find(0)
        return len(self._held) if index < 0 else index

    def missing(self) -> list[int]:
        """Return the indices of the chunks to ask for, in order."""
        return [index for index, held in enumerate(self._held) if not held]

    def write(self, index: int, data: bytes | memoryview) -> bool:
        """Verify a chunk and write it in its place, unless it is there or all is closed.

        Returns whether enough was written for a `checkpoint`.

        Raises:
            CorruptBlobError: it is not the chunk of this index.
            MachineError: the disk refused; the chunk counts as missing.
        """
        name = f"chunk {index} of blob {self.blob.hex()[:12]}"
        if not 0 <= index < len(self.chunks):
            raise CorruptBlobError(f"{name}, which has {len(self.chunks)}")
        # The id binds the size, but not how long its author made the chunks.
        if len(data) != chunk_length(self.size, index):
            raise CorruptBlobError(f"{name} has {len(data)} bytes")
        if chunk_digest(data) != self.chunks[index]:
            raise CorruptBlobError(f"{name} has another digest")
        with self._lock, explained(f"writing {self.path}"):
            if self._held[index] or not self._open:
                return False
            self._file.write_at(index * CHUNK_BYTES, data)
            self._held[index] = True
            self._unsynced += len(data)
            return self._unsynced >= CHECKPOINT_BYTES

    def checkpoint(self, *, above: int = 0) -> bytes | None:
        """Sync what was written, and return which chunks may be vouched for.

        None when not more than `above` bytes were written since, or all is closed.

        Raises:
            MachineError: the disk refused; nothing of this file may be used again.
        """
        with self._syncing:
            with self._lock:
                if self._unsynced <= above or not self._open:
                    return None
                # SUBTLE: what is written during the sync is not vouched for by it.
                held, self._unsynced = bytes(self._held), 0
            self._bring_to_disk()
        return packed(held)

    def sync(self) -> None:
        """Bring the whole blob to the disk; a closed one was dropped or is there.

        Raises:
            ContentMissingError: a chunk has not arrived.
            MachineError: the disk refused; nothing of this file may be used again.
        """
        missing = self.first_missing()
        if missing < len(self.chunks):
            message = f"chunk {missing} of blob {self.blob.hex()[:12]} has not arrived"
            raise ContentMissingError(message)
        with self._syncing:
            if self._open:
                self._bring_to_disk()

    def _bring_to_disk(self) -> None:
        with explained(f"syncing {self.path}"):
            self._file.sync()

    def close(self) -> None:
        """Close the file; what it holds is found again at the next start."""
        with self._syncing, self._lock:
            self._open = False
            self._file.close()


def packed(held: bytes) -> bytes:
    """Return one bit a chunk, the first one lowest, for one byte a chunk."""
    bits = np.frombuffer(held, np.uint8)
    return np.packbits(bits, bitorder="little").tobytes()


def unpacked(bits: bytes, count: int) -> bytes:
    """Return one byte a chunk for one bit a chunk; what is not told of is not held."""
    whole = bits[: (count + 7) // 8].ljust((count + 7) // 8, b"\0")
    held = np.unpackbits(np.frombuffer(whole, np.uint8), bitorder="little")
    return held[:count].tobytes()
