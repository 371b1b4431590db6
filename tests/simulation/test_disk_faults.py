"""Each kind of fault strikes the real store on a simulated disk, and costs what it must.

First each on the smallest disk, then each alone among people who work, and then with a bug
in the product or in the disk that these stories have to find.
"""

import errno
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from crdtmerge.digest import BlobId
from crdtmerge.errors import CrdtMergeError, MachineError, NoRoomError, RestoredError
from simulations.checking.checkers import NotConvergedError
from simulations.checking.settling import gather, settle
from simulations.cluster import Cluster
from simulations.disks import mending
from simulations.disks.disk import SimulatedDisk, SimulatedFile
from simulations.disks.disk_faults import DiskFaults, flip
from simulations.disks.power_loss import Content, Loss, PowerLossError
from simulations.disks.storage import DiskStorage
from simulations.faults import FAULTS
from simulations.liars.flooding import Flooder
from simulations.liars.liar import Liar
from simulations.machine import Interruption
from simulations.stories import alone
from simulations.stories.scenarios import run_scenario
from simulations.weather.members import turn
from simulations.world import TICK_S, Machine

FILE, OTHER = Path("/file"), Path("/other")
KINDS = tuple(fault.name for fault in FAULTS.values() if fault.area == "disk")

# Where the power is gone SQLite's own cleaning up meets errors that nobody can be told of.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def disk_with(*names: str) -> tuple[SimulatedDisk, list[str]]:
    """Return a disk on which these are about to happen, and what did."""
    told: list[str] = []
    faults = DiskFaults(told.append)
    disk = SimulatedDisk(faults=faults)
    for path in (FILE, OTHER):
        with disk.create(path) as file:
            file.write_at(0, path.name.encode() * 1024)
            file.sync()
    disk.sync_folder(Path("/"))
    for name in names:
        faults.arm(name, 1, random.Random(1))
    return disk, told


def bytes_of(disk: SimulatedDisk, path: Path) -> bytes:
    """Return all bytes of a file."""
    with disk.open(path) as file:
        return file.read_at(0, file.size())


def two() -> tuple[Cluster, Machine, DiskStorage]:
    """Return a cluster of two that agree, and the guest with its disk."""
    cluster = Cluster(1, disks=True)
    gather(cluster, 2)
    machine = cluster.machines[1]
    cluster.contribute(machine)
    settle(cluster)
    assert isinstance(machine.storage, DiskStorage)
    return cluster, machine, machine.storage


# --- the disk ----------------------------------------------------------------------------


def test_nothing_happens_before_its_operation() -> None:
    """A sync that never comes never fails, and nothing is told of it."""
    disk, told = disk_with("failed_sync", "torn_write")
    assert disk.size(FILE) == 4096
    bytes_of(disk, FILE)
    assert told == []


def test_a_torn_write_leaves_some_of_its_sectors() -> None:
    """The power goes amid it; what was there before is the rest."""
    disk, told = disk_with("torn_write")
    with disk.open(FILE, write=True) as file, pytest.raises(PowerLossError):
        file.write_at(0, b"N" * 4096)
    assert (told, disk.lost_by) == (["torn_write"], "torn_write")
    found = {bytes_of(disk.after(Loss("torn", n)), FILE)[::512] for n in range(8)}
    assert len(found) > 2
    assert set(b"".join(found)) == set(b"Nf")


def test_a_misdirected_write_lands_elsewhere() -> None:
    """Where it belongs nothing changes, and nobody is told."""
    disk, told = disk_with("misdirected")
    before = bytes_of(disk, FILE) + bytes_of(disk, OTHER)
    with disk.open(FILE, write=True) as file:
        file.write_at(512, b"N" * 512)
        assert file.read_at(512, 512) == b"file" * 128
        assert told == ["misdirected"]
        file.write_at(512, b"N" * 512)  # the next one lands where it should
        assert file.read_at(512, 512) == b"N" * 512
    after = bytes_of(disk, FILE) + bytes_of(disk, OTHER)
    assert after != before
    assert after.count(b"N" * 512) == 2


def test_one_bit_flips() -> None:
    """On the disk itself: it is there after the power went, too."""
    disk, _ = disk_with()
    before = {path: bytes_of(disk, path) for path in (FILE, OTHER)}
    path = flip(disk.files(), random.Random(1))
    assert path is not None
    left = disk.after(Loss("all"))
    pairs = zip(before.pop(path), bytes_of(left, path), strict=True)
    assert sum((one ^ other).bit_count() for one, other in pairs) == 1
    [(other, data)] = before.items()
    assert bytes_of(left, other) == data


@pytest.mark.parametrize("name", ["io_error", "failed_sync"])
def test_a_call_fails_once(name: str) -> None:
    """With what a broken disk says; the next one works."""
    disk, told = disk_with(name)
    with disk.open(FILE, write=True) as file:
        if name == "failed_sync":
            file.write_at(0, b"N" * 512)
        with pytest.raises(OSError, match="error") as caught:
            file.sync()
        assert caught.value.errno == errno.EIO
        file.sync()
        assert told == [name]
        assert file.read_at(0, 512) != bytes(512)
    if name == "failed_sync":  # the system believes it to be there
        assert bytes_of(disk.after(Loss("all")), FILE)[:4] == b"file"


# --- machines ----------------------------------------------------------------------------


def test_a_full_disk_refuses_and_the_process_goes_on() -> None:
    """Nothing was acknowledged, nothing is lost, and there is room again some time."""
    cluster, machine, storage = two()
    storage.fill(0)
    known = len(cluster.ledger)
    with cluster.commanded(machine):
        cluster.contribute(machine)
    assert len(cluster.ledger) == known
    assert machine.node is not None
    with pytest.raises(NoRoomError):
        cluster.contribute(machine)
    storage.fill(None)
    cluster.contribute(machine)
    settle(cluster)
    assert cluster.dice.struck["no_space"] == 1


def test_a_failed_sync_ends_the_process() -> None:
    """It is never tried again: the machine starts again from what is really there."""
    cluster, machine, storage = two()
    storage.disk.faults.arm("failed_sync", 1, cluster.rng)
    with cluster.commanded(machine):
        cluster.contribute(machine)
    assert storage.shaken
    with pytest.raises(MachineError, match="nothing more is tried"):
        cluster.contribute(machine)
    cluster.lose_power(machine)
    cluster.restart(machine)
    cluster.contribute(machine)
    settle(cluster)


@pytest.mark.parametrize("anew", [True, False])
def test_who_was_put_back_signs_nothing_before_it_met_a_peer(*, anew: bool) -> None:
    """Its last number is used: with it, two records would bear one."""
    cluster, machine, storage = two()
    storage.keep_backup()
    cluster.contribute(machine)
    settle(cluster)
    cluster.crash(machine)
    cluster.network.partition([machine.transport])
    cluster.put_back(machine, anew=anew)
    cluster.restart(machine)
    cluster.run(2 * TICK_S)
    with pytest.raises(RestoredError):
        cluster.contribute(machine)
    cluster.network.heal()
    settle(cluster)
    cluster.contribute(machine)
    settle(cluster)
    assert not cluster.owner.spaces.opset(cluster.space).forked
    assert not cluster.losable


def test_only_what_lay_nowhere_else_is_lost_with_a_disk() -> None:
    """What reached somebody comes back; what reached nobody is gone, and said to be."""
    cluster, machine, _ = two()
    cluster.network.partition([machine.transport])
    cluster.contribute(machine)
    alone_here = set(machine.storage.durable - cluster.owner.storage.durable)
    assert len(alone_here) == 1
    cluster.crash(machine)
    cluster.lose_disk(machine)
    assert set(cluster.losable) == alone_here
    cluster.network.heal()
    cluster.restart(machine)
    settle(cluster)


def test_what_a_liar_alone_has_is_lost_with_a_disk() -> None:
    """It need not say what it has; if it does, that counts again."""
    cluster, machine, _ = two()
    other = cluster.join()
    settle(cluster)
    other.liar = Liar(cluster, other)
    cluster.network.partition([machine.transport, other.transport])
    cluster.contribute(machine)
    cluster.run(8 * TICK_S)
    told = set(other.storage.durable - cluster.owner.storage.durable)
    assert told
    cluster.crash(machine)
    cluster.lose_disk(machine)
    assert told <= set(cluster.losable)
    cluster.network.heal()
    cluster.restart(machine)
    settle(cluster)
    assert not cluster.losable


def test_who_ends_while_others_are_let_in_is_started_again() -> None:
    """An error that a disk had before it worked may end its process only then."""
    cluster, machine, storage = two()
    cluster.set_back.add(machine.author.public)
    storage.wait()
    cluster.clock.after(TICK_S / 8, lambda: cluster.crash(machine))
    mending.mend(cluster)
    assert machine.node is not None
    settle(cluster)


def test_who_ended_is_started_again_before_it_is_let_in() -> None:
    """The store of a process that is no more cannot be read."""
    cluster, machine, _ = two()
    cluster.crash(machine)
    mending.let_in(cluster, machine)
    assert machine.node is not None


def _bytes_of_owner(cluster: Cluster) -> set[BlobId]:
    """Let the owner offer a model that all get; return the blobs that it alone needs."""
    before = set(cluster.owner.storage.held)
    cluster.contribute(cluster.owner)
    settle(cluster)
    return set(cluster.owner.storage.held - before)


def test_what_a_liar_alone_has_is_contributed_again() -> None:
    """It may be thrown out before anybody asked it: so nobody counts on its disk."""
    cluster, machine, _ = two()
    blobs = _bytes_of_owner(cluster)
    turn(cluster, machine)
    assert not blobs & cluster.at_risk
    cluster.crash(cluster.owner)
    cluster.lose_disk(cluster.owner)
    assert blobs <= cluster.at_risk
    cluster.restart(cluster.owner)
    mending.provide(cluster)
    assert not cluster.owner.blobs.missing(sorted(blobs))


def test_what_lies_on_one_disk_may_go_with_who_begins_to_lie() -> None:
    """The owner's disk was lost before the only other copy was a liar's."""
    cluster, machine, _ = two()
    blobs = _bytes_of_owner(cluster)
    cluster.crash(cluster.owner)
    cluster.lose_disk(cluster.owner)
    assert not blobs & cluster.at_risk
    turn(cluster, machine)
    assert blobs <= cluster.at_risk


def test_nobody_provides_what_a_liar_made_up() -> None:
    """A model of half a terabyte has a manifest on the liar's disk, and no bytes."""
    cluster, machine, storage = two()
    turn(cluster, machine)
    before = set(storage.held)
    Flooder(cluster, machine).offer()
    made_up = storage.held - before
    cluster.run(3 * TICK_S)
    cluster.at_risk |= made_up
    for holder in cluster.machines:
        assert isinstance(holder.storage, DiskStorage)
        for blob in made_up & holder.storage.held:
            holder.storage.files.removal.set_aside(blob)
        holder.spaces.look_again()
    assert made_up & cluster.owner.spaces.missing(cluster.space).keys()
    mending.provide(cluster)
    assert set(cluster.owner.blobs.missing(sorted(made_up))) == made_up


def test_an_owner_that_ends_amid_letting_somebody_in_goes_on() -> None:
    """Its command was done when its process ended; its person starts that again."""
    cluster, _, _ = two()
    owner = cluster.owner
    owner.interruption = Interruption(1, lambda: cluster.crash(owner))
    cluster.join()
    assert cluster.crashes == 1
    assert owner.node is not None
    settle(cluster)


def test_a_record_that_is_lost_otherwise_fails_the_run() -> None:
    """Nothing is taken for lost by right but what a disk took that was struck."""
    cluster, machine, storage = two()
    cluster.crash(machine)
    storage.durable.add(next(iter(sorted(storage.durable))).__class__(bytes(32)))
    cluster.restart(machine)
    with pytest.raises(NotConvergedError, match="acknowledged is gone: node1"):
        settle(cluster)


def test_a_damaged_blob_is_never_sent_and_fetched_anew() -> None:
    """Who reads it finds out; the others' copies are right."""
    cluster, machine, storage = two()
    model = machine.spaces.view(cluster.space).visible[0]
    entry = machine.spaces.manifest(model).tensors[0]
    path = storage.files.path_of(entry.blob)
    data = bytearray(bytes_of(storage.disk, path))
    data[0] ^= 1
    storage.disk.damage(path, bytes(data))
    with pytest.raises(CrdtMergeError):
        machine.blobs.get(entry.blob)
    storage.flipped = True
    mending.scrub(cluster, machine)
    assert not machine.blobs.has(entry.blob)
    settle(cluster)
    assert machine.blobs.has(entry.blob)


def test_a_record_that_nobody_signed_is_never_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A store whose check finds one is replaced; without the check the run fails."""
    for checked in (True, False):
        cluster, machine, storage = two()
        with storage.database.writing() as sql:
            sql.execute(
                "UPDATE records SET signature = zeroblob(64) WHERE sequence = 3"
            )
        storage.harmed = True
        cluster.dice.struck["bit_flip"] += 1
        if checked:
            mending.mend(cluster)
            settle(cluster)
            assert machine.storage is not storage
            continue
        monkeypatch.setattr(mending, "damaged_rows", lambda _: [])
        mending.mend(cluster)
        with pytest.raises(
            NotConvergedError, match="node1 holds what its author did not"
        ):
            settle(cluster)


# --- stories -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.parametrize("name", KINDS)
def test_so_they_do_with_other_seeds(name: str, seed: int) -> None:
    """The same, more often."""
    run_scenario(f"fault-{name.replace('_', '-')}", seed, 4 + seed % 3)


def test_the_same_seed_gives_the_same_log() -> None:
    """Where a write lands, and what is lost with it, follow from the seed."""
    once, again = (run_scenario("fault-misdirected", 2, 4) for _ in range(2))
    assert once == again


# --- sabotage ----------------------------------------------------------------------------

Sabotage = Callable[[pytest.MonkeyPatch], None]


def forget_syncs(patch: pytest.MonkeyPatch) -> None:
    """Let no sync of a file bring anything to the disk."""
    patch.setattr(Content, "settle", lambda _: None)


def retry_syncs(patch: pytest.MonkeyPatch) -> None:
    """Try a sync that failed once more, and believe that it brought all to the disk."""
    once = SimulatedFile.sync

    def sync(file: SimulatedFile) -> None:
        try:
            once(file)
        except OSError:
            once(file)

    patch.setattr(SimulatedFile, "sync", sync)


def trust_blobs(patch: pytest.MonkeyPatch) -> None:
    """Take the bytes of a blob for right whatever they are."""
    patch.setattr("nodes.store.reading.check_chunk", lambda *_: None)
    patch.setattr(mending, "inspect", lambda _: iter(()))


SABOTAGES: dict[str, tuple[Sabotage, str, int]] = {
    "forget_syncs": (forget_syncs, "power_loss", 2),
    "retry_syncs": (retry_syncs, "failed_sync", 2),
    "trust_blobs": (trust_blobs, "bit_flip", 8),
}
"""What is done, the kind whose story finds it, and in how many seeds at most."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if told[2] > 2 else ())
        for name, told in SABOTAGES.items()
    ],
)
def test_a_story_finds_what_is_broken(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a few seeds, from the first on."""
    sabotage, kind, most = SABOTAGES[name]
    sabotage(monkeypatch)
    for seed in range(1, most + 1):
        try:
            alone.play(Cluster(seed, disks=True), 4, kind)
        except (CrdtMergeError, AssertionError):
            print(f"{name} is found by seed {seed}")
            return
    pytest.fail(f"{most} seeds of {kind} do not find it")
