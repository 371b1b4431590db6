"""Who may do what, by example: each rule of DESIGN section 4 in its smallest case."""

import pytest

from crdtmerge.bodies import Ban, Lift, Revoke
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import ContentId
from crdtmerge.identity import SigningKey
from crdtmerge.policy import Rank
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    MAINTAINERS,
    OWNERS,
    Pen,
    add_of,
    key,
    write,
)

MIA, MAX = MAINTAINERS
OLGA, OMAR = OWNERS
X, Y = CONTENTS[:2]


@pytest.fixture(name="pen")
def fixture_pen() -> Pen:
    """A members space with its cast."""
    return Pen.start()


# --- adds and removes ------------------------------------------------------------------


def test_concurrent_add_survives_a_remove(pen: Pen) -> None:
    """A remove names exact adds: the one it did not see stays."""
    seen = pen.add(CLEO, X)
    pen.remove(CLEO, seen)
    assert pen.shown() == set()
    unseen = pen.add(CARL, X)
    (left,) = pen.opset().view.visible
    assert left.adds == (unseen,)


def test_added_again_after_a_remove_is_visible(pen: Pen) -> None:
    """A removed content id may come back, by a new add."""
    pen.remove(CLEO, pen.add(CLEO, X))
    pen.add(CLEO, X)
    assert pen.shown() == {X}


@pytest.mark.parametrize(
    ("remover", "author", "gone"),
    [
        (CLEO, CLEO, True),
        (CLEO, CARL, False),
        (CLEO, MIA, False),
        (MIA, CLEO, True),
        (MIA, MAX, False),
        (MIA, OLGA, False),
        (OLGA, MIA, True),
        (OLGA, OMAR, False),
    ],
)
def test_remove_reaches_own_and_lower_adds(
    pen: Pen, remover: SigningKey, author: SigningKey, gone: bool
) -> None:
    """A remove works on one's own adds, and on those of strictly lower rank."""
    pen.remove(remover, pen.add(author, X))
    assert pen.shown() == (set() if gone else {X})


def test_remove_of_what_is_no_add_does_nothing(pen: Pen) -> None:
    """Grants, removes and unknown ids that a remove names are left alone."""
    add = pen.add(CLEO, X)
    grant = pen.grants[CLEO.public].id
    remove = pen.remove(CARL, add)
    pen.remove(OLGA, grant, remove)
    assert pen.shown() == {X}


# --- weight, evidence, identity --------------------------------------------------------


def test_weight_is_the_largest_live_one_under_its_cap(pen: Pen) -> None:
    """Each add is capped by the grant that it names; the largest live one counts."""
    unit = DECIMAL_UNIT
    pen.write(CLEO, add_of(X, weight=unit // 2))
    assert [v.weight for v in pen.opset().view.visible] == [unit // 2]
    heavy = pen.write(CARL, add_of(X, weight=7 * unit)).record.id
    assert [v.weight for v in pen.opset().view.visible] == [unit]
    pen.remove(CARL, heavy)
    assert [v.weight for v in pen.opset().view.visible] == [unit // 2]
    pen.write(OLGA, add_of(X, weight=7 * unit))
    assert [v.weight for v in pen.opset().view.visible] == [7 * unit]


def test_evidence_is_that_of_the_lowest_add_that_carries_any(pen: Pen) -> None:
    """Which evidence counts depends on ids alone; an add without any is passed over."""
    pen.write(CLEO, add_of(X))
    one = pen.write(CLEO, add_of(X, evidence=b"\x01" * 32)).record.id
    two = pen.write(CARL, add_of(X, evidence=b"\x02" * 32)).record.id
    (shown,) = pen.opset().view.visible
    assert shown.evidence == (b"\x01" if one < two else b"\x02") * 32
    pen.remove(OLGA, min(one, two))
    (shown,) = pen.opset().view.visible
    assert shown.evidence == (b"\x02" if one < two else b"\x01") * 32


def test_notes_and_manifests_make_no_second_element(pen: Pen) -> None:
    """One content id is one element, whoever adds it and with whatever note."""
    adds = [
        pen.write(author, add_of(X, note=note)).record.id
        for author, note in ((CLEO, "one"), (CARL, "two"), (CARL, "two"))
    ]
    (shown,) = pen.opset().view.visible
    assert shown.adds == tuple(sorted(adds))
    assert set(shown.notes) == {"one", "two"}
    assert len(shown.manifests) == 2
    assert shown.authors == tuple(sorted((CLEO.public, CARL.public)))


def test_notes_do_not_move_the_visible_root(pen: Pen) -> None:
    """The visible root covers content, weight and evidence, and nothing else."""
    pen.write(CLEO, add_of(X, note="one"))
    before = pen.opset().view
    pen.write(CARL, add_of(X, weight=DECIMAL_UNIT // 2, note="two"))
    assert pen.opset().view.visible_root == before.visible_root
    pen.write(CARL, add_of(X, evidence=b"\x02" * 32))
    assert pen.opset().view.visible_root != before.visible_root


# --- bans and lifts --------------------------------------------------------------------


def test_ban_of_content_wins_over_any_add(pen: Pen) -> None:
    """Added before, after or by an owner: a banned content id stays out."""
    pen.add(CLEO, X)
    pen.write(MIA, Ban("content", X))
    pen.add(OLGA, X)
    pen.add(CLEO, Y)
    assert pen.shown() == {Y}


def test_lift_restores_what_the_ban_hid(pen: Pen) -> None:
    """After the lift the visible root is the one before the ban, byte for byte."""
    pen.add(CLEO, X)
    before = pen.opset().view.visible_root
    ban = pen.write(MIA, Ban("content", X)).record.id
    assert pen.shown() == set()
    pen.write(MAX, Lift(ban))
    assert pen.opset().view.visible_root == before
    again = pen.write(MIA, Ban("content", X)).record.id
    assert pen.shown() == set()
    assert set(pen.opset().view.bans) == {again}


def test_lift_names_one_ban(pen: Pen) -> None:
    """Two bans of one content id need two lifts."""
    pen.add(CLEO, X)
    bans = [pen.write(m, Ban("content", X)).record.id for m in (MIA, MAX)]
    pen.write(OLGA, Lift(bans[0]))
    assert pen.shown() == set()
    pen.write(OLGA, Lift(bans[1]))
    assert pen.shown() == {X}


def test_lift_from_below_has_no_effect(pen: Pen) -> None:
    """A maintainer does not lift what an owner banned."""
    pen.add(CLEO, X)
    ban = pen.write(OLGA, Ban("content", X)).record.id
    pen.write(MIA, Lift(ban))
    assert pen.shown() == set()
    pen.write(OMAR, Lift(ban))
    assert pen.shown() == {X}


def test_ban_of_an_author_takes_all_its_records(pen: Pen) -> None:
    """Old and new adds go, its removes are undone, and a lift brings all back."""
    kept = pen.add(CARL, Y)
    pen.add(CLEO, X)
    pen.remove(CLEO, pen.add(CLEO, CONTENTS[2]))
    ban = pen.write(MIA, Ban("author", CLEO.public)).record.id
    pen.add(CLEO, CONTENTS[3])
    assert pen.shown() == {Y}
    assert pen.opset().view.rightless == {CLEO.public}
    pen.write(MIA, Lift(ban))
    assert pen.shown() == {X, Y, CONTENTS[3]}
    assert kept in pen.opset().view.effective


def test_ban_of_an_author_is_no_ban_of_a_content_id(pen: Pen) -> None:
    """A ban says of what kind its target is: the same bytes may name another thing."""
    pen.add(CLEO, X)
    pen.write(MIA, Ban("author", X))
    assert pen.shown() == {X}
    pen.write(MIA, Ban("content", ContentId(CLEO.public)))
    assert pen.shown() == {X}


def test_mutual_bans_of_equals_do_nothing(pen: Pen) -> None:
    """Two maintainers, or two owners, who ban each other both go on."""
    for one, other in ((MIA, MAX), (OLGA, OMAR)):
        pen.write(one, Ban("author", other.public))
        pen.write(other, Ban("author", one.public))
    pen.write(CLEO, add_of(X))
    pen.write(MIA, Ban("content", X))
    view = pen.opset().view
    assert view.rightless == frozenset()
    assert view.visible == ()


def test_banned_maintainer_acts_on_nobody(pen: Pen) -> None:
    """An owner's ban takes the maintainer's bans and grants along."""
    pen.add(CARL, Y)
    pen.write(MIA, Ban("author", CARL.public))
    pen.write(MIA, Ban("content", X))
    newcomer = key("nina")
    pen.admit(MIA, newcomer, Rank.CONTRIBUTOR)
    pen.add(newcomer, X)
    assert pen.shown() == set()
    pen.write(OLGA, Ban("author", MIA.public))
    assert pen.shown() == set()  # CARL was admitted by MIA too
    pen.admit(MAX, CARL, Rank.CONTRIBUTOR)
    pen.add(CARL, Y)
    assert pen.shown() == {Y}
    assert newcomer.public not in pen.opset().view.ranks


def test_banned_maintainer_gains_nothing_by_a_lower_grant(pen: Pen) -> None:
    """A ban follows the key: a second, lower grant does not launder it."""
    pen.write(OLGA, Ban("author", MIA.public))
    pen.admit(MAX, MIA, Rank.CONTRIBUTOR)
    pen.add(MIA, X)
    assert pen.shown() == set()


# --- revocations -----------------------------------------------------------------------


def test_revoke_keeps_the_past_that_it_accepts(pen: Pen) -> None:
    """What precedes the accepted record keeps its effect, what follows has none."""
    pen.add(CLEO, X)
    last = pen.add(CLEO, Y)
    pen.add(CLEO, CONTENTS[2])
    pen.write(MIA, Revoke(CLEO.public, (last,)))
    pen.add(CLEO, CONTENTS[3])
    assert pen.shown() == {X, Y}


def test_backdated_record_is_outside_the_closure(pen: Pen) -> None:
    """A record that claims an old place is not in the past of the accepted ones."""
    first = pen.write(CLEO, add_of(X)).record
    last = pen.write(CLEO, add_of(Y)).record
    pen.write(MIA, Revoke(CLEO.public, (last.id,)))
    grant = pen.grants[CLEO.public]
    for body, after in ((add_of(CONTENTS[2]), first), (add_of(CONTENTS[3]), None)):
        backdated = write(CLEO, grant, body, after=after)
        assert backdated.record.author_seq <= last.author_seq
        pen.known[backdated.record.id] = backdated
    assert pen.shown() == {X, Y}


def test_two_revocations_leave_what_both_accept(pen: Pen) -> None:
    """Concurrent revocations meet at the shorter past, whatever their order."""
    first = pen.add(CLEO, X)
    last = pen.add(CLEO, Y)
    pen.write(MIA, Revoke(CLEO.public, (first,)))
    long = pen.write(MAX, Revoke(CLEO.public, (last,))).record.id
    assert pen.shown() == {X}
    assert pen.shown(without=[long]) == {X}


def test_closure_does_not_pass_through_other_authors(pen: Pen) -> None:
    """A `prev` that names another author's record ends the past there.

    Else a colleague would smuggle a revoked author's old records back under new ones.
    """
    first = pen.write(CLEO, add_of(X)).record
    bridge = write(CARL, pen.grants[CARL.public], add_of(Y), after=first)
    last = write(
        CLEO, pen.grants[CLEO.public], add_of(CONTENTS[2]), after=bridge.record
    )
    pen.known |= {signed.record.id: signed for signed in (bridge, last)}
    pen.write(MIA, Revoke(CLEO.public, (last.record.id,)))
    assert pen.shown() == {Y, CONTENTS[2]}


def test_lift_of_a_revocation_gives_the_rights_back(pen: Pen) -> None:
    """A lifted revocation is as if it had not been."""
    revoke = pen.write(MIA, Revoke(CLEO.public, ())).record.id
    pen.add(CLEO, X)
    assert pen.shown() == set()
    assert CLEO.public in pen.opset().view.rightless
    pen.write(MAX, Lift(revoke))
    assert pen.shown() == {X}
    assert pen.opset().view.rightless == frozenset()


def test_revocation_of_an_equal_does_nothing(pen: Pen) -> None:
    """Only a strictly higher rank revokes."""
    pen.write(MIA, Revoke(MAX.public, ()))
    pen.write(OLGA, Revoke(OMAR.public, ()))
    pen.add(MAX, X)
    pen.add(OMAR, Y)
    assert pen.shown() == {X, Y}
