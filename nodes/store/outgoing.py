"""A blob that is read chunk by chunk for a peer: found once, its file kept open.

Owns what is verified on the way out. Does not own who may read it.

The bytes of a file of ours are not hashed here: whoever receives them does it anyhow, and a
damaged chunk ends there as it would end here. A file of the user's may be edited at any
time, so its chunks are verified each time; so are those that must be unpacked.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Self

from crdtmerge.digest import CHUNK_BYTES, chunk_digest
from crdtmerge.errors import MachineError

from .disk import Disk, explained
from .download import chunk_length
from .ranges import Stored, opened


class Outgoing:
    """An open blob; close it. Several threads may read at once."""

    def __init__(
        self,
        disk: Disk,
        stored: Stored,
        read: Callable[[int], bytes],
        stack: ExitStack,
    ) -> None:
        """Open the file that the blob lies in; `read` gives a chunk of it, verified.

        What is on `stack` is closed at the end; if this fails, by the caller.

        Raises:
            ContentMissingError: the file is gone.
            MachineError: the disk refused.
        """
        self._stored = stored
        self._read = read
        self._file = stack.enter_context(opened(disk, stored))
        self._stack = stack.pop_all()

    @property
    def size(self) -> int:
        """How many bytes the blob has."""
        return self._stored.size

    @property
    def chunks(self) -> Sequence[bytes]:
        """The verified chunk list."""
        return self._stored.chunks

    def read(self, index: int) -> bytes:
        """Return a chunk that there is.

        Raises:
            CorruptBlobError: the file is shorter; or it was verified, and is damaged.
            MachineError: the disk refused.
        """
        stored = self._stored
        if stored.packed:
            return self._read(index)
        if stored.referenced:
            return self._of_the_user_s(index)
        data = self._raw(index)
        if len(data) == chunk_length(stored.size, index):
            return data
        return self._read(index)  # which says what is wrong, and has it noticed

    def _of_the_user_s(self, index: int) -> bytes:
        try:
            data = self._raw(index)
        except MachineError:
            return self._read(index)
        if chunk_digest(data) == self._stored.chunks[index]:
            return data
        return self._read(index)

    def _raw(self, index: int) -> bytes:
        stored = self._stored
        with explained(f"reading {stored.path}"):
            return self._file.read_at(
                stored.offset + index * CHUNK_BYTES, chunk_length(stored.size, index)
            )

    def close(self) -> None:
        """Close the file, and let go of the blob."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
