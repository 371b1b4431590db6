"""What an honest node may keep at most, whatever its peers do.

It is looked at while a run goes on, and not only in the end.

Owns which table, queue and count of a node is held to which of its named limits. Does not
own the limits, which are read where the code has them, nor when it is looked (`watching`).
It looks into nodes as nothing else may: what is bounded is mostly private.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from crdtmerge.sync import messages, pulls, reconcile, repairing, session, swarm
from nodes import (
    attesting,
    book,
    choices,
    forks,
    gossip,
    hearsay,
    holding,
    manifests,
    neighbours,
    offers,
    probing,
    quotas,
)
from nodes.node import Node
from simulations.cluster import Cluster
from simulations.world import Machine

from .checkers import NotConvergedError

RULES_MAX: Final = 64
"""Kinds of errors by which peers are dropped: there are some thirty."""

Amount = tuple[str, float, float]
"""What is counted, how much there is, and how much there may be."""


class TooMuchError(NotConvergedError):
    """A node keeps more of something than it says that it ever will: a bug of ours."""


def check_bounds(cluster: Cluster) -> None:
    """Check every honest machine that runs.

    Raises:
        TooMuchError: names the machine, what it keeps, how much, and the limit.
    """
    for machine in cluster.honest:
        excess = ""
        with cluster.powered(machine):  # it reads, and a disk may refuse that
            excess = _excess(cluster, machine)
        if excess:
            raise TooMuchError(
                f"seed {cluster.seed}, {cluster.clock.now:.1f} s: {excess}"
            )


def _excess(cluster: Cluster, machine: Machine) -> str:
    """Return what a machine has too much of; empty if it keeps to its limits."""
    node = machine.node
    for look in LOOKS if node is not None else ():
        assert node is not None
        for what, there, most in look(cluster, machine, node):
            if there > most:
                return f"{machine.name} has {there:g} {what}, not {most:g} at most"
    return ""


def _peers(cluster: Cluster, machine: Machine, node: Node) -> Iterator[Amount]:
    """Whom it knows, and from where: as many as members, or as a number says."""
    near, members = node.neighbours, machine.spaces.members()
    dialled = len(near.chosen) + len(near.dialling)
    yield "streams that it dialled", dialled, gossip.CONNECTIONS_MAX
    yield "streams with who is no member", len(node.sessions.keys() - members), 0
    rows = near.book._rows
    yield "rows in its book", sum(map(len, rows.values())), book.ROWS_MAX
    yield "rows of one node", _most(map(len, rows.values())), book.ROWS_OF_NODE_MAX
    heard = near.hearsay._heard
    yield "nodes by hearsay", len(heard), hearsay.HEARD_MAX
    yield "strangers by hearsay", len(heard.keys() - members), 0
    said = _most(len(h.addresses) for h in heard.values())
    yield "addresses of one hearsay", said, hearsay.HEARD_ADDRESSES_MAX
    by = [h.by for h in heard.values()]
    yield "nodes of which one peer told", _most(map(by.count, by)), messages.PEERS_MAX
    local = _most(map(len, near.local.values()))
    yield "local addresses of a node", local, neighbours.LOCAL_ADDRESSES_MAX
    met = len(cluster.machines)
    for table in ("_failures", "_not_before", "_banished_until"):
        yield (
            f"nodes in {table} of its back-off",
            len(getattr(near.backoff, table)),
            met,
        )
    yield "accounts of peers", len(node.accounts), met
    yield "rules by which it dropped peers", len(node.dropped), RULES_MAX


def _sets(cluster: Cluster, machine: Machine, node: Node) -> Iterator[Amount]:
    """What it keeps of spaces, of those who speak in them, and of what waits."""
    yield "spaces", len(machine.spaces.all()), 1
    waiting = node.holding._spaces.values()
    ids = sum(len(space.authors) for space in waiting)
    yield "ids of records that wait", ids, holding.HELD_MAX
    members = machine.spaces.members()
    yield "strangers with cursors", len(node._cursors.keys() - members), 0
    read = _most(map(len, node._cursors.values()))
    yield "cursors of one peer", read, len(machine.spaces.all())
    limits = cluster.quotas
    said = _most(machine.spaces.said(author) for author in cluster.suspects)
    # A process that begins, or whose clock jumps ahead, may take a whole burst at once.
    begun = 1 + sum(m.life for m in cluster.machines)
    bursts = limits.burst_s * (begun + cluster.dice.struck["clock_ahead"])
    if limits.author_rate:
        allowed = limits.author_rate * (bursts + cluster.clock.now)
        yield "records of a liar", said, allowed
    yield "records of a liar in all", said, limits.author_records or float("inf")
    if machine.forks is not None:
        noticed = _most(len(look.noticed) for look in machine.forks._looks.values())
        yield "forks to be shown", noticed, forks.NOTICED_MAX


def _pulls(_cluster: Cluster, machine: Machine, node: Node) -> Iterator[Amount]:
    """What it is about to ask, and what its peers showed it meanwhile."""
    for talk in node.sessions.values():
        shared, open_ = talk.shared, talk.pulls._of
        yield "messages before a hello", talk._ungreeted, session.UNGREETED_MAX
        yield "pulls of spaces not shared", len(open_.keys() - shared), 0
        yield "messages that it forgot to send", len(talk.pulls.outbox), 0
        for space, pull in open_.items():
            records = len(machine.spaces.trie(space))
            vain = pulls.IN_VAIN_SPARE + 6 * records
            yield "things shown in vain", pull.in_vain, vain
            yield "beats without an answer", pull.beats, pulls.UNANSWERED_MAX
            yield "beats of a repair", pull.repair_beats, repairing.REPAIR_BEATS_MAX
            yield "repairs in vain", pull.fruitless, repairing.FRUITLESS_MAX
            yield "repairs undelivered", pull.undelivered, repairing.UNDELIVERED_MAX
            yield "ids not kept", len(pull.not_kept), repairing.NOT_KEPT_MAX
            if pull.descent is not None:
                open_nodes = len(pull.descent.frontier) + len(pull.descent.asked)
                most = reconcile.FRONTIER_MAX + messages.SECTIONS_MAX
                yield "nodes of a trie to ask for", open_nodes, most
                shown = reconcile.REPAIR_NODES_SPARE + 2 * records
                yield "nodes of a trie shown", pull.descent.taken, shown


def _contents(_cluster: Cluster, machine: Machine, node: Node) -> Iterator[Amount]:
    """What it fetches, and what it remembers of what came."""
    flying = node.choices.flying
    yield "blobs in flight", len(flying), choices.FETCHES_MAX
    sources = _most(len(fetch.peers) for fetch in flying.values())
    yield "sources of one blob", sources, swarm.SOURCES_MAX
    yield "downloads of nothing in flight", len(machine.downloads.keys() - flying), 0
    lies = node.choices._lies
    yield "lies of one peer", _most(map(len, lies.values())), choices.LIES_MAX
    kept = machine.spaces._manifests
    if len(kept._kept) > 1:
        yield "entries of manifests", kept._entries, manifests.ENTRIES_MAX
    yield "sizes of offers", len(machine.spaces._sizes._known), offers.SIZES_MAX


def _beside(_cluster: Cluster, machine: Machine, node: Node) -> Iterator[Amount]:
    """What stands beside the sets: attestations, exchange, probes."""
    said, peers = node.attesting, node.sessions.keys()
    for space, table in said._tables.items():
        counted = machine.spaces.attesters(space)
        strangers = len(table.latest.keys() - counted)
        yield "attestations", len(table.latest), messages.ATTESTERS_MAX
        yield "attestations of who may not", strangers, 0
    listed = sum(len(found.tensors) for found in said._lists.values())
    yield "tensors of lists", listed, attesting.LISTS_TENSORS_MAX
    bounds = (attesting.NEWS_MAX, attesting.ANSWERS_MAX, attesting.LISTS_MAX)
    yield "answers of a window", _most(said._spent.values()), max(bounds)
    yield "peers whose lists were answered", len(said._answered.keys() - peers), 0
    spaces = len(machine.spaces.all())
    yield "peers without a list", len(said._without), spaces * len(peers)
    yield "peers asked for others", len(node.exchange._asked - peers), 0
    yield "probes under way", len(node.probing._under_way), probing.TRIALS_MAX
    yield "peers asked to probe", len(node.probing.told), probing.ASKED_MAX


def _queues(cluster: Cluster, machine: Machine, _node: Node) -> Iterator[Amount]:
    """What waits here for peers that do not read; a real node hangs up on them."""
    me, total = machine.transport, 0
    for ends, link in cluster.network.links.items():
        if me in ends and (waits := link.unread.get(me)):
            size = sum(map(len, waits))
            total += size
            yield (
                "messages that one peer does not read",
                len(waits),
                quotas.OUTGOING_MAX,
            )
            yield "bytes that one peer does not read", size, quotas.OUTGOING_BYTES_MAX
    yield "bytes that peers do not read", total, quotas.WAITING_BYTES_MAX


def _most(amounts: Iterable[int]) -> int:
    return max(amounts, default=0)


LOOKS: Final[tuple[Callable[[Cluster, Machine, Node], Iterable[Amount]], ...]] = (
    _peers,
    _sets,
    _pulls,
    _contents,
    _beside,
    _queues,
)
"""All that is looked at."""
