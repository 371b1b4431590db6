"""Members that lie: who, and when.

Owns who is hostile: one or two machines, never the owner's, and fewer than a third. Does
not own what they do (`liars`), nor what must hold all the same (`checkers`, `bounds`).
"""

from collections.abc import Sequence
from typing import Final

from crdtmerge.bodies import Add
from crdtmerge.digest import ContentId
from crdtmerge.errors import ContentMissingError, FaultyContributionError
from crdtmerge.policy import Visible
from crdtmerge.sync.messages import GENERATION_BYTES
from nodes.spaces import Spaces
from nodes.store.memory import MemoryRecords
from simulations.cluster import Cluster
from simulations.liars import LIES, Liar
from simulations.world import Machine

from .coming import Coming

LIARS_MAX: Final = 2
THROWN_OUT: Final = 0.5
"""How often a liar is banned in the end; else only what it left lying about is."""


def strike(cluster: Cluster, _coming: Coming) -> None:
    """Draw this round's lies."""
    if not cluster.dice.faults.of_area("member"):
        return
    appoint(cluster)
    for name, lie in LIES.items():
        able = [liar for liar in liars(cluster) if liar.peers()]
        if not able:
            return  # without a link there is nobody to lie to
        liar = able[cluster.dice.hits[name] % len(able)]
        if cluster.dice.arms(name, liar.machine.name):
            with cluster.powered(liar.machine):
                cluster.dice.struck[name] += lie(liar, cluster.dice.of(name))


def pass_over(cluster: Cluster) -> None:
    """Let nobody lie any more; the owner clears up what liars left."""
    found = liars(cluster)
    for liar in found:
        liar.lies.clear()
    if found:
        _clear_up(cluster, found)


def liars(cluster: Cluster) -> list[Liar]:
    """Return who is hostile."""
    return [m.liar for m in cluster.machines if isinstance(m.liar, Liar)]


def appoint(cluster: Cluster) -> None:
    """Let machines be hostile, as soon as there are enough others."""
    wanted = cluster.random("how many lie").randint(1, LIARS_MAX)
    while len(liars(cluster)) < min(wanted, (len(cluster.machines) - 1) // 3):
        rng = cluster.random(f"who lies {len(liars(cluster))}")
        honest = [m for m in cluster.honest if m is not cluster.owner]
        turn(cluster, rng.choice(honest))


def turn(cluster: Cluster, machine: Machine) -> Liar:
    """Let a machine be hostile from now on, and its author suspect."""
    liar = machine.liar = Liar(cluster, machine)
    cluster.suspects.add(machine.author.public)
    cluster.give_up(machine.storage.durable, machine.storage.held)
    return liar


def _clear_up(cluster: Cluster, found: Sequence[Liar]) -> None:
    """Ban what liars offer and nobody can merge, and perhaps the liars themselves."""
    owner = cluster.owner
    for content in _useless(cluster):
        cluster.commit(owner, cluster.replica(owner).ban("content", content))
    for liar in found:
        author = liar.machine.author.public
        out = cluster.random(f"{liar.machine.name} thrown out").random() < THROWN_OUT
        if out and author not in owner.spaces.view(cluster.space).rightless:
            cluster.commit(owner, cluster.replica(owner).ban("author", author))


def _useless(cluster: Cluster) -> list[ContentId]:
    """Return what suspects alone offer, and not every honest machine will have, sorted.

    Looked for in all that anybody has: what some have heard already, others will.
    """
    known = dict(cluster.ledger)
    for machine in cluster.machines:
        known |= machine.spaces.opset(cluster.space).signed
    everything = Spaces(MemoryRecords(bytes(GENERATION_BYTES)), cluster.library)
    everything.commit(cluster.space, tuple(known.values()))
    return sorted(
        visible.content
        for visible in everything.view(cluster.space).visible
        if cluster.suspects.issuperset(visible.authors)
        and not (
            _is_whole(cluster, everything, visible)
            and _is_as_large_as_said(cluster, everything, visible)
        )
    )


def _is_as_large_as_said(
    cluster: Cluster, everything: Spaces, visible: Visible
) -> bool:
    """Tell whether no author of it says more bytes than its manifest names.

    Who has it before it is called huge keeps it. Others never ask for it, once it is more
    than they take of its author (`nodes.offers`): so the owner has to decide.
    """
    records = everything.opset(cluster.space).records
    added = [records[add].body for add in visible.adds]
    size = everything.manifest(visible).size
    return all(isinstance(a, Add) and a.content_bytes <= size for a in added)


def _is_whole(cluster: Cluster, everything: Spaces, visible: Visible) -> bool:
    """Tell whether an honest machine has the manifest, and all that it names."""
    try:
        manifest = everything.manifest(visible)
    except (ContentMissingError, FaultyContributionError):
        return False
    needed = [manifest.blob, *manifest.blobs()]
    return any(not machine.blobs.missing(needed) for machine in cluster.honest)
