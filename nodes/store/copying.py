"""Bytes that are made or found on this machine, and become blobs one at a time or many.

Owns the way from a temporary file to its name and row. Does not own which bytes come in
together (`intake`), what arrives from peers (`arrivals`), nor what is there (`blobs`).
"""

import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id, blob_id_of, chunk_digest
from crdtmerge.errors import BadInputError
from crdtmerge.formats.header import FileState

from .disk import Disk
from .naming import Naming
from .places import Places
from .ranges import Done, Stored, read_source, write_pieces
from .rows import BlobRows


class Copies:
    """The part of the blobs that takes in what this machine has; for `FileBlobs`."""

    rows: BlobRows
    _disk: Disk
    _lock: threading.RLock
    _naming: Naming
    _numbers: "itertools.count[int]"
    _places: Places

    def is_sound(self, blob: BlobId) -> bool:
        """Tell whether a blob need not be written: its bytes are there."""
        raise NotImplementedError

    def settle(self, path: Path, size: int, chunks: Sequence[bytes]) -> None:
        """Give a synced file its name and its row, both durable; under the lock."""
        raise NotImplementedError

    def reserve(self, size: int) -> None:
        """Check that `size` more bytes fit."""
        raise NotImplementedError

    def _is_copied(self, blob: BlobId) -> bool:
        raise NotImplementedError

    def _require_write(self) -> None:
        raise NotImplementedError

    def put(self, data: bytes) -> BlobId:
        """Keep `data` durably and return its id.

        Raises:
            MachineError: the disk refused; the store is as it was.
        """
        blob = blob_id_of(data)
        if self.is_sound(blob):
            return blob
        return self._keep(len(data), _slices(data), expected=None, source="the data")

    def import_range(
        self,
        path: Path,
        offset: int,
        size: int,
        *,
        expected: BlobId | None = None,
        progress: Done | None = None,
    ) -> BlobId:
        """Copy a range of a file durably and return the id of its bytes.

        A blob that is there already is not written again; with `expected`, not even read.

        Raises:
            BadInputError: the file cannot be read, changed, or is not as `expected`.
            MachineError: the disk refused; the store is as it was.
        """
        if expected is not None and self.is_sound(expected):
            if progress:
                progress(size)
            return expected
        pieces = read_source(self._disk, path, offset, size, progress)
        return self._keep(size, pieces, expected=expected, source=str(path))

    def reference_range(
        self, path: Path, offset: int, size: int, progress: Done | None = None
    ) -> BlobId:
        """Keep only where these bytes lie, and return their id; every use verifies them.

        Raises:
            BadInputError: the file cannot be read, or is shorter.
            MachineError: the disk refused.
        """
        path = path.resolve()
        pieces = read_source(self._disk, path, offset, size, progress)
        chunks = tuple(chunk_digest(piece) for piece in pieces)
        blob = blob_id(size, chunks)
        with self._lock:
            if not self._is_copied(blob):
                self.rows.write(Stored(blob, size, chunks, path, offset, True))
        return blob

    def temporary(self) -> Path:
        """Return a free name for a file that the next start removes."""
        self._require_write()
        return self._places.temporary / str(next(self._numbers))

    def settle_all(
        self,
        moves: Mapping[Path, Stored],
        references: Iterable[Stored],
        states: Mapping[Path, FileState],
    ) -> None:
        """Let synced files be blobs under their final names, and ranges of the user's.

        `states` are those of the user's files when they were read.

        Raises:
            MachineError: the disk refused; none of them is there.
        """
        self._require_write()
        with self._lock:
            rows = [s for s in references if not self._is_copied(s.blob)]
            self._naming.name_all(moves, rows, states)

    def _keep(
        self,
        size: int,
        pieces: Iterable[bytes],
        *,
        expected: BlobId | None,
        source: str,
    ) -> BlobId:
        """Write `pieces` to a temporary file while hashing, and keep it if it is new."""
        self._require_write()
        self.reserve(size)
        path = self.temporary()
        try:
            chunks = write_pieces(self._disk, path, pieces)
            blob = blob_id(size, chunks)
            if expected not in {None, blob}:
                message = f"{source} changed: it is not blob {blob.hex()[:12]} any more"
                raise BadInputError(
                    message, hint="do not write to a model that is in use"
                )
            with self._lock:
                if not self.is_sound(blob):
                    self.settle(path, size, chunks)
            return blob
        finally:
            with suppress(OSError):
                self._disk.remove(path)


def _slices(data: bytes) -> Iterator[bytes]:
    """Yield the chunks of `data`."""
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]
