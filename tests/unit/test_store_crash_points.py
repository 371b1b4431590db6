"""The power goes at every operation of every write path, and nothing is lost or false."""

import errno
import random
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import apsw
import pytest

from crdtmerge.digest import CHUNK_BYTES
from crdtmerge.errors import CrdtMergeError, MachineError
from crdtmerge.identity import SigningKey
from nodes.home import furnish
from nodes.keys import HomeKey, change_keys, clear, finish_change
from nodes.passphrase import Passphrase
from nodes.store import arrivals, download
from nodes.store.database import Database
from simulations.disks.disk import Fault, SimulatedDisk
from simulations.disks.power_loss import Loss, PowerLossError
from tests.crash_points import (
    BASE,
    CONTENTS,
    GENERATION,
    HISTORY,
    HOME,
    IMPORTED,
    LARGE,
    LARGE_BLOB,
    SMALL,
    SPACE,
    STORE,
    TUNED,
    Ledger,
    Store,
    Story,
    founded,
    read_all,
)
from tests.crash_sweeps import FaultSweep, Sweep, tell
from tests.unit.test_store_schema import COLUMNS_3, VERSION_1

FEW = [Loss("all"), Loss("none"), Loss("torn"), Loss("some", 0), Loss("some", 1)]
MANY = [
    *FEW,
    *(Loss("torn", n) for n in (1, 2)),
    *(Loss("some", n) for n in range(2, 20)),
]

# Where the power is gone SQLite's own cleaning up meets errors that nobody can be told of.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)

AUTHOR, NODE = b"a" * 32, b"n" * 32


@pytest.fixture(autouse=True)
def frequent_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vouch for chunks as often as it can be tested."""
    for module in (arrivals, download):
        monkeypatch.setattr(module, "CHECKPOINT_BYTES", 2 * CHUNK_BYTES)


# --- the stories -------------------------------------------------------------------------


def blobs(store: Store) -> None:
    """Blobs come, are offered again, and go."""
    for data in SMALL:
        store.put(data)
    store.take_from_source(4000)
    store.refer(6000)
    store.put(SMALL[1])
    store.forget(SMALL[2])


def groups(store: Store) -> None:
    """Several blobs come at once, as those of a contribution do, and are collected."""
    store.take_in(*SMALL[:3])
    store.take_in(SMALL[0], SMALL[3], IMPORTED[:4000])
    store.collect(SMALL[1], IMPORTED[:4000])


def records(store: Store) -> None:
    """Records come in batches that overlap, their trie gets rows, and settings change."""
    store.append(0, 1)
    store.set_value("a", b"1")
    store.append(1, 9)
    store.checkpoint()
    store.append(4, 70)
    store.append(68, 80)
    store.set_value("a", b"2")
    store.set_value("b", b"3")


def downloads(store: Store) -> None:
    """A download comes in any order, is paused, goes on, and is finished."""
    store.receive([2, 0])
    store.pause()
    store.receive([3])
    store.receive([1])
    store.finish()


def repairs(store: Store) -> None:
    """A blob is set aside as damaged, and fetched again."""
    store.repair()


def packings(store: Store) -> None:
    """A blob is packed against another, and unpacked."""
    store.pack()
    store.unpack()


def content_to_pack(store: Store) -> None:
    """What packings begin with."""
    store.put(BASE)
    store.put(TUNED)


STORIES: list[Story] = [blobs, groups, records, downloads, repairs, packings]


def before(story: Story) -> tuple[SimulatedDisk, Ledger]:
    """Return the disk that a story begins with, and what was acknowledged on it."""
    disk, ledger = founded(), Ledger()
    if story is repairs:
        tell(disk, downloads, ledger)
    if story is packings:
        tell(disk, content_to_pack, ledger)
    return disk.after(Loss("none")), ledger


def named(value: object) -> str:
    """Return a test's name for a story."""
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize("story", STORIES, ids=named)
def test_a_crash_anywhere_loses_and_invents_nothing(story: Story) -> None:
    """What was acknowledged is there, what is believed is true, and work goes on."""
    points = Sweep(story, *before(story), FEW).run()
    print(f"{named(story)}: {points} crash points")
    assert points > 150


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES, ids=named)
def test_no_draw_of_what_is_lost_makes_a_difference(story: Story) -> None:
    """The same with many seeds."""
    points = Sweep(story, *before(story), MANY).run()
    print(f"{named(story)}: {points} crash points")
    assert points > 800


REFUSALS = [
    pytest.param(
        story,
        error,
        id=f"{named(story)}-{errno.errorcode[error]}",
        marks=pytest.mark.slow
        if error == errno.ENOSPC and story not in {blobs, downloads}
        else (),
    )
    for story in STORIES
    for error in (errno.EIO, errno.ENOSPC)
]
"""Our code tells the errors apart in one place, so a full disk is met by two by default."""


@pytest.mark.parametrize(("story", "error"), REFUSALS)
def test_a_disk_that_refuses_leaves_before_or_after(story: Story, error: int) -> None:
    """At any operation, once or from there on; a clear message, and never in between."""
    points = FaultSweep(story, *before(story), error=error).run()
    print(f"{named(story)}: {points} refusals")
    assert points > 100


# --- a home comes to be ------------------------------------------------------------------


def fresh() -> SimulatedDisk:
    """Return a disk with an empty folder for a home."""
    disk = SimulatedDisk()
    disk.make_folder(HOME)
    return disk.after(Loss("none"))


def furnish_home(disk: SimulatedDisk) -> None:
    """Make a home in that folder."""
    furnish(HOME, (AUTHOR, NODE), GENERATION, clear, disk)


def content_of(disk: SimulatedDisk, path: Path) -> bytes:
    """Return what a file holds."""
    with disk.open(path) as file:
        return file.read_at(0, file.size())


def cut_everywhere(
    start: SimulatedDisk,
    work: Callable[[SimulatedDisk], None],
    losses: Sequence[Loss] = MANY,
) -> list[tuple[SimulatedDisk, bool]]:
    """Return every disk that a crash of `work` can leave, and whether it had returned."""
    whole = start.after(Loss("none"))
    work(whole)
    found = []
    for cut in range(len(whole.operations) + 1):
        disk = start.after(Loss("none"))
        disk.cut = cut
        done = False
        try:
            work(disk)
            done = True
        except PowerLossError:
            pass
        found += [(disk.after(loss), done) for loss in losses]
    return found


def test_a_home_is_whole_or_not_there() -> None:
    """Whoever sees its store finds both keys and an empty store that works."""
    found = cut_everywhere(fresh(), furnish_home, FEW)
    print(f"create: {len(found)} crash points")
    seen = {False, True}
    for disk, done in found:
        there = disk.exists(STORE)
        seen.discard(there)
        assert there or not done
        if there:
            assert content_of(disk, HOME / "author.key") == clear(AUTHOR)
            assert content_of(disk, HOME / "node.key") == clear(NODE)
            tell(disk, records, Ledger())
    assert not seen


def changed(seed: bytes) -> bytes:
    """Return the other form of a key file."""
    return b"another form of " + seed


def test_a_change_of_keys_leaves_both_old_or_both_new() -> None:
    """After any power loss, once the next command has finished it."""
    start = fresh()
    furnish_home(start)
    keys = tuple(
        HomeKey(HOME / name, SigningKey(seed), lambda: Passphrase(b"", "nowhere"))
        for name, seed in (("author.key", AUTHOR), ("node.key", NODE))
    )
    found = cut_everywhere(
        start, lambda disk: change_keys(HOME, (keys[0], keys[1]), changed, disk)
    )
    print(f"keys: {len(found)} crash points")
    forms = {(clear(AUTHOR), clear(NODE)), (changed(AUTHOR), changed(NODE))}
    seen = set()
    for disk, done in found:
        finish_change(HOME, disk)
        pair = (
            content_of(disk, HOME / "author.key"),
            content_of(disk, HOME / "node.key"),
        )
        assert pair in forms
        assert not done or pair[0] == changed(AUTHOR)
        seen.add(pair)
    assert seen == forms


# --- a store of an older version ---------------------------------------------------------


def old_store() -> SimulatedDisk:
    """Return a disk with a store of version 1."""
    disk = founded()
    disk.remove(STORE)
    disk.create(STORE).close()
    flags = apsw.SQLITE_OPEN_READWRITE
    sql = apsw.Connection(str(STORE), vfs=disk.vfs, flags=flags)
    sql.execute("PRAGMA locking_mode = EXCLUSIVE")
    sql.execute("PRAGMA journal_mode = WAL")
    sql.execute(VERSION_1)
    sql.execute("INSERT INTO settings VALUES ('generation', ?)", [GENERATION])
    sql.execute("INSERT INTO settings VALUES ('local/a', x'31')")
    sql.close()
    return disk.after(Loss("none"))


def test_an_old_store_is_brought_up_to_date_or_as_it_was() -> None:
    """Whatever is left opens, has the tables of today, and what it had."""
    found = cut_everywhere(
        old_store(), lambda disk: Database(STORE, disk=disk, write=True).close(), FEW
    )
    print(f"upgrade: {len(found)} crash points")
    for disk, _ in found:
        store = Store(disk, Ledger())
        assert read_all(store).values["a"] == b"1"
        with store.database.reading() as sql:
            query = "SELECT name FROM sqlite_schema WHERE type = 'table'"
            names = {name for (name,) in sql.execute(query).fetchall()}
        assert set(COLUMNS_3) <= names
        store.close()


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_refused_upgrade_can_be_tried_again(error: int) -> None:
    """By the next process; until then the store is of the old version, or of the new."""
    start = old_store()
    whole = start.after(Loss("none"))
    Database(STORE, disk=whole, write=True).close()
    for at in range(len(whole.operations)):
        disk = start.after(Loss("none"))
        disk.fault = Fault(at, error)
        with suppress(MachineError):
            Database(STORE, disk=disk, write=True).close()
        store = Store(disk.after(Loss("all")), Ledger())
        assert read_all(store).values["a"] == b"1"
        store.close()


# --- damage at rest ----------------------------------------------------------------------


def full_store() -> SimulatedDisk:
    """Return a disk with a store that holds something of everything."""
    disk = founded()
    for story in (blobs, records, downloads):
        tell(disk, story, Ledger())
    return disk.after(Loss("none"))


def test_damage_at_rest_is_never_returned() -> None:
    """Flipped, cut, emptied, swapped or grown: named in an error, or the right bytes."""
    start = full_store()
    store = Store(start.after(Loss("none")), Ledger())
    files = {blob: store.blobs.path_of(blob) for blob in store.blobs.ids()}
    files = {b: path for b, path in files.items() if store.disk.exists(path)}
    contents = {b: content_of(store.disk, path) for b, path in files.items()}
    store.close()
    assert len(files) >= 4
    for blob, path in files.items():
        whole = contents[blob]
        other = next(data for b, data in contents.items() if b != blob)
        damages = [other, whole[:-1], b"", whole + b"x"]
        for at in {0, len(whole) // 2, len(whole) - 1} if whole else set():
            flipped = bytearray(whole)
            flipped[at] ^= 1
            damages.append(bytes(flipped))
        for damage in damages:
            disk = start.after(Loss("none"))
            disk.damage(path, damage)
            store = Store(disk, Ledger())
            if damage[: len(whole)] == whole:  # what follows it is not looked at
                assert bytes(store.blobs.read(blob, len(whole))) == whole
            else:
                with pytest.raises(CrdtMergeError, match=blob.hex()[:12]):
                    store.blobs.read(blob, len(whole))
            store.close()


def test_a_damaged_blob_is_fetched_again_in_its_bad_chunks() -> None:
    """Once it is set aside, what is right of it is not asked for."""
    disk = full_store()
    store = Store(disk, Ledger())
    path = store.blobs.path_of(LARGE_BLOB)
    disk.damage(path, LARGE[:100] + b"!" + LARGE[101:-1])
    assert store.blobs.access.bad_chunks(LARGE_BLOB, None) == [0, 3]
    store.blobs.removal.set_aside(LARGE_BLOB)
    assert store.begin() == [0, 3]
    store.receive([0, 3])
    store.finish()
    assert read_all(store).blobs[LARGE_BLOB] == LARGE
    store.close()


@pytest.mark.parametrize("seed", range(4))
def test_damage_in_the_table_is_never_returned_as_a_blob_or_a_record(seed: int) -> None:
    """Flipped bits of the store's file: an error of ours, or true bytes."""
    start = full_store()
    whole = content_of(start.after(Loss("none")), STORE)
    rng = random.Random(seed)
    known = {signed.record.data for signed in HISTORY}
    refused = 0
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        disk = start.after(Loss("none"))
        disk.damage(STORE, bytes(damaged))
        try:
            with closing(Store(disk, Ledger())) as store:
                for blob in store.blobs.ids():
                    size, _ = store.blobs.chunk_list(blob)
                    assert bytes(store.blobs.read(blob, size)) == CONTENTS[blob]
                assert {s.record.data for s in store.records.load(SPACE)} <= known
        except CrdtMergeError:
            refused += 1
    assert refused > 0
