"""Stories told to a store on a disk that fails, and the ledger of what it acknowledged.

The ledger is the test's own: it keeps what calls returned from, byte for byte, and never
asks the store. After a power loss the store is opened by its own code and held against it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

from crdtmerge.bodies import Unknown
from crdtmerge.digest import CHUNK_BYTES, BlobId, ContentId, blob_id_of, chunk_digests
from crdtmerge.identity import SigningKey
from crdtmerge.record import SignedRecord, make_record, sign_record
from crdtmerge.replica import found_space
from nodes.store.blobs import FileBlobs
from nodes.store.database import Database
from nodes.store.intake import Intake
from nodes.store.packing import Order
from nodes.store.sqlite import SqliteLocal, SqliteRecords
from simulations.disks.disk import SimulatedDisk
from simulations.disks.power_loss import Loss
from tests.kept_records import check_tables
from tests.tunes import base_weights, tuned_weights

P = ParamSpec("P")
T = TypeVar("T")

HOME = Path("/home")
STORE = HOME / "store.sqlite"
SOURCE = Path("/model.safetensors")
GENERATION = bytes(range(16))
KEY = SigningKey(bytes(32))


def content(size: int, seed: int) -> bytes:
    """Return `size` bytes that differ by seed."""
    return np.random.default_rng(seed).bytes(size)


def history(length: int) -> list[SignedRecord]:
    """Return a genesis and the records that hang on it."""
    base = ContentId(bytes(32))
    records = [found_space(KEY, name="s", mode="open", base=base, nonce=bytes(16))]
    for number in range(1, length):
        record = make_record(
            space=records[0].record.space_id,
            author=KEY.public,
            author_seq=number,
            prev=records[-1].record.id,
            auth=records[0].record.id,
            body=Unknown("remark", number),
        )
        records.append(sign_record(record, KEY))
    return records


HISTORY = history(80)
SPACE = HISTORY[0].record.space_id
SMALL = [content(size, size) for size in (1, 700, 5000, 0)]
IMPORTED = content(9000, 77)
LARGE = content(3 * CHUNK_BYTES + 77, 3)
PIECES = [
    LARGE[start : start + CHUNK_BYTES] for start in range(0, len(LARGE), CHUNK_BYTES)
]
PARTS = (IMPORTED[:4000], IMPORTED[:6000])
BASE, TUNED = (
    weights["head.weight"].tobytes()[:6000]
    for weights in (base_weights(), tuned_weights(base_weights(), 1))
)
CONTENTS = {blob_id_of(data): data for data in (*SMALL, *PARTS, LARGE, BASE, TUNED)}
"""All that is ever kept, by ids that do not come from the store."""
LARGE_BLOB, LARGE_CHUNKS = blob_id_of(LARGE), chunk_digests(LARGE)


@dataclass
class Ledger:
    """What the store acknowledged, and the one thing that was under way at the end."""

    blobs: set[BlobId] = field(default_factory=set)
    uncertain: set[BlobId] = field(default_factory=set)
    batches: list[int] = field(default_factory=lambda: [0])
    """How many records were there after each batch that was acknowledged."""
    batch: int = 0
    """How many there are after the batch that is under way."""
    values: dict[str, bytes] = field(default_factory=dict)
    value: tuple[str, bytes] | None = None
    group: frozenset[BlobId] = frozenset()
    """Blobs that come together, or not at all."""
    dropped: set[BlobId] = field(default_factory=set)
    """Blobs whose row was dropped: their file may lie about until it is collected."""
    held: set[int] = field(default_factory=set)
    """Chunks of LARGE that a pause acknowledged."""


class Store:
    """A store on a simulated disk, whose acknowledgements go into a ledger."""

    def __init__(self, disk: SimulatedDisk, ledger: Ledger) -> None:
        """Open it by its own code."""
        self.disk = disk
        self.ledger = ledger
        self.database = Database(STORE, disk=disk, write=True)
        try:
            self.records = SqliteRecords(self.database)
            self.local = SqliteLocal(self.database)
            self.blobs = FileBlobs(HOME, self.database, disk, write=True)
        except BaseException:
            self.database.close()
            raise

    def close(self) -> None:
        """Close it as a home is closed."""
        try:
            self.blobs.close()
        finally:
            self.database.close()

    @contextmanager
    def _keeping(self, blob: BlobId) -> Iterator[None]:
        self.ledger.uncertain.add(blob)
        yield
        self.ledger.uncertain.discard(blob)
        self.ledger.blobs.add(blob)

    def put(self, data: bytes) -> None:
        """Keep a blob that was made here."""
        with self._keeping(blob_id_of(data)):
            assert self.blobs.put(data) == blob_id_of(data)

    def take_from_source(self, size: int) -> None:
        """Copy the first bytes of the user's file."""
        blob = blob_id_of(IMPORTED[:size])
        with self._keeping(blob):
            assert self.blobs.import_range(SOURCE, 0, size, expected=blob) == blob

    def refer(self, size: int) -> None:
        """Refer to the first bytes of the user's file."""
        with self._keeping(blob_id_of(IMPORTED[:size])):
            self.blobs.reference_range(SOURCE, 0, size)

    def forget(self, data: bytes) -> None:
        """Drop a blob."""
        blob = blob_id_of(data)
        self.ledger.blobs.discard(blob)
        self.ledger.uncertain.add(blob)
        self.blobs.forget(blob)
        self.ledger.uncertain.discard(blob)

    def take_in(self, *contents: bytes) -> None:
        """Keep several blobs at once: all of them, or none."""
        group = frozenset(blob_id_of(data) for data in contents)
        self.ledger.group = group - self.ledger.blobs
        self.ledger.uncertain |= group
        intake = Intake(self.blobs, AtOnce())
        for data in contents:
            intake.put(data)
        try:
            intake.keep(group)
        finally:
            intake.drop()
        self.ledger.group = frozenset()
        self.ledger.uncertain -= group
        self.ledger.blobs |= group

    def collect(self, *contents: bytes) -> None:
        """Drop several blobs as collection does, and leftovers."""
        gone = {blob_id_of(data) for data in contents}
        self.ledger.blobs -= gone
        self.ledger.dropped |= gone
        self.ledger.uncertain |= gone
        held = self.blobs.holdings()
        self.blobs.removal.drop(
            h for h in held if h.blob in gone or h.form == "leftover"
        )
        self.ledger.uncertain -= gone

    def repair(self) -> None:
        """Set LARGE aside as damaged, and bring it in again from what is right."""
        self.ledger.blobs.discard(LARGE_BLOB)
        self.ledger.uncertain.add(LARGE_BLOB)
        self.blobs.removal.set_aside(LARGE_BLOB)
        self.receive(range(len(PIECES)))
        self.finish()

    def pack(self) -> None:
        """Keep TUNED in encoded chunks, against BASE; it is there all the while."""
        blob = blob_id_of(TUNED)
        self.blobs.packing.pack(Order(blob, 4, blob_id_of(BASE)))
        assert self.blobs.rows.form(blob) == "packed"

    def unpack(self) -> None:
        """Give TUNED its raw file back."""
        blob = blob_id_of(TUNED)
        self.blobs.packing.unpack(blob)
        assert self.blobs.rows.form(blob) == "own"

    def checkpoint(self) -> None:
        """Let SQLite move what is in its journal, and begin that anew."""
        with self.database.reading() as sql:
            sql.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    def append(self, start: int, end: int) -> None:
        """Keep a batch of records; some of them may be there."""
        self.ledger.batch = max(end, self.ledger.batches[-1])
        self.records.append(SPACE, HISTORY[start:end])
        self.ledger.batches.append(self.ledger.batch)

    def set_value(self, key: str, value: bytes) -> None:
        """Keep a setting."""
        self.ledger.value = key, value
        self.local.set_value(key, value)
        self.ledger.values[key] = value

    def begin(self) -> list[int]:
        """Begin or resume the download of LARGE; return which chunks are missing."""
        blob = LARGE_BLOB
        self.blobs.begin(blob, len(LARGE), LARGE_CHUNKS)
        missing = self.blobs.missing_chunks(blob)
        assert not self.ledger.held & set(missing), "acknowledged chunks are lost"
        return missing

    def receive(self, chunks: Sequence[int]) -> None:
        """Bring in those of `chunks` that are missing."""
        missing = self.begin()
        for index in chunks:
            if index in missing:
                self.blobs.write_chunk(LARGE_BLOB, index, PIECES[index])

    def pause(self) -> None:
        """Pause the download: what has arrived is acknowledged."""
        blob = LARGE_BLOB
        left = set(self.blobs.missing_chunks(blob))
        self.blobs.pause(blob)
        self.ledger.held = set(range(len(PIECES))) - left

    def finish(self) -> None:
        """Make the download a blob."""
        with self._keeping(LARGE_BLOB):
            self.ledger.held = set()
            self.blobs.finish(LARGE_BLOB)


class AtOnce(Executor):
    """Does what it is given before it returns: one order of operations."""

    def submit(
        self, call: Callable[P, T], /, *arguments: P.args, **options: P.kwargs
    ) -> Future[T]:
        """Run it."""
        future: Future[T] = Future()
        try:
            future.set_result(call(*arguments, **options))
        except Exception as e:  # noqa: BLE001 - told by the future, as a thread's is
            future.set_exception(e)
        return future


Story = Callable[[Store], None]


@dataclass(frozen=True)
class Kept:
    """All that a store holds, as its own code reads it."""

    blobs: dict[BlobId, bytes]
    records: list[bytes]
    values: dict[str, bytes | None]


KEYS = ("a", "b")


def read_all(store: Store) -> Kept:
    """Read everything, verified by the store, and once more by the test."""
    blobs = {}
    for blob in store.blobs.ids():
        size, _ = store.blobs.chunk_list(blob)
        blobs[blob] = bytes(store.blobs.read(blob, size))
        assert blobs[blob] == CONTENTS[blob], "another content under this id"
    records = store.records.load(SPACE)
    with store.database.reading() as sql:
        query = "SELECT sequence FROM records ORDER BY sequence"
        numbers = [number for (number,) in sql.execute(query).fetchall()]
    assert numbers == list(range(1, len(records) + 1)), "records are numbered with gaps"
    assert store.records.last(SPACE) == len(records)
    if records:
        check_tables(store.database, SPACE, records)
    values = {key: store.local.get_value(key) for key in KEYS}
    return Kept(blobs, [signed.record.data for signed in records], values)


def check(store: Store) -> Kept:
    """Hold a store that was opened after a crash against its ledger."""
    ledger, kept = store.ledger, read_all(store)
    there = set(kept.blobs)
    assert ledger.blobs <= there, "an acknowledged blob is lost"
    assert there <= ledger.blobs | ledger.uncertain, "a blob that was forgotten"
    assert ledger.group & there in (frozenset(), ledger.group), "a part of a group"
    for blob in ledger.group - there - ledger.dropped:
        assert not store.disk.exists(store.blobs.path_of(blob)), "a part is left over"
    assert len(kept.records) in {ledger.batches[-1], ledger.batch}, "half a batch"
    assert kept.records == [s.record.data for s in HISTORY[: len(kept.records)]]
    for key in KEYS:
        allowed = {ledger.values.get(key)}
        if ledger.value is not None and ledger.value[0] == key:
            allowed.add(ledger.value[1])
        assert kept.values[key] in allowed, "another setting"
    check_download(store)
    return kept


def check_download(store: Store) -> None:
    """What the store believes of a download is there, byte for byte."""
    blob = LARGE_BLOB
    if store.blobs.has(blob):
        return
    resumable = store.blobs.resumable(blob)
    assert resumable in (None, (len(LARGE), LARGE_CHUNKS))
    path = HOME / "partial" / blob.hex()
    if not store.disk.exists(path) and resumable is None:
        return
    missing = store.begin()
    with store.disk.open(path) as file:
        for index in set(range(len(PIECES))) - set(missing):
            found = file.read_at(index * CHUNK_BYTES, CHUNK_BYTES)
            assert found == PIECES[index], f"chunk {index} is falsely known"


def founded() -> SimulatedDisk:
    """Return a disk with an empty store and a file of the user."""
    disk = SimulatedDisk()
    disk.make_folder(HOME)
    with disk.create(SOURCE) as file:
        file.write_at(0, IMPORTED)
    Database.create(STORE, GENERATION, disk=disk).close()
    return disk.after(Loss("none"))
