"""The story of an author that signs two records of one number.

Owns what happens and when, and what all must make of it. Does not own who notices forks
(`nodes.forks`), nor what follows from them (`crdtmerge.policy`).
"""

from collections.abc import Mapping
from typing import Final

from crdtmerge.identity import AuthorId
from simulations.checking.checkers import NotConvergedError
from simulations.checking.settling import Settled, gather, settle
from simulations.cluster import Cluster
from simulations.world import TICK_S, Machine

SHOWN_WITHIN: Final = 60
"""Rounds in which a fork must be shown to all, once both branches can meet."""


def equivocating_author(cluster: Cluster, count: int) -> Settled:
    """An author signs two records of one number, one for each island, and goes on.

    Once the islands meet, a node shows the fork, and nobody counts either branch; the
    owner lifts that, and all count both.
    """
    gather(cluster, count)
    for machine in cluster.machines:
        cluster.contribute(machine)
    settle(cluster)
    copy, forked = cluster.rng.sample(cluster.machines[1:], 2)
    _part(cluster, copy, forked)
    number = _sign_twice(cluster, forked, copy)
    cluster.run(2 * TICK_S)
    for machine in (forked, copy):
        cluster.contribute(machine)
    cluster.run(4 * TICK_S)
    cluster.network.heal()
    _until_shown(cluster)
    settle(cluster)
    _expect(cluster, {forked.author.public: number}, count + 1)
    owner = cluster.owner
    (shown,) = owner.spaces.view(cluster.space).forks
    cluster.commit(owner, cluster.replica(owner).lift(shown.record))
    settled = settle(cluster)
    _expect(cluster, {}, count + 4)
    return settled


def _part(cluster: Cluster, one: Machine, other: Machine) -> None:
    """Put a random half of the machines on an island: `one` on it, `other` not."""
    rest = [machine for machine in cluster.machines if machine not in {one, other}]
    island = [one, *cluster.rng.sample(rest, len(rest) // 2)]
    cluster.network.partition([machine.transport for machine in island])
    cluster.run(TICK_S)


def _sign_twice(cluster: Cluster, forked: Machine, copy: Machine) -> int:
    """Let the author of `forked` sign at both machines, as if one were its copy."""
    branches = [
        (place, cluster.sign_contribution(forked, f"branch for {place.name}", place)[1])
        for place in (forked, copy)
    ]
    for place, signed in branches:
        cluster.commit(place, signed)
    return branches[0][1].record.author_seq


def _until_shown(cluster: Cluster) -> None:
    """Let time pass until every node knows of the fork."""
    for _ in range(SHOWN_WITHIN):
        if all(m.spaces.view(cluster.space).forks for m in cluster.machines):
            return
        cluster.run(TICK_S)
    raise NotConvergedError(f"seed {cluster.seed}: a fork is not shown to all")


def _expect(
    cluster: Cluster, quarantined: Mapping[AuthorId, int], visible: int
) -> None:
    """Check that all hold one proof of the fork, and count what they should."""
    for machine in cluster.machines:
        opset = machine.spaces.opset(cluster.space)
        view = opset.view
        proofs = sum(record.kind == "fork" for record in opset.records.values())
        found = view.quarantined, len(view.visible), proofs
        if found != (quarantined, visible, 1):
            raise NotConvergedError(
                f"seed {cluster.seed}: {machine.name} counts {found[1]}"
                f" contributions, not {visible}, after a fork"
            )
