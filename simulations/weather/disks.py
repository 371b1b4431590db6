"""Faults of disks.

Owns which machines they strike, and at which of their next operations. Does not own what
each does to a disk (`simulations.disks.disk_faults`), nor what people do then
(`simulations.disks.mending`).
"""

from collections.abc import Callable, Mapping
from typing import Final

from crdtmerge.bodies import RecordId
from simulations.cluster import Cluster
from simulations.disks.disk_faults import flip
from simulations.disks.mending import scrub
from simulations.disks.storage import DiskStorage
from simulations.world import Machine

from .coming import Coming

WITHIN: Final[Mapping[str, int]] = {
    "power_loss": 150,
    "torn_write": 40,
    "misdirected": 40,
    "io_error": 400,
    "failed_sync": 20,
}
"""Operations of a disk, about as many as a contribution and some news take."""
FULL_S: Final = (1.0, 8.0)
"""How long a disk is full."""
ROOM_BYTES: Final = 16 << 10
"""What a disk that is about to be full has room for, at most."""
COPIES: Final = 0.2
"""How often a round a disk is copied."""
KNOWN_LEAST: Final = 3
"""Machines that a copy knows at least: who knows nobody finds nobody."""


def strike(cluster: Cluster, coming: Coming) -> None:
    """Draw this round's faults of disks."""
    for machine in cluster.running if cluster.disks else ():
        _draw(cluster, machine)
        if machine.node is not None:
            with cluster.powered(machine):
                scrub(cluster, machine)
        if machine.node is not None and machine.storage.shaken:
            cluster.lose_power(machine)
        if machine.node is None:
            coming.restart(machine)
        elif cluster.dice.faults["backup"]:
            _copy(cluster, machine)


def _draw(cluster: Cluster, machine: Machine) -> None:
    for name in WITHIN:
        if cluster.dice.arms(name, machine.name):
            _arm(cluster, machine, name)
    for name, befall in AT_ONCE.items():
        if machine.node is not None and cluster.dice.arms(name, machine.name):
            befall(cluster, machine)


def pass_over(cluster: Cluster) -> None:
    """Let every disk work."""
    for machine in cluster.machines:
        machine.storage.cut_power(None)
        if isinstance(machine.storage, DiskStorage):
            machine.storage.disk.faults.clear()
            machine.storage.fill(None)


def _arm(cluster: Cluster, machine: Machine, name: str) -> None:
    """Let one of the next operations of a machine's disk suffer it.

    The owner's power goes at once: it is what lets others in, wholly or not.
    """
    if name == "power_loss" and machine is cluster.owner:
        cluster.dice.struck[name] += 1
        cluster.lose_power(machine)
    elif isinstance(machine.storage, DiskStorage):
        rng = cluster.dice.how(name)
        machine.storage.disk.faults.arm(name, WITHIN[name], rng)


def _flip(cluster: Cluster, machine: Machine) -> None:
    """Flip a bit of one file."""
    storage = machine.storage
    assert isinstance(storage, DiskStorage)
    path = flip(storage.disk.files(), cluster.dice.how("bit_flip"))
    if path is not None:
        cluster.dice.struck["bit_flip"] += 1
        storage.flipped = True
        storage.harmed = storage.harmed or ".sqlite" in path.name


def _fill(cluster: Cluster, machine: Machine) -> None:
    """Let a disk be full for some time."""
    rng, storage = cluster.dice.how("no_space"), machine.storage
    assert isinstance(storage, DiskStorage)
    storage.fill(rng.randrange(ROOM_BYTES))
    cluster.clock.after(rng.uniform(*FULL_S), lambda: storage.fill(None))


def _put_back(cluster: Cluster, machine: Machine) -> None:
    """Put a machine back to a copy of its disk."""
    rng, storage = cluster.dice.how("backup"), machine.storage
    assert isinstance(storage, DiskStorage)
    if storage.backup is None:
        return
    cluster.dice.struck["backup"] += 1
    cluster.crash(machine)
    cluster.put_back(machine, anew=rng.random() < 0.5)


def _copy(cluster: Cluster, machine: Machine) -> None:
    """Copy a disk now and then, once its machine knows others."""
    storage = machine.storage
    if not isinstance(storage, DiskStorage) or storage.harmed or storage.flipped:
        return
    if cluster.dice.of("copies").random() >= COPIES:
        return
    if len(machine.spaces.view(cluster.space).nodes) >= KNOWN_LEAST:
        storage.keep_backup()


def _wipe(cluster: Cluster, machine: Machine) -> None:
    """Empty a disk, unless it is the only one that holds the space."""
    genesis = RecordId(cluster.space)
    if any(m is not machine and genesis in m.storage.durable for m in cluster.machines):
        cluster.dice.struck["wipe"] += 1
        cluster.crash(machine)
        cluster.lose_disk(machine)


AT_ONCE: Final[Mapping[str, Callable[[Cluster, Machine], None]]] = {
    "bit_flip": _flip,
    "no_space": _fill,
    "backup": _put_back,
    "wipe": _wipe,
}
"""What needs no operation to happen."""
