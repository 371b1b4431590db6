"""Examining blobs: what their files really hold, and rows that can be made right again.

Owns the answers. Does not own what counts as damage, nor what follows (`nodes.upkeep`).
"""

import threading
from contextlib import suppress

from crdtmerge.digest import BlobId
from crdtmerge.errors import ContentMissingError, CorruptBlobError

from .access import Access
from .disk import Disk, explained
from .places import Places
from .ranges import Done, Stored
from .reading import identify
from .rows import BlobRows


class Examination:
    """What the files of one home's blobs hold."""

    def __init__(
        self,
        rows: BlobRows,
        access: Access,
        disk: Disk,
        places: Places,
        lock: threading.RLock,
    ) -> None:
        """Look there; `lock` is held while a row is written."""
        self._rows = rows
        self._access = access
        self._disk = disk
        self._places = places
        self._lock = lock

    def bad_chunks(self, blob: BlobId, done: Done | None = None) -> list[int]:
        """Return which chunks of a blob are not what they should be.

        Raises:
            ContentMissingError: the blob, or the file that it lies in, is not there.
            CorruptBlobError: the stored chunk list is damaged, or the blob is packed
                against one that is.
        """
        return self._access.bad_chunks(blob, done)

    def is_right(self, blob: BlobId, index: int) -> bool:
        """Tell whether one chunk is what it should be; of a blob that went, it is.

        What cannot be read is not right.

        Raises:
            MachineError: the table cannot be read.
        """
        try:
            return self._access.is_right(blob, index)
        except ContentMissingError:
            return True
        except CorruptBlobError:
            return False

    def waits_for_base(self, blob: BlobId) -> bool:
        """Tell whether a packed blob cannot be read because of what it is packed against.

        Nothing is then known of its own bytes: they may be right.
        """
        with suppress(ContentMissingError, CorruptBlobError):
            if self._rows.find(blob).packed:
                return self._is_base_bad(blob)
        return False

    def _is_base_bad(self, blob: BlobId) -> bool:
        try:
            self.bad_chunks(blob)
        except CorruptBlobError:
            return True
        return False

    def size(self, blob: BlobId) -> int:
        """Return how long the file of a blob is that lies in the home; 0 if it is gone."""
        with suppress(OSError):
            return self._disk.size(self._places.own(blob))
        return 0

    def found_in(self, blob: BlobId) -> BlobId | None:
        """Return the blob whose bytes lie where those of `blob` should, if it is known."""
        found = identify(self._disk, self._places.own(blob))
        return found[0] if found and self._rows.has(found[0]) else None

    def adopt(self, blob: BlobId) -> bool:
        """Write the row of a blob whose file is right, but not its row; tell if it is.

        Raises:
            MachineError: the disk refused.
        """
        path = self._places.own(blob)
        with self._lock:
            found = identify(self._disk, path)
            if found is None or found[0] != blob:
                return False
            with explained(f"syncing {path}"):
                # SUBTLE: a crash may have come before the sync of who wrote it.
                with self._disk.open(path, write=True) as file:
                    file.sync()
                self._disk.sync_folder(path.parent)
            _, size, chunks = found
            self._rows.write(Stored(blob, size, chunks, path, 0, False))
        return True
