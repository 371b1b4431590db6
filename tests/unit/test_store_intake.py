"""What comes in is written once, from the first byte that is new, and all or nothing."""

import errno
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id_of, chunk_digest
from crdtmerge.errors import BadInputError, MachineError, NoRoomError
from crdtmerge.formats.header import StoredTensor
from nodes.store import naming
from nodes.store.blobs import FileBlobs
from nodes.store.database import Database
from nodes.store.disk import SystemDisk
from nodes.store.intake import Intake
from nodes.store.sources import Sources
from tests.disks import CountedDisk

SIZES = (0, 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5)


def content(size: int, seed: int = 0) -> bytes:
    """Return `size` bytes that differ by seed."""
    return np.random.default_rng(seed).bytes(size)


class Store:
    """A store with a disk that counts, and the user's file beside it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.disk = CountedDisk()
        self.database = Database.create(self.home / "store.sqlite", bytes(16))
        self.pool = ThreadPoolExecutor(2)
        self.blobs = FileBlobs(self.home, self.database, self.disk, write=True)
        self.file = folder / "model.bin"

    def again(self) -> FileBlobs:
        """Return the blobs as the next process finds them."""
        self.blobs.close()
        self.blobs = FileBlobs(self.home, self.database, self.disk, write=True)
        return self.blobs

    def files(self) -> list[str]:
        """Return the names of all files but the database's."""
        names = ("blobs", "partial", "temporary")
        found = [path for name in names for path in (self.home / name).rglob("*")]
        return sorted(path.name for path in found if path.is_file())

    def begin(self, **options: bool) -> Intake:
        """Begin to take in."""
        return Intake(self.blobs, self.pool, **options)

    def take(self, intake: Intake, data: bytes, block: int = 2 * CHUNK_BYTES) -> BlobId:
        """Write `data` to the user's file and take it in, block by block."""
        self.file.write_bytes(b"head" + data)
        tensor = StoredTensor("w", "U8", (len(data),), self.file, 4, len(data))
        with Sources(self.disk) as sources:
            return self.take_from(intake, tensor, sources, block)

    def take_from(
        self, intake: Intake, tensor: StoredTensor, sources: Sources, block: int
    ) -> BlobId:
        """Take a tensor in from the user's file."""
        taking = intake.begin(tensor, lambda a, n: sources.read(tensor, a, n))
        for start in range(0, tensor.size, block):
            part = sources.read(tensor, start, min(block, tensor.size - start))
            taking.take(part, digests(part))
        return taking.end()


def digests(data: bytes) -> Sequence[bytes]:
    """Return the digests of chunks."""
    starts = range(0, len(data), CHUNK_BYTES)
    return [chunk_digest(data[start : start + CHUNK_BYTES]) for start in starts]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a new store."""
    store = Store(tmp_path)
    yield store
    store.pool.shutdown()
    store.blobs.close()
    store.database.close()


@pytest.mark.parametrize("reference", [False, True])
def test_what_is_kept_is_read_back(store: Store, reference: bool) -> None:
    """Every size comes back as it was, named as its bytes are; nothing is before `keep`."""
    intake, contents = store.begin(reference=reference), [content(n) for n in SIZES]
    made = intake.put(b"made here")
    file = store.file
    blobs = []
    for number, data in enumerate(contents):
        store.file = file.with_name(f"{number}.bin")
        blobs.append(store.take(intake, data))
    assert blobs == [blob_id_of(data) for data in contents]
    assert store.blobs.ids() == []
    intake.keep(blobs, beside=[made])
    assert intake.new_bytes == sum(SIZES)
    assert sorted(intake.fresh) == sorted([*blobs, made])
    for blobs_ in (store.blobs, store.again()):
        for blob, data in zip(blobs, contents, strict=True):
            assert blobs_.read(blob, len(data)) == data
        assert blobs_.read(made, 9) == b"made here"
    assert len(store.files()) == (1 if reference else len(SIZES) + 1)
    assert not list((store.home / "temporary").iterdir())


def test_what_is_not_wanted_is_not_kept(store: Store) -> None:
    """An adapter holds copies that are no part of the contribution."""
    intake = store.begin()
    wanted, other = (store.take(intake, content(100, seed)) for seed in (1, 2))
    intake.keep([wanted])
    assert store.blobs.ids() == [wanted]
    assert other not in intake.fresh
    assert store.files() == [wanted.hex()[2:]]


def test_what_is_here_is_read_once_and_not_written(store: Store) -> None:
    """A tensor that the base has, or another in this command, costs one reading."""
    data = content(SIZES[-1])
    first = store.begin()
    blob = store.take(first, data)
    assert store.take(first, data) == blob, "twice in one command"
    first.keep([blob])
    store.disk.bytes.clear()
    again = store.begin()
    assert store.take(again, data) == blob
    again.keep([blob])
    assert (again.new_bytes, again.fresh) == (0, [])
    assert store.disk.count("write", store.home) == 0
    assert store.disk.count("read", store.file) == len(data)


@pytest.mark.parametrize("equal", [1, 2, 3])
def test_only_what_was_passed_over_is_read_again(store: Store, equal: int) -> None:
    """A tensor that begins as a known one is written whole; its beginning is read twice."""
    known = content(4 * CHUNK_BYTES)
    intake = store.begin()
    intake.keep([store.take(intake, known)])
    store.disk.bytes.clear()
    data = known[: equal * CHUNK_BYTES] + content((4 - equal) * CHUNK_BYTES, 1)
    intake = store.begin()
    blob = store.take(intake, data, block=CHUNK_BYTES)
    intake.keep([blob])
    assert store.blobs.read(blob, len(data)) == data
    read = store.disk.count("read", store.file)
    assert read == len(data) + equal * CHUNK_BYTES
    assert store.disk.count("write", store.home / "temporary") == len(data)


def test_a_beginning_that_is_changed_meanwhile_is_refused(store: Store) -> None:
    """What is read again is compared with what was named the first time."""
    known = content(4 * CHUNK_BYTES)
    intake = store.begin()
    intake.keep([store.take(intake, known)])
    data = known[: 3 * CHUNK_BYTES] + content(CHUNK_BYTES, 1)
    store.file.write_bytes(data)
    tensor = StoredTensor("w", "U8", (len(data),), store.file, 0, len(data))

    class Edited(Sources):
        def read(self, tensor: StoredTensor, start: int, length: int) -> bytes:
            found = super().read(tensor, start, length)
            if start == 3 * CHUNK_BYTES:
                with store.file.open("r+b") as file:
                    file.write(b"other")
            return found

    intake = store.begin()
    with Edited() as sources, pytest.raises(BadInputError, match="'w'"):
        store.take_from(intake, tensor, sources, CHUNK_BYTES)
    intake.drop()
    assert store.blobs.ids() == [blob_id_of(known)]
    assert len(store.files()) == 1


def test_a_damaged_copy_is_replaced(store: Store) -> None:
    """To say that a blob is here means that its bytes are."""
    data = content(2 * CHUNK_BYTES)
    intake = store.begin()
    blob = store.take(intake, data)
    intake.keep([blob])
    store.blobs.path_of(blob).write_bytes(bytes(len(data)))
    intake = store.begin()
    assert store.take(intake, data) == blob
    intake.keep([blob])
    assert store.blobs.read(blob, len(data)) == data


def test_a_damaged_list_of_chunks_is_replaced(store: Store) -> None:
    """It is no reason to refuse a model: the row is written anew."""
    data = content(2 * CHUNK_BYTES)
    blob = store.blobs.put(data)
    first = chunk_digest(data[:CHUNK_BYTES])
    with store.database.writing() as sql:
        sql.execute("UPDATE blobs SET chunks = ?", [first + bytes(32)])
    intake = store.begin()
    assert store.take(intake, data) == blob
    intake.keep([blob])
    assert store.blobs.read(blob, len(data)) == data


def test_a_reference_leaves_a_copy_alone_and_moves_only_when_told(store: Store) -> None:
    """A contribution by reference takes no base away from where it lies."""
    data = content(1000)
    first = store.file
    for name, options, place in (
        ("base", {"moved": True}, "base"),
        ("tune", {}, "base"),
        ("moved", {"moved": True}, "moved"),
    ):
        store.file = first.with_name(name)
        intake = store.begin(reference=True, **options)
        blob = store.take(intake, data)
        intake.keep([blob])
        with store.database.reading() as sql:
            (path,) = sql.execute("SELECT path FROM blobs").fetchone()
        assert Path(path.decode()).name == place
    store.blobs.forget(blob)
    own = store.blobs.put(data)
    intake = store.begin(reference=True, moved=True)
    store.take(intake, data)
    intake.keep([own])
    store.file.unlink()
    assert store.blobs.read(own, len(data)) == data


def test_dropping_leaves_nothing(store: Store) -> None:
    """Refused values, Ctrl-C: what was written goes, in the middle of a tensor too."""
    intake = store.begin()
    store.take(intake, content(1000))
    tensor = StoredTensor("w", "U8", (9,), store.file, 0, 9 * CHUNK_BYTES)
    part = content(CHUNK_BYTES, 5)
    intake.begin(tensor, lambda _a, _n: b"").take(part, digests(part))
    assert len(store.files()) == 2
    intake.drop()
    assert store.files() == []
    assert store.blobs.ids() == []


def refused_at(tmp_path: Path, step: int, error: int) -> tuple[Store, bool]:
    """Take in three tensors on a disk that refuses one step; tell whether it did."""
    store = Store(tmp_path / str(step))
    old = store.blobs.put(b"old")
    store.disk.log.clear()
    store.disk.refuse, store.disk._error = step, error
    intake = store.begin()
    try:
        blobs = [store.take(intake, content(1000, seed)) for seed in (1, 2, 3)]
        intake.keep(blobs)
    except MachineError:
        assert store.blobs.ids() == [old]
        return store, True
    finally:
        intake.drop()
        store.disk.refuse = None
    assert len(store.blobs.ids()) == 4
    return store, False


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_any_step_changes_nothing(
    tmp_path: Path, error: int
) -> None:
    """All or nothing: whichever create, write, sync, rename or folder is refused."""
    steps = 0
    while True:
        (tmp_path / str(steps)).mkdir()
        store, was_refused = refused_at(tmp_path, steps, error)
        kept = len(store.blobs.ids())
        assert len(store.files()) == kept
        for blob in store.again().ids():
            size, _ = store.blobs.chunk_list(blob)
            assert blob_id_of(store.blobs.read(blob, size)) == blob
        store.pool.shutdown()
        store.database.close()
        if not was_refused:
            break
        steps += 1
    calls = {call for call, _ in store.disk.log}
    assert calls >= {"create", "write", "sync", "rename", "make_folder", "sync_folder"}
    assert steps > 12


def test_a_failed_sync_is_told_once_and_never_tried_again(store: Store) -> None:
    """The second sync of one file would succeed without the data."""
    intake = store.begin()
    store.disk.log.clear()
    store.disk.refuse = 2  # create, write, then sync

    def bring() -> None:
        intake.keep([store.take(intake, content(10))])

    with pytest.raises(MachineError, match="syncing"):
        bring()
    intake.drop()
    assert [call for call, _ in store.disk.log].count("sync") == 0
    assert store.files() == []


class KilledError(BaseException):
    """Stands for a process that ends here: nothing after it runs."""


def killed(store: Store, monkeypatch: pytest.MonkeyPatch, name: str) -> Intake:
    """Take in two tensors, and end in the middle of giving them their names."""

    def end(*_: object) -> None:
        raise KilledError

    intake = store.begin()
    blobs = [store.take(intake, content(1000, seed)) for seed in (1, 2)]
    with monkeypatch.context() as patched:
        patched.setattr(naming.Naming, "undo", lambda _: None)
        if name == "row":
            patched.setattr(naming, "insert", end)
        else:
            patched.setattr(store.disk, "sync_folder", end)
        with pytest.raises(KilledError):
            intake.keep(blobs)
    return intake


@pytest.mark.parametrize("name", ["row", "folder"])
def test_names_without_rows_go_at_the_next_start(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A crash between names and rows leaves no bytes that nobody knows of."""
    old = store.blobs.put(b"old")
    killed(store, monkeypatch, name)
    assert len(store.files()) == 3
    assert store.again().ids() == [old]
    assert store.files() == [old.hex()[2:]]


def test_a_name_whose_row_came_otherwise_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows decide: a peer may have brought the same blob before the crash."""
    killed(store, monkeypatch, "row")
    mine = content(1000, 1)
    blob = store.blobs.put(mine)
    assert store.again().ids() == [blob]
    assert store.blobs.read(blob, 1000) == mine
    assert store.files() == [blob.hex()[2:]]


def test_room_is_asked_for_before_each_file(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names both numbers, and nothing was written."""
    monkeypatch.setattr(SystemDisk, "free", lambda *_: 999)
    intake = store.begin()
    with pytest.raises(NoRoomError, match="1000 bytes are needed but 999 are free"):
        store.take(intake, content(1000))
    assert store.files() == []


# --- the user's files ---------------------------------------------------------------------


def cut(path: Path) -> None:
    """Make the file shorter, in place."""
    with path.open("r+b") as file:
        file.truncate(10)


def edit(path: Path) -> None:
    """Write into the file."""
    with path.open("r+b") as file:
        file.write(b"x")


def replace(path: Path) -> None:
    """Put another file of the same size in its place."""
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size))
    other.replace(path)


@pytest.mark.parametrize("change", [cut, edit, replace, Path.unlink])
def test_a_file_that_does_not_stay_is_refused(
    store: Store, change: Callable[[Path], None]
) -> None:
    """Cut, edited, replaced or removed between two reads: named, and no crash."""
    store.file.write_bytes(content(2 * CHUNK_BYTES))
    tensor = StoredTensor("w", "U8", (2,), store.file, 0, 2 * CHUNK_BYTES)
    with Sources() as sources:
        sources.read(tensor, 0, CHUNK_BYTES)
        change(store.file)

        def go_on() -> None:
            sources.read(tensor, CHUNK_BYTES, CHUNK_BYTES)
            sources.check_unchanged([tensor])

        with pytest.raises(BadInputError, match=r"model.bin changed .* 'w'"):
            go_on()
