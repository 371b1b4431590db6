"""Packed blobs: the file that holds a cold blob in encoded chunks, and reading it.

Owns the form of that file and its own checks. Does not own encodings
(`crdtmerge.encodings`), which blobs are packed (`nodes.upkeep.packing`), nor their rows.

Form: magic, the id of the blob, the id of the base (zeros without one), the size of the
blob, the length of each encoded chunk, a digest over all of this; then the chunks, one
after another. A chunk as long as its raw bytes is raw. Numbers are little-endian. Whatever
a file says, what is read of it has the digest that the blob names, or is not returned.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Final

from crdtmerge.digest import (
    BLOB_BYTES_MAX,
    CHUNK_BYTES,
    DIGEST_BYTES,
    BlobId,
    Domain,
    chunk_count,
    digest,
)
from crdtmerge.encodings import BASED, decode, form_of
from crdtmerge.errors import (
    ContentMissingError,
    CorruptBlobError,
    CrdtMergeError,
    MalformedChunkError,
)

from .disk import Disk, File, explained
from .download import chunk_length
from .ranges import Done, Stored, check_chunk, damaged, opened

MAGIC: Final = b"crdtPAK1"
_LENGTH_BYTES: Final = 4
_FIXED_BYTES: Final = len(MAGIC) + 2 * DIGEST_BYTES + 8
_NO_BASE: Final = bytes(DIGEST_BYTES)

BaseChunk = Callable[[int], bytes]
"""Returns a chunk of the blob that a packed one is encoded against, verified."""


def index_bytes(size: int) -> int:
    """Return how many bytes stand before the chunks of a blob of `size` bytes."""
    return _FIXED_BYTES + _LENGTH_BYTES * chunk_count(size) + DIGEST_BYTES


def write_packed(
    disk: Disk,
    path: Path,
    blob: BlobId,
    *,
    size: int,
    against: BlobId | None,
    chunks: Iterable[bytes],
) -> int:
    """Write a new packed file and sync it; return how many bytes it has.

    Raises:
        MachineError: the disk refused.
    """
    lengths: list[int] = []
    at = index_bytes(size)
    with explained(f"writing {path}"), disk.create(path) as file:
        for chunk in chunks:
            file.write_at(at, chunk)
            lengths.append(len(chunk))
            at += len(chunk)
        file.write_at(0, _index(blob, size, against, lengths))
        file.sync()
    return at


def _index(
    blob: BlobId, size: int, against: BlobId | None, lengths: Sequence[int]
) -> bytes:
    parts = [MAGIC, blob, against or _NO_BASE, size.to_bytes(8, "little")]
    parts += [length.to_bytes(_LENGTH_BYTES, "little") for length in lengths]
    index = b"".join(parts)
    return index + digest(Domain.PACKED, index)


class PackedFile:
    """An open packed file whose index was checked."""

    def __init__(self, file: File, stored: Stored) -> None:
        """Read and check the index.

        Raises:
            CorruptBlobError: it is not that of this blob, or the file has another length.
        """
        self._file = file
        self._stored = stored
        first = index_bytes(stored.size)
        index = file.read_at(0, first)
        joined = index[_FIXED_BYTES:-DIGEST_BYTES]
        self._lengths = [
            int.from_bytes(joined[at : at + _LENGTH_BYTES], "little")
            for at in range(0, len(joined), _LENGTH_BYTES)
        ]
        self._starts = list(accumulate(self._lengths, initial=first))
        expected = _index(stored.blob, stored.size, stored.against, self._lengths)
        if index != expected or file.size() != self._starts[-1]:
            raise damaged(stored, "the index")

    def chunk(self, index: int, base: BaseChunk) -> bytes:
        """Return one raw chunk, verified; `base` is asked only if it takes the base's.

        Raises:
            ContentMissingError: the base, or the file that it lies in, is not there.
            CorruptBlobError: the chunk, or that of the base, is not what it should be.
        """
        data = self.unverified(index, base)
        check_chunk(self._stored, index, data)
        return data

    def unverified(self, index: int, base: BaseChunk) -> bytes:
        """Return one raw chunk, for who verifies the blob that they make.

        Raises:
            CrdtMergeError: as `chunk` does, but that it may be another chunk.
        """
        length = chunk_length(self._stored.size, index)
        data = self._file.read_at(self._starts[index], self._lengths[index])
        if len(data) == length:
            return data
        return self._decoded(index, data, length, base)

    def _decoded(self, index: int, data: bytes, length: int, base: BaseChunk) -> bytes:
        stored = self._stored
        try:
            against = base(index) if form_of(data) in BASED else None
            return decode(data, length=length, against=against)
        except MalformedChunkError as e:
            raise damaged(stored, f"chunk {index}") from e
        except (ContentMissingError, CorruptBlobError) as e:
            raise _without_base(stored, e) from e


def _without_base(stored: Stored, error: CrdtMergeError) -> CrdtMergeError:
    """Return the error for a packed blob whose base cannot be read: what to do about it."""
    message = f"blob {stored.blob.hex()[:12]} is packed against another: {error}"
    lost = "nothing of the packed blob is lost: it is read again once its base is back"
    return type(error)(message, hint=f"{error.hint}; {lost}" if error.hint else lost)


def claimed(file: File, path: Path) -> Stored | None:
    """Return what a packed file says that it holds, without the chunk list; None if none.

    Nothing of it is known to be true.
    """
    head = file.read_at(0, _FIXED_BYTES)
    if len(head) < _FIXED_BYTES or not head.startswith(MAGIC):
        return None
    ids = head[len(MAGIC) : -8]
    blob, base = BlobId(ids[:DIGEST_BYTES]), BlobId(ids[DIGEST_BYTES:])
    size = int.from_bytes(head[-8:], "little")
    if not 0 < size <= BLOB_BYTES_MAX or index_bytes(size) > file.size():
        return None
    against = None if base == _NO_BASE else base
    return Stored(blob, size, (), path, 0, False, file.size(), against)


@contextmanager
def opened_packed(disk: Disk, stored: Stored) -> Iterator[PackedFile]:
    """Lend the packed file of a blob.

    Raises:
        ContentMissingError: it is not there.
        CorruptBlobError: it is damaged.
        MachineError: the disk refused.
    """
    with opened(disk, stored) as file:
        yield PackedFile(file, stored)


def read_packed(disk: Disk, stored: Stored, base: BaseChunk) -> bytes:
    """Return all bytes of a packed blob, verified.

    Raises:
        CrdtMergeError: as `opened_packed` and `PackedFile.chunk` do.
    """
    data = bytearray(stored.size)
    with opened_packed(disk, stored) as file:
        for index in range(len(stored.chunks)):
            start = index * CHUNK_BYTES
            data[start : start + CHUNK_BYTES] = file.chunk(index, base)
    return bytes(data)


def bad_packed_chunks(
    disk: Disk, stored: Stored, base: BaseChunk, done: Done | None = None
) -> list[int]:
    """Return which chunks of a packed blob are not right; all, if its index is not.

    Raises:
        ContentMissingError: its file is not there.
        CorruptBlobError: its base is not right: the packed blob itself may be.
    """
    bad: list[int] = []
    lengths = [chunk_length(stored.size, i) for i in range(len(stored.chunks))]
    bases = _Bases(base)
    try:
        with opened_packed(disk, stored) as file:
            for index, length in enumerate(lengths):
                if not _is_right(file, index, bases):
                    bad.append(index)
                if done:
                    done(length)
    except (ContentMissingError, CorruptBlobError) as e:
        if bases.failed:
            raise CorruptBlobError(str(e), hint=e.hint) from e
        if isinstance(e, ContentMissingError):
            raise
        return list(range(len(lengths)))
    return bad


class _Bases:
    """Hands out chunks of the base, and remembers whether that failed."""

    def __init__(self, base: BaseChunk) -> None:
        self._base = base
        self.failed = False

    def __call__(self, index: int) -> bytes:
        try:
            return self._base(index)
        except (ContentMissingError, CorruptBlobError):
            self.failed = True
            raise


def _is_right(file: PackedFile, index: int, bases: _Bases) -> bool:
    try:
        file.chunk(index, bases)
    except CorruptBlobError:
        if bases.failed:
            raise
        return False
    except OSError:  # a bad sector is damage, no refusal
        return False
    return True
