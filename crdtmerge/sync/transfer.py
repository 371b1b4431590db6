"""One reply with bytes of a blob: parse the stream, trust nothing.

Owns the order of a fetch reply (size, chunk list if asked for, chunks) and its limits. Does
not own the connection, nor the disk, nor which source is asked for what (`swarm`): the
caller checks each chunk's digest where it stores it. A lying source is caught within one
chunk, and a transfer resumes chunk by chunk.
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

from .runs import Run, Runs, clipped

SIZE_BYTES: Final = 8
LIST_BYTES_MAX: Final = 1 << 19
"""Most bytes of chunk digests in one message."""
RUNS_MAX: Final = 64
"""Most runs of chunks that one request asks for."""
ENCODINGS_MAX: Final = 16
"""Most encodings that one request says it accepts."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks for of a blob.

    `encodings` are the numbers of those that may be sent, one a byte, and `against` is the
    blob that an encoding may refer to, empty if none: the receiver has it.
    """

    chunk_list: bool
    runs: tuple[Run, ...]
    encodings: bytes = b""
    against: bytes = b""


def announce(
    size: int, chunks: Sequence[bytes], *, want_chunk_list: bool
) -> Iterator[bytes]:
    """Yield the messages of a fetch reply that come before the chunks."""
    yield size.to_bytes(SIZE_BYTES, "little")
    if want_chunk_list:
        joined = b"".join(chunks)
        for start in range(0, len(joined), LIST_BYTES_MAX):
            yield joined[start : start + LIST_BYTES_MAX]


@dataclass(frozen=True, slots=True)
class Piece:
    """What came as one chunk; its digest is not yet checked.

    `encoded` says that `data` is an encoding of the chunk, which has `length` bytes.
    """

    index: int
    data: bytes
    length: int
    encoded: bool


@dataclass(slots=True)
class Incoming:
    """A reply that is arriving; `size` is the most that a signed manifest says of the blob.

    SUBTLE: a manifest may name a blob with a wrong size, and then the peer that has it is
    not the one who lies: a smaller size counts if the chunk list proves it, for the blob's
    id covers its size. Once that is done, `size` is the true one.

    `chunks` is the verified chunk list once it is complete; it may be given when a fetch
    is resumed, with the true size, and is asked for otherwise. `due` are the chunks that
    have yet to come, in the order asked.
    """

    blob: BlobId
    size: int
    wanted: Wanted
    chunks: Sequence[bytes] | None = None
    due: Runs = field(init=False)
    _opened: bool = False
    _list: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        """Wait for what was asked for, as far as the blob has it."""
        runs = clipped(self.wanted.runs, chunk_count(self.size))
        self.due = Runs.of(runs)

    @property
    def announced(self) -> bool:
        """Whether all has come that comes before the chunks."""
        return self._opened and self.chunks is not None

    def take(self, message: bytes) -> Piece | None:
        """Return what came of a chunk, if `message` is one; no digest is checked.

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
        if not self.due.left:
            raise MalformedMessageError("more chunks than were asked for")
        index = self.due.next
        length = min(CHUNK_BYTES, self.size - index * CHUNK_BYTES)
        # An encoding that is not shorter is no use to anybody: length tells them apart.
        encoded = len(message) < length and bool(self.wanted.encodings)
        if not message or (len(message) != length and not encoded):
            raise MalformedMessageError(
                f"chunk {index} has {len(message)} bytes, not {length}"
            )
        self.due.pop()
        return Piece(index, message, length, encoded)

    def _open(self, message: bytes) -> None:
        size = int.from_bytes(message[:SIZE_BYTES], "little")
        known = self.chunks is not None and size != self.size
        if len(message) != SIZE_BYTES or known:
            raise MalformedMessageError("a reply that does not begin with the size")
        if size > self.size:
            raise NotFoundError(
                f"a blob of {size} bytes, of which {self.size} are signed"
            )
        self.size = size
        self.due = Runs.of(clipped(self.due, chunk_count(size)))
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
        self._list.clear()
