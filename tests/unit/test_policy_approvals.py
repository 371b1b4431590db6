"""What owners do together: approvals and councils, each rule in its smallest case."""

import pytest

from crdtmerge.bodies import Approve, Ban, Lift, Revoke
from crdtmerge.errors import NotAdmissibleError
from crdtmerge.identity import SigningKey
from crdtmerge.policy import Pending, Rank
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    MAINTAINERS,
    OTTO,
    OWNERS,
    THREE,
    Pen,
    add_of,
    key,
    write,
)

MIA, MAX = MAINTAINERS
OLGA, OMAR = OWNERS
NINA = key("nina")
X, Y = CONTENTS[:2]


@pytest.fixture(name="pen")
def fixture_pen() -> Pen:
    """A space of three owners, two of whom must sign what an owner does."""
    return Pen.start(owners=THREE, threshold=2)


def pending(pen: Pen) -> dict[bytes, Pending]:
    """Return what waits for owners, by record."""
    return {act.record: act for act in pen.opset().view.pending}


# --- one owner alone is a maintainer ---------------------------------------------------


def test_one_owner_alone_makes_no_maintainer(pen: Pen) -> None:
    """It takes two: the grant waits, then it has effect, whoever came first."""
    grant = pen.admit(OLGA, NINA, Rank.MAINTAINER).record.id
    ban = pen.write(NINA, Ban("content", X)).record.id
    view = pen.opset().view
    assert NINA.public not in view.ranks
    assert grant not in view.effective
    assert pending(pen)[grant] == Pending(grant, (OLGA.public,), 2)
    pen.approve(grant, OTTO)
    view = pen.opset().view
    assert view.ranks[NINA.public] is Rank.MAINTAINER
    assert {grant, ban} <= view.effective
    assert not view.pending


def test_one_owner_alone_makes_contributors_and_sets_the_recipe(pen: Pen) -> None:
    """What a maintainer may do needs nobody else, and an owner stays one."""
    pen.admit(OLGA, NINA, Rank.CONTRIBUTOR)
    pen.add(NINA, X)
    assert pen.shown() == {X}
    pen.write(OMAR, Ban("content", X))
    assert pen.shown() == set()
    view = pen.opset().view
    assert view.ranks[OLGA.public] is Rank.OWNER
    assert not view.pending


@pytest.mark.parametrize(("signed", "gone"), [((), False), ((OMAR,), True)])
def test_banning_a_maintainer_takes_two_owners(
    pen: Pen, signed: tuple[SigningKey, ...], gone: bool
) -> None:
    """One alone stands beside a maintainer, not above."""
    pen.add(MIA, X)
    ban = pen.write(OLGA, Ban("author", MIA.public)).record.id
    pen.approve(ban, *signed)
    assert pen.shown() == (set() if gone else {X})
    assert (ban in pending(pen)) is not gone


@pytest.mark.parametrize(("signed", "gone"), [((), False), ((OTTO,), True)])
def test_removing_what_a_maintainer_added_takes_two_owners(
    pen: Pen, signed: tuple[SigningKey, ...], gone: bool
) -> None:
    """A remove reaches below the rank that it is acted with."""
    remove = pen.remove(OLGA, pen.add(MIA, X), pen.add(CLEO, Y))
    pen.approve(remove, *signed)
    assert pen.shown() == (set() if gone else {X})
    assert (remove in pending(pen)) is not gone


def test_a_maintainer_lifts_what_one_owner_did_alone(pen: Pen) -> None:
    """And not what two did; that takes two again."""
    pen.add(CLEO, X)
    alone = pen.write(OLGA, Ban("content", X)).record.id
    pen.write(MIA, Lift(alone))
    assert pen.shown() == {X}
    both = pen.write(OLGA, Ban("content", X)).record.id
    pen.approve(both, OMAR)
    pen.write(MIA, Lift(both))
    lift = pen.write(OTTO, Lift(both)).record.id
    assert pen.shown() == set()
    assert pending(pen)[lift].needed == 2
    pen.approve(lift, OMAR)
    assert pen.shown() == {X}


def test_an_owner_counts_once(pen: Pen) -> None:
    """Approving one's own act, or twice, adds nothing."""
    grant = pen.admit(OLGA, NINA, Rank.MAINTAINER).record.id
    pen.approve(grant, OLGA, OLGA)
    assert pending(pen)[grant].signers == (OLGA.public,)


def test_only_owners_approve(pen: Pen) -> None:
    """A maintainer's approval is refused at the door."""
    grant = pen.admit(OLGA, NINA, Rank.MAINTAINER).record.id
    signed = write(MIA, pen.grants[MIA.public], Approve(grant))
    with pytest.raises(NotAdmissibleError):
        pen.opset().insert([signed])


def test_an_approval_may_come_before_what_it_approves(pen: Pen) -> None:
    """It names an id; as long as that is not here it has no effect, and then it has."""
    grant = pen.admit(OLGA, NINA, Rank.MAINTAINER).record.id
    pen.approve(grant, OMAR)
    before = pen.opset(without=[grant])
    assert NINA.public not in before.view.ranks
    after = before.insert([pen.known[grant]])
    assert after.view == pen.opset().view
    assert after.view.ranks[NINA.public] is Rank.MAINTAINER


def test_the_threshold_of_one_asks_nobody() -> None:
    """A space that says nothing is as it always was: each owner acts as one."""
    pen = Pen.start(owners=THREE)
    pen.admit(OLGA, NINA, Rank.MAINTAINER)
    pen.write(OMAR, Ban("author", MIA.public))
    view = pen.opset().view
    assert view.ranks[NINA.public] is Rank.MAINTAINER
    assert view.rightless == {MIA.public}
    assert not view.pending


# --- councils --------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [1, 2])
def test_a_council_bans_an_owner(threshold: int) -> None:
    """Most of the owners, whatever the threshold: all of the banned one's acts go."""
    pen = Pen.start(owners=THREE, threshold=threshold)
    pen.add(OTTO, X)
    pen.write(OTTO, Ban("content", Y))
    pen.add(CLEO, Y)
    ban = pen.write(OLGA, Ban("author", OTTO.public)).record.id
    assert pen.shown() == {X}
    assert pending(pen)[ban] == Pending(ban, (OLGA.public,), 2)
    pen.approve(ban, OMAR)
    view = pen.opset().view
    assert pen.shown() == {Y}
    assert view.rightless == {OTTO.public}
    assert view.ranks[OTTO.public] is Rank.OWNER
    assert ban in view.bans
    assert not view.pending


def test_a_council_revokes_an_owner_and_keeps_its_past() -> None:
    """What is accepted keeps its effect, the rest goes."""
    pen = Pen.start(owners=THREE)
    kept = pen.add(OTTO, X)
    pen.add(OTTO, Y)
    revoke = pen.write(OLGA, Revoke(OTTO.public, (kept,))).record.id
    assert pen.shown() == {X, Y}
    pen.approve(revoke, OMAR)
    assert pen.shown() == {X}


def test_two_owners_ban_each_other_only_together() -> None:
    """With two owners a council is both of them: neither can act on the other."""
    pen = Pen.start()
    pen.add(OMAR, X)
    ban = pen.write(OLGA, Ban("author", OMAR.public)).record.id
    pen.approve(ban, OLGA)
    assert pen.shown() == {X}
    pen.approve(ban, OMAR)
    assert pen.shown() == set()


def test_a_sole_owner_is_judged_by_nobody() -> None:
    """Not even by itself: a council is never one alone."""
    pen = Pen.start(owners=OWNERS[:1])
    pen.write(OLGA, Ban("author", OLGA.public))
    pen.add(OLGA, X)
    assert pen.shown() == {X}
    assert pen.opset().view.rightless == frozenset()


def test_councils_that_judge_each_other_both_take_effect() -> None:
    """Votes are counted over the owners as they stood before any of it."""
    pen = Pen.start(owners=THREE)
    one = pen.write(OLGA, Ban("author", OTTO.public)).record.id
    other = pen.write(OTTO, Ban("author", OLGA.public)).record.id
    pen.approve(one, OMAR)
    pen.approve(other, OMAR)
    view = pen.opset().view
    assert view.rightless == {OLGA.public, OTTO.public}
    assert {one, other} == set(view.bans)
    assert not view.pending


def test_a_banned_owner_approves_nothing_below() -> None:
    """Its approval of a grant goes with its rights."""
    pen = Pen.start(owners=THREE, threshold=2)
    grant = pen.admit(OLGA, NINA, Rank.MAINTAINER).record.id
    pen.approve(grant, OTTO)
    ban = pen.write(OLGA, Ban("author", OTTO.public)).record.id
    pen.approve(ban, OMAR)
    view = pen.opset().view
    assert NINA.public not in view.ranks
    assert [act.record for act in view.pending] == [grant]
    pen.approve(grant, OMAR)
    assert pen.opset().view.ranks[NINA.public] is Rank.MAINTAINER


def test_a_council_lifts_what_a_council_did() -> None:
    """One owner's lift waits; with a second signature all is as before."""
    pen = Pen.start(owners=THREE)
    pen.add(OTTO, X)
    before = pen.opset().view.visible_root
    ban = pen.write(OLGA, Ban("author", OTTO.public)).record.id
    pen.approve(ban, OMAR)
    lift = pen.write(OLGA, Lift(ban)).record.id
    assert pen.shown() == set()
    assert pending(pen)[lift].needed == 2
    pen.approve(lift, OTTO)
    view = pen.opset().view
    assert view.visible_root == before
    assert view.rightless == frozenset()
    assert ban not in view.bans


def test_a_council_needs_no_maintainer_and_asks_none() -> None:
    """Approvals are by owners; a maintainer's ban of an owner has no effect at all."""
    pen = Pen.start(owners=THREE)
    pen.add(OTTO, X)
    ban = pen.write(MIA, Ban("author", OTTO.public)).record.id
    pen.approve(ban, OLGA, OMAR)
    assert pen.shown() == {X}


def test_an_act_below_a_council_is_lifted_as_ever() -> None:
    """Three signatures under a ban of a maintainer do not raise it above an owner."""
    pen = Pen.start(owners=THREE)
    pen.add(MIA, X)
    ban = pen.write(OLGA, Ban("author", MIA.public)).record.id
    pen.approve(ban, OMAR, OTTO)
    assert pen.shown() == set()
    pen.write(OMAR, Lift(ban))
    assert pen.shown() == {X}


def test_carl_stays_what_he_is(pen: Pen) -> None:
    """Approvals of what needs none change nothing."""
    add = pen.add(CARL, X)
    before = pen.opset().view
    pen.approve(add, OLGA, OMAR, OTTO)
    after = pen.opset().view
    assert after.visible == before.visible
    assert after.ranks == before.ranks
    assert add_of(X).content in pen.shown()
