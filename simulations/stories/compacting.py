"""The story of a member that was away while its space was compacted.

Owns what happens and when, and what all must make of it. Does not own what is listed
(`crdtmerge.epochs`), nor what a list brings about (`crdtmerge.policy`).
"""

from typing import Final

from crdtmerge.bodies import RecordId
from crdtmerge.epochs import check_unchanged, choose, epochs_of
from simulations.checking.checkers import NotConvergedError
from simulations.checking.settling import Settled, gather, settle
from simulations.cluster import Cluster
from simulations.world import TICK_S, Machine

HEARD_ROUNDS: Final = 6
"""Rounds in which the owner hears of what others take back; what it has not, stays."""


def stale_member(cluster: Cluster, count: int) -> Settled:
    """A member is cut off; meanwhile others take back, and the owner compacts.

    On its island it adds and takes back, too. Once it returns, all that is live joins, and
    nothing of what was listed is anywhere, whoever shows it to whom.
    """
    gather(cluster, count)
    for machine in cluster.machines:
        cluster.contribute(machine)
        cluster.contribute(machine)
    settle(cluster)
    stale = cluster.rng.choice(cluster.machines[1:])
    cluster.network.partition([stale.transport])
    cluster.run(TICK_S)
    for machine in cluster.machines:
        _take_back(cluster, machine)
        cluster.contribute(machine)
    cluster.run(HEARD_ROUNDS * TICK_S)
    dead = _compact(cluster)
    cluster.run(3 * TICK_S)
    cluster.network.heal()
    settled = settle(cluster)
    _expect(cluster, dead, visible=2 * count)
    return settled


def _take_back(cluster: Cluster, machine: Machine) -> None:
    """Let an author remove the first of its contributions."""
    opset = machine.spaces.opset(cluster.space)
    own = opset.signed.of_author(machine.author.public)
    add = next(s.record.id for s in own if s.record.kind == "add")
    cluster.commit(machine, cluster.replica(machine).remove([add]))


def _compact(cluster: Cluster) -> frozenset[RecordId]:
    """Let the owner list what has no effect; nobody has to hold it any more."""
    owner = cluster.owner
    opset = owner.spaces.opset(cluster.space)
    dead = choose(opset).records
    lists = epochs_of(opset, dead)
    check_unchanged(opset, lists)
    cluster.commit(owner, *cluster.replica(owner).compact(lists))
    for record in dead:
        del cluster.ledger[record]
    return dead


def _expect(cluster: Cluster, dead: frozenset[RecordId], visible: int) -> None:
    """Check that something died, that it is nowhere, and that the rest is visible."""
    for machine in cluster.machines:
        opset = machine.spaces.opset(cluster.space)
        shown = len(opset.view.visible)
        if not dead or dead & set(opset.signed) or shown != visible:
            raise NotConvergedError(
                f"seed {cluster.seed}: {machine.name} sees {shown} contributions, not"
                f" {visible}, after a compaction of {len(dead)} records"
            )
