"""What must hold when a cluster has had time to settle.

Owns the checks and the words in which they fail. Does not own the waiting: that is
`scenarios`.
"""

from collections.abc import Callable, Sequence
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import Domain, digest
from crdtmerge.trie import Trie

from .cluster import RECIPE, Cluster, Machine

Reading = Callable[[Machine, SpaceId], bytes]


class NotConvergedError(AssertionError):
    """Nodes that should agree do not, or lack something."""


def record_root(machine: Machine, space: SpaceId) -> bytes:
    """Return the root over all records."""
    return machine.spaces.opset(space).root


def visible_root(machine: Machine, space: SpaceId) -> bytes:
    """Return the root over what counts in the merge."""
    return machine.spaces.view(space).visible_root


def merge_id(machine: Machine, space: SpaceId) -> bytes:
    """Return the name of the model that the node would resolve."""
    view = machine.spaces.view(space)
    return view.merge_id(view.recipe or RECIPE)


AGREED: Final[dict[str, Reading]] = {
    "record root": record_root,
    "visible root": visible_root,
    "merge id": merge_id,
}


def same_records(cluster: Cluster, machines: Sequence[Machine]) -> bool:
    """Tell whether `machines` have the same records, whatever contents they lack."""
    return len({record_root(machine, cluster.space) for machine in machines}) == 1


def disagreement(cluster: Cluster, machines: Sequence[Machine]) -> str:
    """Return what `machines` differ in or lack; empty when they have converged."""
    for name, reading in AGREED.items():
        values = {reading(machine, cluster.space) for machine in machines}
        if len(values) > 1:
            return f"{len(values)} different {name}s among {len(machines)} nodes"
    for machine in machines:
        if lacking := machine.spaces.missing(cluster.space):
            return f"{machine.name} lacks {len(lacking)} blobs"
    return ""


def check_settled(cluster: Cluster, machines: Sequence[Machine]) -> None:
    """Check that `machines` agree, lack nothing, and lost no acknowledged record.

    Raises:
        NotConvergedError: says what does not hold, and the seed that shows it.
    """
    problem = disagreement(cluster, machines)
    for machine in machines:
        problem = problem or _lost(cluster, machine) or _damaged(cluster, machine)
    if problem:
        raise NotConvergedError(
            f"seed {cluster.seed}, {cluster.clock.now:.1f} s: {problem}"
        )


def _lost(cluster: Cluster, machine: Machine) -> str:
    """Compare the records of one node with those that commands committed anywhere."""
    held = set(machine.spaces.opset(cluster.space).signed)
    if held != cluster.ledger:
        lost, extra = len(cluster.ledger - held), len(held - cluster.ledger)
        return f"{machine.name} lost {lost} records and has {extra} that nobody made"
    return ""


def _damaged(cluster: Cluster, machine: Machine) -> str:
    """Read the store of one node again, and trust nothing of what it holds."""
    stored = machine.records.load(cluster.space)
    root = Trie.build(digest(Domain.RECORD, s.record.data) for s in stored).root
    if root != record_root(machine, cluster.space):
        return f"the disk of {machine.name} does not hold its record root"
    return ""
