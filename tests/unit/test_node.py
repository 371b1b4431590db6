"""A node's core answers every input with the effects that its rules ask for."""

import random
from dataclasses import replace
from typing import TypeVar

import pytest

from crdtmerge.bodies import Add, RecordId, SpaceId
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import BlobId, Domain, digest
from crdtmerge.identity import SigningKey
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.policy import Rank
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica, found_space
from crdtmerge.sync.messages import (
    CLUE_BYTES,
    FEATURES,
    PROTOCOL_VERSION,
    SALT_BYTES,
    Clues,
    CompareReply,
    CompareRequest,
    Heartbeat,
    Hello,
    RecordsReply,
    Rumour,
    SignedBytes,
)
from crdtmerge.sync.pulls import UNANSWERED_MAX
from nodes.choices import (
    FETCH_RETRY_S,
    FETCHES_BYTES,
    FETCHES_LEAST,
    FETCHES_MAX,
    FETCHES_URGENT,
    LIED_S,
    LIES_MAX,
)
from nodes.convert import encode
from nodes.effects import (
    BlobFailed,
    BlobsNeeded,
    BlobStored,
    Close,
    Dial,
    DialEnded,
    Effect,
    Fetch,
    Input,
    MessageReceived,
    MoreSources,
    PeerClosed,
    PeerFound,
    PeerMoved,
    PeerOpened,
    RecordsCommitted,
    Send,
    Source,
    SourceFailed,
    Ticked,
    Trust,
)
from nodes.gossip import (
    APART_S,
    BANISHED_S,
    BEATS_MAX,
    DIALS_PER_TICK,
    LEFT_S,
    RUMOUR_FANOUT,
)
from nodes.neighbours import CHOSEN, MESH_MAX
from nodes.node import Node
from nodes.spaces import Spaces
from nodes.store.memory import MemoryBlobs, MemoryRecords
from tests.unit.peers import BASE

E = TypeVar("E", bound=Effect)
ME = b"\x02" * 32
STRANGER = b"s" * 32


def author(number: int) -> SigningKey:
    return SigningKey(digest(Domain.SEED, number.to_bytes(4, "big")))


def transport(number: int) -> bytes:
    return number.to_bytes(32, "big")


class Home:
    """One node that owns a space with some members, driven input by input."""

    def __init__(self, members: int) -> None:
        self.blobs = MemoryBlobs()
        self.spaces = Spaces(MemoryRecords(b"g" * 16), self.blobs)
        self.now = 0.0
        self.space = self.found("first")
        self.say(self.replica(0).announce(ME, ("me:1",)))
        for number in range(1, members + 1):
            self.admit(number)
        self.node = Node(ME, self.spaces, random.Random(7), "tests/1")

    def found(self, name: str) -> SpaceId:
        """Found a space that author 0 owns."""
        genesis = found_space(
            author(0), name=name, mode="members", base=BASE, nonce=bytes(16)
        )
        space = SpaceId(genesis.record.id)
        self.spaces.commit(space, [genesis])
        return space

    def replica(self, number: int, space: SpaceId | None = None) -> Replica:
        """Return a space as an author sees it."""
        return Replica(self.spaces.opset(space or self.space), author(number))

    def say(self, record: SignedRecord) -> tuple[RecordId, ...]:
        """Store a record, without a word to the node."""
        return self.spaces.commit(record.record.space_id, [record])

    def admit(self, number: int, space: SpaceId | None = None) -> None:
        """Make a member of an author and its node."""
        public = author(number).public
        self.say(self.replica(0, space).grant(public, Rank.CONTRIBUTOR))
        address = (f"peer{number}:1",)
        self.say(self.replica(number, space).announce(transport(number), address))

    def do(self, item: Input, after: float = 0.0) -> list[Effect]:
        """Hand an input to the node, some seconds later."""
        self.now += after
        return self.node.handle(item, self.now)

    def open(self, *numbers: int) -> None:
        """Let streams with members open, and their hellos arrive."""
        hello = Hello(PROTOCOL_VERSION, "t")
        for number in numbers:
            self.do(PeerOpened(transport(number)))
            self.do(MessageReceived(transport(number), hello))

    def offer(self, number: int, *data: bytes, arrived: bool = True) -> SignedRecord:
        """Return an add whose manifest is here, but not its tensors."""
        names = sorted(f"t{i}" for i in range(len(data)))
        entries = tuple(
            TensorEntry(name, "U8", (len(d),), MemoryBlobs().add(d))
            for name, d in zip(names, data, strict=True)
        )
        manifest = Manifest("full", BASE, entries)
        if arrived:
            self.blobs.add(manifest.encode())
        replica = self.replica(number)
        return replica.contribute(manifest, weight=DECIMAL_UNIT, note="")


def only(effects: list[Effect], kind: type[E]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


# --- gossip ----------------------------------------------------------------------------


def test_the_first_tick_trusts_the_members_and_dials_them() -> None:
    """Trust names exactly the members; dials name their announced addresses."""
    home = Home(members=2)
    effects = home.do(Ticked())
    (trust,) = only(effects, Trust)
    assert trust.members == {ME, transport(1), transport(2)}
    assert sorted(only(effects, Dial), key=lambda d: d.peer) == [
        Dial(transport(1), ("peer1:1",)),
        Dial(transport(2), ("peer2:1",)),
    ]
    assert only(home.do(Ticked()), Dial) == []  # both are under way


@pytest.mark.parametrize(("members", "most"), [(MESH_MAX, MESH_MAX), (80, CHOSEN)])
def test_dials_are_few_at_a_time_and_bounded_in_all(members: int, most: int) -> None:
    """All of up to 64 others are dialled, step by step; of more than that a few."""
    home = Home(members=members)
    dialled: set[bytes] = set()
    for _ in range(20):
        dials = only(home.do(Ticked()), Dial)
        assert len(dials) <= DIALS_PER_TICK
        dialled |= {dial.peer for dial in dials}
    assert len(dialled) == most


def test_who_does_not_answer_is_dialled_later() -> None:
    """A failed dial is tried again, after a wait."""
    home = Home(members=1)
    home.do(Ticked())
    assert home.do(PeerClosed(transport(1))) == []
    assert only(home.do(Ticked()), Dial) == []
    assert only(home.do(Ticked(), after=1.0), Dial)


def test_a_peer_that_moved_is_dialled_at_once() -> None:
    """The user names an address: no back-off stands in its way, and it comes first."""
    home = Home(members=1)
    home.do(Ticked())
    for _ in range(5):
        home.do(PeerClosed(transport(1)))
    assert only(home.do(Ticked()), Dial) == []
    home.spaces.added = {transport(1): ("moved:1",), STRANGER: ("away:1",)}
    (dial,) = only(home.do(PeerMoved(transport(1))), Dial)
    assert dial == Dial(transport(1), ("moved:1", "peer1:1"))
    assert only(home.do(PeerMoved(STRANGER)), Dial) == []  # no member


def test_who_gets_its_rights_back_is_let_in_at_once() -> None:
    """It was cut off as no member; once the revocation is lifted, that is forgotten."""
    home = Home(members=1)
    home.open(1)
    revoke = home.replica(0).revoke(author(1).public, ())
    effects = home.do(RecordsCommitted(home.space, home.say(revoke)))
    assert [close.peer for close in only(effects, Close)] == [transport(1)]
    assert only(home.do(PeerOpened(transport(1))), Close)
    lift = home.replica(0).lift(revoke.record.id)
    home.do(RecordsCommitted(home.space, home.say(lift)))
    assert only(home.do(Ticked()), Dial)
    home.open(1)
    assert list(home.node.sessions) == [transport(1)]


def test_reports_are_what_the_peers_of_a_space_said_last() -> None:
    """None before the first; each report is another object, though it says the same."""
    home = Home(members=2)
    home.open(1, 2)
    assert home.node.reports(home.space) == {transport(1): None, transport(2): None}
    beats = [
        MessageReceived(
            transport(1), Heartbeat(home.space, bytes(32), 9, b"h" * 16, number)
        )
        for number in (3, 3, 4)
    ]
    found = []
    for beat in beats:
        home.do(beat)
        found.append(home.node.reports(home.space)[transport(1)])
    assert found == [beat.message for beat in beats]
    assert found[0] is not found[1]
    assert home.node.reports(SpaceId(bytes(32))) == {}
    home.do(PeerClosed(transport(1)))
    assert list(home.node.reports(home.space)) == [transport(2)]


def test_a_tick_beats_to_one_peer() -> None:
    """Each round compares roots with one peer, not with all."""
    home = Home(members=5)
    home.open(1, 2, 3, 4, 5)
    effects = home.do(Ticked())
    beats = [s for s in only(effects, Send) if isinstance(s.message, Heartbeat)]
    assert len(beats) == 1


def test_a_stranger_is_sent_away() -> None:
    """No word is said to a peer without a space in common."""
    home = Home(members=1)
    effects = home.do(PeerOpened(STRANGER))
    assert [type(e) for e in effects] == [Close]
    assert home.do(MessageReceived(STRANGER, Hello(PROTOCOL_VERSION, "t"))) == []


def test_local_news_is_pushed_to_a_few() -> None:
    """A committed record goes to as many peers as the fan-out says."""
    home = Home(members=6)
    home.open(1, 2, 3, 4, 5, 6)
    record = home.replica(0).ban("content", bytes(32))
    effects = home.do(RecordsCommitted(home.space, home.say(record)))
    rumours = [s for s in only(effects, Send) if isinstance(s.message, Rumour)]
    assert len({s.peer for s in rumours}) == RUMOUR_FANOUT


def test_a_rumour_is_passed_on_but_not_back_and_not_twice() -> None:
    """What a peer told is new once, and not news to that peer."""
    home = Home(members=2)
    home.open(1, 2)
    record = home.replica(1).announce(transport(1), ("peer1:2",))
    raw = SignedBytes(record.record.data, record.signature)
    heard = MessageReceived(transport(1), Rumour(home.space, (raw,)))
    sends = only(home.do(heard), Send)
    assert [s.peer for s in sends] == [transport(2)]
    assert home.do(heard) == []


# --- peers that break the rules --------------------------------------------------------


def test_a_liar_is_closed_and_banished_for_a_while() -> None:
    """An unasked reply costs the stream; the peer may not come back at once."""
    home = Home(members=1)
    home.open(1)
    lie = RecordsReply(home.space, (), ())
    (close,) = only(home.do(MessageReceived(transport(1), lie)), Close)
    assert close.peer == transport(1)
    home.do(PeerClosed(transport(1)))
    assert only(home.do(PeerOpened(transport(1)), after=1.0), Close)
    assert only(home.do(Ticked(), after=1.0), Dial) == []
    assert only(home.do(Ticked(), after=BANISHED_S), Dial)


def test_who_does_not_answer_is_left_and_dialled_again_soon() -> None:
    """A silent peer holds no stream; a bad link is no crime, so nobody is banished."""
    home = Home(members=1)
    home.open(1)
    claim = Heartbeat(home.space, b"r" * 32, 1_000, b"g" * 16, 1_000)
    beat = MessageReceived(transport(1), claim)
    closes = [c for _ in range(UNANSWERED_MAX + 2) for c in only(home.do(beat), Close)]
    assert [close.peer for close in closes] == [transport(1)]
    home.do(PeerClosed(transport(1)))
    assert only(home.do(Ticked()), Dial) == []
    assert only(home.do(Ticked(), after=2.0), Dial)


def test_a_short_question_costs_what_its_answer_took() -> None:
    """One section of a comparison leads to sixteen, each as dear as one that was asked."""
    home = Home(60)
    home.open(1)
    hello = Hello(PROTOCOL_VERSION, "peer", features=FEATURES)
    home.do(MessageReceived(transport(1), hello))
    before = home.node.accounts.units
    clues = (b"\1" * CLUE_BYTES,) * 16
    asked = CompareRequest(home.space, bytes(SALT_BYTES), (Clues((), clues),), number=1)
    done = home.do(MessageReceived(transport(1), asked))
    (reply,) = [s.message for s in only(done, Send)]
    assert isinstance(reply, CompareReply)
    assert len(reply.sections) == 16
    assert home.node.accounts.units - before >= 17


def test_a_banned_author_loses_its_stream() -> None:
    """A ban takes effect on open streams at once, and others hear of it."""
    home = Home(members=2)
    home.open(1, 2)
    home.do(Ticked())
    ban = home.replica(0).ban("author", author(1).public)
    effects = home.do(RecordsCommitted(home.space, home.say(ban)))
    assert [close.peer for close in only(effects, Close)] == [transport(1)]
    (trust,) = only(effects, Trust)
    assert transport(1) not in trust.members


def test_leaving_one_of_two_spaces_ends_the_sharing_of_it() -> None:
    """Who stays a member elsewhere keeps the stream, and hears nothing of this space."""
    home = Home(members=1)
    other = home.found("other")
    home.admit(1, other)
    home.do(Ticked())
    home.open(1)
    assert home.node.sessions[transport(1)].shared == {home.space, other}
    ban = home.replica(0).ban("author", author(1).public)
    effects = home.do(RecordsCommitted(home.space, home.say(ban)))
    assert only(effects, Close) == []
    assert home.node.sessions[transport(1)].shared == {other}


def test_a_new_member_hears_of_its_space_on_an_open_stream() -> None:
    """A space that becomes shared is told of at once."""
    home = Home(members=1)
    other = home.found("other")
    home.do(Ticked())
    home.open(1)
    home.admit(1, other)
    effects = home.do(RecordsCommitted(other, ()))
    told = {
        s.message.space for s in only(effects, Send) if isinstance(s.message, Heartbeat)
    }
    assert other in told


# --- versions --------------------------------------------------------------------------


def test_who_shares_no_version_is_tried_again_quietly() -> None:
    """Nobody lied: it is not banished, is dialled now and then, and heard once it can."""
    home = Home(members=1)
    home.do(Ticked())
    peer, later = transport(1), Hello(2, "later", oldest=2, newest=3)
    for _ in range(3):
        home.do(PeerOpened(peer))
        (close,) = only(home.do(MessageReceived(peer, later)), Close)
        assert "this node must be upgraded" in close.reason
        assert not close.broke_rules
        home.do(PeerClosed(peer))
        assert home.node.apart[peer].we_upgrade
        assert not home.node._backoff.banished(peer, home.now)
        assert only(home.do(Ticked(), after=APART_S / 2 - 1), Dial) == []
        assert only(home.do(Ticked(), after=APART_S / 2 + 1), Dial)
    home.open(1)
    assert peer in home.node.sessions
    assert home.node.apart == {}
    assert home.node.dropped == {"VersionsApartError": 3}


def test_what_is_known_of_versions_goes_with_the_member() -> None:
    """A member that was revoked leaves no trace."""
    home = Home(members=1)
    home.open()
    peer = transport(1)
    home.do(PeerOpened(peer))
    home.do(MessageReceived(peer, Hello(2, "later")))
    assert list(home.node.apart) == [peer]
    home.say(home.replica(0).revoke(author(1).public, ()))
    home.do(Ticked())
    assert home.node.apart == {}


# --- contents --------------------------------------------------------------------------


def test_visible_tensors_are_fetched_a_few_at_a_time() -> None:
    """Fetches name signed sizes; each end makes room for the next, until none lacks."""
    home = Home(members=1)
    home.open(1)
    parts = [bytes([n]) * (n + 1) for n in range(FETCHES_MAX + 3)]
    offered = home.say(home.offer(1, *parts))
    fetches = only(home.do(RecordsCommitted(home.space, offered)), Fetch)
    assert len(fetches) == FETCHES_MAX - FETCHES_URGENT
    fetched: list[BlobId] = []
    while fetches:
        fetch = fetches.pop()
        data = next(p for p in parts if len(p) == fetch.size)
        home.blobs.receive(fetch.blob, data)
        fetched.append(fetch.blob)
        fetches += only(home.do(BlobStored(fetch.blob)), Fetch)
    assert len(set(fetched)) == len(fetched) == len(parts)
    assert home.spaces.missing(home.space) == {}


def test_a_manifest_is_fetched_before_its_tensors() -> None:
    """Tensors are known only once the manifest is here."""
    home = Home(members=1)
    home.open(1)
    record = home.offer(1, b"data", arrived=False)
    (fetch,) = only(home.do(RecordsCommitted(home.space, home.say(record))), Fetch)
    manifest = Manifest(
        "full", BASE, (TensorEntry("t0", "U8", (4,), MemoryBlobs().add(b"data")),)
    )
    home.blobs.receive(fetch.blob, manifest.encode())
    (tensor,) = only(home.do(BlobStored(fetch.blob)), Fetch)
    assert tensor.size == 4


def test_a_peer_without_the_blob_is_asked_again_later() -> None:
    """A refusal is no lie: the others are asked, and this one after a while."""
    home = Home(members=2)
    home.open(1, 2)
    offered = home.say(home.offer(1, b"data"))
    (first,) = only(home.do(RecordsCommitted(home.space, offered)), Fetch)
    assert set(peers_of(first)) == {transport(1), transport(2)}
    for number in (1, 2):
        assert home.do(SourceFailed(transport(number), first.blob, lied=False)) == []
    assert only(home.do(BlobFailed(first.blob)), Fetch) == []
    assert only(home.do(Ticked(), after=FETCH_RETRY_S / 2), Fetch) == []
    (second,) = only(home.do(Ticked(), after=FETCH_RETRY_S / 2), Fetch)
    assert set(peers_of(second)) == {transport(1), transport(2)}


def test_other_bytes_cost_a_peer_that_blob_alone() -> None:
    """Its disk may be bad: others bring the blob, and it keeps its stream."""
    home = Home(members=2)
    home.open(1, 2)
    offered = home.say(home.offer(1, b"data", b"more"))
    first, other = only(home.do(RecordsCommitted(home.space, offered)), Fetch)
    effects = home.do(SourceFailed(transport(1), first.blob, lied=True))
    effects += home.do(BlobFailed(first.blob))
    home.do(BlobFailed(other.blob))
    assert only(effects, Close) == []
    again = only(home.do(Ticked(), after=LIED_S / 2), Fetch)
    whom = {fetch.blob: set(peers_of(fetch)) for fetch in again}
    assert whom[first.blob] == {transport(2)}
    assert whom[other.blob] == {transport(1), transport(2)}
    home.do(BlobFailed(first.blob))
    (later,) = only(home.do(Ticked(), after=LIED_S), Fetch)
    assert set(peers_of(later)) == {transport(1), transport(2)}


def test_a_peer_that_sends_other_bytes_for_many_blobs_is_dropped() -> None:
    """Once is bad luck; as often as stated it is a liar, and loses its stream."""
    home = Home(members=2)
    home.open(1, 2)
    parts = [bytes([n]) * 9 for n in range(LIES_MAX)]
    offered = home.say(home.offer(1, *parts))
    fetches = only(home.do(RecordsCommitted(home.space, offered)), Fetch)
    closes: list[Close] = []
    for fetch in fetches:
        assert closes == []
        for _ in range(2):  # twice for one blob is once
            lie = SourceFailed(transport(1), fetch.blob, lied=True)
            closes += only(home.do(lie), Close)
    assert [close.peer for close in closes] == [transport(1)]
    assert closes[0].broke_rules


def test_a_peer_that_comes_later_helps_with_what_is_under_way() -> None:
    """Once, at the next tick."""
    home = Home(members=2)
    home.open(1)
    offered = home.say(home.offer(1, b"data"))
    (fetch,) = only(home.do(RecordsCommitted(home.space, offered)), Fetch)
    assert peers_of(fetch) == [transport(1)]
    home.open(2)
    (more,) = only(home.do(Ticked()), MoreSources)
    assert more == MoreSources(fetch.blob, (Source(transport(2), home.space),))
    assert only(home.do(Ticked()), MoreSources) == []


def test_many_small_blobs_are_in_flight_and_few_large_ones() -> None:
    """The bytes in flight are bounded, not their number alone."""
    home = Home(members=1)
    home.open(1)
    sizes = dict.fromkeys((FETCHES_BYTES // 2, 10), 40)
    for size, count in sizes.items():
        entries = tuple(
            TensorEntry(
                f"t{n}", "U8", (size,), BlobId(bytes([n + 1]) * 31 + b"%d" % (size % 7))
            )
            for n in range(10, 10 + count)
        )
        manifest = Manifest("full", BASE, entries)
        home.blobs.add(manifest.encode())
        record = home.replica(1).contribute(manifest, weight=DECIMAL_UNIT, note="")
        home.say(record)
    fetches = only(home.do(Ticked()), Fetch)
    large = [fetch for fetch in fetches if fetch.size > 10]
    assert len(large) <= FETCHES_LEAST
    for fetch in large:
        fetches += only(home.do(BlobFailed(fetch.blob)), Fetch)
    assert len(fetches) > FETCHES_LEAST


def test_what_somebody_waits_for_comes_first() -> None:
    """Before what was wanted longer, and though ordinary ones fill their places."""
    home = Home(members=1)
    home.open(1)
    parts = [bytes([n]) * 9 for n in range(FETCHES_MAX + 9)]
    offered = home.say(home.offer(1, *parts))
    fetches = only(home.do(RecordsCommitted(home.space, offered)), Fetch)
    assert len(fetches) == FETCHES_MAX - FETCHES_URGENT
    late = max(home.spaces.missing(home.space).keys() - {f.blob for f in fetches})
    (urgent,) = only(home.do(BlobsNeeded((late,))), Fetch)
    assert urgent.blob == late


def peers_of(fetch: Fetch) -> list[bytes]:
    return [source.peer for source in fetch.sources]


def test_what_is_banned_is_not_fetched() -> None:
    """Contents that do not count cost nothing."""
    home = Home(members=1)
    record = home.offer(1, b"data")
    home.say(record)
    manifest = Manifest(
        "full", BASE, (TensorEntry("t0", "U8", (4,), MemoryBlobs().add(b"data")),)
    )
    home.say(home.replica(0).ban("content", manifest.content_id))
    home.open(1)
    assert only(home.do(Ticked()), Fetch) == []


def test_a_junk_manifest_does_not_keep_an_honest_one_out() -> None:
    """Of two manifests named for one content, a wrong one that arrived blocks nothing."""
    home = Home(members=2)
    home.open(1, 2)
    honest = home.offer(1, b"data", arrived=False)
    tries = (_renamed(home, honest, nonce) for nonce in range(256))
    home.say(next(junk for junk in tries if junk.record.id < honest.record.id))
    home.say(honest)
    (fetch,) = only(home.do(Ticked()), Fetch)
    assert not home.blobs.has(fetch.blob)


def _renamed(home: Home, honest: SignedRecord, nonce: int) -> SignedRecord:
    """Return an add of the same content by another member, with a junk manifest."""
    junk = home.blobs.add(b"junk" + bytes([nonce]))
    body = honest.record.body
    assert isinstance(body, Add)
    return home.replica(2)._sign(replace(body, manifest=junk, manifest_bytes=5))


def _until_dialled(home: Home, peer: bytes) -> float:
    """Return after how many seconds a peer is dialled."""
    began = home.now
    while not any(isinstance(e, Dial) and e.peer == peer for e in home.do(Ticked(), 1)):
        assert home.now - began < 100
    return home.now - began


def test_who_lets_us_in_only_to_refuse_us_is_dialled_ever_more_seldom() -> None:
    """A full node takes the call before it says that there is no room."""
    home, peer, waits = Home(1), transport(1), []
    for _ in range(8):
        home.do(PeerOpened(peer))
        home.do(PeerClosed(peer))
        waits.append(_until_dialled(home, peer))
    assert waits[-1] > 10 > waits[0]
    home.open(1)
    home.do(PeerClosed(peer))
    assert _until_dialled(home, peer) <= 2


def test_who_said_goodbye_is_left_alone_for_a_while() -> None:
    """With jitter, and no failure is counted: it is dialled once, and then as ever."""
    waits = []
    for seed in range(8):
        home = Home(1)
        home.node.rng = random.Random(seed)
        home.open(1)
        home.do(PeerClosed(transport(1), left=True))
        waits.append(_until_dialled(home, transport(1)))
        home.do(DialEnded(transport(1)))
        assert _until_dialled(home, transport(1)) <= 2
    assert min(waits) > LEFT_S / 4
    assert max(waits) <= LEFT_S + 1
    assert len(set(waits)) > 3


def test_an_exchange_is_bounded_and_covers_all_spaces_in_turn() -> None:
    """With more spaces in common than one exchange holds, each is drawn some time."""
    home = Home(members=1)
    for number in range(BEATS_MAX + 16):
        space = home.found(f"more {number}")
        home.say(home.replica(0, space).announce(ME, ("me:1",)))
        home.admit(1, space)
    home.do(Ticked())
    home.open(1)
    told: set[bytes] = set()
    for _ in range(20):
        sends = only(home.do(Ticked(), after=1.0), Send)
        beats = [s.message for s in sends if isinstance(s.message, Heartbeat)]
        assert len(beats) == BEATS_MAX
        assert sum(len(encode(beat)) for beat in beats) <= 400 * BEATS_MAX
        told |= {beat.space for beat in beats}
    assert told == set(home.spaces.all())


def test_who_was_found_on_the_local_network_is_tried_there_first() -> None:
    """A member alone, and only as long as it is announced there."""
    home = Home(members=2)
    home.do(PeerFound(transport(1), ("10.0.0.7:1",)))
    home.do(PeerFound(STRANGER, ("10.0.0.8:1",)))
    dials = {dial.peer: dial.addresses for dial in only(home.do(Ticked()), Dial)}
    assert dials[transport(1)] == ("10.0.0.7:1", "peer1:1")
    assert STRANGER not in dials
    home.do(PeerClosed(transport(1)))
    home.do(PeerFound(transport(1), ()))
    (dial,) = only(home.do(Ticked(), after=60.0), Dial)
    assert dial.addresses == ("peer1:1",)
