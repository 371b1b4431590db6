"""The active view stays connected, stays small, and is filled by nobody but ourselves."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.identity import AuthorId
from crdtmerge.sync.messages import PeerSaid, PeersReply
from nodes.gossip import CONNECTIONS_MAX, DIALS_PER_TICK
from nodes.neighbours import CHOSEN, FRUITLESS, MESH_MAX, ROTATE_S, UNIFORM, Neighbours

SPACE = SpaceId(b"s" * 32)


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


@dataclass
class Members:
    """Spaces with nodes; each of an author of its own, unless told."""

    nodes: dict[SpaceId, dict[bytes, tuple[AuthorId, ...]]]
    silent: frozenset[bytes] = frozenset()
    """Nodes that announced no address."""

    def all(self) -> list[SpaceId]:
        """Return the ids."""
        return sorted(self.nodes)

    def addresses(self) -> Mapping[bytes, tuple[str, ...]]:
        """Return one for each node that is not silent."""
        return {
            node: () if node in self.silent else (f"{node.hex()[-4:]}:1",)
            for nodes in self.nodes.values()
            for node in nodes
        }

    def node_authors(self, space: SpaceId) -> Mapping[bytes, tuple[AuthorId, ...]]:
        """Return who claims each."""
        return self.nodes[space]


def members(count: int, space: SpaceId = SPACE) -> Members:
    return Members({space: {key(n): (AuthorId(key(n)),) for n in range(count)}})


@dataclass
class Town:
    """Many views that dial each other at once, and no messages: a graph and its growth."""

    count: int
    known: Members = field(init=False)
    views: dict[bytes, Neighbours] = field(init=False)
    links: dict[bytes, set[bytes]] = field(init=False)
    now: float = 0.0
    island: frozenset[bytes] = frozenset()

    def __post_init__(self) -> None:
        self.known = members(self.count)
        whole = self.known.addresses()
        self.known.addresses = lambda: whole  # type: ignore[method-assign]
        self.views = {
            node: Neighbours(node, self.known, random.Random(node), {})
            for node in whole
        }
        self.links = {node: set() for node in whole}

    def tick(self, times: int = 1) -> None:
        """Let each in turn dial, and part with whom it may, each second."""
        for _ in range(times):
            self.now += 1
            for node in sorted(self.views):
                self._turn(node)

    def _turn(self, node: bytes) -> None:
        view = self.views[node]
        shared = dict.fromkeys(self.links[node], frozenset({SPACE}))
        for peer, (address, *_) in view.dial(shared, self.now):
            if peer in self.views and (node in self.island) == (peer in self.island):
                view.opened(peer, address, self.now)
                self.views[peer].opened(node, "", self.now)
                self.links[node].add(peer)
                self.links[peer].add(node)
            else:
                view.dial_ended(peer, (address,), self.now, connected=False)
        shared = dict.fromkeys(self.links[node], frozenset({SPACE}))
        if (gone := view.surplus(shared)) is not None:
            self.cut(node, gone)

    def cut(self, node: bytes, peer: bytes) -> None:
        """End a stream."""
        for one, other in ((node, peer), (peer, node)):
            self.links[one].discard(other)
            self.views[one].closed(other)

    def split(self, island: frozenset[bytes]) -> None:
        """Separate some from all others; nobody, to heal."""
        self.island = island
        for node in sorted(island):
            for peer in sorted(self.links[node] - island):
                self.cut(node, peer)

    def vanish(self, nodes: Iterable[bytes]) -> None:
        """Let nodes be gone, as at the cut of a cable."""
        for node in nodes:
            for peer in sorted(self.links[node]):
                self.cut(node, peer)
            del self.views[node], self.links[node]

    @property
    def reached(self) -> int:
        """How many nodes one of them reaches, over however many others."""
        first = min(self.links)
        seen, edge = {first}, [first]
        while edge:
            fresh = self.links[edge.pop()] - seen
            seen |= fresh
            edge += sorted(fresh)
        return len(seen)


@pytest.mark.parametrize("count", [300, pytest.param(1000, marks=pytest.mark.slow)])
def test_all_stay_connected_though_a_third_vanish(count: int) -> None:
    """A few neighbours each make one network; it holds, and grows together again."""
    town = Town(count)
    town.tick(2)
    assert all(len(view.chosen) == CHOSEN for view in town.views.values())
    degrees = Counter(len(links) for links in town.links.values())
    assert min(degrees) >= CHOSEN
    assert max(degrees) <= 5 * CHOSEN
    assert town.reached == count
    left = count * 7 // 10
    town.vanish(random.Random(5).sample(sorted(town.views), count - left))
    assert town.reached == left  # before anybody dialled again
    town.tick(8)
    assert town.reached == left
    assert all(len(view.chosen) >= CHOSEN for view in town.views.values())


def test_two_halves_find_each_other_again() -> None:
    """Whose places are all filled by its own half still draws from the other at times."""
    town = Town(100)
    town.tick(2)
    town.split(frozenset(sorted(town.views)[:50]))
    town.tick(90)
    assert town.reached == 50
    town.split(frozenset())
    town.tick(int(3 * ROTATE_S))
    assert town.reached == 100
    assert all(len(view.chosen) <= CHOSEN + 1 for view in town.views.values())


def test_who_runs_many_nodes_is_drawn_no_more_often() -> None:
    """Authors are drawn first: one with two hundred nodes is one among a hundred."""
    known = members(101)
    nodes = dict(known.nodes[SPACE])
    many = {key(n) for n in range(1000, 1200)}
    nodes |= dict.fromkeys(sorted(many), (AuthorId(b"e" * 32),))
    drawn = Counter[bool]()
    for seed in range(100):
        view = Neighbours(key(0), Members({SPACE: nodes}), random.Random(seed), {})
        drawn.update(peer in many for peer, _ in view.dial({}, 0.0))
    assert sum(drawn.values()) == 100 * CHOSEN
    assert drawn[True] < 100 * CHOSEN * 5 // 100  # one in a hundred is expected


def test_however_many_dial_us_we_choose_as_many_as_ever() -> None:
    """Streams that others opened take no place of ours, and half of all we say is ours."""
    view = Neighbours(key(0), members(500), random.Random(3), {})
    crowd = {key(n) for n in range(300, 400)}
    shared = dict.fromkeys(sorted(crowd), frozenset({SPACE}))
    for peer in sorted(crowd):
        view.opened(peer, "", 0.0)
    chosen = [peer for peer, _ in view.dial(shared, 0.0)]
    assert len(chosen) == CHOSEN
    assert not crowd & set(chosen)
    for peer in chosen:
        view.opened(peer, "x:1", 1.0)
    everybody = [*crowd, *chosen]
    heard = [view.listeners(everybody, 3) for _ in range(200)]
    assert all(len(set(three)) == 3 for three in heard)
    assert all(len(set(three) & set(chosen)) >= 2 for three in heard)
    partners = Counter(view.partner(everybody)[0] in chosen for _ in range(1000))
    assert 450 < partners[True] < 700


def test_friends_whom_a_peer_names_get_half_of_the_places_at_most() -> None:
    """Hearsay of members fills the places that are not drawn from all; no others."""
    counts: list[int] = []
    for seed in range(20):
        view = Neighbours(key(0), members(500), random.Random(seed), {})
        friends = [key(n) for n in range(400, 416)]
        for number, by in enumerate((key(416), key(417), key(418))):
            said = tuple(PeerSaid(f, ("liar:1",), 0) for f in friends)
            view.hearsay.take(by, PeersReply(said), float(number), lambda _: True)
        dialled = {peer for peer, _ in view.dial({}, 9.0)}
        counts.append(len(dialled & set(friends)))
    assert max(counts) == CHOSEN - UNIFORM + 1  # an honest draw may hit one, too
    assert sum(counts) < 20 * (CHOSEN - UNIFORM + 0.5)


def test_each_of_many_spaces_gets_neighbours_of_its_own() -> None:
    """A small space is not left out beside a large one; no more are dialled than may."""
    nodes = dict(members(300).nodes)
    for number in range(20):
        first = 1000 + 10 * number
        everybody = (0, *range(first, first + 10))
        small = SpaceId(key(9000 + number))
        nodes[small] = {key(n): (AuthorId(key(n)),) for n in everybody}
    view = Neighbours(key(0), Members(nodes), random.Random(1), {})
    shared: dict[bytes, frozenset[SpaceId]] = {}
    for second in range(30):
        dials = view.dial(shared, float(second))
        assert len(dials) <= DIALS_PER_TICK
        for peer, (address, *_) in dials:
            view.opened(peer, address, float(second))
            shared[peer] = frozenset(s for s, known in nodes.items() if peer in known)
    counts = Counter(space for both in shared.values() for space in both)
    assert len(view.chosen) == CONNECTIONS_MAX
    assert set(counts) == set(nodes)
    assert min(counts.values()) >= 3


def test_who_finds_nobody_dials_slowly() -> None:
    """Where nothing ever answers, one dial is begun a tick, and no storm."""
    view = Neighbours(key(0), members(500), random.Random(1), {})
    dials: list[int] = []
    for second in range(60):
        found = view.dial({}, float(second))
        dials.append(len(found))
        for peer, addresses in found:
            view.dial_ended(peer, addresses, float(second), connected=False)
    assert sum(dials) <= FRUITLESS + DIALS_PER_TICK + 60
    assert set(dials[10:]) == {1}


def test_nodes_that_announce_no_address_do_not_end_the_mesh() -> None:
    """Two hundred that nobody can dial leave one that dials who it can."""
    known = members(300)
    hidden = frozenset(key(n) for n in range(MESH_MAX, 300))
    known.silent = hidden
    view = Neighbours(key(0), known, random.Random(1), {})
    assert len(view.dial({}, 0.0)) == DIALS_PER_TICK
    assert not view.partial


def test_an_address_that_worked_is_tried_first_and_hearsay_last() -> None:
    """Evidence orders what one dial tries; what peers say comes after all of it."""
    known = members(2)
    known.addresses = lambda: {key(1): tuple(f"a{n}:1" for n in range(8))}  # type: ignore[method-assign]
    view = Neighbours(key(0), known, random.Random(1), {})
    view.book.worked(key(1), "a5:1", 1.0)
    for nth in range(5):
        view.book.failed(key(1), f"a{nth}:1", 2.0)
    said = PeersReply((PeerSaid(key(1), ("h1:1", "a3:1", "h2:1", "h3:1"), 0),))
    view.hearsay.take(b"x" * 32, said, 2.0, lambda _: True)
    ((_, where),) = view.dial({}, 3.0)
    assert where[0] == "a5:1"
    assert set(where[1:3]) == {"a6:1", "a7:1"}
    assert where[-1] == "h1:1"
    assert len(where) == 8


def test_the_user_s_choice_is_dialled_whatever_the_view() -> None:
    """A node that was named by hand is dialled at once, places or not."""
    view = Neighbours(key(0), members(500), random.Random(1), {})
    for peer, _ in view.dial({}, 0.0):
        view.opened(peer, "x:1", 0.0)
    shared = dict.fromkeys(view.chosen, frozenset({SPACE}))
    wanted = next(key(n) for n in range(1, 500) if key(n) not in view.chosen)
    assert [peer for peer, _ in view.dial(shared, 1.0, wanted)] == [wanted]


def talk(view: Neighbours, alive: frozenset[bytes], seconds: int) -> set[bytes]:
    """Let a view dial for a while; who is not alive refuses. Return who was met."""
    shared: dict[bytes, frozenset[SpaceId]] = {}
    met: set[bytes] = set()
    for now in map(float, range(seconds)):
        for peer, _ in view.dial(shared, now):
            met.add(peer)
            if peer in alive:
                spaces = [s for s in view.spaces.all() if peer in nodes_of(view, s)]
                shared[peer] = frozenset(spaces)
                view.opened(peer, "", now)
            view.dial_ended(peer, (), now, connected=peer in alive)
        if (left := view.surplus(shared)) is not None:
            del shared[left]
            view.closed(left)
    return met & alive


def nodes_of(view: Neighbours, space: SpaceId) -> Mapping[bytes, tuple[AuthorId, ...]]:
    return view.spaces.node_authors(space)


def owned(nodes: Iterable[bytes]) -> dict[bytes, tuple[AuthorId, ...]]:
    return {node: (AuthorId(node),) for node in nodes}


def test_a_list_of_many_peers_without_a_space_dials_nobody() -> None:
    """Nothing is drawn of no space: not even when it is time to rotate."""
    listed: dict[bytes, tuple[str, ...]] = {
        key(n): ("a:1",) for n in range(1, MESH_MAX + 9)
    }
    view = Neighbours(key(0), Members({}), random.Random(1), listed)
    assert talk(view, frozenset(listed), int(4 * ROTATE_S)) == set()
    assert view.partial


def test_more_spaces_than_places_take_turns() -> None:
    """Each of many spaces with one other node has its stream in the end."""
    me = key(0)
    spaces = {
        SpaceId(bytes([n]) * 32): owned([me, key(n)])
        for n in range(1, CONNECTIONS_MAX + 13)
    }
    others = frozenset(node for nodes in spaces.values() for node in nodes) - {me}
    view = Neighbours(me, Members(spaces), random.Random(1), {})
    assert talk(view, others, 900) == others
    assert len(view.chosen) >= CONNECTIONS_MAX - 1


def test_a_space_of_the_dead_does_not_end_rotation_elsewhere() -> None:
    """There is always one of them to dial; the living still change places."""
    me, dead = key(0), [key(n) for n in range(100, 160)]
    living = [key(n) for n in range(1000, 1100)]
    spaces = {
        SpaceId(b"1" * 32): owned([me, *dead]),
        SpaceId(b"2" * 32): owned([me, *living]),
    }
    view = Neighbours(me, Members(spaces), random.Random(1), {})
    assert len(talk(view, frozenset(living), 3600)) > 3 * CHOSEN


def test_a_space_of_the_dead_does_not_keep_the_living_from_being_found() -> None:
    """After an hour in which nobody answered, those that are back are dialled soon."""
    me, dead = key(0), [key(n) for n in range(100, 200)]
    living = [key(n) for n in range(1000, 1010)]
    spaces = {
        SpaceId(b"1" * 32): owned([me, *dead]),
        SpaceId(b"2" * 32): owned([me, *living]),
    }
    view = Neighbours(me, Members(spaces), random.Random(1), {})
    assert talk(view, frozenset(), 3600) == set()
    view.backoff = type(view.backoff)()
    assert len(talk(view, frozenset(living), 60)) >= CHOSEN


def test_who_dials_us_takes_no_place_in_a_mesh() -> None:
    """One member may run as many nodes as we dial at most: others are dialled still."""
    known = members(MESH_MAX // 2)
    view = Neighbours(key(0), known, random.Random(1), {})
    came = {key(5000 + n): frozenset([SPACE]) for n in range(2 * CONNECTIONS_MAX)}
    assert len(view.dial(came, 1.0)) == DIALS_PER_TICK
