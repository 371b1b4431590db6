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
from crdtmerge.errors import CorruptBlobError, MalformedMessageError, NotFoundError

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
    """A blob that is arriving; `size` is the most that a signed manifest says of it.

    SUBTLE: a manifest may name a blob with a wrong size, and then the peer that has it is
    not the one who lies: a smaller size counts if the chunk list proves it, for the blob's
    id covers its size. Once that is done, `size` is the true one.

    `chunks` is the verified chunk list once it is complete; it may be given when a fetch
    is resumed, with the true size, and is asked for otherwise.
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
            NotFoundError: what the peer has is larger than was signed.
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
        size = int.from_bytes(message, "little")
        known = self.chunks is not None and size != self.size
        if len(message) != SIZE_BYTES or known:
            raise MalformedMessageError("a reply that does not begin with the size")
        if size > self.size:
            raise NotFoundError(
                f"a blob of {size} bytes, of which {self.size} are signed"
            )
        self.size = size
        self._opened = True
        if self.chunks is None and self.size == 0:
            self._close_list()

    def _take_list(self, message: bytes) -> None:
        due = chunk_count(self.size) * DIGEST_BYTES
        # Exactly as `announce` cuts it: nobody stretches a fetch byte by byte.
        if len(message) != min(LIST_BYTES_MAX, due - len(self._list)):
            raise MalformedMessageError("a chunk list of another length")
        self._list += message
        if len(self._list) == due:
            self._close_list()

    def _close_list(self) -> None:
        starts = range(0, len(self._list), DIGEST_BYTES)
        chunks = [bytes(self._list[start : start + DIGEST_BYTES]) for start in starts]
        if blob_id(self.size, chunks) != self.blob:
            raise CorruptBlobError("a chunk list that is not the blob's")
        self.chunks = chunks
