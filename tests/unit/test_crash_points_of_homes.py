"""The power goes while an anchor is raised, or a space is exported: at every operation."""

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from nodes.anchor import Anchor
from nodes.archive.form import BLOCK_BYTES, END
from nodes.archive.writing import ArchiveWriter
from nodes.store.database import Database
from nodes.store.sqlite import SqliteLocal, SqliteRecords
from simulations.disks.disk import SimulatedDisk
from simulations.disks.power_loss import Loss, PowerLossError
from tests.crash_points import HISTORY, HOME, SPACE, STORE, founded

LOSSES = [
    Loss("all"),
    Loss("none"),
    *(Loss("torn", seed) for seed in range(3)),
    *(Loss("some", seed) for seed in range(6)),
]
SIGNATURES = 3

# Where the power is gone SQLite's own cleaning up meets errors that nobody can be told of.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def cuts(
    before: SimulatedDisk, work: Callable[[SimulatedDisk], None]
) -> list[tuple[int, SimulatedDisk]]:
    """Return what is left after a cut at each operation of some work, by each loss."""
    whole = before.after(Loss("none"))
    work(whole)
    left = []
    for cut in range(len(whole.operations)):
        disk = before.after(Loss("none"))
        disk.cut = cut
        with suppress(PowerLossError):
            work(disk)
        left += [(cut, disk.after(loss)) for loss in LOSSES]
    return left


def anchored(disk: SimulatedDisk, signatures: int) -> list[object]:
    """Open a store with its anchor, and sign; return what is doubted before."""
    with closing(Database(STORE, disk=disk, write=True)) as database:
        local, records = SqliteLocal(database), SqliteRecords(database)
        anchor = Anchor(HOME, local, records, disk, write=True)
        doubted: list[object] = list(anchor.doubted())
        for _ in range(0 if doubted else signatures):
            anchor.raise_for(SPACE)
        return doubted


@pytest.mark.parametrize("rooted", [False, True])
def test_no_power_loss_is_taken_for_a_restored_backup(*, rooted: bool) -> None:
    """The anchor may be old, new, about to be, or the first: the home goes on."""
    disk = founded()
    with closing(Database(STORE, disk=disk, write=True)) as database:
        SqliteRecords(database).append(SPACE, HISTORY[:2])
    if rooted:
        anchored(disk, 0)
    left = cuts(disk.after(Loss("none")), lambda d: void(anchored(d, SIGNATURES)))
    assert len(left) > 150
    for cut, found in left:
        assert anchored(found, 1) == [], cut
        assert anchored(found, 1) == [], cut


def void(_: object) -> None:
    """Drop a result."""


TARGET = Path("/shared/space.tar")
OLD = b"what lay there before"
ITEMS = [("blobs/a", b"x" * 700), ("blobs/b", b""), ("blobs/c", b"y" * 3000)]


def export(disk: SimulatedDisk) -> None:
    """Write a file as an export does, piece by piece."""
    with ArchiveWriter(TARGET, disk, overwrite=True) as writer:
        for name, data in ITEMS:
            pieces = [data[start : start + 500] for start in range(0, len(data), 500)]
            writer.add(name, len(data), pieces)


def read(disk: SimulatedDisk) -> bytes | None:
    """Return what has the name, if anything has."""
    if not disk.exists(TARGET):
        return None
    with disk.open(TARGET) as file:
        return file.read_at(0, file.size())


@pytest.mark.parametrize("old", [None, OLD])
def test_a_power_loss_amid_an_export_leaves_the_old_file_or_the_new(
    old: bytes | None,
) -> None:
    """Never a part of it under its name; and the next export goes through."""
    disk = SimulatedDisk()
    disk.make_folder(TARGET.parent)
    if old is not None:
        with disk.create(TARGET) as file:
            file.write_at(0, old)
    before = disk.after(Loss("none"))
    whole = before.after(Loss("none"))
    export(whole)
    new = read(whole.after(Loss("all")))
    assert new is not None
    assert new.endswith(END)
    assert len(new) % BLOCK_BYTES == 0
    left = cuts(before, export)
    assert len(left) > 100
    for cut, found in left:
        assert read(found) in (old, new), cut
        export(found)
        assert read(found.after(Loss("all"))) == new, cut
