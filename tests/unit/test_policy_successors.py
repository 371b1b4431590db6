"""Keys that follow keys, each rule in its smallest case: rotation, theft, loss."""

from itertools import pairwise

import pytest

from crdtmerge.bodies import (
    Ban,
    Grant,
    Lift,
    NodeAddress,
    RecordId,
    Revoke,
    SpaceId,
    Successor,
    give_consent,
)
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import NotAdmissibleError
from crdtmerge.identity import AuthorId, SigningKey
from crdtmerge.policy import NODES_PER_AUTHOR_MAX, SUCCESSORS_MAX, Rank, authority_of
from crdtmerge.record import Record, SignedRecord
from crdtmerge.replica import Replica
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    MAINTAINERS,
    OTTO,
    OWNERS,
    STRANGER,
    THREE,
    Pen,
    add_of,
    fork_of,
    grant_of,
    key,
    write,
)

MIA, MAX = MAINTAINERS
OLGA, OMAR = OWNERS
NEXT, LAST, THIEF = key("next"), key("last"), key("thief")
X, Y, Z = CONTENTS[:3]


@pytest.fixture(name="pen")
def fixture_pen() -> Pen:
    """A members space with its cast."""
    return Pen.start()


def naming(pen: Pen, author: SigningKey, to: SigningKey) -> Successor:
    """Return the body by which `author` names `to`."""
    space = SpaceId(pen.genesis.record.id)
    return Successor(author.public, to.public, give_consent(to, space, author.public))


def fork(
    pen: Pen, author: SigningKey, to: SigningKey, after: Record | None
) -> SignedRecord:
    """Let `author` name `to` on a branch that follows `after`."""
    auth = pen.grants[author.public]
    signed = write(author, auth, naming(pen, author, to), after=after)
    pen.known[signed.record.id] = signed
    pen.grants[to.public] = signed.record
    return signed


def last(pen: Pen, author: SigningKey) -> RecordId:
    """Return the id of the author's last record."""
    return pen.last[author.public].id


# --- rotation --------------------------------------------------------------------------


def test_a_successor_goes_on_where_its_predecessor_was(pen: Pen) -> None:
    """The same rank and weight; what was said before stays."""
    pen.admit(OLGA, CLEO, Rank.MAINTAINER)
    pen.add(CLEO, X)
    pen.name(CLEO, NEXT)
    pen.add(NEXT, Y)
    grant = pen.write(NEXT, grant_of(STRANGER, Rank.CONTRIBUTOR, records=9)).record
    pen.grants[STRANGER.public] = grant
    pen.add(STRANGER, Z)
    view = pen.opset().view
    assert pen.shown() == {X, Y, Z}
    assert view.ranks[NEXT.public] is Rank.MAINTAINER
    assert view.identity(NEXT.public) == (CLEO.public, NEXT.public)
    assert view.identity(CLEO.public) == view.identity(NEXT.public)
    assert not view.contested


def test_weight_is_capped_as_the_grant_of_the_first_key_says(pen: Pen) -> None:
    """Rotation sheds no cap."""
    pen.name(CLEO, NEXT)
    pen.name(NEXT, LAST)
    pen.write(LAST, add_of(X, weight=9 * DECIMAL_UNIT))
    assert [v.weight for v in pen.opset().view.visible] == [DECIMAL_UNIT]


def test_records_are_halved_so_that_rotation_sheds_no_limit(pen: Pen) -> None:
    """Who has 10 records left hands on 5; whoever follows, 2; then 1; then nobody."""
    grant = pen.write(MIA, grant_of(STRANGER, Rank.CONTRIBUTOR, records=12)).record
    pen.grants[STRANGER.public] = grant
    pen.add(STRANGER, X)
    pen.add(STRANGER, Y)
    by, left = STRANGER, []
    for name in "abc":
        heir = key(name)
        pen.name(by, heir)
        opset = pen.opset()
        signed = write(heir, pen.grants[heir.public], add_of(X))
        left.append(authority_of(signed.record, opset.get).records_max)
        by = heir
    assert left == [5, 2, 1]
    signed = write(by, pen.grants[by.public], naming(pen, by, LAST))
    with pytest.raises(NotAdmissibleError, match="too few records"):
        pen.opset().insert([signed])


def test_an_owner_has_63_successors_at_most(pen: Pen) -> None:
    """The bound that SUCCESSORS_MAX states: chains end, so looking them up does."""
    by = OMAR
    for number in range(SUCCESSORS_MAX):
        heir = key(f"heir {number}")
        pen.name(by, heir)
        by = heir
    view = pen.opset().view
    assert view.ranks[by.public] is Rank.OWNER
    assert len(view.identity(by.public)) == SUCCESSORS_MAX + 1
    signed = write(by, pen.grants[by.public], naming(pen, by, LAST))
    with pytest.raises(NotAdmissibleError):
        pen.opset().insert([signed])


def test_an_owner_of_many_keys_votes_once() -> None:
    """A council may say who follows the last of 64 keys: that is no second owner."""
    pen = Pen.start(owners=THREE)
    keys = [OTTO, *(key(f"heir {number}") for number in range(SUCCESSORS_MAX))]
    for one, other in pairwise(keys):
        pen.name(one, other)
    claim = pen.claim(OLGA, keys[-1].public, LAST)
    pen.approve(claim.id, OMAR)
    assert pen.opset().view.identity(LAST.public)[0] == OTTO.public
    ban = pen.write(LAST, Ban("author", OLGA.public))
    pen.approve(ban.record.id, OTTO)
    assert OLGA.public not in pen.opset().view.rightless
    pen.approve(ban.record.id, OMAR)
    assert OLGA.public in pen.opset().view.rightless


def test_no_identity_has_more_keys_than_an_owner_may_have() -> None:
    """In an open space each key may name the genesis: a longer chain is several authors."""
    pen = Pen.start("open")
    pen.grants[CLEO.public] = pen.genesis.record
    by = CLEO
    for number in range(SUCCESSORS_MAX + 5):
        heir = key(f"heir {number}")
        pen.name(by, heir)
        pen.grants[heir.public] = pen.genesis.record
        by = heir
    pen.add(by, X)
    view = pen.opset().view
    assert pen.shown() == {X}
    assert len(view.identity(CLEO.public)) == SUCCESSORS_MAX + 1
    assert len(view.identity(by.public)) == 5


def test_the_first_naming_counts(pen: Pen) -> None:
    """A key names its successor once; a later word of it is in vain."""
    pen.name(CLEO, NEXT)
    pen.name(CLEO, THIEF)
    pen.add(NEXT, X)
    pen.add(THIEF, Y)
    view = pen.opset().view
    assert pen.shown() == {X}
    assert THIEF.public not in view.ranks
    assert not view.contested


def test_only_owners_speak_for_another_key(pen: Pen) -> None:
    """A maintainer that names who follows somebody else is refused at the door."""
    space = SpaceId(pen.genesis.record.id)
    consent = give_consent(NEXT, space, CLEO.public)
    body = Successor(CLEO.public, NEXT.public, consent)
    with pytest.raises(NotAdmissibleError):
        pen.opset().insert([write(MIA, pen.grants[MIA.public], body)])


def test_a_naming_under_a_void_grant_gives_nothing(pen: Pen) -> None:
    """Who follows hangs on the same grants."""
    pen.name(CLEO, NEXT)
    pen.add(NEXT, X)
    assert pen.shown() == {X}
    pen.write(OLGA, Ban("author", MIA.public))  # she had admitted CLEO
    assert pen.shown() == set()
    assert NEXT.public not in pen.opset().view.ranks


def test_a_successor_removes_what_its_chain_added(pen: Pen) -> None:
    """One person is one person; the old key does not take the new one's away."""
    old = pen.add(CLEO, X)
    pen.name(CLEO, NEXT)
    new = pen.add(NEXT, Y)
    pen.remove(CLEO, new)
    assert pen.shown() == {X, Y}
    pen.remove(NEXT, old)
    assert pen.shown() == {Y}
    pen.remove(CARL, new)
    assert pen.shown() == {Y}


def test_nodes_are_counted_by_identity(pen: Pen) -> None:
    """Rotation does not open more doors; the newest key's count first."""
    for number in range(NODES_PER_AUTHOR_MAX):
        pen.write(CLEO, NodeAddress(bytes([7, number]) * 16, ()))
    pen.name(CLEO, NEXT)
    for number in range(4):
        pen.write(NEXT, NodeAddress(bytes([8, number]) * 16, ()))
    view = pen.opset().view
    assert len(view.nodes) == NODES_PER_AUTHOR_MAX
    assert sum(node[0] == 8 for node in view.nodes) == 4


# --- an old key is stolen --------------------------------------------------------------


def test_a_successor_ends_the_key_before_it(pen: Pen) -> None:
    """Only what is accepted counts of the old key; forward, backdated, or forked."""
    first = pen.add(CLEO, X)
    pen.name(CLEO, NEXT)
    kept = last(pen, CLEO)
    pen.write(NEXT, Revoke(CLEO.public, (kept,)))
    pen.add(CLEO, Y)
    grant = pen.grants[CLEO.public]
    for after in (pen.known[first].record, None):
        signed = write(CLEO, grant, add_of(Z), after=after)
        pen.known[signed.record.id] = signed
    pen.add(NEXT, CONTENTS[1])
    view = pen.opset().view
    assert pen.shown() == {X, CONTENTS[1]}
    assert view.rightless == {CLEO.public}
    assert view.ranks[NEXT.public] is Rank.CONTRIBUTOR
    assert list(view.endings.values()) == [Revoke(CLEO.public, (kept,))]
    assert not view.revocations


def test_ending_a_key_with_nothing_accepted_keeps_the_succession(pen: Pen) -> None:
    """The record that names the successor is never lost by it."""
    pen.add(CLEO, X)
    pen.name(CLEO, NEXT)
    pen.write(NEXT, Revoke(CLEO.public, ()))
    pen.add(NEXT, Y)
    assert pen.shown() == {Y}


def test_the_key_before_does_not_end_its_successor(pen: Pen) -> None:
    """An owner's old key stands no higher; nor can a contributor's say it at all."""
    pen.name(OMAR, NEXT)
    pen.write(OMAR, Revoke(NEXT.public, ()))
    pen.add(NEXT, X)
    assert pen.shown() == {X}
    pen.name(CLEO, LAST)
    body = Revoke(LAST.public, ())
    with pytest.raises(NotAdmissibleError):
        pen.opset().insert([write(CLEO, pen.grants[CLEO.public], body)])


def test_a_contributor_ends_no_key_but_its_own(pen: Pen) -> None:
    """A successor of any rank revokes what it follows, and nobody else."""
    pen.name(CLEO, NEXT)
    body = Revoke(CARL.public, ())
    with pytest.raises(NotAdmissibleError):
        pen.opset().insert([write(NEXT, pen.grants[NEXT.public], body)])


def test_the_last_key_is_decided_first(pen: Pen) -> None:
    """What an ended key said of an older one counts only as far as it is accepted."""
    pen.add(CLEO, X)
    pen.name(CLEO, NEXT)
    pen.name(NEXT, LAST)
    pen.write(LAST, Revoke(NEXT.public, ()))
    pen.write(NEXT, Revoke(CLEO.public, ()))
    pen.add(LAST, Y)
    assert pen.shown() == {X, Y}
    view = pen.opset().view
    assert view.rightless == {NEXT.public}


def test_what_a_successor_ended_stays_ended(pen: Pen) -> None:
    """A lift does not bring an old key back: a key is retired for good."""
    pen.name(MIA, NEXT)
    ended = pen.write(NEXT, Revoke(MIA.public, ())).record.id
    pen.write(MAX, Lift(ended))
    pen.write(OLGA, Lift(ended))
    pen.add(MIA, X)
    assert pen.shown() == set()


# --- contested -------------------------------------------------------------------------


def test_two_branches_that_name_two_keys_name_nobody(pen: Pen) -> None:
    """Whose key was stolen cannot be told from the records; a fresh grant ends it."""
    pen.add(CLEO, X)
    pen.name(CLEO, NEXT)
    named = last(pen, CLEO)
    pen.add(NEXT, Y)
    forked = fork(pen, CLEO, THIEF, None).record.id
    pen.add(THIEF, Z)
    view = pen.opset().view
    assert pen.shown() == {X}
    assert view.contested == {CLEO.public: tuple(sorted((named, forked)))}
    assert not {NEXT.public, THIEF.public} & view.ranks.keys()
    pen.admit(MIA, NEXT, Rank.CONTRIBUTOR)
    pen.write(MIA, Revoke(CLEO.public, ()))
    pen.add(NEXT, Y)
    view = pen.opset().view
    assert pen.shown() == {Y}
    assert NEXT.public not in view.rightless


def test_a_key_that_was_left_behind_can_take_the_succession_away_and_no_more(
    pen: Pen,
) -> None:
    """The limit (ADR 36): an ended key contests; it gains nothing, and a grant helps."""
    pen.name(CLEO, NEXT)
    pen.write(NEXT, Revoke(CLEO.public, (last(pen, CLEO),)))
    pen.add(NEXT, X)
    assert pen.shown() == {X}
    fork(pen, CLEO, THIEF, None)
    pen.add(THIEF, Y)
    assert pen.shown() == set()
    assert set(pen.opset().view.contested) == {CLEO.public}
    pen.admit(MIA, NEXT, Rank.CONTRIBUTOR)
    pen.add(NEXT, X)
    assert pen.shown() == {X}


def test_a_revocation_tells_which_branch_is_right(pen: Pen) -> None:
    """Its accepted ids choose the naming, and what counts of each key."""
    pen.add(CLEO, X)
    pen.name(CLEO, NEXT)
    kept = last(pen, CLEO)
    said = pen.add(NEXT, Y)
    fork(pen, CLEO, THIEF, None)
    pen.add(THIEF, Z)
    pen.write(MIA, Revoke(CLEO.public, tuple(sorted((kept, said)))))
    pen.add(NEXT, Z)
    view = pen.opset().view
    assert pen.shown() == {X, Y}
    assert view.rightless == {CLEO.public, NEXT.public}
    assert not view.contested


def test_two_branches_that_name_one_key_agree(pen: Pen) -> None:
    """A restored home says it again: no contest."""
    pen.name(CLEO, NEXT)
    first = pen.grants[NEXT.public]
    pen.add(NEXT, X)
    fork(pen, CLEO, NEXT, None)
    pen.grants[NEXT.public] = first
    pen.add(NEXT, Y)
    assert pen.shown() == {X, Y}


def test_a_key_follows_one_key(pen: Pen) -> None:
    """Named by two, with its consent to both, it follows neither."""
    pen.name(CLEO, NEXT)
    pen.add(NEXT, X)
    assert pen.shown() == {X}
    pen.name(CARL, NEXT)
    pen.add(NEXT, Y)
    assert pen.shown() == set()
    assert NEXT.public not in pen.opset().view.ranks


def test_keys_that_follow_each_other_stay_apart(pen: Pen) -> None:
    """A circle of namings names nobody: each keeps what it had by its own grant."""
    pen.name(CLEO, CARL)
    pen.grants[CARL.public] = next(
        s.record
        for s in pen.known.values()
        if isinstance(s.record.body, Grant) and s.record.body.author == CARL.public
    )
    pen.name(CARL, CLEO)
    pen.add(CARL, X)
    view = pen.opset().view
    assert view.identity(CARL.public) == (CARL.public,)
    assert view.identity(CLEO.public) == (CLEO.public,)
    assert pen.shown() == {X}


# --- judgements ------------------------------------------------------------------------


@pytest.mark.parametrize("named", [CLEO, NEXT, LAST])
def test_nobody_evades_a_ban_by_rotating(pen: Pen, named: SigningKey) -> None:
    """A ban of any key is a ban of all, those named later too; a lift undoes it."""
    pen.add(CLEO, X)
    pen.name(CLEO, NEXT)
    pen.add(NEXT, Y)
    pen.name(NEXT, LAST)
    ban = pen.write(MIA, Ban("author", named.public)).record.id
    pen.add(LAST, Z)
    view = pen.opset().view
    assert pen.shown() == set()
    assert view.rightless == {CLEO.public, NEXT.public, LAST.public}
    pen.write(MIA, Lift(ban))
    assert pen.shown() == {X, Y, Z}


def test_a_revocation_names_what_it_keeps_of_each_key(pen: Pen) -> None:
    """Of a key of which nothing is accepted nothing counts, but the succession does."""
    pen.add(CLEO, X)
    pen.name(CLEO, NEXT)
    said = pen.add(NEXT, Y)
    pen.write(MIA, Revoke(CLEO.public, (said,)))
    pen.add(NEXT, Z)
    assert pen.shown() == {Y}


def test_who_gets_a_higher_rank_afterwards_stands_by_itself(pen: Pen) -> None:
    """A key that was promoted is judged by its betters alone; its past stays."""
    pen.name(CLEO, NEXT)
    pen.add(NEXT, X)
    pen.admit(OLGA, NEXT, Rank.MAINTAINER)
    pen.add(NEXT, Y)
    pen.write(MIA, Ban("author", NEXT.public))
    view = pen.opset().view
    assert pen.shown() == {X, Y}
    assert view.identity(NEXT.public) == (NEXT.public,)


def test_a_grant_to_a_later_key_does_not_part_it_from_its_chain(pen: Pen) -> None:
    """A higher limit at the same rank is no way around what its chain said."""
    pen.add(CLEO, X)
    pen.name(CLEO, NEXT)
    pen.write(NEXT, Revoke(CLEO.public, ()))
    pen.admit(MAX, NEXT, Rank.CONTRIBUTOR)
    pen.add(NEXT, Y)
    assert pen.shown() == {Y}
    assert len(pen.opset().view.identity(NEXT.public)) == 2


def test_promotion_of_an_old_key_leaves_its_successor_as_it_was(pen: Pen) -> None:
    """The succession is of the rank of the grant that it names."""
    pen.name(CLEO, NEXT)
    pen.add(NEXT, X)
    pen.admit(OLGA, CLEO, Rank.MAINTAINER)
    view = pen.opset().view
    assert pen.shown() == {X}
    assert view.ranks[NEXT.public] is Rank.CONTRIBUTOR
    assert view.ranks[CLEO.public] is Rank.MAINTAINER


# --- owners ----------------------------------------------------------------------------


def test_an_owner_rotates_and_counts_once() -> None:
    """Both keys of an owner are one signature."""
    pen = Pen.start(owners=THREE, threshold=2)
    pen.name(OMAR, NEXT)
    grant = pen.admit(OMAR, STRANGER, Rank.MAINTAINER).record.id
    pen.approve(grant, NEXT)
    assert STRANGER.public not in pen.opset().view.ranks
    pen.approve(grant, OTTO)
    assert STRANGER.public in pen.opset().view.ranks


def test_an_owner_ends_its_old_key_without_a_council() -> None:
    """A thief with the old key neither acts nor approves any more."""
    pen = Pen.start(owners=THREE, threshold=2)
    pen.name(OMAR, NEXT)
    pen.write(NEXT, Revoke(OMAR.public, (last(pen, OMAR),)))
    grant = pen.admit(OTTO, STRANGER, Rank.MAINTAINER).record.id
    pen.approve(grant, OMAR)
    view = pen.opset().view
    assert STRANGER.public not in view.ranks
    assert [act.record for act in view.pending] == [grant]
    pen.approve(grant, NEXT)
    assert STRANGER.public in pen.opset().view.ranks


def test_a_council_replaces_a_lost_key() -> None:
    """Two of three owners say who follows; from then on that key votes."""
    pen = Pen.start(owners=THREE, threshold=2)
    claim = pen.claim(OLGA, OTTO.public, NEXT)
    pen.add(NEXT, X)
    view = pen.opset().view
    assert pen.shown() == set()
    assert [(a.record, a.needed) for a in view.pending] == [(claim.id, 2)]
    pen.approve(claim.id, OMAR)
    grant = pen.admit(OLGA, STRANGER, Rank.MAINTAINER).record.id
    pen.approve(grant, NEXT)
    view = pen.opset().view
    assert pen.shown() == {X}
    assert view.ranks[NEXT.public] is Rank.OWNER
    assert view.identity(NEXT.public) == (OTTO.public, NEXT.public)
    assert STRANGER.public in view.ranks
    assert not view.pending


def test_a_key_that_followed_by_a_council_votes_in_the_next() -> None:
    """Rounds: else every lost key would make the council smaller for good."""
    pen = Pen.start(owners=THREE)
    pen.approve(pen.claim(OLGA, OTTO.public, NEXT).id, OMAR)
    pen.approve(pen.claim(NEXT, OMAR.public, LAST).id, OLGA)
    pen.add(LAST, X)
    assert pen.shown() == {X}
    ban = pen.write(NEXT, Ban("author", OLGA.public)).record.id
    pen.approve(ban, LAST)
    assert pen.opset().view.rightless == {OLGA.public}


def test_a_council_overrides_what_the_owner_named() -> None:
    """A thief who named itself, and acted, is out; the owner's own past stays."""
    pen = Pen.start(owners=THREE)
    pen.add(OTTO, X)
    pen.name(OTTO, THIEF)
    pen.add(THIEF, Y)
    assert pen.shown() == {X, Y}
    pen.approve(pen.claim(OLGA, OTTO.public, NEXT).id, OMAR)
    pen.add(NEXT, Z)
    view = pen.opset().view
    assert pen.shown() == {X, Z}
    assert THIEF.public not in view.ranks


def test_a_council_ends_a_contest_of_an_owners_key() -> None:
    """Nobody is above owners but they together."""
    pen = Pen.start(owners=THREE)
    pen.name(OTTO, NEXT)
    fork(pen, OTTO, THIEF, None)
    pen.add(NEXT, X)
    assert set(pen.opset().view.contested) == {OTTO.public}
    claim = pen.claim(OLGA, OTTO.public, NEXT)
    pen.approve(claim.id, OMAR)
    pen.add(NEXT, Y)
    view = pen.opset().view
    assert pen.shown() == {Y}
    assert not view.contested


@pytest.mark.parametrize("more", [False, True])
def test_of_two_councils_on_one_key_the_larger_counts(more: bool) -> None:
    """Of equals none does, until one more owner signs."""
    pen = Pen.start(owners=THREE)
    one = pen.claim(OLGA, OTTO.public, NEXT)
    other = pen.claim(OMAR, OTTO.public, LAST)
    pen.approve(one.id, OMAR)
    pen.approve(other.id, OLGA)
    if more:
        pen.approve(other.id, OTTO)
    pen.add(NEXT, X)
    pen.add(LAST, Y)
    assert pen.shown() == ({Y} if more else set())


def test_a_maintainers_lost_key_is_replaced_by_a_grant(pen: Pen) -> None:
    """What owners say of another's key who is no owner has no effect."""
    claim = pen.claim(OLGA, MIA.public, NEXT)
    pen.approve(claim.id, OMAR)
    pen.add(NEXT, X)
    assert pen.shown() == set()
    assert claim.id not in pen.opset().view.effective


def test_a_banned_owner_does_not_come_back_by_its_successor() -> None:
    """A council's judgement falls on the chain, whoever was named, and when."""
    pen = Pen.start(owners=THREE)
    pen.approve(pen.write(OLGA, Ban("author", OTTO.public)).record.id, OMAR)
    pen.name(OTTO, NEXT)
    pen.add(NEXT, X)
    view = pen.opset().view
    assert pen.shown() == set()
    assert view.rightless == {OTTO.public, NEXT.public}


def test_a_fork_before_the_naming_cuts_who_follows() -> None:
    """In a space with quarantine the author of a fork does not go on by a new key."""
    pen = Pen.start(quarantine=True)
    pen.add(CLEO, X)
    pen.name(CLEO, NEXT)
    pen.add(NEXT, Y)
    assert pen.shown() == {X, Y}
    one = write(CLEO, pen.grants[CLEO.public], add_of(Z))
    pen.write(MIA, fork_of(pen.known[first_of(pen, CLEO.public)], one))
    assert pen.shown() == set()


def first_of(pen: Pen, author: AuthorId) -> RecordId:
    """Return the author's record of number 0."""
    return next(
        i
        for i, s in pen.known.items()
        if s.record.author == author and s.record.author_seq == 0
    )


# --- keys that were named before a promotion ---------------------------------------------


@pytest.mark.parametrize("rank", [None, Rank.MAINTAINER])
def test_a_spare_is_revoked_with_its_author(pen: Pen, rank: Rank | None) -> None:
    """Whatever the author has become since it named the spare: nobody is back with it."""
    pen.name(CLEO, NEXT)
    if rank is not None:
        pen.admit(OLGA, CLEO, rank)
    pen.add(NEXT, X)
    pen.write(NEXT, NodeAddress(b"\x05" * 32, ()))
    kept = Replica(pen.opset(), OLGA).last_records(CLEO.public)
    pen.write(OLGA, Revoke(CLEO.public, kept))
    pen.add(NEXT, Y)
    view = pen.opset().view
    assert {CLEO.public, NEXT.public} <= view.rightless
    assert view.nodes == {}
    assert pen.shown() == {X}  # which was here, and accepted


def test_a_spare_of_a_promoted_author_is_banned_with_it(pen: Pen) -> None:
    """A ban leaves nothing of it either."""
    pen.name(CLEO, NEXT)
    pen.admit(OLGA, CLEO, Rank.MAINTAINER)
    pen.add(NEXT, X)
    pen.write(OLGA, Ban("author", CLEO.public))
    assert pen.shown() == set()


def test_a_ban_of_a_spare_spares_who_was_promoted(pen: Pen) -> None:
    """It is of lower rank, and a maintainer may not be judged by another one so."""
    pen.name(CLEO, NEXT)
    pen.admit(OLGA, CLEO, Rank.MAINTAINER)
    pen.add(CLEO, X)
    pen.write(MIA, Ban("author", NEXT.public))
    view = pen.opset().view
    assert pen.shown() == {X}
    assert CLEO.public not in view.rightless
    assert NEXT.public in view.rightless
