"""Membership has no consequences: who can talk to whom decides when, and nothing else.

Whole nodes in the deterministic simulation, over drawn views: who can dial whom, one way or
both; addresses that lead nowhere; members that go for good. As long as the connections that
come about join all nodes over time, all end with the same sets, contents and models.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.checking.checkers import check_merged, check_settled
from simulations.checking.settling import gather, settle
from simulations.cluster import Cluster
from simulations.faults import CALM, Faults
from simulations.world import Machine

Edge = tuple[int, int]
ROUGH = CALM.but(loss=0.05, reorder=0.05, duplicate=0.05, refuse=0.1)


@dataclass(frozen=True)
class View:
    """Who can dial whom: of `nodes`, these `edges`, from the dialler to the dialled."""

    nodes: int
    edges: frozenset[Edge]


def ring(count: int) -> View:
    """Each can dial the next alone."""
    return View(count, frozenset((i, (i + 1) % count) for i in range(count)))


def line(count: int) -> View:
    """As a ring that is cut, with ways that lead to the middle from both ends."""
    half = count // 2
    ways = [(i, i + 1) if i < half else (i + 1, i) for i in range(count - 1)]
    return View(count, frozenset(ways))


def star(count: int) -> View:
    """All can dial one, and nobody can dial them."""
    return View(count, frozenset((i, 0) for i in range(1, count)))


def reversed_star(count: int) -> View:
    """One can dial all, and nobody can dial it."""
    return View(count, frozenset((0, i) for i in range(1, count)))


@st.composite
def views(draw: st.DrawFn, most: int = 6) -> View:
    """Draw a connected view: a tree, each edge one way or the other, and a few more."""
    count = draw(st.integers(2, most))
    edges: set[Edge] = set()
    for node in range(1, count):
        other = draw(st.integers(0, node - 1))
        edges.add((node, other) if draw(st.booleans()) else (other, node))
    nodes = st.integers(0, count - 1)
    more = draw(st.sets(st.tuples(nodes, nodes), max_size=count))
    return View(count, frozenset(edges | {e for e in more if e[0] != e[1]}))


def allow(cluster: Cluster, edges: Collection[Edge]) -> None:
    """Let these dial and no others; streams that could not be opened are cut."""
    keys = [machine.transport for machine in cluster.machines]
    ways: dict[bytes, set[bytes]] = {key: set() for key in keys}
    for dialler, dialled in edges:
        ways[keys[dialler]].add(keys[dialled])
    network = cluster.network
    network.ways = {key: frozenset(others) for key, others in ways.items()}
    for one, other in sorted(network.links):
        if not network.can_dial(one, other) and not network.can_dial(other, one):
            network.cut(one, other)


def cluster_of(seed: int, count: int, faults: Faults = CALM) -> Cluster:
    """Return a space with `count` members, who all know each other's records by now."""
    cluster = Cluster(seed, faults)
    gather(cluster, count)
    settle(cluster)
    return cluster


def all_contribute(machines: Sequence[Machine], cluster: Cluster) -> None:
    """Let each say something that the others cannot know yet."""
    for machine in machines:
        cluster.contribute(machine)


def check(cluster: Cluster, machines: Sequence[Machine] = ()) -> None:
    """Wait, and check that all agree on records, contents and the merged model."""
    chosen = machines or cluster.machines
    settle(cluster, chosen)
    check_settled(cluster, chosen)


@settings(max_examples=6)
@given(view=views(), seed=st.integers(0, 1000))
def test_whoever_can_dial_whom_all_converge(view: View, seed: int) -> None:
    """Each connection may be of one way: it carries everything in both."""
    cluster = cluster_of(seed, view.nodes)
    allow(cluster, view.edges)
    all_contribute(cluster.machines, cluster)
    check(cluster)
    assert check_merged(cluster, cluster.machines) is not None


@pytest.mark.parametrize("view", [ring(6), line(6), star(6), reversed_star(6)])
def test_shapes_converge_while_messages_get_lost(view: View) -> None:
    """Rings, lines and stars, in one direction."""
    cluster = cluster_of(7, view.nodes, ROUGH)
    allow(cluster, view.edges)
    all_contribute(cluster.machines, cluster)
    check(cluster)


@settings(max_examples=4)
@given(view=views(5), seed=st.integers(0, 1000), stale=st.sets(st.integers(1, 4)))
def test_addresses_that_lead_nowhere_delay_and_do_no_more(
    view: View, seed: int, stale: set[int]
) -> None:
    """Members announce where they are not: who can dial others dials them still."""
    cluster = cluster_of(seed, view.nodes)
    for number in sorted(stale):
        if number < view.nodes:
            machine = cluster.machines[number]
            where = (f"gone{number}:1", "nowhere:1")
            record = cluster.replica(machine).announce(machine.transport, where)
            cluster.commit(machine, record)
    settle(cluster)
    # Whom nobody finds any more dials who is found: the founder never moved.
    ways = {(i, 0) for i in range(1, view.nodes)}
    allow(cluster, ways | {e for e in view.edges if e[1] not in stale})
    all_contribute(cluster.machines, cluster)
    check(cluster)


@settings(max_examples=4)
@given(seed=st.integers(0, 1000), order=st.permutations(range(4)))
def test_what_who_left_had_told_one_reaches_all(seed: int, order: list[int]) -> None:
    """Two that never meet: a third tells one what it has of the other, and goes for good.

    The connections of no moment join them; those of all moments do.
    """
    cluster = cluster_of(seed, 4)
    first, carrier, last, other = order
    allow(cluster, {(first, carrier)})
    all_contribute(cluster.machines, cluster)
    early = [cluster.machines[i] for i in (first, carrier)]
    settle_pair(cluster, early)
    allow(cluster, {(last, carrier), (last, other)})
    late = [cluster.machines[i] for i in (carrier, last, other)]
    settle_pair(cluster, late)
    cluster.crash(cluster.machines[carrier])
    allow(cluster, {(last, other), (other, first)})
    check(cluster, [cluster.machines[i] for i in (first, last, other)])


def settle_pair(cluster: Cluster, machines: Sequence[Machine]) -> None:
    """Wait until these have the same records and contents, while others have others."""
    for _ in range(400):
        cluster.run(0.25)
        roots = {m.spaces.opset(cluster.space).root for m in machines}
        whole = all(not m.downloads for m in machines)
        if len(roots) == 1 and whole:
            return
    raise AssertionError("these never agreed")
