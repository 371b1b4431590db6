"""What epochs can kill and what they cannot, each rule in its smallest case."""

import pytest

from crdtmerge.bodies import (
    Approve,
    Ban,
    Body,
    Epoch,
    Grant,
    NodeAddress,
    RecipeChange,
    RecordId,
    Remove,
    Revoke,
    SpaceId,
    runs_of,
)
from crdtmerge.errors import NotAdmissibleError
from crdtmerge.identity import SigningKey
from crdtmerge.orset import OpSet
from crdtmerge.policy import Pending, Rank
from crdtmerge.policy.dead import link_of
from crdtmerge.recipe import Recipe
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    FAULTS,
    MAINTAINERS,
    OTTO,
    OWNERS,
    THREE,
    Pen,
    add_of,
    grant_of,
    key,
    unknown,
    write,
)

MIA, _ = MAINTAINERS
OLGA, OMAR = OWNERS
X, Y = CONTENTS[:2]


@pytest.fixture(name="pen")
def fixture_pen() -> Pen:
    """A space of two owners, each of whom acts alone."""
    return Pen.start()


def listing(pen: Pen, *ids: RecordId) -> Epoch:
    """Return the body that lists these records as what they are."""
    return Epoch(runs_of((i, link_of(pen.known[i].record)) for i in ids))


def compact(pen: Pen, by: SigningKey, *ids: RecordId) -> RecordId:
    """Let an owner list these records."""
    return pen.write(by, listing(pen, *ids)).record.id


def dead(pen: Pen) -> set[RecordId]:
    """Return which of all that was written is in no set."""
    return set(pen.known) - set(pen.opset().signed)


# --- who ------------------------------------------------------------------------------


@pytest.mark.parametrize("author", [MIA, CLEO])
def test_only_owners_list(pen: Pen, author: SigningKey) -> None:
    """A maintainer's epoch is not admissible."""
    add = pen.add(CLEO, X)
    grant = pen.grants[author.public]
    lie = write(author, grant, listing(pen, add), after=pen.last.get(author.public))
    with pytest.raises(NotAdmissibleError):
        pen.opset().insert([lie])


def test_it_takes_as_many_owners_as_genesis_says() -> None:
    """Until the second owner signs, nothing dies; and the epoch waits for it."""
    pen = Pen.start(owners=THREE, threshold=2)
    add = pen.add(CLEO, X)
    epoch = compact(pen, OLGA, add)
    waits = {act.record: act for act in pen.opset().view.pending}
    assert waits[epoch] == Pending(epoch, (OLGA.public,), 2)
    pen.approve(epoch, OLGA)
    assert not dead(pen)
    pen.approve(epoch, OTTO)
    assert dead(pen) == {add}
    assert epoch not in {act.record for act in pen.opset().view.pending}


def test_one_owner_of_many_keys_is_one() -> None:
    """Keys that follow an owner's, or that it says follow another's, sign for it alone."""
    pen = Pen.start(owners=THREE, threshold=2)
    add = pen.add(CLEO, X)
    heir, claimed = key("heir 0"), key("heir 1")
    epoch = compact(pen, OLGA, add)
    pen.name(OLGA, heir)
    pen.claim(OLGA, OMAR.public, claimed)
    pen.approve(epoch, heir, claimed)
    assert not dead(pen)
    pen.approve(epoch, OMAR)
    assert dead(pen) == {add}


def test_no_judgement_undoes_a_list() -> None:
    """Else who dropped the records would have to find them again."""
    pen = Pen.start(owners=THREE)
    add = pen.add(CLEO, X)
    compact(pen, OLGA, add)
    judged = pen.write(OMAR, Revoke(OLGA.public, ())).record.id
    pen.approve(judged, OTTO)
    assert OLGA.public in pen.opset().view.rightless
    assert dead(pen) == {add}


# --- what -----------------------------------------------------------------------------


def test_what_dies_is_out_of_set_view_and_root(pen: Pen) -> None:
    """Add, remove, recipe, node: as if they had never been said."""
    before = pen.opset()
    add = pen.add(CLEO, X)
    remove = pen.remove(CLEO, add)
    node = pen.write(CARL, NodeAddress(b"\x05" * 32, ("host:1",))).record.id
    recipe = pen.write(MIA, RecipeChange(Recipe("linear/1"), ())).record.id
    epoch = compact(pen, OLGA, add, remove, node, recipe)
    after = pen.opset()
    assert dead(pen) == {add, remove, node, recipe}
    plain = before.insert([pen.known[epoch]])
    assert after == plain
    assert after.root == plain.root
    assert after.view == plain.view
    assert not after.view.nodes
    assert after.view.recipe is None


BODIES: list[Body] = [
    Grant(CARL.public, 1, 10**9, 1000, 1 << 30),
    Ban("content", X),
    Ban("author", CARL.public),
    Revoke(CARL.public, ()),
    FAULTS[0],
    unknown(),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_rights_judgements_and_proofs_never_die(pen: Pen, body: Body) -> None:
    """Whatever an owner signs: a listed ban still bans."""
    said = pen.write(MIA, body).record.id
    compact(pen, OLGA, said)
    assert not dead(pen)
    assert said in pen.opset().view.effective


def test_epochs_and_approvals_never_die(pen: Pen) -> None:
    """What is dead cannot come to life by a list of lists."""
    add = pen.add(CLEO, X)
    epoch = compact(pen, OLGA, add)
    approval = pen.write(OMAR, Approve(epoch)).record.id
    compact(pen, OMAR, epoch, approval)
    assert dead(pen) == {add}


def test_no_record_of_an_owner_dies(pen: Pen) -> None:
    """Neither of a key that genesis names, under whatever grant, nor of one after it."""
    heir = key("heir 0")
    low = pen.write(MIA, grant_of(OMAR, Rank.CONTRIBUTOR)).record
    first = pen.add(OLGA, X)
    second = write(OMAR, low, add_of(Y), after=pen.last.get(OMAR.public))
    pen.known[second.record.id] = second
    pen.last[OMAR.public] = second.record
    pen.name(OLGA, heir)
    third = pen.add(heir, Y)
    for owner in (OMAR, heir):
        compact(pen, owner, first, second.record.id, third)
    assert not dead(pen)


def test_who_lists_a_record_falsely_lists_nothing(pen: Pen) -> None:
    """One field is wrong: it lives, and is believed before the list."""
    pen.add(CLEO, Y)
    add = pen.add(CLEO, X)
    true = link_of(pen.known[add].record)
    lies = (
        true._replace(author=CARL.public),
        true._replace(number=true.number + 1),
        true._replace(prev=bytes(32)),
        true._replace(auth=pen.genesis.record.id),
    )
    for lie in lies:
        pen.write(OLGA, Epoch(runs_of([(add, lie)])))
    assert not dead(pen)
    compact(pen, OMAR, add)
    assert dead(pen) == {add}


# --- what precedes ----------------------------------------------------------------------


def test_what_a_revocation_accepts_goes_through_dead_records(pen: Pen) -> None:
    """A head may be dead, and so may be what lies between it and what lives."""
    first = pen.add(CLEO, X)
    gone = [pen.add(CLEO, Y) for _ in range(3)]
    later = pen.add(CLEO, Y)
    heads = (gone[-1],)
    pen.write(MIA, Revoke(CLEO.public, heads))
    compact(pen, OLGA, *gone)
    view = pen.opset().view
    assert first in view.effective
    assert later not in view.effective
    assert dead(pen) == set(gone)


def test_an_owner_that_lists_itself_escapes_no_council() -> None:
    """It lists what its judges accepted as if it had come after what they did not."""
    pen = Pen.start(owners=THREE)
    accepted = pen.write(OTTO, add_of(X)).record
    late = pen.add(OTTO, Y)
    judged = pen.write(OLGA, Revoke(OTTO.public, (accepted.id,))).record.id
    pen.approve(judged, OMAR)
    lie = link_of(accepted)._replace(number=7, prev=late)
    pen.write(OTTO, Epoch(runs_of([(accepted.id, lie)])))
    pen.write(OTTO, listing(pen, accepted.id, late))
    view = pen.opset().view
    assert accepted.id in view.effective
    assert late not in view.effective


def test_an_owner_of_a_second_grant_escapes_no_council() -> None:
    """What it says under a low grant can die, and be listed as two things: that is none."""
    pen = Pen.start(owners=THREE)
    heir = key("heir 0")
    low = pen.write(MIA, grant_of(heir, Rank.CONTRIBUTOR)).record
    naming = pen.name(OTTO, heir)
    pen.grants[heir.public] = low
    accepted = [pen.known[pen.add(heir, X)].record for _ in range(3)][-1]
    between = pen.known[pen.add(heir, X)].record
    late = pen.add(heir, Y)
    heads = tuple(sorted((accepted.id, naming.id)))
    judged = pen.write(OLGA, Revoke(OTTO.public, heads)).record.id
    pen.approve(judged, OMAR)
    assert late not in pen.opset().view.effective
    for number in (1, 9):
        lie = link_of(accepted)._replace(number=number, prev=late)
        other = link_of(between)._replace(number=number, prev=bytes(32))
        pen.write(OTTO, Epoch(runs_of([(accepted.id, lie), (between.id, other)])))
    pen.write(OTTO, listing(pen, accepted.id, between.id))
    assert dead(pen) == {accepted.id, between.id}
    assert late not in pen.opset().view.effective


def test_lists_that_go_round_in_a_circle_end(pen: Pen) -> None:
    """Ids that nobody ever had, each said to follow the other."""
    one, two = RecordId(b"\x01" * 32), RecordId(b"\x02" * 32)
    grant = pen.grants[CLEO.public].id
    true = link_of(pen.known[pen.add(CLEO, X)].record)
    for number, this, other in ((5, one, two), (6, two, one)):
        lie = true._replace(number=number, prev=other, auth=grant)
        pen.write(OLGA, Epoch(runs_of([(this, lie)])))
    pen.write(MIA, Revoke(CLEO.public, (one,)))
    assert not pen.opset().view.visible


# --- numbers ----------------------------------------------------------------------------


def next_of(opset: OpSet, author: SigningKey) -> SignedRecord:
    """Return what an author signs next, on a set that may lack its last record."""
    return Replica(opset, author).ban("content", Y)


def test_numbers_of_dead_records_are_not_used_again(pen: Pen) -> None:
    """Though an owner listed all that an author said, and nobody holds any of it."""
    said = [pen.add(MIA, X) for _ in range(3)]
    compact(pen, OLGA, *said)
    opset = pen.opset()
    assert not opset.signed.of_author(MIA.public)[2:]
    made = next_of(opset, MIA).record
    last = pen.known[said[-1]].record
    assert (made.author_seq, made.prev) == (last.author_seq + 1, last.id)


def test_one_high_number_uses_up_none(pen: Pen) -> None:
    """An owner cannot silence an author by listing what that never said."""
    last = pen.known[pen.add(MIA, X)].record
    lie = link_of(last)._replace(number=999, prev=bytes(32))
    pen.write(OLGA, Epoch(runs_of([(RecordId(b"\x09" * 32), lie)])))
    assert next_of(pen.opset(), MIA).record.author_seq == last.author_seq + 1


def test_who_lists_a_record_twice_makes_nobody_use_its_number_again(pen: Pen) -> None:
    """Once as it was, so that it is gone, and once as something else.

    Else its author would be made to fork, and whoever kept the record could show it.
    """
    last = pen.known[pen.add(MIA, X)].record
    for number, before in ((0, b""), (1, bytes(32)), (10**6, bytes(32))):
        lie = link_of(last)._replace(number=number, prev=before)
        pen.write(OLGA, Epoch(runs_of([(last.id, lie)])))
    compact(pen, OLGA, last.id)
    assert dead(pen) == {last.id}
    made = next_of(pen.opset(), MIA).record
    assert (made.author_seq, made.prev) == (last.author_seq + 1, last.id)


def test_the_dead_are_not_the_last_records_of_an_author(pen: Pen) -> None:
    """A revocation that is to accept all that is here names what is last of that."""
    first, second = pen.add(CLEO, X), pen.add(CLEO, Y)
    third = pen.add(CLEO, X)
    compact(pen, OLGA, second)
    replica = Replica(pen.opset(), OLGA)
    assert replica.last_records(CLEO.public) == (third,)
    compact(pen, OLGA, third)
    assert Replica(pen.opset(), OLGA).last_records(CLEO.public) == (first,)


def test_a_set_says_what_is_dead_before_it_is_verified(pen: Pen) -> None:
    """By its bytes and the grants that are here: what comes again costs no signature."""
    add = pen.add(CLEO, X)
    kept = pen.add(CLEO, Y)
    compact(pen, OLGA, add)
    opset = pen.opset()
    assert opset.is_dead(pen.known[add].record)
    assert not opset.is_dead(pen.known[kept].record)
    assert opset.insert([pen.known[add]]) is opset
    assert SpaceId(pen.genesis.record.id) == opset.space


def test_a_remove_of_the_dead_is_harmless(pen: Pen) -> None:
    """A stale author's remove names a dead add beside a live one: that one goes."""
    gone, there = pen.add(CLEO, X), pen.add(CLEO, Y)
    compact(pen, OLGA, gone)
    pen.write(CLEO, Remove(tuple(sorted((gone, there)))))
    assert not pen.opset().view.visible
