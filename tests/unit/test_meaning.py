"""What a set means as it grows, each way in which news touches what is old.

Every step is compared with the evaluator from nothing, field by field.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import pytest

from crdtmerge.bodies import Add, Ban, Lift, NodeAddress, RecordId, Remove, Revoke
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.identity import AuthorId
from crdtmerge.log import Log
from crdtmerge.orset import OpSet
from crdtmerge.policy import Meaning, Rank, evaluate
from crdtmerge.policy.changes import CHANGES_LEAST, Changes
from crdtmerge.record import SignedRecord
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    FAULTS,
    HEIRS,
    MAINTAINERS,
    OTTO,
    OWNERS,
    READER,
    THREE,
    Pen,
    add_of,
    grant_of,
    key,
    unknown,
    write,
)

MIA, MAX = MAINTAINERS
OLGA: Final = OWNERS[0]
W, X, Y, Z = CONTENTS[:4]
NODE: Final = bytes([2]) * 32


@dataclass(slots=True)
class Follower:
    """A set that takes what a pen writes, and is asked after each step."""

    pen: Pen
    without: tuple[RecordId, ...] = ()
    """What it does not know at first."""
    opset: OpSet = field(init=False)

    def __post_init__(self) -> None:
        self.opset = self.pen.opset(self.without)
        _ = self.opset.view.visible

    def shows(self, *without: RecordId) -> set[bytes]:
        """Take what is new but `without`, check all that the set means, and tell it."""
        held_back = set(without)
        news = [s for i, s in self.pen.known.items() if i not in held_back]
        self.opset = self.opset.insert(news)
        assert self.opset.view == evaluate(self.opset.records)
        return {bytes(v.content) for v in self.opset.view.visible}


class Kinds(Log):
    """A log that is not to be gone through."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def __len__(self) -> int:
        return len(self.log)

    def __iter__(self) -> Iterator[RecordId]:
        raise AssertionError("all are read")

    def __getitem__(self, key: RecordId) -> SignedRecord:
        return self.log[key]

    def since(self, count: int) -> Iterator[SignedRecord]:
        """Refuse: that reads all."""
        raise AssertionError(f"all are read after {count}")

    def of_author(self, author: AuthorId) -> list[SignedRecord]:
        """Return what an author said."""
        return self.log.of_author(author)

    def of_kinds(self, kinds: frozenset[str]) -> list[SignedRecord]:
        """Return records of kinds of which there are few."""
        assert not kinds & {Add.KIND, Remove.KIND}
        return self.log.of_kinds(kinds)

    def authors(self) -> frozenset[AuthorId]:
        """Return who made a record."""
        return self.log.authors()

    def extended(self, fresh: Mapping[RecordId, SignedRecord]) -> Log:
        """Refuse: nothing is added here."""
        raise AssertionError(fresh)

    def without(self, gone: frozenset[RecordId]) -> Log:
        """Refuse: nothing goes here."""
        raise AssertionError(gone)


@pytest.fixture
def pen() -> Pen:
    """A space in which Cleo has contributed twice, and Mia once."""
    made = Pen.start()
    for content in (W, X):
        made.add(CLEO, content)
    made.add(MIA, Y)
    return made


def test_plain_records_leave_who_stands_how_the_very_same_value(pen: Pen) -> None:
    """Adds, removes, node records, faults and unknown kinds: nobody is judged again."""
    follower = Follower(pen)
    before = follower.opset.meaning.rights.standing
    pen.add(CARL, Z)
    pen.remove(CLEO, pen.last[CLEO.public].id)
    pen.write(CARL, NodeAddress(NODE, ("host:1",)))
    pen.write(READER, FAULTS[0])
    pen.write(CARL, unknown(), critical=True)
    follower.shows()
    assert follower.opset.meaning.rights.standing is before
    pen.admit(OLGA, key("nina"), Rank.READER)
    follower.shows()
    assert follower.opset.meaning.rights.standing is not before


def test_adds_of_who_is_judged_later_go_and_come_back(pen: Pen) -> None:
    """What was shown before a revocation goes with it, and what follows it stays out."""
    follower = Follower(pen)
    accepted = next(s.record for s in pen.known.values() if s.record.body == add_of(W))
    end = pen.write(OLGA, Revoke(CLEO.public, (accepted.id,))).record.id
    assert follower.shows() == {W, Y}
    pen.add(CLEO, Z)
    assert follower.shows() == {W, Y}
    pen.write(OLGA, Lift(end))
    assert follower.shows() == {W, X, Y, Z}


def test_a_revocation_accepts_what_comes_after_it(pen: Pen) -> None:
    """The record that links a head to what precedes it is the last to come."""
    middle, head = pen.add(CLEO, Y), pen.add(CLEO, Z)
    pen.write(OLGA, Revoke(CLEO.public, (head,)))
    follower = Follower(pen, without=(middle, head))
    assert follower.shows(middle, head) == {Y}
    assert follower.shows(middle) == {Y, Z}
    assert follower.shows() == {W, X, Y, Z}


def test_a_grant_that_lost_its_effect_takes_what_hangs_on_it(pen: Pen) -> None:
    """Its holder keeps its rank by another one, and what hangs on that."""
    follower = Follower(pen)
    pen.admit(MAX, CLEO, Rank.CONTRIBUTOR)
    pen.add(CLEO, Z)
    assert follower.shows() == {W, X, Y, Z}
    ban = pen.write(OLGA, Ban("author", MIA.public)).record.id
    assert follower.shows() == {Z}
    assert follower.opset.view.ranks[CLEO.public] is Rank.CONTRIBUTOR
    pen.write(OLGA, Lift(ban))
    assert follower.shows() == {W, X, Y, Z}


def test_a_higher_grant_changes_no_weight_of_what_hangs_on_a_lower_one(
    pen: Pen,
) -> None:
    """An add names its grant, and weighs what that allows."""
    low = pen.write(MIA, grant_of(CARL, Rank.CONTRIBUTOR, cap=DECIMAL_UNIT // 4))
    pen.grants[CARL.public] = low.record
    pen.add(CARL, Z)
    follower = Follower(pen)
    pen.write(OLGA, grant_of(CARL, Rank.MAINTAINER))
    assert Z in follower.shows()
    (shown,) = (v for v in follower.opset.view.visible if v.content == Z)
    assert shown.weight == DECIMAL_UNIT // 4


def test_a_remove_counts_when_enough_owners_signed_it() -> None:
    """Where two must: what a maintainer added goes once the second one approves."""
    pen = Pen.start(owners=THREE, threshold=2)
    add = pen.add(MIA, W)
    follower = Follower(pen)
    remove = pen.remove(OLGA, add)
    assert follower.shows() == {W}
    assert [act.record for act in follower.opset.view.pending] == [remove]
    pen.approve(remove, OTTO)
    assert follower.shows() == set()


def test_a_remove_waits_for_the_add_that_it_names(pen: Pen) -> None:
    """Whichever comes first; and counts by the rank that its author has in the end."""
    add = pen.add(CLEO, Z)
    pen.remove(CARL, add)
    follower = Follower(pen, without=(add,))
    assert Z not in follower.shows(add)
    assert Z in follower.shows()  # Carl stands no higher
    pen.write(OLGA, grant_of(CARL, Rank.MAINTAINER))
    assert Z not in follower.shows()


def test_what_is_judged_of_a_key_falls_on_the_one_that_follows(pen: Pen) -> None:
    """Also on what that one said before the judgement came."""
    follower = Follower(pen)
    pen.name(CLEO, HEIRS[0])
    accepted = pen.add(HEIRS[0], Z)
    pen.add(HEIRS[0], W)
    assert follower.shows() == {W, X, Y, Z}
    pen.write(OLGA, Revoke(CLEO.public, (accepted,)))
    assert follower.shows() == {Y, Z}
    pen.add(HEIRS[0], X)
    assert follower.shows() == {Y, Z}


def test_who_is_banned_shows_a_fault_all_the_same(pen: Pen) -> None:
    """A proof that comes after the ban of its author takes its content out."""
    content = FAULTS[0].content
    pen.add(CARL, content)
    pen.write(OLGA, Ban("author", READER.public))
    follower = Follower(pen)
    assert content in follower.shows()
    shown = pen.write(READER, FAULTS[0]).record.id
    assert content not in follower.shows()
    assert follower.opset.view.faults == {content: shown}


def test_a_ban_of_content_comes_and_goes(pen: Pen) -> None:
    """An add that comes in between is shown once the ban is lifted."""
    follower = Follower(pen)
    before = follower.opset.view.shown.changes
    ban = pen.write(MIA, Ban("content", W)).record.id
    assert follower.shows() == {X, Y}
    assert follower.opset.view.shown.changes.since(before) == frozenset({W})
    pen.add(CARL, W)
    assert follower.shows() == {X, Y}
    pen.write(MIA, Lift(ban))
    assert follower.shows() == {W, X, Y}
    (shown,) = (v for v in follower.opset.view.visible if v.content == W)
    assert len(shown.adds) == 2


def test_in_an_open_space_newcomers_take_part_at_once() -> None:
    """Also one that was granted less, and one that was banned before it came."""
    pen = Pen.start("open")
    nina, nick = key("nina"), key("nick")
    pen.write(OLGA, grant_of(nina, Rank.READER))
    pen.write(OLGA, Ban("author", nick.public))
    follower = Follower(pen)
    for author, content in ((nina, W), (nick, X), (key("nora"), Y)):
        pen.add(author, content)
    assert follower.shows() == {W, Y}
    opset = pen.opset()
    assert Meaning.of(opset.signed, opset.listing).view == evaluate(opset.records)
    assert opset.view.ranks[nina.public] is Rank.CONTRIBUTOR


def test_a_batch_that_is_thrown_away_leaves_nothing(pen: Pen) -> None:
    """The value that it was tried on still means the same, and grows another way."""
    opset = pen.opset()
    before = evaluate(opset.records)
    grant = pen.grants[CLEO.public]
    tried = write(CLEO, grant, add_of(Z), after=pen.last[CLEO.public])
    assert len(opset.insert([tried]).view.visible) == 4
    assert opset.view == before
    other = pen.add(CARL, W)
    grown = opset.insert([pen.known[other]])
    assert grown.view == evaluate(grown.records)
    assert Z not in {v.content for v in grown.view.visible}


def test_members_nodes_and_recipe_are_known_without_the_adds(pen: Pen) -> None:
    """They are asked of the log by kind: no other record is read."""
    pen.write(CLEO, NodeAddress(NODE, ("host:1",)))
    whole = pen.opset()
    view = Meaning.of(Kinds(whole.signed), whole.listing).view
    assert view.nodes == {NODE: ("host:1",)}
    assert view.ranks == whole.view.ranks
    with pytest.raises(AssertionError, match="all are read"):
        _ = view.visible


def test_a_list_of_changes_that_grew_too_long_begins_anew() -> None:
    """Who looked at the older one has to look at all there is."""
    first = Changes().extended([W, X], shown=2)
    second = first.extended([Y], shown=2)
    assert second.since(first) == frozenset({Y})
    assert second.since(second) == frozenset()
    assert first.since(second) is None
    other = first.extended([Z], shown=2)
    assert other.since(first) is None
    long = second.extended([Z] * CHANGES_LEAST, shown=2)
    assert long.since(second) is None
    assert second.extended([Z] * CHANGES_LEAST, CHANGES_LEAST).since(
        second
    ) == frozenset({Z})
