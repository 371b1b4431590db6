"""What people do about their disks once nothing more happens to these.

Owns the check of a machine's store, its repair, and the help for who lost so much that
others do not know it any more. Does not own what is damage (`nodes`), nor what is lost by
right (`cluster`).

What a check says is believed: a machine whose store is found sound has to hold what the
others hold, byte for byte. So damage that no check finds fails the run.
"""

from typing import Final

from crdtmerge.digest import BlobId
from crdtmerge.errors import LocalError
from nodes.store.rereading import damaged_rows
from nodes.upkeep.inspecting import inspect
from simulations.checking.checkers import same_records
from simulations.cluster import Cluster
from simulations.world import TICK_S, Machine

from .storage import DiskStorage

ALONE_ROUNDS: Final = 30
"""Rounds without a peer after which a machine is taken to have none."""
DAMAGING: Final = ("misdirected", "bit_flip")
"""What changes what lies on a disk."""
TRIES_MAX: Final = 200
"""Rounds in which a machine that lost its disk finds somebody to let it in."""


def scrub(cluster: Cluster, machine: Machine) -> None:
    """Set aside the blobs that a read finds damaged, as a running node does slowly.

    Raises:
        MachineError: the disk refused.
    """
    storage = machine.storage
    if not isinstance(storage, DiskStorage) or not (storage.flipped or storage.harmed):
        return
    storage.flipped = False
    if _set_aside(cluster, storage):
        machine.spaces.look_again()


def _set_aside(cluster: Cluster, storage: DiskStorage) -> bool:
    """Let damaged blobs count as missing; tell whether there are any."""
    found = [damage.blob for damage in inspect(storage.files)]
    for blob in found:
        storage.files.removal.set_aside(blob)
        storage.held.discard(blob)
        cluster.at_risk.add(blob)
    return bool(found)


def mend(cluster: Cluster) -> None:
    """Let everybody check what they have, and have anew what is not right.

    Where no disk was damaged, nobody is bothered.
    """
    _bring_up(cluster)
    if any(cluster.dice.struck[name] for name in DAMAGING):
        for machine in cluster.machines:
            if isinstance(machine.storage, DiskStorage):
                _check(cluster, machine, machine.storage)
                cluster.restart(machine)
        _bring_up(cluster)
    if cluster.set_back:
        _adopt_alone(cluster, cluster.owner)
        for machine in cluster.machines:
            let_in(cluster, machine)
    elif not cluster.at_risk:
        return
    for _ in range(TRIES_MAX):
        _bring_up(cluster)
        if _at_rest(cluster):
            break
        cluster.run(TICK_S)
    provide(cluster)


def _adopt_alone(cluster: Cluster, machine: Machine) -> None:
    """Let a machine sign again that no peer is left to compare with (`store adopt`)."""
    for _ in range(ALONE_ROUNDS):
        if machine.node is None or machine.node.reports(cluster.space):
            return
        cluster.run(TICK_S)
    for space in machine.storage.doubted():
        machine.storage.compared(space)


def _at_rest(cluster: Cluster) -> bool:
    """Tell whether everybody who tells the truth may sign, and has the same records."""
    sure = not any(machine.storage.doubted() for machine in cluster.honest)
    return sure and same_records(cluster, cluster.honest)


def _bring_up(cluster: Cluster) -> None:
    """Let all run: who lost a disk joins again once somebody else is there."""
    for _ in range(TRIES_MAX):
        down = [machine for machine in cluster.machines if machine.node is None]
        for machine in down:
            cluster.restart(machine)
        if not down:
            return
        cluster.run(TICK_S / 4)


def _check(cluster: Cluster, machine: Machine, storage: DiskStorage) -> None:
    """Check a store from its disk, whatever its process remembers of it."""
    cluster.crash(machine)
    before, held = set(storage.durable), set(storage.held)
    with cluster.powered(machine):
        storage.open()
        if storage.harmed:
            cluster.let_go(machine, before, held)
        if damaged_rows(storage.database):
            cluster.broken.add(machine.name)
            return
        _set_aside(cluster, storage)
        storage.harmed = storage.flipped = False
        cluster.base.store(machine.blobs)  # no peer serves the base


def let_in(cluster: Cluster, machine: Machine) -> None:
    """Let a machine join again that knows nobody any more, or that others do not know.

    Who met an error before all disks worked may end of it only now.
    """
    _bring_up(cluster)
    others = [other for other in cluster.machines if other is not machine]
    if not any(knows(cluster, machine, other) for other in others):
        cluster.welcome(machine, others[0])
    if knows(cluster, cluster.owner, machine):
        return
    for _ in range(TRIES_MAX):
        _bring_up(cluster)
        try:
            with cluster.powered(machine):
                cluster.admit(machine)
                return
        except LocalError:
            cluster.run(TICK_S)  # who was set back waits for a peer first


def knows(cluster: Cluster, other: Machine, machine: Machine) -> bool:
    """Tell whether a machine is a member for another, and where it is expected."""
    view = other.spaces.view(cluster.space)
    return machine.transport in view.nodes and machine.author.public in view.ranks


def provide(cluster: Cluster) -> None:
    """Let people contribute again the bytes of their models that no disk holds any more.

    A liar's disk is none: its person may be thrown out with it.
    """
    for machine in cluster.honest:
        while gone := _gone(cluster, machine):  # a manifest tells of further ones
            for blob in gone:
                machine.blobs.add(cluster.library.get(blob))


def _gone(cluster: Cluster, machine: Machine) -> list[BlobId]:
    """Return what a machine lacks and nobody has, of what may have been lost by right.

    What the library does not have was never anybody's: a liar made it up.
    """
    missing = cluster.at_risk & machine.spaces.missing(cluster.space).keys()
    given = [blob for blob in sorted(missing) if cluster.library.has(blob)]
    return [b for b in given if not any(m.blobs.has(b) for m in cluster.honest)]
