"""What a simulated machine keeps: in memory, or by the real store on a simulated disk.

Owns what survives a crash of either kind. Does not own when machines crash (`world`), nor
what a power loss takes (`power_loss`).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id, chunk_digests
from crdtmerge.errors import CorruptBlobError
from nodes.store.base import RecordStore
from nodes.store.blobs import FileBlobs
from nodes.store.database import Database
from nodes.store.memory import MemoryBlobs, MemoryRecords
from nodes.store.sqlite import SqliteRecords

from .disk import SimulatedDisk
from .power_loss import Loss

HOME: Final = Path("/home")
STORE_FILE: Final = HOME / "store.sqlite"


class Blobs(Protocol):
    """The blobs of a machine: a `BlobStore` that takes in whole ones."""

    def add(self, data: bytes) -> BlobId:
        """Keep `data`, and return the id that its bytes give it."""

    def receive(self, blob: BlobId, data: bytes) -> None:
        """Keep what a peer sent as `blob`."""

    def get(self, blob: BlobId) -> bytes:
        """Return the bytes of a blob that is here, whatever their size."""

    def has(self, blob: BlobId) -> bool:
        """Tell whether the blob is here."""

    def missing(self, blobs: Iterable[BlobId]) -> list[BlobId]:
        """Return those of `blobs` that are not here, in the order given."""

    def read(self, blob: BlobId, size: int) -> bytes:
        """Return the bytes of a blob of `size` bytes."""


class Storage(Protocol):
    """What is left of a machine when its process has ended."""

    @property
    def records(self) -> RecordStore:
        """Its records."""

    @property
    def blobs(self) -> Blobs:
        """Its blobs."""

    def lose_power(self, loss: Loss) -> None:
        """End as the power does; what is there again afterwards is what is left."""

    def cut_power(self, operations: int | None) -> None:
        """Let the power go at one of the next operations; None takes it back."""


class MemoryStorage:
    """Keeps all that it was ever given: whoever crashes loses nothing."""

    def __init__(self, generation: bytes) -> None:
        """Begin empty."""
        self.records = MemoryRecords(generation)
        self.blobs = MemoryBlobs()

    def lose_power(self, loss: Loss) -> None:
        """Lose nothing."""

    def cut_power(self, operations: int | None) -> None:
        """Take no notice: there is no operation that could be cut."""


class DiskStorage:
    """The real store, SQLite and files, on a disk that loses what was not synced."""

    def __init__(self, generation: bytes) -> None:
        """Found it on an empty disk."""
        self.disk = SimulatedDisk()
        self.disk.make_folder(HOME)
        self.disk.sync_folder(HOME.parent)
        Database.create(STORE_FILE, generation, disk=self.disk).close()
        self._open()

    def _open(self) -> None:
        self._database = Database(STORE_FILE, disk=self.disk, write=True)
        self._files = FileBlobs(HOME, self._database, self.disk, write=True)
        self.records = SqliteRecords(self._database)
        self.blobs = DiskBlobs(self._files)

    def lose_power(self, loss: Loss) -> None:
        """Reopen what is left of the disk."""
        left = self.disk.after(loss)
        self.disk.forget()  # what the dead process does from here on reaches nobody
        self._files.close()
        self._database.close()
        self.disk = left
        self._open()

    def cut_power(self, operations: int | None) -> None:
        """Let the power go at one of the next operations."""
        done = len(self.disk.operations)
        self.disk.cut = None if operations is None else done + operations


class DiskBlobs:
    """The blobs of the real store, as a simulated machine uses them."""

    def __init__(self, files: FileBlobs) -> None:
        """Use the store's blobs."""
        self._files = files

    def add(self, data: bytes) -> BlobId:
        """Keep `data` durably, and return its id."""
        return self._files.put(data)

    def receive(self, blob: BlobId, data: bytes) -> None:
        """Bring in what a peer sent, chunk by chunk, as a download does.

        Raises:
            CorruptBlobError: these bytes have another digest; nothing was kept.
        """
        chunks = chunk_digests(data)
        if blob_id(len(data), chunks) != blob:
            raise CorruptBlobError(f"blob {blob.hex()[:12]} came with other bytes")
        self._files.begin(blob, len(data), chunks)
        for index in self._files.missing_chunks(blob):
            start = index * CHUNK_BYTES
            self._files.write_chunk(blob, index, data[start : start + CHUNK_BYTES])
        self._files.finish(blob)

    def get(self, blob: BlobId) -> bytes:
        """Return the verified bytes of a blob, whatever their size."""
        size, _ = self._files.chunk_list(blob)
        return self.read(blob, size)

    def has(self, blob: BlobId) -> bool:
        """Tell whether the blob is here."""
        return self._files.has(blob)

    def missing(self, blobs: Iterable[BlobId]) -> list[BlobId]:
        """Return those of `blobs` that are not here, in the order given."""
        return self._files.missing(blobs)

    def read(self, blob: BlobId, size: int) -> bytes:
        """Return the verified bytes of a blob of `size` bytes."""
        return bytes(self._files.read(blob, size))
