"""Machines keep all on disks that lose what was not synced, and converge all the same."""

import gc
from pathlib import Path

import pytest

from crdtmerge.errors import CrdtMergeError
from simulations.checking.settling import settle
from simulations.cluster import Cluster
from simulations.disks.disk import SimulatedDisk
from simulations.disks.power_loss import Content, Loss
from simulations.disks.storage import DiskStorage
from simulations.faults import CALM, ROUGH
from simulations.hunting.attempts import attempt
from simulations.runs import SWARM, Run
from simulations.stories.scenarios import run_scenario
from simulations.stories.swarm import PATIENCE_ROUNDS, play, run_swarm

POWER = ROUGH.but(power_loss=0.2)


@pytest.mark.parametrize("seed", range(6))
def test_machines_that_lose_power_amid_their_writes_agree(seed: int) -> None:
    """No acknowledged record is lost, whatever the disks lose, tear and reorder."""
    outcome = run_scenario("power-loss", seed, 5)
    assert outcome.crashes > 5
    assert outcome.visible > 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6, 60))
def test_so_they_do_with_other_seeds(seed: int) -> None:
    """The same, more often."""
    run_scenario("power-loss", seed, 4 + seed % 5)


def test_the_same_seed_gives_the_same_log() -> None:
    """Where the power goes and what is lost then follow from the seed."""
    told = [run_scenario("power-loss", 3, 5) for _ in range(2)]
    assert told[0] == told[1]
    swarms = [run_swarm(3, 6, POWER, 12) for _ in range(2)]
    assert swarms[0] == swarms[1]
    assert "--fault power_loss=0.2" in swarms[0].command


@pytest.mark.parametrize("seed", range(4))
def test_a_swarm_loses_power_among_all_else(seed: int) -> None:
    """Messages are lost, links cut and machines parted meanwhile."""
    cluster = Cluster(seed, POWER, disks=True)
    play(cluster, 6, 12)
    assert cluster.power_losses > 0
    settle(cluster, patience_rounds=PATIENCE_ROUNDS)


def test_machines_without_power_losses_keep_all_in_memory() -> None:
    """Disks are for those who ask for them."""
    assert not isinstance(Cluster(1).owner.storage, DiskStorage)
    assert isinstance(Cluster(1, CALM, disks=True).owner.storage, DiskStorage)


def test_a_disk_that_lies_about_its_syncs_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing hides what is lost: the story fails where a sync brings nothing to a disk."""
    monkeypatch.setattr(Content, "settle", lambda _: None)
    with pytest.raises((CrdtMergeError, AssertionError)):
        run_scenario("power-loss", 3, 5)


def test_what_is_not_synced_may_be_lost() -> None:
    """The disk itself: of three writes the synced one alone is sure."""
    found = set()
    for seed in range(40):
        disk = SimulatedDisk()
        with disk.create(Path("/file")) as file:
            file.write_at(0, b"a" * 512)
            file.sync()
            disk.sync_folder(Path("/"))
            file.write_at(512, b"b" * 512)
            file.write_at(0, b"c" * 512)
        with disk.after(Loss("some", seed)).open(Path("/file")) as left:
            found.add(left.read_at(0, 2000).replace(b"\0", b"-")[::512])
    assert found == {b"a", b"ab", b"c", b"cb", b"a-"} | (found & {b"c-"})


def test_a_run_leaves_no_disk_in_memory() -> None:
    """Those that a wipe replaced are gone too: SQLite's own references are unseen."""
    run = Run(SWARM, 1, 4, 6, POWER.but(wipe=0.3, backup=0.1))
    before = living_disks()
    outcome = attempt(run)
    assert outcome.injected
    assert outcome.injected["wipe"]
    assert living_disks() <= before


def living_disks() -> int:
    """Return how many simulated disks are in memory, now that garbage was collected."""
    gc.collect()
    return sum(type(found) is SimulatedDisk for found in gc.get_objects())
