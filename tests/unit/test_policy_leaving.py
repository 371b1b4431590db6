"""Who ends its own key: what it said stays, what it says afterwards counts nowhere."""

import pytest

from crdtmerge.bodies import NodeAddress, Revoke, SpaceId, Successor, give_consent
from crdtmerge.errors import NotAllowedError
from crdtmerge.identity import SigningKey
from crdtmerge.policy import Rank
from crdtmerge.replica import Replica
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    MAINTAINERS,
    OWNERS,
    Pen,
    add_of,
    grant_of,
    key,
    wire,
    write,
)

MIA, _ = MAINTAINERS
OLGA, OMAR = OWNERS
X, Y = CONTENTS[:2]
NEXT = key("next")


@pytest.fixture(name="pen")
def fixture_pen() -> Pen:
    """A members space with its cast."""
    return Pen.start()


def leave(pen: Pen, author: SigningKey) -> None:
    """Let `author` end its own key."""
    pen.write(author, Revoke(author.public, ()))


def test_what_was_said_before_leaving_stays(pen: Pen) -> None:
    """The contribution stays in the merge; its author has no rights, and no node."""
    pen.write(CLEO, NodeAddress(b"\x05" * 32, ()))
    pen.add(CLEO, X)
    assert b"\x05" * 32 in pen.opset().view.nodes
    leave(pen, CLEO)
    view = pen.opset().view
    assert pen.shown() == {X}
    assert CLEO.public in view.rightless
    assert view.nodes == {}


def test_what_is_said_after_leaving_has_no_effect(pen: Pen) -> None:
    """On the same branch, or on one that pretends to be older: nothing more counts."""
    pen.add(CLEO, X)
    before = pen.last[CLEO.public]
    leave(pen, CLEO)
    pen.add(CLEO, Y)
    grant = pen.grants[CLEO.public]
    branch = wire(write(CLEO, grant, add_of(Y), after=before))
    opset = pen.opset().insert([branch])
    assert {v.content for v in opset.view.visible} == {X}


def test_who_left_names_nobody(pen: Pen) -> None:
    """The thief of a key that was ended cannot hand it on."""
    leave(pen, CLEO)
    space = SpaceId(pen.genesis.record.id)
    consent = give_consent(NEXT, space, CLEO.public)
    pen.write(CLEO, Successor(CLEO.public, NEXT.public, consent))
    assert NEXT.public not in pen.opset().view.ranks


def test_nobody_else_is_ended_by_it(pen: Pen) -> None:
    """A contributor revokes itself, and no other."""
    pen.write(MIA, grant_of(CARL, Rank.CONTRIBUTOR))
    leave(pen, MIA)
    pen.add(CARL, X)
    assert pen.shown() == {X}
    assert MIA.public in pen.opset().view.rightless


def test_the_only_owner_cannot_leave(pen: Pen) -> None:
    """Nobody could act as one; of two the second may not follow the first."""
    opset = pen.opset()
    opset = opset.insert([wire(Replica(opset, OLGA).leave())])
    with pytest.raises(NotAllowedError, match="the only owner"):
        Replica(opset, OMAR).leave()
    with pytest.raises(NotAllowedError, match="you left this space"):
        Replica(opset, OLGA).announce(b"\x05" * 32, ())
