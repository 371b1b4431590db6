"""Whom a node asks whether it is reached, and whose addresses it tries."""

import ipaddress
import random
from dataclasses import dataclass, field
from typing import cast

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.policy import View
from crdtmerge.sync.messages import (
    PROBED_MAX,
    SPEAKS_PROBES,
    Outcome,
    Probed,
    ProbeReply,
    ProbeRequest,
)
from crdtmerge.sync.session import Session
from nodes.effects import Probe, Send
from nodes.probing import ASKED_MAX, TRIALS_MAX, TRY_S, Probing
from nodes.reaching import host_in, may_try

SPACE, OTHER = SpaceId(b"s" * 32), SpaceId(b"o" * 32)
FOUND = (Probed("a.example:1", int(Outcome.REACHED)),)


@dataclass
class Announced:
    """Sets of which only the node records count."""

    nodes: dict[bytes, tuple[str, ...]] = field(default_factory=dict)


@dataclass
class Sets:
    """Two spaces; nodes announce what a test says."""

    views: dict[SpaceId, Announced]

    def view(self, space: SpaceId) -> View:
        """Return what is announced there."""
        return cast("View", self.views[space])


def speaking(features: int = SPEAKS_PROBES) -> Session:
    """Return a session with a peer that shares the first space."""

    @dataclass
    class Heard:
        features: int
        shared: frozenset[SpaceId]

    return cast("Session", Heard(features, frozenset([SPACE])))


def probing(**announced: tuple[str, ...]) -> Probing:
    """Return the probing of a node; peers are named by one letter."""
    nodes = {name.encode() * 32: addresses for name, addresses in announced.items()}
    views = {SPACE: Announced(nodes), OTHER: Announced({b"a" * 32: ("other:1",)})}
    return Probing(Sets(views), random.Random(1))


def test_only_what_the_asker_itself_announces_is_tried() -> None:
    """Not what others say of it, nor what it says where we are no member, and few."""
    many = tuple(f"a{i}.example:1" for i in range(9))
    ours = probing(a=many, b=("b.example:1",))
    asked = ours.handle(b"a" * 32, speaking(), ProbeRequest(), 0.0)
    assert asked == [Probe(b"a" * 32, many[:PROBED_MAX])]


def test_who_does_not_speak_of_it_is_not_served() -> None:
    """An answer would be refused: no peer gets a frame whose bit it did not name."""
    ours = probing(a=("a.example:1",))
    assert ours.handle(b"a" * 32, speaking(0), ProbeRequest(), 0.0) == []
    assert ours.ask({b"a" * 32: speaking(0)}) == []


def test_trials_are_few_a_peer_and_few_in_all() -> None:
    """Whoever asks again, or is one too many, is told when to come back."""
    names = "abcdef"
    ours = probing(**{name: (f"{name}.example:1",) for name in names})
    said = [
        ours.handle(name.encode() * 32, speaking(), ProbeRequest(), 0.0)[0]
        for name in names
    ]
    assert [type(s) for s in said] == [Probe] * TRIALS_MAX + [Send] * 2
    ended = ours.ended(b"a" * 32, FOUND, "192.0.2.1", speaking())
    assert ended == [Send(b"a" * 32, ProbeReply(FOUND, 0, "192.0.2.1"))]
    early = ours.handle(b"a" * 32, speaking(), ProbeRequest(), TRY_S - 1.5)
    assert early == [Send(b"a" * 32, ProbeReply((), 2))]
    (again,) = ours.handle(b"a" * 32, speaking(), ProbeRequest(), TRY_S)
    assert isinstance(again, Probe)


@pytest.mark.parametrize("session", [None, speaking(0)])
def test_who_came_again_as_an_older_version_hears_of_no_trial(
    session: Session | None,
) -> None:
    """It would take the frame for an attack; and another trial may begin."""
    ours = probing(a=("a.example:1",))
    ours.handle(b"a" * 32, speaking(), ProbeRequest(), 0.0)
    assert ours.ended(b"a" * 32, FOUND, "", session) == []
    (again,) = ours.handle(b"a" * 32, speaking(), ProbeRequest(), TRY_S)
    assert isinstance(again, Probe)


def test_a_reply_that_nobody_asked_for_is_ignored() -> None:
    """Neither before a question, nor a second time, nor from another peer."""
    ours = probing()
    reply = ProbeReply(FOUND)
    assert ours.handle(b"a" * 32, speaking(), reply, 0.0) == []
    assert ours.told == {}
    sessions = {bytes([i]) * 32: speaking() for i in range(9)}
    asked = [send.peer for send in ours.ask(sessions) if isinstance(send, Send)]
    assert len(asked) == ASKED_MAX == len(ours.told)
    ours.handle(asked[0], speaking(), reply, 0.0)
    ours.handle(asked[0], speaking(), ProbeReply(()), 0.0)
    ours.handle(b"x" * 32, speaking(), reply, 0.0)
    assert ours.told == {asked[0]: reply, asked[1]: None, asked[2]: None}


@pytest.mark.parametrize(
    ("address", "origin", "tried"),
    [
        ("93.184.216.34", "", True),
        ("2606:2800:220:1::1", "", True),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "93.184.216.34", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("192.168.1.5", "192.168.1.6", False),
        ("192.168.1.5", "192.168.1.5", True),
        ("10.0.0.1", "", False),
        ("169.254.169.254", "", False),
        ("100.64.0.1", "", False),
        ("0.0.0.0", "", False),
        ("224.0.0.1", "", False),
        ("255.255.255.255", "", False),
        ("::1", "", False),
        ("::ffff:127.0.0.1", "", False),
        ("64:ff9b::7f00:1", "", False),
        ("2002:7f00:1::", "", False),
        ("fe80::1", "", False),
        ("fd00::1", "", False),
        ("ff0e::1", "", False),
    ],
)
def test_nothing_inside_of_our_network_is_called(
    address: str, origin: str, tried: bool
) -> None:
    """But the very host that the asker's stream comes from."""
    seen = ipaddress.ip_address(origin) if origin else None
    assert may_try(ipaddress.ip_address(address), seen) is tried


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("ipv4:192.0.2.1:5123", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:5123", "2001:db8::1"),
        ("ipv6:[2001:db8::1]:5123", "2001:db8::1"),
        ("unix:/tmp/socket", ""),
        ("ipv4:name.example:1", ""),
        ("", ""),
    ],
)
def test_the_host_of_a_caller_is_read(target: str, host: str) -> None:
    """Of what has none, nothing is said."""
    assert host_in(target) == host
