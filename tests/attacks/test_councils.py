"""What owners may only do together, tried by one: it is kept, and it waits for the rest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from crdtmerge.bodies import Approve, Ban, Body, Grant, RecordId, Remove, Revoke
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import NotAdmissibleError
from crdtmerge.identity import SigningKey
from crdtmerge.policy import Rank, View
from crdtmerge.record import SignedRecord
from tests.attacks.fortress import KEEPER, Fortress
from tests.properties.cast import (
    CARL,
    CLEO,
    MAINTAINERS,
    OTTO,
    OWNERS,
    STRANGER,
    THREE,
    key,
    write,
)

OLGA, OMAR = OWNERS
MAX = MAINTAINERS[1]
SECOND = key("olga's second key")


@pytest.fixture(name="council")
def fixture_council(tmp_path: Path) -> Iterator[Fortress]:
    """A space of three owners, of whom two must agree."""
    made = Fortress.at(tmp_path, owners=THREE, threshold=2)
    yield made
    made.home.close()


def view_of(fortress: Fortress) -> View:
    """Return what the set on the disk means."""
    return fortress.spaces().view(fortress.space)


def meaning(fortress: Fortress) -> tuple[object, ...]:
    """Return what an owner could change."""
    view = view_of(fortress)
    return view.visible, dict(view.ranks), view.rightless


def taken(fortress: Fortress, *records: SignedRecord) -> None:
    """Let a member bring records, and nothing but them."""
    fortress.takes(records, lambda siege: siege.feeds(CARL, *records))


def acts(fortress: Fortress) -> dict[str, Body]:
    """Return what needs two owners: one alone acts as a maintainer, and no more."""
    model = fortress.contribute(MAX, b"a maintainer's model")
    seat = Grant(STRANGER.public, Rank.MAINTAINER, DECIMAL_UNIT, 1000, 1 << 30)
    return {
        "a ban of a maintainer": Ban("author", MAX.public),
        "a revocation": Revoke(MAX.public, ()),
        "a grant": seat,
        "a removal": Remove((model.record.id,)),
    }


ACTS: Final = ("a ban of a maintainer", "a revocation", "a grant", "a removal")


@pytest.mark.parametrize("name", ACTS)
def test_threshold_evasion_by_one_owner(council: Fortress, name: str) -> None:
    """One owner alone has no more effect than a stranger, until another signs."""
    body = acts(council)[name]
    before = meaning(council)
    act = council.say(OLGA, body)
    taken(council, act)
    assert meaning(council) == before
    (pending,) = view_of(council).pending
    assert (pending.record, len(pending.signers)) == (act.record.id, 1)
    taken(council, council.say(OMAR, Approve(act.record.id)))
    assert meaning(council) != before
    assert view_of(council).pending == ()


@pytest.mark.parametrize("name", ACTS)
def test_self_approval(council: Fortress, name: str) -> None:
    """An owner's own approval, however often, is the signature that is there already."""
    body = acts(council)[name]
    before = meaning(council)
    act = council.say(OLGA, body)
    own = [council.say(OLGA, Approve(act.record.id)) for _ in range(3)]
    taken(council, act, *own)
    assert meaning(council) == before
    (pending,) = view_of(council).pending
    assert len(pending.signers) == 1


def test_self_approval_by_a_successor(council: Fortress) -> None:
    """A second key of one owner is the same owner: it counts once."""
    body = acts(council)["a ban of a maintainer"]
    before = meaning(council)
    named = council.pen.name(OLGA, SECOND)
    act = council.say(OLGA, body)
    again = council.say(SECOND, Approve(act.record.id))
    records = [council.pen.known[named.id], act, again]
    taken(council, *records)
    after = meaning(council)
    assert (after[0], after[2]) == (before[0], before[2])
    (pending,) = view_of(council).pending
    assert len(pending.signers) == 1


@pytest.mark.parametrize("author", [*MAINTAINERS, KEEPER, CLEO])
def test_approval_from_below(council: Fortress, author: SigningKey) -> None:
    """Nobody but owners signs what owners do."""
    act = council.say(OLGA, acts(council)["a grant"])
    council.keep()
    lie = council.next(author, Approve(act.record.id))
    council.withstands(NotAdmissibleError, lambda siege: siege.feeds(CARL, lie))


def test_approval_by_a_stranger(council: Fortress) -> None:
    """Nor does who names the genesis, and is none of its owners."""
    act = council.say(OLGA, acts(council)["a grant"])
    council.keep()
    lie = write(STRANGER, council.pen.genesis.record, Approve(act.record.id))
    council.withstands(NotAdmissibleError, lambda siege: siege.feeds(CARL, lie))


def test_approval_of_what_is_not_said_yet(council: Fortress) -> None:
    """An approval names one record by its id: it is no blank cheque."""
    blank = council.say(OMAR, Approve(RecordId(bytes(32))))
    act = council.say(OLGA, Ban("author", MAX.public))
    other = council.say(OTTO, Approve(blank.record.id))
    before = meaning(council)
    taken(council, blank, act, other)
    assert meaning(council) == before


def test_coup_of_one_owner(council: Fortress) -> None:
    """One owner cannot ban the others, and two of three can ban the third."""
    before = meaning(council)
    coup = [council.say(OLGA, Ban("author", o.public)) for o in (OMAR, OTTO)]
    own = [council.say(OLGA, Approve(act.record.id)) for act in coup]
    taken(council, *coup, *own)
    assert meaning(council) == before
    assert not view_of(council).rightless
    taken(council, council.say(OMAR, Approve(coup[1].record.id)))
    assert view_of(council).rightless == {OTTO.public}
