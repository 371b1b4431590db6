"""Members that lie: who, and when.

Owns who is hostile: one or two machines, never the owner's, and fewer than a third. Does
not own what they do (`liars`), nor what must hold all the same (`checkers`, `bounds`).
"""

from typing import Final

from crdtmerge.bodies import Add
from crdtmerge.digest import ContentId
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
    for liar in found:
        _clear_up(cluster, liar)


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
    return liar


def _clear_up(cluster: Cluster, liar: Liar) -> None:
    """Ban what a liar alone offers and nobody else has, and perhaps the liar itself."""
    owner = cluster.owner
    for content in sorted(_offered(cluster, liar.machine)):
        cluster.commit(owner, cluster.replica(owner).ban("content", content))
    view, author = owner.spaces.view(cluster.space), liar.machine.author.public
    out = cluster.random(f"{liar.machine.name} thrown out").random() < THROWN_OUT
    if out and author not in view.rightless:
        cluster.commit(owner, cluster.replica(owner).ban("author", author))


def _offered(cluster: Cluster, machine: Machine) -> set[ContentId]:
    """Return what suspects alone contributed, and no honest machine has in whole."""
    offered: dict[bool, set[ContentId]] = {True: set(), False: set()}
    for place in (machine, *cluster.honest):
        for signed in place.spaces.opset(cluster.space).signed.of_kinds(ADDS):
            if isinstance(body := signed.record.body, Add):
                suspect = signed.record.author in cluster.suspects
                offered[suspect].add(body.content)
    whole = {
        visible.content
        for place in cluster.honest
        for visible in place.spaces.view(cluster.space).visible
        if not place.spaces.lacking(cluster.space, visible)
    }
    return offered[True] - offered[False] - whole


ADDS: Final = frozenset({Add.KIND})
