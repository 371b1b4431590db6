"""A node's core passes attestations on, asks who differs where, and stays bounded."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from crdtmerge.digest import BlobId, Domain, digest
from crdtmerge.identity import SigningKey
from crdtmerge.manifest import TensorEntry
from crdtmerge.policy import Rank
from crdtmerge.resolve.resolution import model_digest
from crdtmerge.sync import listings
from crdtmerge.sync.attestations import Attestation
from crdtmerge.sync.messages import (
    FEATURES,
    PROTOCOL_VERSION,
    Attestations,
    AttestationsRequest,
    Beside,
    Heartbeat,
    Hello,
    SignedBytes,
    TensorsReply,
    TensorsRequest,
)
from nodes.attesting import (
    ANSWERS_MAX,
    LIST_AGAIN_TICKS,
    LIST_TICKS_MAX,
    LISTS_MAX,
    NEWS_MAX,
    WINDOW_TICKS,
    Attested,
)
from nodes.convert import encode
from nodes.effects import (
    Close,
    MessageReceived,
    PeerClosed,
    PeerOpened,
    Resolved,
    Send,
    TensorsWanted,
    Ticked,
)
from nodes.gossip import RUMOUR_FANOUT
from nodes.node import Node
from nodes.wire import replica_pb2
from tests.unit.test_node import ME, Home, author, only

KEYS = [SigningKey(digest(Domain.SEED, f"node {n}".encode())) for n in range(9)]
MERGE = b"m" * 32


def tensors(*wrong: int, count: int = 4) -> tuple[TensorEntry, ...]:
    """Return the tensors of a model; the `wrong` ones have other bytes."""
    return tuple(
        TensorEntry(f"t{n:05}", "F32", (2,), BlobId(bytes([n in wrong]) * 32))
        for n in range(count)
    )


class Attester(Home):
    """A node that speaks of attestations with members whose keys we have."""

    def __init__(self, members: int) -> None:
        super().__init__(0)
        self.say(self.replica(0).announce(KEYS[0].public, ("me:1",)))
        for number in range(1, members + 1):
            self.say(self.replica(0).grant(author(number).public, Rank.CONTRIBUTOR))
            public, address = KEYS[number].public, (f"peer{number}:1",)
            self.say(self.replica(number).announce(public, address))
        self.node = Node(KEYS[0].public, self.spaces, self.node.rng, "tests/1")
        self.do(Ticked())

    def open(self, *numbers: int, features: int = FEATURES) -> None:
        """Let streams with members open, and their hellos arrive."""
        for number in numbers:
            self.do(PeerOpened(KEYS[number].public))
            self.heard(number, Hello(PROTOCOL_VERSION, "t", features=features))

    def said(
        self, number: int, counter: int = 1, *wrong: int, merge: bytes = MERGE
    ) -> SignedBytes:
        """Return what a node attests; the numbers in `wrong` are tensors it changed."""
        attestation = Attestation(
            self.space,
            KEYS[number].public,
            counter,
            merge,
            model_digest(tensors(*wrong)),
            1,
            "tests",
        )
        return attestation.sign(KEYS[number])

    def tell(self, number: int, *items: SignedBytes) -> list[Send]:
        """Let a peer push attestations."""
        return self.heard(number, Attestations(self.space, items))

    def heard(self, number: int, message: Beside | Hello | Heartbeat) -> list[Send]:
        """Let a message of a peer arrive; return what is said upon it."""
        return only(self.do(MessageReceived(KEYS[number].public, message)), Send)

    def beat(self, attested: bytes = b"") -> Heartbeat:
        """Return the heartbeat of a peer with our records."""
        return replace(self.spaces.heartbeat(self.space), attested=attested)

    @property
    def known(self) -> Attested:
        """What the node knows of the space."""
        return self.node.attesting.known(self.space)

    @property
    def counters(self) -> dict[int, int]:
        """The counter that is known of each node."""
        numbers = {bytes(key.public): n for n, key in enumerate(KEYS)}
        return {
            numbers[node]: heard.attestation.counter
            for node, heard in sorted(self.known.latest.items())
        }

    def resolve(self, counter: int = 1, *wrong: int) -> list[Send]:
        """Let this home resolve; return what is said of it."""
        self.do(Resolved(self.said(0, counter, *wrong), tensors(*wrong)))
        return only(self.do(Ticked()), Send)


def beside(sends: Iterable[Send]) -> list[tuple[bytes, Beside]]:
    return [(s.peer, s.message) for s in sends if isinstance(s.message, Beside)]


# --- gossip -----------------------------------------------------------------------------


def test_what_a_home_resolved_is_told_to_a_few_and_marks_its_heartbeats() -> None:
    """News is pushed once; heartbeats tell the rest that there is something."""
    home = Attester(6)
    home.open(1, 2, 3, 4, 5, 6)
    told = beside(home.resolve())
    assert {message for _, message in told} == {
        Attestations(home.space, (home.said(0),))
    }
    assert len({peer for peer, _ in told}) == RUMOUR_FANOUT
    sends = only(home.do(Ticked()), Send)
    assert beside(sends) == []
    (beat,) = [s.message for s in sends if isinstance(s.message, Heartbeat)]
    assert len(beat.attested) == 16


def test_news_is_passed_on_but_not_back_and_not_twice() -> None:
    """As rumours are; a replay of an older attestation is not news either."""
    home = Attester(3)
    home.open(1, 2)
    assert [p for p, _ in beside(home.tell(1, home.said(3, 2)))] == [KEYS[2].public]
    assert home.tell(1, home.said(3, 2)) == []
    assert home.tell(2, home.said(3, 1)) == []
    assert home.counters == {3: 2}


def test_nothing_is_said_of_it_to_who_does_not_speak_it() -> None:
    """A node of the version before refuses frames that it does not know."""
    home = Attester(2)
    home.open(1, features=0)
    home.open(2)
    assert [p for p, _ in beside(home.resolve())] == [KEYS[2].public]
    assert beside(home.tell(2, home.said(2))) == []
    assert beside(home.heard(1, home.beat(b"x" * 16))) == []


def test_a_node_of_the_version_before_reads_what_it_is_sent() -> None:
    """New fields of a hello and a heartbeat are unknown to it, and change nothing."""
    home = Attester(1)
    home.resolve()
    sends = [*only(home.do(PeerOpened(KEYS[1].public)), Send)]
    home.heard(1, Hello(PROTOCOL_VERSION, "older"))
    for _ in range(3):
        sends += only(home.do(Ticked()), Send)
    kinds = set()
    for send in sends:
        frame = _frame_before().FromString(encode(send.message))
        kinds.add(frame.WhichOneof("body"))
        if frame.HasField("heartbeat"):
            assert frame.heartbeat.root == home.spaces.opset(home.space).root
    assert kinds == {"hello", "heartbeat"}


def _frame_before() -> Any:
    """Return the frame as it was before there were attestations."""
    told = descriptor_pb2.FileDescriptorProto()
    replica_pb2.DESCRIPTOR.CopyToProto(told)
    told.name, told.package = "before.proto", "before"
    fields = {"Frame": 9, "Hello": 3, "Heartbeat": 7}
    for message in told.message_type:
        last = fields.get(message.name, 1 << 29)
        kept = [field for field in message.field if field.number <= last]
        del message.field[:]
        message.field.extend(kept)
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace("crdtmerge.v1", "before")
    del told.service[:]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(told)
    found = pool.FindMessageTypeByName("before.Frame")
    return message_factory.GetMessageClass(found)


def test_who_lacks_something_asks_for_it_and_gets_just_that() -> None:
    """The mark tells that tables differ; what is held is told, and the rest comes."""
    home, other = Attester(2), Attester(2)
    home.open(1)
    other.open(1)
    home.tell(1, home.said(1, 3), home.said(2, 1))
    other.tell(1, home.said(1, 2), home.said(2, 1))
    mark = home.node.attesting.marked(home.beat()).attested
    ((_, asked),) = beside(other.heard(1, other.beat(mark)))
    assert isinstance(asked, AttestationsRequest)
    ((_, answer),) = beside(home.heard(1, asked))
    assert answer == Attestations(home.space, (home.said(1, 3),))
    assert isinstance(answer, Attestations)
    other.tell(1, *answer.items)
    assert other.counters == home.counters
    assert beside(other.heard(1, other.beat(mark))) == []


def test_while_records_differ_nothing_is_asked() -> None:
    """Who is a member is not yet the same on both sides: they would ask for ever."""
    home = Attester(1)
    home.open(1)
    beat = replace(home.beat(b"x" * 16), root=b"r" * 32)
    assert beside(home.heard(1, beat)) == []


# --- what does not count ----------------------------------------------------------------


def test_a_stranger_is_not_heard_and_nobody_is_blamed_for_it() -> None:
    """Whoever passes it on may know a member that we do not know yet."""
    home = Attester(1)
    home.open(1)
    assert home.do(MessageReceived(KEYS[1].public, news(home, 5))) == []
    assert home.counters == {}


def news(home: Attester, number: int, counter: int = 1) -> Attestations:
    return Attestations(home.space, (home.said(number, counter),))


def test_a_forged_attestation_costs_its_bringer_the_stream() -> None:
    """Honest nodes verify what they pass on."""
    home = Attester(2)
    home.open(1)
    forged = SignedBytes(home.said(2).data, home.said(1).signature)
    told = MessageReceived(KEYS[1].public, Attestations(home.space, (forged,)))
    (close,) = only(home.do(told), Close)
    assert close.broke_rules
    assert home.counters == {}


def test_who_leaves_the_space_is_forgotten() -> None:
    """With the ban of its author, what a node attested is gone."""
    home = Attester(2)
    home.open(1, 2)
    home.tell(1, home.said(1), home.said(2))
    home.resolve()
    home.say(home.replica(0).ban("author", author(1).public))
    home.do(Ticked())
    assert home.counters == {0: 1, 2: 1}
    home.tell(2, home.said(1, 9))
    assert home.counters == {0: 1, 2: 1}


def test_nothing_of_a_space_is_told_to_who_does_not_share_it() -> None:
    """A peer of another space asks in vain, and cannot push."""
    home = Attester(1)
    home.resolve()
    other = home.found("other")
    home.admit(2, other)  # its node is another key: it stays a peer of that one alone
    home.say(home.replica(2, other).announce(KEYS[2].public, ("peer2:1",)))
    home.do(Ticked())
    home.open(2)
    assert home.node.sessions[KEYS[2].public].shared == {other}
    assert home.heard(2, AttestationsRequest(home.space, ())) == []
    assert home.heard(2, news(home, 1)) == []
    assert (
        home.heard(2, TensorsRequest(home.space, model_digest(tensors()), 0, 1)) == []
    )
    assert home.counters == {0: 1}


def test_a_node_that_attests_without_end_is_heard_a_few_times_a_window() -> None:
    """The rest costs a look; its last word comes through when the window is over."""
    home = Attester(2)
    home.open(1, 2)
    passed = 0
    for counter in range(1, 60):
        passed += len(beside(home.tell(1, home.said(1, counter))))
    assert passed == NEWS_MAX
    assert home.node.attesting.counts["too soon"] == 59 - NEWS_MAX
    home.tell(2, home.said(2, 5))
    assert home.counters == {1: NEWS_MAX, 2: 5}  # others are not held back
    for _ in range(WINDOW_TICKS):
        home.do(Ticked())
    home.tell(2, home.said(1, 59))
    assert home.counters == {1: 59, 2: 5}


def test_requests_and_marks_of_one_peer_are_answered_a_few_times_a_window() -> None:
    """A small question may have a large answer."""
    home = Attester(1)
    home.open(1)
    home.resolve()
    for _ in range(WINDOW_TICKS):
        home.do(Ticked())
    request = AttestationsRequest(home.space, ())
    answers = [beside(home.heard(1, request)) for _ in range(20)]
    assert sum(map(len, answers)) == ANSWERS_MAX
    asked = [beside(home.heard(1, home.beat(bytes([n]) * 16))) for n in range(20)]
    assert sum(map(len, asked)) == ANSWERS_MAX


# --- who differs ------------------------------------------------------------------------


def test_who_differs_is_asked_for_its_tensors_and_they_are_named() -> None:
    """One state, one contract, two models: the peer's own list says where."""
    home = Attester(2)
    home.open(1, 2)
    home.resolve()
    home.tell(1, home.said(1, 1, 2))
    home.tell(2, home.said(2))
    ((peer, asked),) = beside(only(home.do(Ticked()), Send))
    model = model_digest(tensors(2))
    assert (peer, asked) == (KEYS[1].public, TensorsRequest(home.space, model, 0, 1))
    home.heard(1, TensorsReply(home.space, model, 4, tensors(2), 1))
    (listed,) = home.known.lists.items()
    assert listed[0] == KEYS[1].public
    assert listings.differing(tensors(), listed[1].tensors) == ("t00002",)
    assert beside(only(home.do(Ticked()), Send)) == []


def test_who_agrees_or_speaks_of_another_state_is_not_asked() -> None:
    """Another merge id is another model, by right."""
    home = Attester(2)
    home.open(1, 2)
    home.resolve()
    home.tell(1, home.said(1))
    home.tell(2, home.said(2, 1, 3, merge=b"n" * 32))
    assert beside(only(home.do(Ticked()), Send)) == []


def test_a_list_that_somebody_waits_for_is_asked_for_without_a_difference() -> None:
    """An audit wants what a peer attests, whether this home has resolved or not."""
    home = Attester(1)
    home.open(1)
    home.do(TensorsWanted(home.space, KEYS[1].public))
    assert beside(only(home.do(Ticked()), Send)) == []
    home.tell(1, home.said(1))
    ((_, asked),) = beside(only(home.do(Ticked()), Send))
    assert isinstance(asked, TensorsRequest)
    home.heard(1, TensorsReply(home.space, asked.model, 4, tensors(), asked.number))
    assert home.known.lists[KEYS[1].public].tensors == tensors()


def test_a_long_list_is_asked_for_page_by_page() -> None:
    """And the page that is lost is asked for again, under a new number."""
    home = Attester(1)
    home.open(1)
    home.resolve()
    home.tell(1, home.said(1, 1, 1))
    home.do(Ticked())
    model = model_digest(tensors(1))
    first = TensorsReply(home.space, model, 4, tensors(1)[:3], 1)
    ((_, asked),) = beside(home.heard(1, first))
    assert asked == TensorsRequest(home.space, model, 3, 2)
    assert home.heard(1, first) == []  # it comes twice
    for _ in range(LIST_AGAIN_TICKS):
        again = beside(only(home.do(Ticked()), Send))
    assert again == [(KEYS[1].public, TensorsRequest(home.space, model, 3, 3))]
    home.heard(1, TensorsReply(home.space, model, 4, tensors(1)[3:], 2))  # too late
    assert home.known.lists == {}
    home.heard(1, TensorsReply(home.space, model, 4, tensors(1)[3:], 3))
    assert home.known.lists[KEYS[1].public].tensors == tensors(1)


def test_a_list_that_is_not_what_was_attested_costs_the_stream() -> None:
    """A liar cannot blame another tensor than the one it changed."""
    home = Attester(1)
    home.open(1)
    home.resolve()
    home.tell(1, home.said(1, 1, 1))
    home.do(Ticked())
    lie = TensorsReply(home.space, model_digest(tensors(1)), 4, tensors(2), 1)
    (close,) = only(home.do(MessageReceived(KEYS[1].public, lie)), Close)
    assert close.broke_rules


def test_who_is_silent_or_has_no_list_does_not_keep_others_waiting() -> None:
    """One list is asked for at a time, and in turn."""
    home = Attester(2)
    home.open(1, 2)
    home.resolve()
    home.tell(1, home.said(1, 1, 1))
    home.tell(2, home.said(2, 1, 2))
    silent, other = sorted((KEYS[1].public, KEYS[2].public))
    asked = beside(only(home.do(Ticked()), Send))
    assert asked[0][0] == silent
    for _ in range(LIST_TICKS_MAX + 1):
        asked = beside(only(home.do(Ticked()), Send)) or asked
    ((peer, request),) = asked
    assert peer == other
    assert isinstance(request, TensorsRequest)
    gone = TensorsReply(home.space, request.model, 0, (), request.number)
    home.do(MessageReceived(other, gone))
    ((peer, _),) = beside(only(home.do(Ticked()), Send))
    assert peer == silent
    home.do(PeerClosed(silent))
    assert beside(only(home.do(Ticked()), Send)) == []


def test_who_attests_ever_other_models_is_asked_for_few_lists() -> None:
    """However many it makes up, and answers for."""
    home = Attester(1)
    home.open(1)
    home.resolve()
    asked = 0
    for counter in range(1, NEWS_MAX + 1):
        home.tell(1, home.said(1, counter, counter % 4, (counter + 1) % 4))
        for _, message in beside(only(home.do(Ticked()), Send)):
            assert isinstance(message, TensorsRequest)
            asked += 1
            told = tensors(counter % 4, (counter + 1) % 4)
            reply = TensorsReply(home.space, message.model, 4, told, message.number)
            home.heard(1, reply)
    assert asked == LISTS_MAX


def test_a_list_is_given_once_under_one_number_and_only_of_what_is_attested() -> None:
    """A question that comes twice costs nothing; another model is not here."""
    home = Attester(1)
    home.open(1)
    home.resolve(1, 2)
    model = model_digest(tensors(2))
    asked = TensorsRequest(home.space, model, 0, 1)
    ((_, reply),) = beside(home.heard(1, asked))
    assert reply == TensorsReply(home.space, model, 4, tensors(2), 1)
    assert home.heard(1, asked) == []
    ((_, rest),) = beside(home.heard(1, replace(asked, first=3, number=2)))
    assert rest == TensorsReply(home.space, model, 4, tensors(2)[3:], 2)
    ((_, none),) = beside(home.heard(1, TensorsRequest(home.space, MERGE, 0, 3)))
    assert none == TensorsReply(home.space, MERGE, 0, (), 3)


def test_in_a_crowd_those_of_higher_rank_are_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many keys a contributor makes, the owner's node is among those heard."""
    home = Attester(3)
    everybody = home.spaces.attesters(home.space)
    assert {KEYS[n].public for n in range(4)} <= everybody
    monkeypatch.setattr("nodes.sets.ATTESTERS_MAX", 2)
    chosen = home.spaces.attesters(home.space)
    assert len(chosen) == 2
    owners = {n for n in chosen if n in {ME, KEYS[0].public}}
    assert owners == chosen


def test_a_space_that_nobody_attested_in_costs_heartbeats_nothing() -> None:
    """Not a byte more than before there were attestations."""
    home = Attester(1)
    beat = home.beat()
    assert home.node.attesting.marked(beat) == beat
    assert home.known == Attested()
