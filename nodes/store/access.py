"""Reading blobs whichever way they lie: raw, in the user's folder, or packed.

Owns the choice between these, and patience with a blob that changes its file meanwhile.
Does not own how each is read (`reading`, `ranges`, `packed`).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from crdtmerge.digest import CHUNK_BYTES, BlobId
from crdtmerge.errors import (
    ContentMissingError,
    CorruptBlobError,
    MachineError,
    NotFoundError,
)

from .disk import Disk, File
from .download import chunk_length
from .packed import BaseChunk, bad_packed_chunks, opened_packed, read_packed
from .ranges import (
    Done,
    Stored,
    check_chunk,
    damaged,
    opened,
    read_range,
    too_short,
)
from .reading import bad_chunks, is_right, read_copied, read_mapped
from .rows import BlobRows

T = TypeVar("T")


class _OtherSizeError(CorruptBlobError):
    """The blob is right, and has another size than somebody declared."""


class Access:
    """Reads the blobs of one home; safe for several threads."""

    def __init__(self, disk: Disk, rows: BlobRows, helpers: ThreadPoolExecutor) -> None:
        """Use the parts of a store; `helpers` verify parts of large blobs."""
        self._disk = disk
        self._rows = rows
        self._helpers = helpers
        self._told: Callable[[BlobId], object] | None = None
        self.bad: Counter[str] = Counter()
        """Readings that met a blob which is not right: damaged, edited or gone."""

    def read(self, blob: BlobId, size: int) -> bytes | memoryview:
        """Return the bytes of a blob that is declared to have `size`, all verified."""
        return self._using(blob, partial(self._read, size=size))

    def read_chunk(self, blob: BlobId, index: int) -> bytes:
        """Return one chunk, verified."""
        return self._using(blob, partial(self._read_chunk, index=index))

    def pieces(self, blob: BlobId) -> Iterator[bytes]:
        """Yield the chunks of a blob in order, verified; it is looked up once."""
        stored = self._rows.find(blob)
        if stored.packed:
            for index in range(len(stored.chunks)):
                yield self.read_chunk(blob, index)
            return
        opens = False
        try:
            with opened(self._disk, stored) as file:
                opens = True
                for index in range(len(stored.chunks)):
                    yield _checked(file, stored, index)
        except CorruptBlobError:
            self.bad["edited" if stored.referenced else "damaged"] += 1
            raise
        except ContentMissingError:
            if opens or self._rows.find(blob) == stored:
                self.bad["gone"] += 1
                raise
            yield from self.pieces(blob)  # it was packed meanwhile

    def bad_chunks(self, blob: BlobId, done: Done | None) -> list[int]:
        """Return which chunks of a blob are not what they should be."""
        return self._reading(blob, partial(self._bad_chunks, done=done))

    def notice(self, told: Callable[[BlobId], object]) -> None:
        """Have `told` called with each blob that a use finds to be gone or wrong."""
        self._told = told

    def _using(self, blob: BlobId, work: Callable[[Stored], T]) -> T:
        """Do some reading for somebody who needs the bytes.

        SUBTLE: who is told takes locks. So only a use tells, never a check, which may be
        made with locks held; and another size than was declared is no damage.
        """
        try:
            return self._reading(blob, work)
        except _OtherSizeError:
            raise
        except (ContentMissingError, CorruptBlobError):
            self.tell(blob)
            raise

    def tell(self, blob: BlobId) -> None:
        """Say that a use found this blob to be gone or wrong."""
        if self._told is not None:
            self._told(blob)

    def is_right(self, blob: BlobId, index: int) -> bool:
        """Tell whether one chunk is what it should be; what cannot be read is not.

        Raises:
            ContentMissingError: the blob is not there.
            CorruptBlobError: the stored chunk list is damaged.
        """
        stored = self._rows.find(blob)
        if self._is_right(stored, index):
            return True
        again = self._rows.find(blob)  # it may have been packed or unpacked meanwhile
        return again != stored and self._is_right(again, index)

    def _is_right(self, stored: Stored, index: int) -> bool:
        if not stored.packed or not stored.chunks:
            return is_right(self._disk, stored, index)
        try:
            self._read_chunk(stored, index)
        except (ContentMissingError, CorruptBlobError, MachineError):
            return False
        return True

    def _reading(self, blob: BlobId, work: Callable[[Stored], T]) -> T:
        """Do some reading; once more if the blob was packed or unpacked meanwhile."""
        stored = self._rows.find(blob)
        try:
            return work(stored)
        except _OtherSizeError:
            raise
        except CorruptBlobError:
            self.bad["edited" if stored.referenced else "damaged"] += 1
            raise
        except ContentMissingError:
            again = self._rows.find(blob)
            if again == stored:
                self.bad["gone"] += 1
                raise
            return work(again)

    def _read(self, stored: Stored, size: int) -> bytes | memoryview:
        if stored.size != size:
            name = stored.blob.hex()[:12]
            raise _OtherSizeError(f"blob {name} has {stored.size} bytes, not {size}")
        if stored.packed:
            return read_packed(self._disk, stored, self._base_of(stored))
        if stored.referenced:
            return read_copied(self._disk, stored)
        return read_mapped(self._disk, stored, self._helpers)

    def _read_chunk(self, stored: Stored, index: int) -> bytes:
        if not 0 <= index < len(stored.chunks):
            name, count = stored.blob.hex()[:12], len(stored.chunks)
            raise NotFoundError(f"blob {name} has {count} chunks, no {index}")
        if stored.packed:
            with opened_packed(self._disk, stored) as file:
                return file.chunk(index, self._base_of(stored))
        length = chunk_length(stored.size, index)
        data = read_range(self._disk, stored, index * CHUNK_BYTES, length)
        check_chunk(stored, index, data)
        return data

    def _bad_chunks(self, stored: Stored, done: Done | None) -> list[int]:
        if stored.packed:
            return bad_packed_chunks(self._disk, stored, self._base_of(stored), done)
        return bad_chunks(self._disk, stored, done)

    def _base_of(self, stored: Stored) -> BaseChunk:
        """Return what hands out the chunks that a packed blob is encoded against."""

        def chunk(index: int) -> bytes:
            if stored.against is None:
                raise damaged(stored, f"chunk {index}")
            part = partial(self._read_chunk, index=index)
            return self._reading(stored.against, part)

        return chunk


def _checked(file: File, stored: Stored, index: int) -> bytes:
    """Return a chunk of a file that is open, verified."""
    length = chunk_length(stored.size, index)
    data = file.read_at(stored.offset + index * CHUNK_BYTES, length)
    if len(data) < length:
        raise too_short(stored)
    check_chunk(stored, index, data)
    return data
