"""Blobs that are arriving from peers, and what is known of them after a crash.

Owns the folder of partial files, the `downloads` table, and when what is said there is
true. Does not own one download's chunks (`download`), nor the blobs that are there
(`blobs`).

A row says which chunks of a partial file are verified and on the disk, and keeps the chunk
list. Data is synced, then the file's name, then the row committed; so a crash makes chunks
unknown, never falsely known, and what the row does not know of is found by hashing. A row
is taken back before its file is removed or replaced by another.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from crdtmerge.digest import CHUNK_BYTES, DIGEST_BYTES, BlobId
from crdtmerge.errors import (
    ContentMissingError,
    CorruptBlobError,
    MachineError,
    NoRoomError,
    NotFoundError,
)

from .database import Database
from .disk import Disk, explained
from .download import CHECKPOINT_BYTES, Download, check_chunk_list
from .leases import Leases
from .places import blob_named, is_blob_name


class Shelf(Protocol):
    """Where a blob goes once it is whole."""

    def has(self, blob: BlobId) -> bool:
        """Tell whether the blob is there."""

    def reserve(self, size: int) -> None:
        """Check that `size` more bytes fit."""

    def path_of(self, blob: BlobId) -> Path:
        """Return the name that the file of a blob is given."""

    def settle(self, path: Path, size: int, chunks: Sequence[bytes]) -> None:
        """Give a synced file its name and its row, both durable; under `lock`."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept of a download: its verified chunk list, and a bit for each chunk."""

    size: int
    chunks: list[bytes]
    held: bytes


class Arrivals:
    """The downloads of a home. Safe for several threads."""

    def __init__(
        self,
        folder: Path,
        shelf: Shelf,
        *,
        database: Database,
        disk: Disk,
        lock: threading.RLock,
        leases: Leases,
    ) -> None:
        """Use `folder`; `lock` is held while a blob gets its name and row.

        A download has a lease of its blob from before it opens until it is closed.
        """
        self._folder = folder
        self._shelf = shelf
        self._database = database
        self._disk = disk
        self._lock = lock
        self._leases = leases
        # Held while a download opens, which may hash for long; taken before the leases',
        # and those before `_lock`.
        self._opening = threading.RLock()
        self._open: dict[BlobId, Download] = {}

    def clean(self) -> None:
        """Remove what a crash left of blobs that are there, and what is none of ours."""
        with self._database.writing() as sql:
            sql.execute(
                "DELETE FROM downloads WHERE blob IN (SELECT blob FROM blobs)", ()
            )
        for name in self._disk.list(self._folder):
            if not is_blob_name(name) or self._shelf.has(blob_named(name)):
                self._disk.remove(self._folder / name)

    @property
    def missing_bytes(self) -> int:
        """How many bytes the open downloads will take."""
        with self._lock:
            return sum(download.missing_bytes for download in self._open.values())

    @property
    def here_bytes(self) -> int:
        """How many bytes of the open downloads are here."""
        with self._lock:
            return sum(d.size - d.missing_bytes for d in self._open.values())

    def taken(self, blob: BlobId) -> int:
        """Return how many bytes of the disk a download takes so far."""
        try:
            return self._disk.taken(self._path(blob))
        except FileNotFoundError:
            return 0

    def is_open(self, blob: BlobId) -> bool:
        """Tell whether a download of `blob` has begun."""
        with self._lock:
            return blob in self._open

    @contextmanager
    def none_opens(self) -> Iterator[None]:
        """Keep downloads from opening in the block; one that opens now is waited for."""
        with self._opening:
            yield

    def discard(self, blob: BlobId) -> bool:
        """Drop what has arrived of a blob, unless its download goes on; tell whether."""
        with self._opening:
            if self.is_open(blob):
                return False
            self.abandon(blob)
            return True

    def begin(self, blob: BlobId, size: int, chunks: Sequence[bytes]) -> int:
        """Start or resume a download; return the index of the first chunk to ask for."""
        check_chunk_list(blob, size, chunks)
        with self._opening:
            with self._lock:
                if self._shelf.has(blob):
                    return len(chunks)
                download = self._open.get(blob)
            if download is None:
                self._leases.take(blob)
                try:
                    if self._recover(blob):
                        download = self._start(blob, size, chunks)
                finally:
                    if download is None:
                        self._leases.drop(blob)
                if download is None:
                    return len(chunks)
            return download.first_missing()

    def missing_chunks(self, blob: BlobId) -> list[int]:
        """Return which chunks to ask for, in order; of a blob that is there, none."""
        with self._lock:
            download = self._open.get(blob)
        if download is not None:
            return download.missing()
        if self._shelf.has(blob):
            return []
        raise _not_begun(blob)

    def resumable(self, blob: BlobId) -> tuple[int, list[bytes]] | None:
        """Return the size and the chunk list of a download, if they were kept."""
        with self._lock:
            download = self._open.get(blob)
        if download is not None:
            return download.size, list(download.chunks)
        known = self._known(blob)
        return (known.size, known.chunks) if known else None

    def add_chunk(self, blob: BlobId, index: int, data: bytes | memoryview) -> bool:
        """Verify one chunk of a download and keep it; a repeated one does no harm.

        Returns whether so much was written that it is time to `vouch`.
        """
        with self._lock:
            download = self._open.get(blob)
        if download is not None:
            return download.write(index, data)
        if not self._shelf.has(blob):
            raise _not_begun(blob)
        return False

    def vouch(self, blob: BlobId) -> None:
        """Sync what has arrived, if it is much, and keep which chunks are there."""
        with self._lock:
            download = self._open.get(blob)
        if download is not None:
            self._keep_known(download, above=CHECKPOINT_BYTES - 1)

    def finish(self, blob: BlobId) -> None:
        """Make a whole download durable; from then on the blob is there."""
        with self._lock:
            download = self._open.get(blob)
        if download is None:
            if self._shelf.has(blob):
                return
            raise _not_begun(blob)
        try:
            download.sync()
        except MachineError:
            self._distrust(blob)
            raise
        try:
            with self._lock:
                mine = self._open.pop(blob, None) is not None
                if mine:
                    download.close()
                    self._shelf.settle(download.path, download.size, download.chunks)
                elif not self._shelf.has(blob):
                    raise ContentMissingError(f"blob {blob.hex()[:12]} was abandoned")
        finally:
            if mine:
                self._leases.drop(blob)

    def pause(self, blob: BlobId) -> None:
        """Close a download that came to no end; what has arrived is found again."""
        with self._opening:
            with self._lock:
                download = self._open.get(blob)
            if download is None:
                return
            try:
                with suppress(NoRoomError):  # then it is found by hashing
                    self._keep_known(download)
            finally:
                self._end(blob)
                download.close()

    def abandon(self, blob: BlobId) -> None:
        """Drop a download and what has arrived of it."""
        with self._opening:
            download = self._end(blob)
            if download is not None:
                download.close()
            path = self._path(blob)
            try:
                self._take_back(blob, "DELETE FROM downloads WHERE blob = ?")
            finally:
                with explained(f"removing {path}"):
                    self._disk.remove(path)

    def close(self) -> None:
        """Pause every open download; all are closed, whatever the disk says of one."""
        failed: MachineError | None = None
        with self._opening:
            for blob in sorted(self._open):
                try:
                    self.pause(blob)
                except MachineError as e:
                    failed = failed or e
        if failed is not None:
            raise failed

    # --- inside ------------------------------------------------------------------------

    def _end(self, blob: BlobId) -> Download | None:
        """Take a download that ends out of those that go on, with its lease.

        SUBTLE: outside `_lock`: a collection has the leases when it takes that lock.
        """
        with self._lock:
            download = self._open.pop(blob, None)
        if download is not None:
            self._leases.drop(blob)
        return download

    def _path(self, blob: BlobId) -> Path:
        return self._folder / blob.hex()

    def _recover(self, blob: BlobId) -> bool:
        """Take up a file that a crash left with its final name but without a row.

        Returns whether the blob is still missing. SUBTLE: under the lock, for a file that
        is just being named has no row yet either; and nobody vouches for one that was left:
        it may be a damaged copy that was forgotten, and whose removal the crash undid.
        """
        found = self._shelf.path_of(blob)
        with self._lock:
            if self._shelf.has(blob):
                return False
            if self._disk.exists(found):
                self._believe_nothing(blob)
                with explained(f"resuming {found}"):
                    self._disk.rename(found, self._path(blob))
        return True

    def _start(self, blob: BlobId, size: int, chunks: Sequence[bytes]) -> Download:
        """Return a download with what is there of it, once its rest is sure to fit."""
        path = self._path(blob)
        known = self._known(blob)
        fresh = not self._disk.exists(path)
        vouched = known.held if known else b""
        if vouched and (fresh or self._disk.size(path) < _end(vouched, size)):
            # SUBTLE: else the row would vouch for the holes of a file that grows from now
            # on, once a chunk beyond them is written and a crash follows.
            self._believe_nothing(blob)
            vouched = b""
        download = Download(self._disk, path, blob, size, chunks, vouched=vouched)
        try:
            self._shelf.reserve(download.missing_bytes)
        except BaseException:
            download.close()
            if fresh:
                self._disk.remove(path)
            raise
        with self._lock:
            self._open[blob] = download
        return download

    def _keep_known(self, download: Download, *, above: int = 0) -> None:
        """Sync what has arrived, and then say in the table that it is there."""
        blob = download.blob
        try:
            held = download.checkpoint(above=above)
            if held is None:
                return
            with explained(f"syncing {self._folder}"):
                self._disk.sync_folder(self._folder)
        except MachineError:
            self._distrust(blob)
            raise
        row = (blob, download.size, b"".join(download.chunks), held)
        with self._lock:
            if self._open.get(blob) is not download:
                return  # it was finished or abandoned meanwhile
            with self._database.writing() as sql:
                sql.execute("INSERT OR REPLACE INTO downloads VALUES (?, ?, ?, ?)", row)

    def _distrust(self, blob: BlobId) -> None:
        """Drop a download whose sync failed.

        SUBTLE: the lost pages may still read right from the cache, so that a later start
        would take them for data: nothing of this file may be used again.
        """
        with suppress(MachineError):  # the failed sync is what is told of
            self.abandon(blob)

    def _known(self, blob: BlobId) -> Known | None:
        """Return what is kept of a download, unless the disk changed its list."""
        with self._database.reading() as sql:
            query = "SELECT size, chunks, held FROM downloads WHERE blob = ?"
            row = sql.execute(query, [blob]).fetchone()
        if row is None:
            return None
        size, joined, held = row
        starts = range(0, len(joined), DIGEST_BYTES)
        chunks = [joined[start : start + DIGEST_BYTES] for start in starts]
        try:
            check_chunk_list(blob, size, chunks)
        except CorruptBlobError:
            return None
        return Known(size, chunks, held)

    def _believe_nothing(self, blob: BlobId) -> None:
        """Vouch for no chunk any more; the list stays true."""
        self._take_back(blob, "UPDATE downloads SET held = x'' WHERE blob = ?")

    def _take_back(self, blob: BlobId, statement: str) -> None:
        with self._database.reading() as sql:
            query = "SELECT 1 FROM downloads WHERE blob = ?"
            if sql.execute(query, [blob]).fetchone() is None:
                return
        with self._database.writing() as sql:
            sql.execute(statement, [blob])


def _end(vouched: bytes, size: int) -> int:
    """Return how long a file is at least that holds what is vouched for."""
    last = int.from_bytes(vouched, "little").bit_length()
    return min(last * CHUNK_BYTES, size)


def _not_begun(blob: BlobId) -> NotFoundError:
    return NotFoundError(f"no download of blob {blob.hex()[:12]} has begun")
