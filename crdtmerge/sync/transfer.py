"""One blob on its way from one source: parse the stream, trust nothing.

Owns the order of a fetch reply (size, chunk list if asked for, chunks) and its limits. Does
not own the connection, nor the disk: the caller checks each chunk's digest where it stores
it. A lying source is caught within one chunk, and a transfer resumes chunk by chunk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.digest import (
    CHUNK_BYTES,
    DIGEST_BYTES,
    BlobId,
    blob_id,
    chunk_count,
)
from crdtmerge.errors import CorruptBlobError, MalformedMessageError

SIZE_BYTES: Final = 8
LIST_BYTES_MAX: Final = 1 << 19
"""Most bytes of chunk digests in one message."""


def announce(
    size: int, chunks: Sequence[bytes], *, want_chunk_list: bool
) -> Iterator[bytes]:
    """Yield the messages of a fetch reply that come before the chunks."""
    yield size.to_bytes(SIZE_BYTES, "little")
    if want_chunk_list:
        joined = b"".join(chunks)
        for start in range(0, len(joined), LIST_BYTES_MAX):
            yield joined[start : start + LIST_BYTES_MAX]


@dataclass(slots=True)
class Incoming:
    """A blob that is arriving; `size` comes from a signed manifest, not from the peer.

    `chunks` is the verified chunk list once it is complete; it may be given when a fetch
    is resumed, and is asked for otherwise.
    """

    blob: BlobId
    size: int
    chunks: list[bytes] | None = None
    next_chunk: int = 0
    _opened: bool = False
    _list: bytearray = field(default_factory=bytearray)

    def take(self, message: bytes) -> tuple[int, bytes] | None:
        """Return (index, bytes) if `message` is a chunk; its digest is not yet checked.

        Raises:
            MalformedMessageError: it breaks the order or the sizes of a reply.
            CorruptBlobError: the chunk list is not that of the blob.
        """
        if not self._opened:
            self._open(message)
            return None
        if self.chunks is None:
            self._take_list(message)
            return None
        index = self.next_chunk
        if index >= len(self.chunks):
            raise MalformedMessageError("more chunks than the blob has")
        due = min(CHUNK_BYTES, self.size - index * CHUNK_BYTES)
        if len(message) != due:
            raise MalformedMessageError(
                f"chunk {index} has {len(message)} bytes, not {due}"
            )
        self.next_chunk += 1
        return index, message

    def _open(self, message: bytes) -> None:
        if message != self.size.to_bytes(SIZE_BYTES, "little"):
            raise MalformedMessageError("the size is not the one that was signed")
        self._opened = True
        if self.chunks is None and self.size == 0:
            self._close_list()

    def _take_list(self, message: bytes) -> None:
        self._list += message
        due = chunk_count(self.size) * DIGEST_BYTES
        if not message or len(self._list) > due:
            raise MalformedMessageError("a chunk list of another length")
        if len(self._list) == due:
            self._close_list()

    def _close_list(self) -> None:
        starts = range(0, len(self._list), DIGEST_BYTES)
        chunks = [bytes(self._list[start : start + DIGEST_BYTES]) for start in starts]
        if blob_id(self.size, chunks) != self.blob:
            raise CorruptBlobError("a chunk list that is not the blob's")
        self.chunks = chunks
