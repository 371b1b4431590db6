"""Quarantine, case by case: what a fork takes, from whom, and what gives it back."""

from typing import Final

import pytest

from crdtmerge.bodies import Approve, Ban, Lift
from crdtmerge.errors import NotAllowedError, NotFoundError
from crdtmerge.identity import SigningKey
from crdtmerge.orset import OpSet
from crdtmerge.policy import Rank
from crdtmerge.record import Record
from crdtmerge.replica import Replica
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    HEIRS,
    MAINTAINERS,
    OTTO,
    OWNERS,
    READER,
    THREE,
    Pen,
    add_of,
    fork_of,
    grant_of,
    unknown,
    write,
)

MIA: Final = MAINTAINERS[0]


@pytest.fixture
def pen() -> Pen:
    """A space with quarantine; Cleo has contributed twice."""
    made = Pen.start(quarantine=True)
    for content in CONTENTS[:2]:
        made.add(CLEO, content)
    return made


def twice(pen: Pen, author: SigningKey, seq: int, note: str = "twice") -> Record:
    """Let `author` sign another record of a number, and somebody show it."""
    first = next(
        s
        for s in pen.known.values()
        if (s.record.author, s.record.author_seq) == (author.public, seq)
    )
    after = pen.genesis.record if seq else None
    grant = pen.grants[author.public]
    other = write(author, grant, add_of(CONTENTS[3], note=note), seq=seq, after=after)
    pen.known[other.record.id] = other
    return pen.write(READER, fork_of(first, other)).record


def effective(opset: OpSet, author: SigningKey) -> list[int]:
    """Return the numbers of an author's effective records."""
    return sorted(
        record.author_seq
        for key, record in opset.records.items()
        if record.author == author.public and key in opset.view.effective
    )


def test_what_precedes_the_fork_counts_and_neither_branch_does(pen: Pen) -> None:
    """Nor does anything after them, on whichever branch."""
    pen.add(CLEO, CONTENTS[2])
    twice(pen, CLEO, 1)
    opset = pen.opset()
    assert effective(opset, CLEO) == [0]
    assert opset.view.quarantined == {CLEO.public: 1}
    assert opset.view.ranks[CLEO.public] is Rank.CONTRIBUTOR
    assert [v.content for v in opset.view.visible] == [CONTENTS[0]]


def test_the_lowest_of_several_forks_counts(pen: Pen) -> None:
    """In whichever order they are shown."""
    twice(pen, CLEO, 1)
    twice(pen, CLEO, 0)
    assert pen.opset().view.quarantined == {CLEO.public: 0}
    assert pen.shown() == set()


def test_a_thief_who_forks_at_0_hides_all_later_work(pen: Pen) -> None:
    """The cost of the rule, which is why it is off unless genesis sets it."""
    for content in CONTENTS[:2]:
        pen.add(CARL, content)
    twice(pen, CARL, 0)
    assert effective(pen.opset(), CARL) == []
    plain = Pen.start()
    plain.add(CARL, CONTENTS[0])
    twice(plain, CARL, 0)
    view = plain.opset().view
    assert view.quarantined == {}
    assert [fork.place for fork in view.forks] == [(CARL.public, 0)]
    assert {v.content for v in view.visible} == {CONTENTS[0], CONTENTS[3]}


def test_what_hangs_on_a_grant_after_the_fork_falls_too(pen: Pen) -> None:
    """A maintainer's later grants have no effect, nor what their holders do."""
    late = HEIRS[0]
    number = pen.admit(MIA, late, Rank.CONTRIBUTOR).record.author_seq
    pen.add(late, CONTENTS[2])
    twice(pen, MIA, number)
    opset = pen.opset()
    assert late.public not in opset.view.ranks
    assert effective(opset, late) == []
    assert effective(opset, CLEO) == [0, 1]  # Cleo's grant was made before


def test_an_owner_is_cut_off_too(pen: Pen) -> None:
    """It is a proof: no rank stands above it."""
    number = pen.write(OWNERS[1], unknown()).record.author_seq
    twice(pen, OWNERS[1], number)
    opset = pen.opset()
    assert opset.view.quarantined == {OWNERS[1].public: number}
    assert opset.view.ranks[OWNERS[1].public] is Rank.OWNER


def test_a_fork_of_the_founders_first_record_leaves_the_space(pen: Pen) -> None:
    """Genesis has effect whatever becomes of who signed it: the space is named by it."""
    twice(pen, OWNERS[0], 0)
    opset = pen.opset()
    assert effective(opset, OWNERS[0]) == [0]
    assert opset.view.genesis.id in opset.view.effective
    assert opset.view.ranks[OWNERS[1].public] is Rank.OWNER


def test_who_shows_it_does_not_matter(pen: Pen) -> None:
    """A proof stands when its author is banned, or quarantined itself."""
    twice(pen, CLEO, 1)
    pen.write(OWNERS[0], Ban("author", READER.public))
    assert pen.opset().view.quarantined == {CLEO.public: 1}


def test_a_lift_from_above_ends_it(pen: Pen) -> None:
    """And both branches count, with all that followed."""
    shown = twice(pen, CLEO, 1)
    pen.write(MIA, Lift(shown.id))
    opset = pen.opset()
    assert opset.view.quarantined == {}
    assert effective(opset, CLEO) == [0, 1, 1]
    assert opset.view.forks[0].lifted


def test_a_lift_from_the_same_rank_does_not(pen: Pen) -> None:
    """Nor does the author's own, made before the fork."""
    number = pen.write(MIA, unknown()).record.author_seq
    shown = twice(pen, MIA, number)
    pen.write(MAINTAINERS[1], Lift(shown.id))
    pen.write(MIA, Lift(shown.id))
    view = pen.opset().view
    assert view.quarantined == {MIA.public: number}
    assert not view.forks[0].lifted


def test_the_same_fork_shown_again_stays_lifted(pen: Pen) -> None:
    """Anybody can publish a proof once more, or another pair of the same number."""
    shown = twice(pen, CLEO, 1)
    pen.write(MIA, Lift(shown.id))
    pen.write(CARL, shown.body)
    twice(pen, CLEO, 1, note="a third one")
    assert pen.opset().view.quarantined == {}


def test_another_number_is_another_fork(pen: Pen) -> None:
    """What was forgiven once is not forgiven for ever."""
    shown = twice(pen, CLEO, 1)
    pen.write(MIA, Lift(shown.id))
    pen.add(CLEO, CONTENTS[2])
    twice(pen, CLEO, 2)
    assert pen.opset().view.quarantined == {CLEO.public: 2}


def test_a_council_lifts_the_fork_of_an_owner() -> None:
    """One other owner alone does not."""
    pen = Pen.start(owners=THREE, quarantine=True)
    number = pen.write(OTTO, unknown()).record.author_seq
    shown = twice(pen, OTTO, number)
    lift = pen.write(OWNERS[0], Lift(shown.id)).record.id
    opset = pen.opset()
    assert opset.view.quarantined == {OTTO.public: number}
    assert [wait.record for wait in opset.view.pending] == [lift]
    pen.write(OTTO, Approve(lift))  # its own word, after the fork, is none
    assert pen.opset().view.quarantined == {OTTO.public: number}
    pen.write(OWNERS[1], Approve(lift))
    opset = pen.opset()
    assert opset.view.quarantined == {}
    assert opset.view.pending == ()


def test_of_two_owners_nobody_lifts_the_fork_of_one() -> None:
    """A council is two, and the one that forked has no vote left."""
    pen = Pen.start(quarantine=True)
    number = pen.write(OWNERS[1], unknown()).record.author_seq
    shown = twice(pen, OWNERS[1], number)
    lift = pen.write(OWNERS[0], Lift(shown.id)).record.id
    pen.write(OWNERS[1], Approve(lift))
    assert pen.opset().view.quarantined == {OWNERS[1].public: number}


def test_a_key_named_before_the_fork_keeps_its_rights(pen: Pen) -> None:
    """Who follows was said in the one word of the author; a stolen old key ends nothing."""
    heir = HEIRS[0]
    pen.name(CLEO, heir)
    pen.add(heir, CONTENTS[2])
    number = pen.write(CLEO, unknown()).record.author_seq
    twice(pen, CLEO, number)
    opset = pen.opset()
    assert opset.view.quarantined == {CLEO.public: number}
    assert effective(opset, heir) == [0]


def test_a_key_named_from_the_fork_on_has_none(pen: Pen) -> None:
    """Later keys of the identity are cut off with it."""
    heir = HEIRS[0]
    pen.name(CLEO, heir)
    pen.add(heir, CONTENTS[2])
    twice(pen, CLEO, 1)
    opset = pen.opset()
    assert opset.view.quarantined == {CLEO.public: 1}
    assert effective(opset, heir) == []


def test_who_is_quarantined_is_told_before_it_signs(pen: Pen) -> None:
    """What it said would have no effect."""
    twice(pen, CLEO, 1)
    with pytest.raises(NotAllowedError, match="two records of number 1"):
        Replica(pen.opset(), CLEO).announce(bytes(32), ())


def test_only_what_has_effect_is_lifted(pen: Pen) -> None:
    """A second lift, one from below, and one where forks only show, are refused."""
    shown = twice(pen, CLEO, 1)
    with pytest.raises(NotAllowedError):
        Replica(pen.opset(), CARL).lift(shown.id)
    signed = Replica(pen.opset(), MIA).lift(shown.id)
    after = pen.opset().insert([signed])
    with pytest.raises(NotFoundError):
        Replica(after, OWNERS[0]).lift(shown.id)
    plain = Pen.start()
    plain.add(CLEO, CONTENTS[0])
    shown = twice(plain, CLEO, 0)
    with pytest.raises(NotFoundError):
        Replica(plain.opset(), MIA).lift(shown.id)


def test_nobody_reaches_through_a_fork_what_it_may_not(pen: Pen) -> None:
    """A quarantined maintainer's later ban is void, its earlier one is not."""
    pen.write(MIA, grant_of(HEIRS[1], Rank.READER))
    early = pen.write(MIA, Ban("author", CARL.public)).record
    late = pen.write(MIA, Ban("author", CLEO.public)).record
    twice(pen, MIA, late.author_seq)
    view = pen.opset().view
    assert set(view.bans) == {early.id}
    assert CARL.public in view.rightless
    assert CLEO.public not in view.rightless
