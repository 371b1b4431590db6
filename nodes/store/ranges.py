"""Ranges of files: written in chunks, read as the bytes that a digest names or not at all.

Owns where a stored blob lies, and the messages for a file that changed or vanished. Does
not own which blobs there are (`blobs`).
"""

import errno
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crdtmerge.digest import CHUNK_BYTES, BlobId, chunk_digest
from crdtmerge.errors import BadInputError, ContentMissingError, CorruptBlobError

from .disk import Disk, File, explained, machine_error
from .references import REMEDY

Done = Callable[[int], None]
"""Told the number of bytes that were just handled."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a blob lies; `referenced` when its file is not ours.

    One that is packed takes `packed_bytes`, and may be encoded `against` another.
    """

    blob: BlobId
    size: int
    chunks: tuple[bytes, ...]
    path: Path
    offset: int
    referenced: bool
    packed_bytes: int | None = None
    against: BlobId | None = None

    @property
    def packed(self) -> bool:
        """Whether its file holds encoded chunks."""
        return self.packed_bytes is not None

    @property
    def file_bytes(self) -> int:
        """How many bytes its file has, if that is ours."""
        return self.size if self.packed_bytes is None else self.packed_bytes


def write_pieces(disk: Disk, path: Path, pieces: Iterable[bytes]) -> list[bytes]:
    """Write a new file chunk by chunk, sync it, and return the chunk digests."""
    chunks: list[bytes] = []
    offset = 0
    with explained(f"writing {path}"), disk.create(path) as file:
        for piece in pieces:
            chunks.append(chunk_digest(piece))
            file.write_at(offset, piece)
            offset += len(piece)
        file.sync()
    return chunks


def read_source(
    disk: Disk, path: Path, offset: int, size: int, progress: Done | None
) -> Iterator[bytes]:
    """Yield the chunks of a range of the user's file."""
    end = offset + size
    try:
        with disk.open(path) as file:
            for start in range(offset, end, CHUNK_BYTES):
                due = min(CHUNK_BYTES, end - start)
                piece = file.read_at(start, due)
                if len(piece) < due:
                    message = f"{path} ends {end - start - len(piece)} bytes too early"
                    raise BadInputError(message, hint="was it changed meanwhile?")
                yield piece
                if progress:
                    progress(len(piece))
    except OSError as e:
        raise BadInputError(f"cannot read {path}: {e.strerror}") from e


def read_range(disk: Disk, stored: Stored, start: int, length: int) -> bytes:
    """Return bytes of the file that a blob lies in, not yet verified."""
    with opened(disk, stored) as file:
        data = file.read_at(stored.offset + start, length)
    if len(data) < length:
        raise too_short(stored)
    return data


@contextmanager
def opened(disk: Disk, stored: Stored) -> Iterator[File]:
    """Lend the file that a blob lies in.

    Raises:
        ContentMissingError: it is not there, or is the user's and cannot be read.
        CorruptBlobError: it is ours, and a part of it cannot be read any more.
        MachineError: the disk refused what is ours.
    """
    try:
        with disk.open(stored.path) as file:
            yield file
    except FileNotFoundError as e:
        message = f"blob {stored.blob.hex()[:12]} is gone: {stored.path} is not there"
        raise ContentMissingError(message, hint=_remedy(stored)) from e
    except OSError as e:
        error = machine_error(e, f"reading {stored.path}")
        if not stored.referenced and e.errno == errno.EIO:
            # a sector that cannot be read any more: damage of this one blob
            message = f"blob {stored.blob.hex()[:12]} cannot be read: {error}"
            raise CorruptBlobError(message, hint=_remedy(stored)) from e
        if not stored.referenced:
            raise error from e
        # SUBTLE: a failing disk of the user's own is no reason for a node to stop.
        message = f"blob {stored.blob.hex()[:12]} is gone: {error}"
        raise ContentMissingError(message, hint=_remedy(stored)) from e


def too_short(stored: Stored) -> CorruptBlobError:
    """Return the error for a file that ends before the blob does."""
    message = f"blob {stored.blob.hex()[:12]}: {stored.path} is too short"
    return CorruptBlobError(message, hint=_remedy(stored))


def damaged(stored: Stored, what: str) -> CorruptBlobError:
    """Return the error for a part of our own file that is not as it was written."""
    message = f"{what} of blob {stored.blob.hex()[:12]} in {stored.path} is damaged"
    return CorruptBlobError(message, hint=_remedy(stored))


def check_chunk(stored: Stored, index: int, data: bytes | memoryview) -> None:
    """Refuse a chunk whose bytes are not those that were named."""
    if chunk_digest(data) == stored.chunks[index]:
        return
    if not stored.referenced:
        raise damaged(stored, f"chunk {index}")
    message = f"chunk {index} of blob {stored.blob.hex()[:12]} in {stored.path}"
    message = f"{message} was changed since it was referenced"
    raise CorruptBlobError(message, hint=_remedy(stored))


def _remedy(stored: Stored) -> str:
    if stored.referenced:
        return REMEDY
    return (
        "check the disk; `crdtmerge store fsck --repair` fetches what is damaged from a"
        " peer, or contribute the model again"
    )
