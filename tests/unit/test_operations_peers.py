"""What is known of peers, and how long one waits for them; peers and time are scripted."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.errors import (
    BadInputError,
    ConflictError,
    ContentMissingError,
    CrdtMergeError,
    NotConvergedError,
    NotFoundError,
    VersionsApartError,
)
from crdtmerge.sync.messages import Heartbeat, ProbeReply
from nodes.attesting import Attested
from nodes.holding import Held
from nodes.quotas import DEFAULT, Quotas
from nodes.store.base import TriedFacts
from tests.homes import snapshot
from tests.unit.test_operations_members import Cast

PEER, OTHER = b"\x05" * 32, b"\x06" * 32


@dataclass
class Scripted:
    """A running node whose peers report, and whose bytes come, as a test says.

    Each pause plays one scene; without any left, time passes and nothing happens.
    """

    scenes: list[Callable[["Scripted"], None]] = field(default_factory=list)
    heard: dict[bytes, Heartbeat | None] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    join_addresses: tuple[str, ...] = ()
    bytes_brought: int = 0
    time: float = 0.0
    tried: list[bytes] = field(default_factory=list)
    quotas: Quotas = DEFAULT

    def want_probes(self) -> None:
        """Ask nobody."""

    def probed(self) -> dict[bytes, ProbeReply | None]:
        """Nobody was asked."""
        return {}

    def apart(self) -> dict[bytes, VersionsApartError]:
        """All speak our version."""
        return {}

    def connected(self) -> list[bytes]:
        """Return who reports."""
        return sorted(self.heard)

    def listed(self) -> dict[bytes, tuple[str, ...]]:
        """Return nothing: it was started without a list."""
        return {}

    def moved(self, node: bytes) -> None:
        """Note it."""
        self.tried.append(node)

    def reports(self, _space: SpaceId, /) -> Mapping[bytes, Heartbeat | None]:
        """Return what was said last."""
        return dict(self.heard)

    def attested(self, _space: SpaceId, /) -> Attested:
        """Return nothing: nobody is heard."""
        return Attested()

    def want_tensors(self, _space: SpaceId, _node: bytes, /) -> None:
        """Ask nobody."""

    def brought(self) -> int:
        """Return what came."""
        return self.bytes_brought

    def needing(
        self,
    ) -> contextlib.AbstractContextManager[Callable[[Iterable[BlobId]], None]]:
        """Wait for what comes."""
        return contextlib.nullcontext(lambda _: None)

    def arriving(self) -> Mapping[BlobId, int]:
        """Return nothing."""
        return {}

    def limit(self, quotas: Quotas) -> None:
        """Hold to others."""
        self.quotas = quotas

    def waiting(self, _space: SpaceId) -> list[Held]:
        """Return nothing."""
        return []

    def upkeep(self) -> dict[str, object]:
        """Return nothing: no node runs."""
        return {}

    def metrics(self) -> dict[str, object]:
        """Return nothing."""
        return {}

    def now(self) -> float:
        """Return the time of the script."""
        return self.time

    def pause(self, seconds: float) -> None:
        """Play the next scene."""
        self.time += seconds
        if self.time > 10_000:
            raise AssertionError("waited for ever")
        if self.scenes:
            self.scenes.pop(0)(self)


@pytest.fixture
def cast(tmp_path: Path) -> Cast:
    return Cast(tmp_path)


def at(root: bytes) -> Heartbeat:
    """Return a report of a peer that stands at `root`."""
    return Heartbeat(SpaceId(b"s" * 32), root, 1, b"g" * 16, 1)


def says(peer: bytes, root: bytes) -> Callable[[Scripted], None]:
    """Return the scene in which a peer reports."""

    def scene(live: Scripted) -> None:
        live.heard[peer] = at(root)

    return scene


def nothing(_: Scripted) -> None:
    """Let nothing happen."""


def call(cast: Cast, live: Scripted, verb: str, **arguments: object) -> Any:
    """Run one verb in the owner's node, and collect progress."""
    told: list[Mapping[str, object]] = []
    with cast.fleet.open(cast.owner, live=live) as (_, _, verbs):
        answer = verbs.call(verb, arguments, told.append)
    return {**answer, "told": told}


def refused(
    cast: Cast,
    live: Scripted,
    error: type[CrdtMergeError],
    verb: str,
    **arguments: object,
) -> CrdtMergeError:
    """Check that the verb refuses and changes nothing."""
    before = snapshot(cast.owner)
    with pytest.raises(error) as found:
        call(cast, live, verb, **arguments)
    assert snapshot(cast.owner) == before
    return found.value


def root(cast: Cast) -> bytes:
    """Return the record root of the owner."""
    (space,) = cast.call(cast.owner, "status")["spaces"]
    return bytes.fromhex(space["record_root"])


# --- converged -------------------------------------------------------------------------


def test_what_a_peer_said_before_does_not_count(cast: Cast) -> None:
    """It may have moved on since: only a report that comes after the begin does."""
    here = root(cast)
    live = Scripted([nothing, nothing, says(PEER, here)], {PEER: at(here)})
    found = call(cast, live, "wait")
    assert live.time == pytest.approx(0.6)
    assert found["peers"] == [PEER.hex()]
    assert found["record_root"] == here.hex()
    assert found["told"][0] == {"work": "peers that agree", "done": 0, "total": 1}


def test_every_connected_peer_must_agree(cast: Cast) -> None:
    """One that agrees is not enough while another differs, nor one that left."""
    here = root(cast)
    scenes = [says(PEER, here), says(OTHER, b"x" * 32), nothing, says(OTHER, here)]
    live = Scripted(scenes, {PEER: None, OTHER: None})
    found = call(cast, live, "wait")
    assert found["agree"] == 2
    assert live.scenes == []


def test_a_peer_that_differs_is_named_when_time_is_over(cast: Cast) -> None:
    """With its root and ours; and who has said nothing."""
    live = Scripted([says(PEER, b"x" * 32)], {PEER: None, OTHER: None})
    error = refused(cast, live, NotConvergedError, "wait", timeout=5)
    for word in (
        f"peer {PEER.hex()[:12]} has root {b'x'.hex() * 6}",
        f"peer {OTHER.hex()[:12]} has not reported",
        root(cast).hex()[:12],
        "in 5 s",
    ):
        assert word in str(error)
    assert error.exit_code == 7
    assert live.time == pytest.approx(5, abs=0.3)


def test_too_few_peers_are_not_convergence(cast: Cast) -> None:
    """Nobody connected: the nodes that are not, are named; --peers 0 asks for none."""
    live = Scripted()
    error = refused(cast, live, NotConvergedError, "wait", timeout=1)
    assert "0 of 1 peers agree" in str(error)
    assert cast.fleet.node(cast.contributor)[:12] in str(error)
    assert "no address known" in str(error)
    assert call(cast, Scripted(), "wait", peers=0)["agree"] == 0
    here = root(cast)
    live = Scripted([says(PEER, here)], {PEER: None})
    error = refused(cast, live, NotConvergedError, "wait", peers=2, timeout=1)
    assert "1 of 2 peers agree" in str(error)


def test_missing_bytes_are_not_convergence(cast: Cast) -> None:
    """All peers agree on the records, and still something is not here."""
    cast.offers(cast.contributor, 0)
    cast.share()
    live = Scripted([says(PEER, root(cast))], {PEER: None})
    error = refused(cast, live, NotConvergedError, "wait", timeout=1)
    assert "blobs" in str(error)
    assert "missing here" in str(error)


def test_a_space_without_other_nodes_has_converged(tmp_path: Path) -> None:
    """There is nobody to wait for."""
    cast = Cast(tmp_path, alone=True)
    found = call(cast, Scripted(), "wait")
    assert (found["converged"], found["agree"]) == (True, 0)


def test_what_cannot_be_waited_for_is_refused(cast: Cast) -> None:
    """Negative numbers, texts, no node."""
    for words in ({"timeout": 0}, {"timeout": "5"}, {"peers": -1}, {"peers": 1.5}):
        refused(cast, Scripted(), BadInputError, "wait", **words)
    refused(cast, Scripted(), NotFoundError, "wait", space="nope")
    for verb in ("wait", "fetch"):
        cast.refused(cast.owner, ConflictError, verb)


# --- fetching --------------------------------------------------------------------------


def test_nothing_for_too_long_ends_a_fetch_with_what_is_missing(cast: Cast) -> None:
    """The contribution, who is connected, who is not and where it was looked for."""
    content = cast.offers(cast.contributor, 0)["content"]
    cast.share()
    node = cast.fleet.node(cast.contributor)
    cast.call(cast.owner, "peers_add", node=node, addresses=["far.example:7420"])
    live = Scripted(heard={PEER: at(root(cast))})
    error = refused(cast, live, ContentMissingError, "fetch", patience=30)
    for word in (content[:12], PEER.hex()[:12], node[:12], "far.example:7420", "30 s"):
        assert word in str(error)
    assert live.time == pytest.approx(30, abs=0.5)


def test_a_fetch_is_not_given_up_while_bytes_come(cast: Cast) -> None:
    """Patience is with standstill alone: a slow peer may take any time in all."""
    cast.offers(cast.contributor, 0)
    cast.share()

    def trickle(live: Scripted) -> None:
        live.bytes_brought += 1
        live.time += 25

    live = Scripted([trickle] * 20)
    refused(cast, live, ContentMissingError, "fetch", patience=30)
    assert live.time > 20 * 25


def test_a_contribution_that_is_not_named_is_not_waited_for(cast: Cast) -> None:
    """With ids, only those matter; the start of one is enough."""
    mine = cast.offers(cast.owner, 1)["content"]
    cast.offers(cast.contributor, 0)
    cast.share()
    found = call(cast, Scripted(), "fetch", ids=[mine[:8]])
    assert found["contributions"] == [mine]
    assert found["compared"]
    for ids, error in ((["abcdef01"], NotFoundError), (["x"], BadInputError)):
        refused(cast, Scripted(), error, "fetch", ids=ids)
    refused(cast, Scripted(), BadInputError, "fetch", ids="abcd")
    refused(cast, Scripted(), BadInputError, "fetch", patience=-1)


def test_a_fetch_of_all_first_hears_what_there_is(cast: Cast) -> None:
    """With nothing missing it still waits for a peer to agree; without one it says so."""
    here = root(cast)
    live = Scripted(
        [nothing, says(PEER, b"x" * 32), says(PEER, here)], {PEER: at(here)}
    )
    assert call(cast, live, "fetch")["compared"]
    assert live.scenes == []
    found = call(cast, Scripted(), "fetch", patience=2)
    assert not found["compared"]
    assert "no peer could be asked" in found["notes"][0]


# --- peers -----------------------------------------------------------------------------


def listed(cast: Cast, node: str) -> Any:
    """Return what is said of one node."""
    found = cast.call(cast.owner, "peers_list")["peers"]
    return next(peer for peer in found if peer["node"] == node)


UNTRIED: Final = {"successes": 0, "failures": 0, "worked": None}


def test_what_came_of_dialling_is_listed(cast: Cast) -> None:
    """Beside each address, and with addresses that nobody but a peer or mDNS told of."""
    node = cast.fleet.node(cast.contributor)
    with cast.fleet.open(cast.contributor) as (home, _, verbs):
        verbs.announce_node(home.node.public, ("told.example:1",))
    cast.share()
    key = bytes.fromhex(node)
    with cast.fleet.open(cast.owner) as (home, _, _):
        tried = [
            TriedFacts(
                key, "told.example:1", 2, 1, 1_700_000_000, 1_700_000_009, False
            ),
            TriedFacts(
                key, "10.0.0.7:1", 1, 0, 1_700_000_001, 1_700_000_001, local=True
            ),
            TriedFacts(key, "said.example:1", 0, 3, None, 1_700_000_002, local=False),
            TriedFacts(b"x" * 32, "away:1", 1, 0, 1, 1, local=False),  # no member
        ]
        home.local.keep_tried(tried, [])
    found = {place["address"]: place for place in listed(cast, node)["addresses"]}
    assert found == {
        "told.example:1": {
            "address": "told.example:1",
            "from": ["announced"],
            "successes": 2,
            "failures": 1,
            "worked": 1_700_000_000,
        },
        "10.0.0.7:1": {
            "address": "10.0.0.7:1",
            "from": ["local network"],
            "successes": 1,
            "failures": 0,
            "worked": 1_700_000_001,
        },
        "said.example:1": {
            "address": "said.example:1",
            "from": ["peer"],
            "successes": 0,
            "failures": 3,
            "worked": None,
        },
    }
    nodes = {peer["node"] for peer in cast.call(cast.owner, "peers_list")["peers"]}
    assert (b"x" * 32).hex() not in nodes


def test_an_address_that_was_added_is_kept_beside_what_is_announced(cast: Cast) -> None:
    """Each address with where it comes from; what was added is tried first."""
    node = cast.fleet.node(cast.contributor)
    with cast.fleet.open(cast.contributor) as (home, _, verbs):
        verbs.announce_node(home.node.public, ("told.example:1",))
    cast.share()
    live = Scripted()
    words = {"node": node[:8], "addresses": ["far.example:7420", "[::1]:7420"]}
    made = call(cast, live, "peers_add", **words)
    assert (made["new"], live.tried) == (True, [bytes.fromhex(node)])
    again = cast.call(cast.owner, "peers_add", **words)
    assert not again["new"]
    assert listed(cast, node) == {
        "node": node,
        "authors": [cast.key(cast.contributor)],
        "spaces": [cast.call(cast.owner, "status")["spaces"][0]["id"]],
        "addresses": [
            {"address": "far.example:7420", "from": ["added"], **UNTRIED},
            {"address": "[::1]:7420", "from": ["added"], **UNTRIED},
            {"address": "told.example:1", "from": ["announced"], **UNTRIED},
        ],
        "connected": False,
    }


def test_an_added_address_is_forgotten_on_demand(cast: Cast) -> None:
    """One of them, then the rest; what was not added is not removed."""
    node = cast.fleet.node(cast.contributor)
    words = {"node": node, "addresses": ["a.example:1", "b.example:2", "c.example:3"]}
    cast.call(cast.owner, "peers_add", **words)
    one = {"node": node[:4], "addresses": ["b.example:2"]}
    made = cast.call(cast.owner, "peers_remove", **one)
    assert made["addresses"] == ["a.example:1", "c.example:3"]
    cast.refused(cast.owner, NotFoundError, "peers_remove", **one)
    made = cast.call(cast.owner, "peers_remove", node=node)
    assert made["removed"] == ["a.example:1", "c.example:3"]
    assert listed(cast, node)["addresses"] == []
    cast.refused(cast.owner, NotFoundError, "peers_remove", node=node)


ADDRESSES = (
    "far.example",
    "far.example:",
    ":7420",
    "far.example:0",
    "far.example:70000",
    "far example:1",
    "::1:7420",
    "0.0.0.0:7420",
    "[::]:7420",
    "",
)


def test_what_is_no_address_is_not_kept(cast: Cast) -> None:
    """Nor one of a stranger's node, nor of our own, nor too many."""
    node = cast.fleet.node(cast.contributor)
    for text in ADDRESSES:
        words = {"node": node, "addresses": ["good.example:1", text]}
        cast.refused(cast.owner, BadInputError, "peers_add", **words)
    cast.refused(cast.owner, BadInputError, "peers_add", node=node, addresses=[])
    good = {"addresses": ["good.example:1"]}
    cast.refused(cast.owner, NotFoundError, "peers_add", node="ab" * 32, **good)
    cast.refused(cast.owner, BadInputError, "peers_add", node="zz", **good)
    with cast.fleet.open(cast.owner) as (home, _, verbs):
        verbs.name_node(home.node.public)
    mine = cast.fleet.node(cast.owner)
    cast.refused(cast.owner, BadInputError, "peers_add", node=mine, **good)
    many = [f"h{i}.example:1" for i in range(9)]
    cast.refused(cast.owner, BadInputError, "peers_add", node=node, addresses=many)
