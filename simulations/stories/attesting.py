"""The story of a node that attests another model than it should, and how it is found out.

Owns what machines attest, the lie, and what every honest node must know of it. Does not own
how attestations travel (`nodes.attesting`), nor the other stories (`scenarios`).
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from crdtmerge.digest import BlobId
from crdtmerge.identity import SigningKey
from crdtmerge.manifest import TensorEntry
from crdtmerge.numerics import CONTRACT_VERSION
from crdtmerge.resolve.parse import parse_resolution
from crdtmerge.resolve.resolution import model_digest
from crdtmerge.sync.attestations import Attestation
from crdtmerge.sync.listings import differing
from crdtmerge.sync.messages import Attestations, SignedBytes
from nodes.attesting import LIST_TICKS_MAX, NEWS_MAX, WINDOW_TICKS
from nodes.effects import Resolved
from nodes.gossip import RUMOUR_FANOUT
from simulations.checking.checkers import NotConvergedError, merge_id
from simulations.checking.merging import merge
from simulations.checking.settling import STEP_S, Settled, gather, settle
from simulations.cluster import Cluster
from simulations.faults import CALM, Faults
from simulations.world import TICK_S, Machine

LOSSY: Final = Faults.of(loss=0.2, duplicate=0.1, reorder=0.2)
PATIENCE_ROUNDS: Final = 6 * LIST_TICKS_MAX
"""Rounds until all must know: a page that was lost is asked for again some times."""
FLOOD: Final = 40
"""Attestations that a node makes at once."""


def liar_attests(cluster: Cluster, count: int) -> Settled:
    """One node attests a model with another tensor: all others name it, and which one."""
    gather(cluster, count)
    for machine in cluster.machines:
        cluster.contribute(machine)
    settle(cluster)
    *honest, liar = cluster.machines
    cluster.dice.faults = LOSSY
    wrong = _attest_all(cluster, liar)
    _until(cluster, lambda: _blamed(cluster, honest, liar, wrong))
    first = _signed(honest[0])
    attest(cluster, honest[0], counter=2)
    cluster.crash(honest[-1])  # it forgets what others attest
    _until(cluster, lambda: _latest(cluster, honest[:-1], honest[0]) == {2})
    cluster.restart(honest[-1])
    _until(cluster, lambda: _blamed(cluster, honest, liar, wrong))
    _say_what_does_not_count(cluster, liar, honest, first)
    _flood(cluster, liar, honest)
    attest(cluster, liar, counter=FLOOD + 10)
    _until(cluster, lambda: not _named(cluster, honest))
    _until(cluster, lambda: _latest(cluster, honest, liar) == {FLOOD + 10})
    cluster.dice.faults = CALM
    return settle(cluster)


def attest(
    cluster: Cluster, machine: Machine, *, counter: int, wrong: str = ""
) -> None:
    """Let a machine attest what it resolves now; `wrong` names a tensor that it changes."""
    merged = merge(machine.spaces, cluster.space, cluster.base.manifest)
    assert merged is not None
    tensors = parse_resolution(merged.resolution).tensors
    told = tuple(
        replace(entry, blob=BlobId(bytes(32))) if entry.name == wrong else entry
        for entry in tensors
    )
    signed = said(cluster, machine.key, machine, counter, told)
    machine.attested = Resolved(signed, told)
    cluster.submit(machine, machine.attested)


def said(
    cluster: Cluster,
    key: SigningKey,
    machine: Machine,
    counter: int,
    tensors: Collection[TensorEntry],
) -> SignedBytes:
    """Return the attestation of a model by whoever holds `key`."""
    attestation = Attestation(
        cluster.space,
        key.public,
        counter,
        merge_id(machine.spaces, cluster.space),
        model_digest(tensors),
        CONTRACT_VERSION,
        "simulated",
    )
    return attestation.sign(key)


def _attest_all(cluster: Cluster, liar: Machine) -> str:
    """Let everybody attest; return the tensor of which the liar tells otherwise."""
    wrong = min(entry.name for entry in cluster.base.manifest.tensors)
    for machine in cluster.machines:
        attest(cluster, machine, counter=1, wrong=wrong if machine is liar else "")
        cluster.run(cluster.rng.uniform(0, TICK_S))
    return wrong


def _signed(machine: Machine) -> SignedBytes:
    assert machine.attested is not None
    return machine.attested.signed


def _until(cluster: Cluster, done: Callable[[], bool]) -> None:
    """Let time pass until something holds.

    Raises:
        NotConvergedError: it does not come to that.
    """
    end = cluster.clock.now + PATIENCE_ROUNDS * TICK_S
    while not done():
        if cluster.clock.now > end:
            message = f"seed {cluster.seed}: nodes do not know what others attest"
            raise NotConvergedError(message)
        cluster.run(STEP_S)


def _named(
    cluster: Cluster, machines: Collection[Machine]
) -> dict[tuple[str, bytes], tuple[str, ...]]:
    """Return whom each machine names as differing from it, and on which tensors."""
    found = {}
    for machine in machines:
        assert machine.node is not None
        assert machine.attested is not None
        known = machine.node.attesting.known(cluster.space)
        mine = known.latest.get(machine.transport)
        for node, heard in known.latest.items():
            if mine and mine.attestation.contradicts(heard.attestation):
                listed = known.lists.get(node)
                proved = listed and listed.model == heard.attestation.model
                theirs = listed.tensors if listed and proved else ()
                names = differing(machine.attested.tensors, theirs)
                found[machine.name, node] = names
    return found


def _blamed(
    cluster: Cluster, honest: Collection[Machine], liar: Machine, wrong: str
) -> bool:
    """Tell whether all honest machines name the liar alone, and for that tensor."""
    expected = {(machine.name, liar.transport): (wrong,) for machine in honest}
    known = [
        len(machine.node.attesting.known(cluster.space).latest)
        for machine in honest
        if machine.node is not None
    ]
    everybody = known == [len(honest) + 1] * len(honest)
    return everybody and _named(cluster, honest) == expected


def _latest(cluster: Cluster, machines: Collection[Machine], of: Machine) -> set[int]:
    """Return the counters of what the machines know of one node; 0 for nothing."""
    found = set()
    for machine in machines:
        assert machine.node is not None
        heard = machine.node.attesting.known(cluster.space).latest.get(of.transport)
        found.add(heard.attestation.counter if heard else 0)
    return found


def _say_what_does_not_count(
    cluster: Cluster, liar: Machine, honest: Collection[Machine], older: SignedBytes
) -> None:
    """Let the liar replay an older attestation, and bring one of a stranger."""
    stranger = SigningKey(cluster.draw("stranger"))
    strange = said(cluster, stranger, liar, 9, cluster.base.manifest.tensors)
    before = {m.name: _table(cluster, m) for m in honest}
    for machine in honest:
        news = Attestations(cluster.space, (older, strange))
        cluster.network.send(liar.transport, machine.transport, news)
    cluster.run(2 * TICK_S)
    if {m.name: _table(cluster, m) for m in honest} != before:
        message = f"seed {cluster.seed}: an attestation counts that must not"
        raise NotConvergedError(message)


def _flood(cluster: Cluster, liar: Machine, honest: Collection[Machine]) -> None:
    """Let the liar attest again and again: others pass on a few, and hear of the last."""
    before = cluster.network.traffic.kinds["Attestations"]
    for counter in range(2, FLOOD + 2):
        signed = said(cluster, liar.key, liar, counter, cluster.base.manifest.tensors)
        liar.attested = Resolved(signed, cluster.base.manifest.tensors)
        cluster.submit(liar, liar.attested)
        for machine in honest:
            news = Attestations(cluster.space, (signed,))
            cluster.network.send(liar.transport, machine.transport, news)
    cluster.run(WINDOW_TICKS * TICK_S / 2)
    sent = cluster.network.traffic.kinds["Attestations"] - before
    own = FLOOD * len(honest)
    windows = 2  # at most one ends meanwhile
    # Each honest node passes on what it takes, and answers a few requests of each peer.
    most = windows * len(honest) * (NEWS_MAX * RUMOUR_FANOUT + NEWS_MAX * len(honest))
    if sent - own > most:
        message = f"seed {cluster.seed}: a flood of {own} became one of {sent}"
        raise NotConvergedError(message)
    _until(cluster, lambda: _latest(cluster, honest, liar) == {FLOOD + 1})


def _table(cluster: Cluster, machine: Machine) -> dict[bytes, int]:
    assert machine.node is not None
    latest = machine.node.attesting.known(cluster.space).latest
    return {node: heard.attestation.counter for node, heard in latest.items()}
