"""What a simulated machine keeps: in memory, or by the real store on a simulated disk.

Owns what survives a crash of either kind, and whether its author may sign after it. Does
not own when machines crash (`world`), nor what a power loss takes (`power_loss`).
"""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id, chunk_digests
from crdtmerge.errors import CorruptBlobError, NoRoomError, RestoredError
from crdtmerge.identity import Signer
from crdtmerge.record import SignedRecord
from nodes.anchor import Anchor, Doubt, SpaceSigner
from nodes.spaces import Spaces
from nodes.store.base import RecordStore
from nodes.store.blobs import FileBlobs
from nodes.store.database import Database
from nodes.store.memory import MemoryBlobs, MemoryRecords
from nodes.store.sqlite import SqliteLocal, SqliteRecords

from .disk import CAPACITY_BYTES, SimulatedDisk
from .disk_faults import DiskFaults, unheard
from .power_loss import Losing, Loss

K = TypeVar("K", RecordId, BlobId)

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

    @property
    def durable(self) -> AbstractSet[RecordId]:
        """The records that it has acknowledged, whether or not its process runs."""

    @property
    def held(self) -> AbstractSet[BlobId]:
        """The blobs that it has acknowledged."""

    @property
    def shaken(self) -> bool:
        """Whether a sync failed, and its system has not started again since."""

    @property
    def fit(self) -> bool:
        """Whether nothing is about to happen to its disk."""

    @property
    def harmed(self) -> bool:
        """Whether something on its disk may be other than what was written there."""

    @property
    def losing(self) -> Losing | None:
        """What a power loss that has just come takes, if that is decided."""

    def open(self) -> frozenset[bytes]:
        """Let a process begin to use it; return what was acknowledged and is not there.

        Raises:
            MachineError: the disk refused, or what it holds is damaged.
        """

    def lose_power(self, loss: Loss) -> None:
        """End as the power does; what is there again afterwards is what is left."""

    def cut_power(self, operations: int | None) -> None:
        """Let the power go at one of the next operations; None takes it back."""

    def refused(self, error: Exception) -> None:
        """Hear of an error that somebody met who used it."""

    def wait(self) -> None:
        """Let nothing be signed before a peer was compared with: its person knows why."""

    def watch(self, spaces: Spaces) -> None:
        """Hear of records of this machine's author that come from elsewhere."""

    def signer(self, key: Signer, space: SpaceId) -> Signer:
        """Return what signs records of `space` here; it refuses in a doubted state."""

    def doubted(self) -> list[SpaceId]:
        """Return the spaces in which nothing is signed before a peer was compared with."""

    def compared(self, space: SpaceId) -> None:
        """Hear that a peer holds the same set of `space`."""

    def close(self) -> None:
        """Be used no more: what it holds open is given back."""


class MemoryStorage:
    """Keeps all that it was ever given: whoever crashes loses nothing."""

    fit: Final = True
    harmed: Final = False
    shaken: Final = False
    losing: Final = None
    held: Final = frozenset[BlobId]()

    def __init__(self, generation: bytes) -> None:
        """Begin empty."""
        self.records = MemoryRecords(generation)
        self.blobs = MemoryBlobs()

    @property
    def durable(self) -> AbstractSet[RecordId]:
        """All records that it was given."""
        kept = self.records
        return {key for space in kept.spaces() for key in kept.log(space)}

    def open(self) -> frozenset[bytes]:
        """Lack nothing."""
        return frozenset()

    def lose_power(self, loss: Loss) -> None:
        """Lose nothing."""

    def cut_power(self, operations: int | None) -> None:
        """Take no notice: there is no operation that could be cut."""

    def refused(self, error: Exception) -> None:
        """Take no notice: there is no disk to be full."""

    def wait(self) -> None:
        """Take no notice: its person joined again with what others know."""

    def watch(self, spaces: Spaces) -> None:
        """Take no notice: nothing is ever put back."""

    def signer(self, key: Signer, space: SpaceId) -> Signer:  # noqa: ARG002  the port
        """Return the key."""
        return key

    def doubted(self) -> list[SpaceId]:
        """Doubt nothing."""
        return []

    def compared(self, space: SpaceId) -> None:
        """Take no notice."""

    def close(self) -> None:
        """Hold nothing open."""


class KeptRecords(SqliteRecords):
    """The records of a home, and in memory which of them were acknowledged."""

    def __init__(self, database: Database, durable: set[RecordId]) -> None:
        """Use the open `database`; what it acknowledges is added to `durable`."""
        super().__init__(database)
        self._durable = durable

    def append(
        self,
        space: SpaceId,
        records: Sequence[SignedRecord],
        gone: frozenset[RecordId] = frozenset(),
    ) -> None:
        """Keep `records`, as a home does."""
        super().append(space, records, gone)
        self._durable.update(signed.record.id for signed in records)
        self._durable.difference_update(gone)


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of a whole disk, and what was acknowledged when it was made."""

    disk: SimulatedDisk
    durable: frozenset[RecordId]
    held: frozenset[BlobId]


class DiskStorage:
    """The real store, SQLite and files, on a disk that loses what was not synced."""

    def __init__(
        self, generation: bytes, struck: Callable[[str], object] = unheard
    ) -> None:
        """Found it on an empty disk; `struck` hears of what happens to that."""
        self._told = struck
        self.disk = SimulatedDisk(faults=DiskFaults(self._suffer))
        self.durable: set[RecordId] = set()
        self.held: set[BlobId] = set()
        """The blobs that it has acknowledged."""
        self.harmed = False
        self.flipped = False
        """Whether a bit of a blob may have flipped: nothing that is said hangs on it."""
        self.shaken = False
        """Whether a sync has failed: what the system believes of the disk is not so."""
        self.backup: Backup | None = None
        self._waits = False
        self._closed = False
        self.disk.make_folder(HOME)
        self.disk.sync_folder(HOME.parent)
        Database.create(STORE_FILE, generation, disk=self.disk).close()
        self._open()

    def _suffer(self, name: str) -> None:
        """Hear of what happens to the disk."""
        self.shaken = self.shaken or name == "failed_sync"
        if name == "misdirected":
            self.harmed = self.flipped = True
        self._told(name)

    @property
    def fit(self) -> bool:
        """Whether nothing is about to happen to its disk."""
        full = self.disk.capacity < CAPACITY_BYTES
        return not (full or self.disk.faults.armed or self.harmed)

    @property
    def losing(self) -> Losing | None:
        """A part of the last write, if the power went amid it."""
        return "torn" if self.disk.lost_by == "torn_write" else None

    def _open(self) -> None:
        self.database = Database(STORE_FILE, disk=self.disk, write=True)
        try:
            self.records = KeptRecords(self.database, self.durable)
            self.files = FileBlobs(HOME, self.database, self.disk, write=True)
            local = SqliteLocal(self.database)
            self.anchor = Anchor(HOME, local, self.records, self.disk, write=True)
        except BaseException:
            with suppress(BaseException):  # the power may be gone
                self.database.close()
            raise
        self.blobs = DiskBlobs(self.files, self.held)

    def open(self) -> frozenset[bytes]:
        """Let a process begin to use it; return what was acknowledged and is not there.

        Raises:
            MachineError: the disk refused, or what it holds is damaged.
        """
        if not self._closed:
            return frozenset()
        self._open()
        self._closed = False
        self.files.forget_lost()
        with self.database.reading() as sql:
            rows = sql.execute("SELECT record FROM records").fetchall()
        records = {RecordId(key) for (key,) in rows}
        blobs = set(self.files.ids())
        lost = frozenset[bytes]((self.durable - records) | (self.held - blobs))
        _become(self.durable, records)
        _become(self.held, blobs)
        return lost

    def lose_power(self, loss: Loss) -> None:
        """Leave the disk as the power does; it has to be opened again."""
        self._replace(self.disk.after(loss))

    def _replace(self, disk: SimulatedDisk) -> None:
        self.close()
        self.disk, self.shaken = disk, False

    def close(self) -> None:
        """Let go of the files.

        SQLite holds its files where the collector of garbage does not see it: a store that
        nobody closes stays in memory, with its disk and all that hears of that.
        """
        self.disk.forget()  # what the dead process does from here on reaches nobody
        if not self._closed:
            self.files.close()
            self.database.close()
        self._closed = True

    def cut_power(self, operations: int | None) -> None:
        """Let the power go at one of the next operations."""
        done = len(self.disk.operations)
        self.disk.cut = None if operations is None else done + operations

    def refused(self, error: Exception) -> None:
        """Hear of an error: a full disk is also found before anything is written."""
        if isinstance(error, NoRoomError):
            self.disk.faults.found_full()

    def fill(self, more: int | None) -> None:
        """Let the disk have room for so many more bytes; without a number, for all."""
        room = CAPACITY_BYTES if more is None else self.disk.used() + more
        self.disk.capacity, self.disk.faults.fills = room, more is not None

    def keep_backup(self) -> None:
        """Copy the whole disk."""
        self.backup = Backup(
            self.disk.copy(), frozenset(self.durable), frozenset(self.held)
        )

    def put_back(self, *, anew: bool) -> None:
        """Be the older copy again; with `anew` its files were written anew (`copy`).

        A copy of the disk itself shows in no stamp: then its person waits, and signs
        nothing before a peer was compared with.
        """
        assert self.backup is not None
        faults = self.disk.faults
        self._replace(self.backup.disk.copy(anew=anew))
        self.disk.faults = faults
        _become(self.durable, self.backup.durable)
        _become(self.held, self.backup.held)
        self.harmed = self.flipped = False
        self._waits = not anew

    # --- who signs ------------------------------------------------------------------------

    def wait(self) -> None:
        """Let nothing be signed before a peer was compared with: its person knows why."""
        self._waits = True

    def watch(self, spaces: Spaces) -> None:
        """Hear of records of this machine's author that come from elsewhere."""
        spaces.on_returned = self.anchor.returned

    def signer(self, key: Signer, space: SpaceId) -> Signer:
        """Return what signs records of `space` here.

        Raises:
            RestoredError: its person waits.
        """
        if self._waits:
            raise RestoredError("the disk is an older one: a peer comes first")
        return SpaceSigner(key, self.anchor, space)

    def doubted(self) -> list[SpaceId]:
        """Return the spaces in which nothing is signed before a peer was compared with."""
        return self.records.spaces() if self._waits else self.anchor.doubted()

    def compared(self, space: SpaceId) -> None:
        """Hear that a peer holds the same set of `space`: it may sign again.

        Its person knows that there is no other copy, whatever the home takes it for.
        """
        self._waits = False
        if self.anchor.doubt(space) is Doubt.COPIED:
            self.anchor.adopt()
        self.anchor.compared(space)


class DiskBlobs:
    """The blobs of the real store, as a simulated machine uses them."""

    def __init__(self, files: FileBlobs, held: set[BlobId]) -> None:
        """Use the store's blobs; what is acknowledged is added to `held`."""
        self._files = files
        self._held = held

    def add(self, data: bytes) -> BlobId:
        """Keep `data` durably, and return its id."""
        blob = self._files.put(data)
        self._held.add(blob)
        return blob

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
        self._held.add(blob)

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


def _become(kept: set[K], found: AbstractSet[K]) -> None:
    """Let a set that others look at hold something else."""
    kept.clear()
    kept.update(found)
