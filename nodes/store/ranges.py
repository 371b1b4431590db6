"""Ranges of files: written in chunks, read as the bytes that a digest names or not at all.

Owns where a stored blob lies, and the messages for a file that changed or vanished. Does
not own which blobs there are (`blobs`).
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from crdtmerge.digest import CHUNK_BYTES, BlobId, chunk_digest
from crdtmerge.errors import BadInputError, ContentMissingError, CorruptBlobError

from .disk import create_file, explained, machine_error, sync_file, write_all

Done = Callable[[int], None]
"""Told the number of bytes that were just handled."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a blob lies; `referenced` when its file is not ours."""

    blob: BlobId
    size: int
    chunks: tuple[bytes, ...]
    path: Path
    offset: int
    referenced: bool


def write_pieces(path: Path, pieces: Iterable[bytes]) -> list[bytes]:
    """Write a new file chunk by chunk, sync it, and return the chunk digests."""
    chunks: list[bytes] = []
    offset = 0
    with explained(f"writing {path}"):
        descriptor = create_file(path)
        try:
            for piece in pieces:
                chunks.append(chunk_digest(piece))
                write_all(descriptor, piece, offset)
                offset += len(piece)
            sync_file(descriptor)
        finally:
            os.close(descriptor)
    return chunks


def read_source(
    path: Path, offset: int, size: int, progress: Done | None
) -> Iterator[bytes]:
    """Yield the chunks of a range of the user's file."""
    left = size
    try:
        with path.open("rb") as file:
            file.seek(offset)
            while left > 0:
                piece = file.read(min(CHUNK_BYTES, left))
                if len(piece) < min(CHUNK_BYTES, left):
                    message = f"{path} ends {left - len(piece)} bytes too early"
                    raise BadInputError(message, hint="was it changed meanwhile?")
                left -= len(piece)
                yield piece
                if progress:
                    progress(len(piece))
    except OSError as e:
        raise BadInputError(f"cannot read {path}: {e.strerror}") from e


def read_range(stored: Stored, start: int, length: int) -> bytes:
    """Return bytes of the file that a blob lies in, not yet verified."""
    try:
        with stored.path.open("rb") as file:
            file.seek(stored.offset + start)
            data = file.read(length)
    except FileNotFoundError as e:
        message = f"blob {stored.blob.hex()[:12]} is gone: {stored.path} is not there"
        raise ContentMissingError(message, hint=_remedy(stored)) from e
    except OSError as e:
        raise machine_error(e, f"reading {stored.path}") from e
    if len(data) < length:
        message = f"blob {stored.blob.hex()[:12]}: {stored.path} is too short"
        raise CorruptBlobError(message, hint=_remedy(stored))
    return data


def check_chunk(stored: Stored, index: int, data: bytes | memoryview) -> None:
    """Refuse a chunk whose bytes are not those that were named."""
    if chunk_digest(data) == stored.chunks[index]:
        return
    message = f"chunk {index} of blob {stored.blob.hex()[:12]} in {stored.path}"
    if stored.referenced:
        message = f"{message} was changed since it was referenced"
    else:
        message = f"{message} is damaged"
    raise CorruptBlobError(message, hint=_remedy(stored))


def _remedy(stored: Stored) -> str:
    if stored.referenced:
        return (
            "put the file back as it was, or contribute again with a copy; for the base"
            " of a space, `crdtmerge space join TICKET --base DIR` names another copy"
        )
    return (
        "check the disk; contribute the model again, or delete that file and restart the"
        " node, which fetches it from a peer"
    )
