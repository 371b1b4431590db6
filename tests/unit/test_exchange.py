"""What peers say of other nodes: asked for seldom, about members alone, and only tried."""

import random

from crdtmerge.sync.messages import (
    FEATURES,
    PEERS_MAX,
    SPEAKS_PEERS,
    Hello,
    Message,
    PeerSaid,
    PeersReply,
    PeersRequest,
)
from nodes.effects import (
    Dial,
    DialEnded,
    MessageReceived,
    PeerClosed,
    PeerOpened,
    Send,
    Ticked,
)
from nodes.exchange import ANSWER_S, ASK_S
from nodes.hearsay import HEARD_MAX, Hearsay
from tests.unit.test_node import STRANGER, Home, only, transport


def any_(_: bytes) -> bool:
    """Take everybody for a member."""
    return True


def told(home: Home, number: int, message: Message) -> list[PeersReply]:
    """Return what is said of others when a peer sends a message."""
    sends = only(home.do(MessageReceived(transport(number), message)), Send)
    assert all(send.peer == transport(number) for send in sends)
    return [s.message for s in sends if isinstance(s.message, PeersReply)]


def greet(home: Home, number: int, features: int = FEATURES) -> None:
    """Open a stream that a peer dialled, and hear its hello."""
    home.do(PeerOpened(transport(number)))
    home.do(MessageReceived(transport(number), Hello(1, "t", True, features)))


def asked(home: Home, seconds: float) -> list[bytes]:
    """Return who is asked for peers while time passes."""
    found: list[bytes] = []
    for _ in range(int(seconds)):
        sends = only(home.do(Ticked(), after=1.0), Send)
        found += [s.peer for s in sends if isinstance(s.message, PeersRequest)]
    return found


def test_who_asks_hears_of_members_that_we_reached() -> None:
    """Connected ones and those that worked lately, with the addresses that worked."""
    home = Home(members=5)
    home.do(Ticked())
    greet(home, 1)
    home.do(PeerOpened(transport(2), "two:2"))
    home.do(PeerOpened(transport(3), "three:3"), after=1.0)
    home.do(PeerClosed(transport(3)), after=1.0)
    home.do(DialEnded(transport(4), ("peer4:1",)), after=5.0)
    (reply,) = told(home, 1, PeersRequest())
    assert sorted(reply.peers, key=lambda said: said.node) == [
        PeerSaid(transport(2), ("two:2",), 0),
        PeerSaid(transport(3), ("three:3",), 6),
    ]


def test_nobody_hears_of_spaces_that_it_is_not_in() -> None:
    """A member of one space learns nothing of who is in another."""
    home = Home(members=2)
    other = home.found("second")
    home.say(home.replica(0, other).announce(home.node.me, ("me:1",)))
    home.admit(7, other)
    home.do(Ticked())
    greet(home, 1)
    home.do(PeerOpened(transport(7), "seven:7"))
    home.do(PeerOpened(transport(2), "two:2"))
    (reply,) = told(home, 1, PeersRequest())
    assert [said.node for said in reply.peers] == [transport(2)]


def test_answers_are_small_and_seldom() -> None:
    """However many are connected, and however often it is asked, new streams included."""
    home = Home(members=40)
    home.do(Ticked())
    for number in range(1, 41):
        greet(home, number)
    (reply,) = told(home, 1, PeersRequest())
    assert len(reply.peers) == PEERS_MAX
    assert told(home, 1, PeersRequest()) == []
    home.do(PeerClosed(transport(1)))
    greet(home, 1)
    assert told(home, 1, PeersRequest()) == []
    assert told(home, 2, PeersRequest())  # others are answered meanwhile
    home.now += ANSWER_S
    assert told(home, 1, PeersRequest())


def test_we_ask_now_and_then_while_somebody_is_away() -> None:
    """Who speaks it is asked, one at a time; nobody once all are connected."""
    home = Home(members=3)
    home.do(Ticked())
    greet(home, 1)
    greet(home, 2, FEATURES & ~SPEAKS_PEERS)
    found = asked(home, 10 * ASK_S)
    assert set(found) == {transport(1)}
    assert 6 <= len(found) <= 15
    greet(home, 3)
    assert asked(home, 5 * ASK_S) == []


def test_only_members_are_taken_and_only_from_who_was_asked() -> None:
    """What nobody asked for is dropped, and what is said of strangers, of us, of itself."""
    home = Home(members=3)
    home.do(Ticked())
    greet(home, 1)
    nodes = (STRANGER, home.node.me, transport(1), transport(3))
    reply = PeersReply(tuple(PeerSaid(n, ("said:1",), 0) for n in nodes))
    told(home, 1, reply)
    hearsay = home.node.neighbours.hearsay
    assert hearsay.nodes() == []
    assert asked(home, 2 * ASK_S)
    told(home, 1, reply)
    assert hearsay.nodes() == [transport(3)]
    told(home, 1, PeersReply(()))  # the second answer to one question
    assert hearsay.nodes() == [transport(3)]
    assert STRANGER not in home.spaces.members()


def test_a_place_that_was_heard_of_is_tried_last_and_once() -> None:
    """An address that its node did not announce leads to it where no other does."""
    home = Home(members=3)
    home.do(Ticked())
    greet(home, 1)
    home.do(DialEnded(transport(3), ("peer3:1",)))
    assert asked(home, 2 * ASK_S)
    home.do(DialEnded(transport(3), ("peer3:1",)))
    told(home, 1, PeersReply((PeerSaid(transport(3), ("said:1",), 0),)))
    dials = only(home.do(Ticked(), after=60.0), Dial)
    assert Dial(transport(3), ("peer3:1", "said:1")) in dials
    home.do(DialEnded(transport(3), ("peer3:1", "said:1")))
    dials = only(home.do(Ticked(), after=60.0), Dial)
    assert Dial(transport(3), ("peer3:1",)) in dials


def test_one_peer_fills_no_more_than_one_answer_of_the_passive_view() -> None:
    """What it said before goes, what others said stays, and all has a limit."""
    hearsay, rng = Hearsay(), random.Random(1)
    hearsay.take(
        b"a" * 32, PeersReply((PeerSaid(b"n" * 32, ("true:1",), 0),)), 0.0, any_
    )
    for second in range(50):
        said = tuple(PeerSaid(rng.randbytes(32), ("x:1",), 0) for _ in range(PEERS_MAX))
        liar = PeersReply((*said[1:], PeerSaid(b"n" * 32, ("liar:1",), 0)))
        hearsay.take(b"b" * 32, liar, float(second), any_)
        assert len(hearsay.nodes()) <= PEERS_MAX
    assert hearsay.of(b"n" * 32) == ("true:1",)
    for second in range(50):
        said = tuple(PeerSaid(rng.randbytes(32), (), 0) for _ in range(PEERS_MAX))
        hearsay.take(rng.randbytes(32), PeersReply(said), 100.0 + second, any_)
    assert len(hearsay.nodes()) == HEARD_MAX
