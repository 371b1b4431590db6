"""What a node keeps too much of, or shows in spite of a ban, is found during a run."""

from collections import deque
from collections.abc import Callable

import pytest

from crdtmerge.bodies import RecordId
from crdtmerge.digest import BlobId
from crdtmerge.identity import SigningKey
from nodes import book, gossip, hearsay, holding
from nodes.book import Tried
from nodes.choices import InFlight
from nodes.hearsay import Heard
from nodes.node import Node
from simulations.checking.bans import BanError, Bans
from simulations.checking.bounds import TooMuchError, check_bounds
from simulations.checking.settling import gather, settle
from simulations.checking.watching import keep_watch
from simulations.cluster import Cluster
from simulations.links.link import pair
from simulations.world import Machine


@pytest.fixture(name="cluster")
def fixture_cluster() -> Cluster:
    """Four machines that have met."""
    cluster = Cluster(0)
    gather(cluster, 4)
    for machine in cluster.machines:
        cluster.contribute(machine)
    settle(cluster)
    check_bounds(cluster)
    return cluster


def _names(count: int) -> list[bytes]:
    return [number.to_bytes(32) for number in range(count)]


def _rows(_cluster: Cluster, _machine: Machine, node: Node) -> None:
    rows = {f"{n}:1": Tried() for n in range(book.ROWS_OF_NODE_MAX + 1)}
    node.neighbours.book._rows[bytes(32)] = rows


def _strangers(_cluster: Cluster, _machine: Machine, node: Node) -> None:
    node.neighbours.hearsay._heard[bytes(32)] = Heard(bytes(32), 0.0, ())


def _hearsay(cluster: Cluster, machine: Machine, node: Node) -> None:
    where = ("a:1",) * (hearsay.HEARD_ADDRESSES_MAX + 1)
    heard = Heard(machine.transport, 0.0, where)
    node.neighbours.hearsay._heard[cluster.owner.transport] = heard


def _dials(_cluster: Cluster, _machine: Machine, node: Node) -> None:
    choice = next(iter(node.neighbours.chosen.values()))
    node.neighbours.chosen |= dict.fromkeys(_names(gossip.CONNECTIONS_MAX), choice)


def _waiting(cluster: Cluster, machine: Machine, node: Node) -> None:
    author, space = machine.author.public, node.holding._spaces[cluster.space]
    space.authors |= {RecordId(n): author for n in _names(holding.HELD_MAX + 1)}


def _flying(_cluster: Cluster, machine: Machine, node: Node) -> None:
    fetch = InFlight(1, frozenset(), (), False, machine.author.public)
    node.choices.flying |= {BlobId(name): fetch for name in _names(65)}


def _cursors(_cluster: Cluster, _machine: Machine, node: Node) -> None:
    node._cursors[bytes(32)] = {}


def _unread(cluster: Cluster, machine: Machine, node: Node) -> None:
    link = cluster.network.links[pair(machine.transport, min(node.sessions))]
    link.unread[machine.transport] = deque([bytes(16 << 20)] * 3)


EXCESS: dict[str, Callable[[Cluster, Machine, Node], None]] = {
    "rows of one node": _rows,
    "strangers by hearsay": _strangers,
    "addresses of one hearsay": _hearsay,
    "streams that it dialled": _dials,
    "ids of records that wait": _waiting,
    "blobs in flight": _flying,
    "strangers with cursors": _cursors,
    "bytes that one peer does not read": _unread,
}


@pytest.mark.parametrize("what", EXCESS)
def test_what_is_above_its_limit_is_named(cluster: Cluster, what: str) -> None:
    """The machine, what it has, how much of it, and how much it may have."""
    machine = next(m for m in cluster.machines if m.node and m.node.neighbours.chosen)
    assert machine.node is not None
    EXCESS[what](cluster, machine, machine.node)
    with pytest.raises(TooMuchError, match=rf"{machine.name} has .* {what}, not \d"):
        check_bounds(cluster)


def test_a_run_is_looked_at_while_it_goes_on(cluster: Cluster) -> None:
    """Not only where a story ends."""
    keep_watch(cluster)
    cluster.run(5)
    assert cluster.owner.node is not None
    cluster.owner.node._cursors[bytes(32)] = {}
    with pytest.raises(TooMuchError, match="strangers with cursors"):
        cluster.run(5)


# --- bans --------------------------------------------------------------------------------


def _ban_the_last(cluster: Cluster) -> Machine:
    owner, last = cluster.owner, cluster.machines[-1]
    ban = cluster.replica(owner).ban("author", last.author.public)
    cluster.commit(owner, ban)
    return last


def test_who_goes_on_talking_to_a_banned_node_is_found(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sessions end with the ban."""
    monkeypatch.setattr(Node, "_members_may_have_changed", lambda *_: None)
    _ban_the_last(cluster)
    with pytest.raises(BanError, match="node0 talks to who is no member"):
        Bans(cluster).look()


def test_a_banned_node_that_gets_news_is_found(cluster: Cluster) -> None:
    """It holds what it held when all others knew, and what it says itself."""
    bans, last = Bans(cluster), _ban_the_last(cluster)
    settle(cluster, cluster.machines[:-1])
    bans.look()
    cluster.contribute(cluster.owner)
    cluster.run(5)
    bans.look()
    known = cluster.owner.spaces.opset(cluster.space).signed.values()
    last.spaces.commit(cluster.space, tuple(known))
    with pytest.raises(BanError, match="node3 is out, and got"):
        bans.look()


@pytest.mark.parametrize("subject", ["content", "author"])
def test_what_is_shown_in_spite_of_a_ban_is_found(
    cluster: Cluster, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the view says of itself, what it shows is compared with its bans."""
    opset = cluster.owner.spaces.opset(cluster.space)
    shown, view = opset.view.visible[0], type(opset.view)
    target = shown.content if subject == "content" else shown.authors[0]
    if subject == "author" and target == cluster.owner.author.public:
        shown = opset.view.visible[1]
        target = shown.authors[0]
    cluster.commit(cluster.owner, cluster.replica(cluster.owner).ban(subject, target))
    Bans(cluster).look()
    monkeypatch.setattr(view, "visible", property(lambda _: (shown,)))
    with pytest.raises(BanError, match=f"node0 shows what was banned: {subject}"):
        Bans(cluster).look()


def test_an_unknown_key_bans_nobody(cluster: Cluster) -> None:
    """A ban of who is no member changes nothing, and is no reason to complain."""
    key = SigningKey(bytes(32)).public
    cluster.commit(cluster.owner, cluster.replica(cluster.owner).ban("content", key))
    Bans(cluster).look()
