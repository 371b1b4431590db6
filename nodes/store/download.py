"""One blob that is arriving: which of its chunks are on the disk, and are right.

Owns the partial file and the set of verified chunks. Does not own where it lies, nor what
happens once it is whole (`blobs`).

What is held is found by hashing the bytes again at every start, never read from a list: a
crash may lose data, and a list could then claim what is not there.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

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
    MachineError,
    NoRoomError,
)

from .disk import Disk, explained, open_or_create


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
        self, disk: Disk, path: Path, blob: BlobId, size: int, chunks: Sequence[bytes]
    ) -> None:
        """Open or create the file and hash what is there; the list was checked.

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
        # SUBTLE: a descriptor closed during a write could name another file by then.
        self._lock = threading.Lock()
        self._held = bytearray(len(self.chunks))
        try:
            with explained(f"reading {path}"):
                self._find_held()
        except BaseException:
            self.close()
            raise

    def _find_held(self) -> None:
        """Mark the chunks whose bytes are there; cut off what lies beyond the blob."""
        there = self._file.size()
        if there > self.size:
            self._file.truncate(self.size)
        for index in range(chunk_count(min(there, self.size))):
            length = chunk_length(self.size, index)
            data = self._file.read_at(index * CHUNK_BYTES, length)
            self._held[index] = chunk_digest(data) == self.chunks[index]

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

    def write(self, index: int, data: bytes | memoryview) -> None:
        """Verify a chunk and write it in its place, unless it is there or all is closed.

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
                return
            self._file.write_at(index * CHUNK_BYTES, data)
            self._held[index] = True

    def sync(self) -> None:
        """Bring the whole blob to the disk; a closed one was dropped or is there.

        Raises:
            ContentMissingError: a chunk has not arrived.
            MachineError: the disk refused.
        """
        missing = self.first_missing()
        if missing < len(self.chunks):
            message = f"chunk {missing} of blob {self.blob.hex()[:12]} has not arrived"
            raise ContentMissingError(message)
        try:
            with self._lock, explained(f"syncing {self.path}"):
                if self._open:
                    self._file.sync()
        except NoRoomError as e:
            # Whatever the reason, a failed sync is final: never one to try again.
            raise MachineError(str(e), hint=e.hint) from e

    def close(self) -> None:
        """Close the file; what it holds is found again at the next start."""
        with self._lock:
            self._open = False
            self._file.close()
