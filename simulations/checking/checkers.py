"""What must hold when a cluster has had time to settle.

Owns the checks and the words in which they fail. Does not own the waiting (`settling`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import Domain, digest
from crdtmerge.errors import CrdtMergeError, RemoteError
from crdtmerge.log import Log
from crdtmerge.record import SignedRecord, well_formed
from crdtmerge.trie import Trie
from nodes.spaces import Spaces
from nodes.store.memory import MemoryRecords
from simulations.cluster import RECIPE, Cluster
from simulations.world import Machine

from .merging import Merged, merge

Reading = Callable[[Spaces, SpaceId], bytes]


class NotConvergedError(CrdtMergeError):
    """Nodes that should agree do not, or lack something: a bug of ours."""


@contextmanager
def repeatable(command: str) -> Iterator[None]:
    """Let whatever goes wrong inside say by which command it goes wrong again."""
    again = f"the same again: crdtmerge simulate {command}"
    try:
        yield
    except Exception as e:
        e.add_note(again)
        if isinstance(e, NotConvergedError):
            e.hint = f"this is a bug of crdtmerge; {again}"
        raise


def record_root(spaces: Spaces, space: SpaceId) -> bytes:
    """Return the root over all records."""
    return spaces.opset(space).root


def visible_root(spaces: Spaces, space: SpaceId) -> bytes:
    """Return the root over what counts in the merge."""
    return spaces.view(space).visible_root


def merge_id(spaces: Spaces, space: SpaceId) -> bytes:
    """Return the name of the model that the node would resolve."""
    view = spaces.view(space)
    return view.merge_id(view.recipe or RECIPE)


AGREED: Final[dict[str, Reading]] = {
    "record root": record_root,
    "visible root": visible_root,
    "merge id": merge_id,
}


def same_records(cluster: Cluster, machines: Sequence[Machine]) -> bool:
    """Tell whether `machines` have the same records, whatever contents they lack."""
    return len({record_root(m.spaces, cluster.space) for m in machines}) == 1


def disagreement(cluster: Cluster, machines: Sequence[Machine]) -> str:
    """Return what `machines` differ in or lack; empty when they have converged."""
    for name, reading in AGREED.items():
        values = {reading(machine.spaces, cluster.space) for machine in machines}
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
    cluster.reckon()
    problem = disagreement(cluster, machines) or _forked(cluster, machines)
    if cluster.forgotten:
        problem = f"what was acknowledged is gone: {cluster.forgotten[0]}"
    if cluster.accused:
        problem = f"an honest node was taken for a liar: {cluster.accused[0]}"
    for machine in machines:
        problem = problem or _lost(cluster, machine) or _damaged(cluster, machine)
    if problem:
        raise _broken(cluster, problem)


def check_merged(cluster: Cluster, machines: Sequence[Machine]) -> Merged | None:
    """Merge on every machine, and once from the ledger; return the model, if there is one.

    Each merge reads nothing but what lies on its own machine. The one from the ledger never
    saw a network: it holds what was committed, in the order of commitment.

    Raises:
        NotConvergedError: two of them differ in a bit.
    """
    held = machines[0].spaces.opset(cluster.space).signed
    expected = merge(_oracle(cluster, held), cluster.space, cluster.base.manifest)
    for machine in machines:
        found = merge(machine.spaces, cluster.space, cluster.base.manifest)
        if problem := _difference(found, expected):
            raise _broken(cluster, f"{machine.name} merges to {problem}")
    return expected


def _oracle(cluster: Cluster, held: Log) -> Spaces:
    """Return the space as it is for whoever has all that was ever committed.

    Of what liars signed it has what reached everybody.
    """
    records, made = MemoryRecords(bytes(16)), cluster.ledger
    told = [s for k, s in made.items() if k in held or not _suspect(cluster, s)]
    told += [signed for key, signed in held.items() if key not in made]
    records.append(cluster.space, told)
    return Spaces(records, cluster.library)


def _difference(found: Merged | None, expected: Merged | None) -> str:
    if found is None or expected is None:
        return "" if found is expected else "nothing, or something where nothing is"
    for name, data in expected.tensors.items():
        if found.tensors.get(name) != data:
            return f"other bytes of tensor {name}"
    if found != expected:
        return "the same tensors with another resolution.json"
    return ""


def _broken(cluster: Cluster, problem: str) -> NotConvergedError:
    return NotConvergedError(
        f"seed {cluster.seed}, {cluster.clock.now:.1f} s: {problem}"
    )


def _lost(cluster: Cluster, machine: Machine) -> str:
    """Compare the records of one node with those that commands committed anywhere.

    What liars signed may be here or not: that all have the same, the roots tell.
    """
    held = machine.spaces.opset(cluster.space).signed
    made = cluster.ledger
    lost = [k for k in made.keys() - held.keys() if not _suspect(cluster, made[k])]
    extra = [k for k in held.keys() - made.keys() if not _suspect(cluster, held[k])]
    if lost or extra:
        return (
            f"{machine.name} lost {len(lost)} records"
            f" and has {len(extra)} that nobody made"
        )
    return ""


def _forked(cluster: Cluster, machines: Sequence[Machine]) -> str:
    """Look for authors that used a number twice, and whose disks were never put back."""
    if not cluster.disks:
        return ""
    forked = machines[0].spaces.opset(cluster.space).forked.keys()
    if without := sorted(forked - cluster.set_back - cluster.suspects):
        return f"author {without[0].hex()[:12]} signed two records of one number"
    return ""


def _suspect(cluster: Cluster, signed: SignedRecord) -> bool:
    return signed.record.author in cluster.suspects


def _damaged(cluster: Cluster, machine: Machine) -> str:
    """Read the store of one node again, and trust nothing of what it holds."""
    stored = machine.records.load(cluster.space)
    root = Trie.build(digest(Domain.RECORD, s.record.data) for s in stored).root
    if root != record_root(machine.spaces, cluster.space):
        return f"the disk of {machine.name} does not hold its record root"
    if not all(_genuine(cluster, signed) for signed in stored):
        return f"the disk of {machine.name} holds what its author did not sign"
    return ""


def _genuine(cluster: Cluster, signed: SignedRecord) -> bool:
    """Tell whether its author signed this; liars may have told nobody else."""
    if not _suspect(cluster, signed):
        return signed == cluster.ledger[signed.record.id]
    try:
        return well_formed(signed.record.data, signed.signature) == signed
    except RemoteError:
        return False
