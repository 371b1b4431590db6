"""Content-addressed blobs: files in the home, or ranges of files left in place.

Owns what it takes for a blob to be there, and that no byte is returned unverified. Does not
own the table (`rows`), the names of files (`places`), how bytes are read (`reading`), what
is arriving from peers (`arrivals`), nor which blobs are wanted or needed.

A row of the table means that the blob is there: data is synced, then renamed to its name,
the folder synced, then the row committed. A crash in between leaves a file without a row,
which counts as missing. A thread that finishes a blob takes turns with the others.
"""

import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from crdtmerge.digest import (
    BlobId,
    blob_id,
)
from crdtmerge.errors import (
    ConflictError,
    ContentMissingError,
    CorruptBlobError,
    CrdtMergeError,
)

from .access import Access
from .arrivals import Arrivals
from .copying import Copies
from .database import Database
from .disk import SYSTEM_DISK, Disk, explained, make_folder, require_free
from .examining import Examination
from .holdings import Holding, list_holdings
from .leases import Leases
from .naming import Naming
from .outgoing import Outgoing
from .packing import Packing
from .places import Places
from .quota import Quota
from .ranges import Stored
from .removing import Removal
from .rows import BlobRows
from .unforgiving import UnforgivingDisk

HELPERS: Final = 2
"""Threads that help to verify large blobs, of all that are being read."""


class FileBlobs(Copies):
    """The blobs of a home; a `TensorSource` of resolve. Safe for several threads."""

    def __init__(
        self, home: Path, database: Database, disk: Disk = SYSTEM_DISK, *, write: bool
    ) -> None:
        """Use the folders in `home`; with `write` (under the lock), make and clean them.

        Raises:
            MachineError: the disk refused.
        """
        self._home = home
        self._places = Places(home)
        # what is written goes through it, and nothing more after a sync that failed
        self._disk = disk = UnforgivingDisk(disk)
        self.rows = BlobRows(database, self._places)
        self.quota = Quota(database)
        self.leases = Leases()
        self._naming = Naming(disk, database, self._places)
        self._numbers = itertools.count()
        self._write = write
        # Held while a blob gets its name and row; never while its bytes are handled.
        self._lock = threading.RLock()
        self._helpers = ThreadPoolExecutor(HELPERS, "verify")
        self.access = Access(disk, self.rows, self._helpers)
        self.notice = self.access.notice
        self.references = self.rows.references
        self.examination = Examination(
            self.rows, self.access, disk, self._places, self._lock
        )
        self.packing = Packing(disk, self._places, self.rows, self, self._lock)
        self._arrivals = Arrivals(
            self._places.partials,
            self,
            database=database,
            disk=disk,
            lock=self._lock,
            leases=self.leases,
        )
        self.removal = Removal(
            self.rows, disk, self._places, lock=self._lock, arrivals=self._arrivals
        )
        if write:
            with explained(f"preparing {home}"):
                self._prepare()

    def _prepare(self) -> None:
        """Make the folders, and remove what a crash left behind."""
        places = self._places
        for folder in (places.blobs, places.partials, places.temporary):
            make_folder(self._disk, folder)
        self._naming.undo()
        for name in self._disk.list(places.temporary):
            self._disk.remove(places.temporary / name)
        self._arrivals.clean()

    # --- what is there -----------------------------------------------------------------

    def has(self, blob: BlobId) -> bool:
        """Tell whether the blob is there."""
        return self.rows.has(blob)

    def missing(self, blobs: Iterable[BlobId]) -> list[BlobId]:
        """Return those of `blobs` that are not there, in order, each once."""
        return [blob for blob in dict.fromkeys(blobs) if not self.has(blob)]

    def ids(self) -> list[BlobId]:
        """Return the ids of all blobs that are there, sorted."""
        return self.rows.ids()

    def chunk_list(self, blob: BlobId) -> tuple[int, list[bytes]]:
        """Return the size and the chunk digests of a blob, verified against its id.

        Raises:
            ContentMissingError: the blob is not there.
            CorruptBlobError: the stored list is damaged.
        """
        stored = self.rows.find(blob)
        return stored.size, list(stored.chunks)

    def holdings(self) -> list[Holding]:
        """Return all that lies here, with downloads and leftovers of a crash."""
        return list_holdings(self.rows, self._disk, self._places)

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Keep downloads from opening while the block runs: for who collects."""
        with self._arrivals.none_opens():
            yield

    def free(self) -> int:
        """Return how many bytes are free on the disk of the home."""
        with explained(f"asking for the free space of {self._home}"):
            return self._disk.free(self._home)

    def forget_lost(self) -> int:
        """Forget copies whose file is gone or cut, so that they are fetched again.

        Returns how many; run when a node starts. Damage inside a file shows on use. One
        that lies here another way than its row says is made right.
        """
        lost = [
            blob
            for blob in self.ids()
            if self._is_lost(blob)
            and not self.examination.adopt(blob)
            and not self.packing.restore(blob)
        ]
        for blob in lost:
            self.removal.set_aside(blob)
        return len(lost)

    def _is_lost(self, blob: BlobId) -> bool:
        """Tell whether a copy is gone or cut; of a disk that refuses nothing is known."""
        try:
            stored = self.rows.find(blob)
            if stored.referenced:
                return False
            return self._disk.size(stored.path) != stored.file_bytes
        except (ContentMissingError, CorruptBlobError, FileNotFoundError):
            return True
        except OSError:
            return False

    # --- reading -----------------------------------------------------------------------

    def read(self, blob: BlobId, size: int) -> bytes | memoryview:
        """Return the bytes of a blob that is declared to have `size`, all verified.

        What lies in the home is mapped, read-only, and stays readable even when the blob
        goes; a range of the user's file is copied, and what is packed is decoded.

        Raises:
            ContentMissingError: the blob, or the file that it lies in, is not there.
            CorruptBlobError: the bytes are not those of the blob.
        """
        return self.access.read(blob, size)

    def read_chunk(self, blob: BlobId, index: int) -> bytes:
        """Return one chunk, verified.

        Raises:
            NotFoundError: the blob has no such chunk.
            ContentMissingError: the blob, or the file that it lies in, is not there.
            CorruptBlobError: the bytes are not those of the blob.
        """
        return self.access.read_chunk(blob, index)

    def outgoing(self, blob: BlobId) -> Outgoing:
        """Open a blob to be read chunk by chunk; it is held until the caller closes it.

        Raises:
            ContentMissingError: the blob, or the file that it lies in, is not there.
            CorruptBlobError: the stored list is damaged.
        """
        with ExitStack() as stack:
            stack.enter_context(self.leases.hold([blob]))
            stored = self.rows.find(blob)
            read = partial(self.read_chunk, blob)
            try:
                return Outgoing(self._disk, stored, read, stack)
            except ContentMissingError:
                again = self.rows.find(blob)
                if again != stored:  # packed or unpacked meanwhile
                    return Outgoing(self._disk, again, read, stack)
                self.access.tell(blob)
                raise

    # --- what this machine offers ------------------------------------------------------

    @property
    def disk(self) -> Disk:
        """Where the files lie."""
        return self._disk

    def reserve(self, size: int, *, beside: int = 0) -> None:
        """Check that `size` more bytes fit, beside what the open downloads will take.

        `beside` bytes are on the disk already, for blobs that have no row yet.

        Raises:
            NoRoomError: they do not, or the home's quota has no room for them.
        """
        coming = self._arrivals.missing_bytes
        self.quota.require(size, coming + self._arrivals.here_bytes + beside)
        require_free(self._disk, self._home, size + coming)

    # --- what goes ---------------------------------------------------------------------

    def forget(self, blob: BlobId) -> None:
        """Drop a blob: its row, then its file unless that is not ours."""
        self.removal.forget(blob)

    # --- what arrives from peers -------------------------------------------------------

    def begin(self, blob: BlobId, size: int, chunks: Sequence[bytes]) -> int:
        """Start or resume a download; return the index of the first chunk to ask for.

        Raises:
            CorruptBlobError: the chunk list is not that of the blob.
            MachineError: the disk has no room, or refused.
        """
        self._require_write()
        return self._arrivals.begin(blob, size, chunks)

    def has_part(self, blob: BlobId) -> bool:
        """Tell whether anything lies here of a download, known or not."""
        return self._arrivals.taken(blob) > 0

    def missing_chunks(self, blob: BlobId) -> list[int]:
        """Return which chunks of a download to ask for, in order.

        Raises:
            NotFoundError: no download of this blob has begun.
        """
        return self._arrivals.missing_chunks(blob)

    def resumable(self, blob: BlobId) -> tuple[int, list[bytes]] | None:
        """Return the size and the verified chunk list of a download that stopped.

        None when nothing is kept of it; the list must then be asked for again.
        """
        return self._arrivals.resumable(blob)

    def write_chunk(self, blob: BlobId, index: int, data: bytes | memoryview) -> None:
        """Verify one chunk of a download and keep it; a repeated one does no harm.

        Now and then that waits for a sync: who must not calls `add_chunk`.

        Raises:
            CorruptBlobError: it is not the chunk of this index.
            NotFoundError: no download of this blob has begun.
            MachineError: the disk refused; the chunk counts as missing, and after a
                failed sync all of them do.
        """
        if self.add_chunk(blob, index, data):
            self.vouch(blob)

    def add_chunk(self, blob: BlobId, index: int, data: bytes | memoryview) -> bool:
        """Do as `write_chunk`, but return whether it is time to `vouch`.

        Until then a crash costs hashing again, and a power cut the bytes.

        Raises:
            CorruptBlobError: it is not the chunk of this index.
            NotFoundError: no download of this blob has begun.
            MachineError: the disk refused; the chunk counts as missing.
        """
        return self._arrivals.add_chunk(blob, index, data)

    def vouch(self, blob: BlobId) -> None:
        """Sync what has arrived of a download, if it is much, and keep what is there.

        Chunks may be written meanwhile; it vouches for those that were there before.

        Raises:
            MachineError: the disk refused; after a failed sync all chunks are missing.
        """
        self._arrivals.vouch(blob)

    def finish(self, blob: BlobId) -> None:
        """Make a whole download durable; from then on the blob is there.

        Raises:
            ContentMissingError: a chunk has not arrived.
            MachineError: the disk refused; the blob counts as missing.
        """
        self._arrivals.finish(blob)

    def require_room(self, blob: BlobId, size: int) -> None:
        """Check that the rest of a blob of `size` bytes would fit, before it is asked for.

        Raises:
            NoRoomError: it would not.
        """
        if not self._arrivals.is_open(blob) and not self.has(blob):
            self.reserve(max(0, size - self._arrivals.taken(blob)))

    def pause(self, blob: BlobId) -> None:
        """Close a download that came to no end; what has arrived is found again.

        Raises:
            MachineError: the disk refused; what was not yet known is fetched again.
        """
        self._arrivals.pause(blob)

    def abandon(self, blob: BlobId) -> None:
        """Drop a download and what has arrived of it.

        Raises:
            MachineError: the disk refused.
        """
        self._require_write()
        self._arrivals.abandon(blob)

    def close(self) -> None:
        """Close the open downloads; what has arrived is found again.

        Raises:
            MachineError: the disk refused; all are closed all the same.
        """
        self._helpers.shutdown()
        self._arrivals.close()

    # --- inside ------------------------------------------------------------------------

    def _require_write(self) -> None:
        """Refuse to touch files beside the process that holds the lock."""
        if not self._write:
            raise ConflictError("this home was opened for reading only")

    def settle(self, path: Path, size: int, chunks: Sequence[bytes]) -> None:
        """Give a synced file its final name, durably, and then its row; under the lock.

        When that fails, the file goes back to its old name.
        """
        blob = blob_id(size, chunks)
        place = self.path_of(blob)
        self._naming.name(path, Stored(blob, size, tuple(chunks), place, 0, False))

    def is_sound(self, blob: BlobId) -> bool:
        """Tell whether a blob need not be written: its bytes are there.

        They are read for it, but for those in a file of the user's that nobody wrote to
        since it was found right.
        """
        try:
            stored = self.rows.find(blob)
            if stored.referenced and self.references.fate(stored.path) == "as it was":
                return True
            # SUBTLE: a file may have been changed or damaged since; to acknowledge this
            # blob means that its bytes are there now.
            return not self.access.bad_chunks(blob, None)
        except (CrdtMergeError, OSError):
            return False

    def _is_copied(self, blob: BlobId) -> bool:
        """Tell whether a blob lies in the home itself."""
        with suppress(CrdtMergeError, OSError):
            stored = self.rows.find(blob)
            size = self._disk.size(stored.path)
            return not stored.referenced and size == stored.file_bytes
        return False

    def path_of(self, blob: BlobId) -> Path:
        """Return the name of a blob that lies in the home."""
        return self._places.own(blob)
