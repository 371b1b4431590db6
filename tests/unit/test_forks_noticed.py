"""What a node does about forks: which it notices, who shows them, and how many at once."""

import logging
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import pytest

from crdtmerge.bodies import Ban, Grant, Lift, SpaceId
from crdtmerge.errors import MachineError, NotAdmissibleError, NotAllowedError
from crdtmerge.forks import Fork, check_fork
from crdtmerge.identity import AuthorId, SigningKey
from crdtmerge.policy import Rank
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica
from crdtmerge.sync.messages import SignedBytes
from nodes.forks import NOTICED_MAX, WAIT_TURNS_MAX, Forks
from nodes.spaces import Spaces
from nodes.store.memory import MemoryBlobs, MemoryRecords
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    CONTRIBUTORS,
    MAINTAINERS,
    OWNERS,
    READER,
    STRANGER,
    Pen,
    add_of,
    fork_of,
    key,
    unknown,
    write,
)

MEMBERS: Final = (*OWNERS, *MAINTAINERS, CLEO, CARL, READER)


@dataclass
class Seat:
    """A node's spaces and its look at forks; what it publishes joins its own set."""

    pen: Pen
    me: SigningKey
    spaces: Spaces = field(init=False)
    forks: Forks = field(init=False)
    said: list[Fork] = field(default_factory=list)
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.spaces = Spaces(MemoryRecords(bytes(16)), MemoryBlobs())
        self.spaces.commit(self.space, list(self.pen.known.values()))
        self.forks = Forks(self.spaces, self.me.public, self)
        self.spaces.on_refused = self.forks.refused

    @property
    def space(self) -> SpaceId:
        """The one space."""
        return self.pen.genesis.record.space_id

    def __call__(self, space: SpaceId, fork: Fork) -> None:
        """Publish as a home's verbs do."""
        if self.error is not None:
            raise self.error
        check_fork(fork, space)
        self.said.append(fork)
        signed = Replica(self.spaces.opset(space), self.me).report(fork)
        self.spaces.publish(space, [signed])

    def hear(self, *signed: SignedRecord) -> None:
        """Receive records as a peer sends them."""
        batch = [SignedBytes(s.record.data, s.signature) for s in signed]
        self.spaces.receive(self.space, batch)

    def wait(self, turns: int = WAIT_TURNS_MAX + 1) -> None:
        """Let some turns pass."""
        for _ in range(turns):
            self.forks.turn()

    @property
    def places(self) -> list[tuple[AuthorId, int]]:
        """What it has published."""
        return [fork.place for fork in self.said]


def other(pen: Pen, author: SigningKey, seq: int, mark: int = 0) -> SignedRecord:
    """Return one more record of a number that the author has used."""
    body = add_of(CONTENTS[mark % 4], note=f"branch {mark}")
    after = pen.genesis.record if seq else None
    return write(author, pen.grants[author.public], body, after=after, seq=seq)


@pytest.fixture
def pen() -> Pen:
    """A space in which each contributor has said three things."""
    made = Pen.start()
    for author in CONTRIBUTORS:
        for content in CONTENTS[:3]:
            made.add(author, content)
    return made


def test_two_records_of_one_number_are_shown_once(pen: Pen) -> None:
    """And not again, whatever comes later of that author and number."""
    seat = Seat(pen, READER)
    seat.wait()
    assert seat.places == []
    seat.hear(other(pen, CLEO, 1))
    seat.wait()
    assert seat.places == [(CLEO.public, 1)]
    seat.hear(other(pen, CLEO, 1, 5))
    seat.hear(other(pen, CLEO, 2, 6))
    seat.wait()
    assert seat.places == [(CLEO.public, 1)]
    assert seat.forks.noticed == 1


def test_a_lower_number_is_shown_too(pen: Pen) -> None:
    """Only what precedes every fork is the author's one word."""
    seat = Seat(pen, READER)
    seat.hear(other(pen, CLEO, 2))
    seat.wait()
    seat.hear(other(pen, CLEO, 0))
    seat.wait()
    assert seat.places == [(CLEO.public, 2), (CLEO.public, 0)]


def test_the_lowest_of_several_is_shown(pen: Pen) -> None:
    """One record an author, though it used three numbers twice."""
    seat = Seat(pen, READER)
    seat.hear(*(other(pen, CLEO, seq) for seq in (2, 0, 1)))
    seat.wait()
    assert seat.places == [(CLEO.public, 0)]


def test_a_refused_record_shows_the_fork(pen: Pen) -> None:
    """It is not kept and its sender is refused, but its author did sign it."""
    seat = Seat(pen, READER)
    stray = write(CLEO, pen.grants[CARL.public], add_of(CONTENTS[0]))
    before = seat.spaces.opset(seat.space)
    with pytest.raises(NotAdmissibleError):
        seat.hear(stray)
    assert seat.spaces.opset(seat.space) is before
    seat.wait()
    assert seat.places == [(CLEO.public, 0)]
    assert stray.record.id in {branch.id for branch in seat.said[0].branches}
    assert stray.record.id not in seat.spaces.opset(seat.space)


def test_two_refused_records_show_a_fork(pen: Pen) -> None:
    """Neither is in the set, and both were signed."""
    seat = Seat(pen, READER)
    grant = pen.grants[CARL.public]
    pair = [
        write(CLEO, grant, add_of(c), seq=9, after=pen.genesis.record)
        for c in CONTENTS[:2]
    ]
    with pytest.raises(NotAdmissibleError):
        seat.hear(*pair)
    seat.wait()
    assert seat.places == [(CLEO.public, 9)]


def test_a_refused_stranger_shows_nothing(pen: Pen) -> None:
    """A record of a number that nobody else has is no fork."""
    seat = Seat(pen, READER)
    with pytest.raises(NotAdmissibleError):
        seat.hear(write(STRANGER, pen.genesis.record, add_of(CONTENTS[0])))
    seat.wait()
    assert seat.places == []


def test_a_node_never_shows_its_own_author(pen: Pen) -> None:
    """That is for the others; here the home signs nothing, and says why."""
    seat = Seat(pen, CLEO)
    seat.hear(other(pen, CLEO, 1))
    seat.wait()
    assert seat.places == []
    assert seat.forks.noticed == 0


def test_one_of_seven_nodes_shows_a_fork(pen: Pen) -> None:
    """Each fork has an order of authors; who comes first, differs from fork to fork."""
    first = set()
    for seq in range(3):
        seats = [Seat(pen, member) for member in MEMBERS]
        for seat in seats:
            seat.hear(other(pen, CLEO, seq))
        for _ in range(WAIT_TURNS_MAX):
            for seat in seats:
                seat.forks.turn()
            news = [
                signed
                for seat in seats
                for signed in seat.spaces.opset(seat.space).signed.values()
                if signed.record.kind == "fork"
            ]
            for seat in seats:
                seat.hear(*news)
        said = [seat.me.public for seat in seats if seat.said]
        assert len(said) == 1
        first |= set(said)
    assert len(first) > 1


def test_who_may_not_sign_says_so_once(
    pen: Pen, caplog: pytest.LogCaptureFixture
) -> None:
    """A line in the log, and not again before the set has changed."""
    seat = Seat(pen, READER, error=NotAllowedError("no rights"))
    seat.hear(other(pen, CLEO, 1))
    with caplog.at_level(logging.WARNING, "nodes.forks"):
        seat.wait(3 * WAIT_TURNS_MAX)
        told = [r.message for r in caplog.records if "is not told of" in r.message]
        assert told == ["a fork is not told of: no rights"]
        seat.error = None
        seat.wait()
        assert seat.said == []
        seat.hear(pen.write(CARL, unknown()))
        seat.wait()
    assert seat.places == [(CLEO.public, 1)]


def test_a_bad_disk_is_passed_on(pen: Pen) -> None:
    """The node ends on it, as on every one."""
    seat = Seat(pen, READER, error=MachineError("the disk is gone"))
    seat.hear(other(pen, CLEO, 1))
    with pytest.raises(MachineError):
        seat.wait()


def test_a_banned_author_is_not_shown(pen: Pen) -> None:
    """Nothing of it counts anyway: a record would be wasted on it."""
    pen.write(MAINTAINERS[0], Ban("author", CLEO.public))
    seat = Seat(pen, READER)
    seat.hear(other(pen, CLEO, 1))
    seat.wait()
    assert seat.places == []


def test_an_owner_cannot_hide_behind_a_ban_from_below(pen: Pen) -> None:
    """A ban that has no effect hides nobody."""
    pen.write(MAINTAINERS[0], Ban("author", OWNERS[1].public))
    pen.write(OWNERS[1], unknown())
    seat = Seat(pen, READER)
    seat.hear(other(pen, OWNERS[1], 0))
    seat.wait()
    assert seat.places == [(OWNERS[1].public, 0)]


def test_a_fork_after_a_lift_is_shown_again() -> None:
    """What was forgiven is one number; another one is another fork."""
    pen = Pen.start(quarantine=True)
    for content in CONTENTS:
        pen.add(CLEO, content)
    seat = Seat(pen, READER)
    seat.hear(other(pen, CLEO, 1))
    seat.wait()
    assert seat.spaces.view(seat.space).quarantined == {CLEO.public: 1}
    shown = seat.spaces.view(seat.space).forks[0].record
    seat.hear(pen.write(OWNERS[0], Lift(shown)))
    assert seat.spaces.view(seat.space).quarantined == {}
    seat.hear(other(pen, CLEO, 3))
    seat.wait()
    assert seat.places == [(CLEO.public, 1), (CLEO.public, 3)]
    assert seat.spaces.view(seat.space).quarantined == {CLEO.public: 3}


def test_many_forks_are_shown_one_by_one() -> None:
    """Of a crowd of keys: as many are held as is stated, and one is shown a turn."""
    pen = Pen.start()
    crowd = [key(f"crowd {n}") for n in range(NOTICED_MAX + 3)]
    for member in crowd:
        pen.write(
            OWNERS[0], Grant(member.public, Rank.CONTRIBUTOR, 10**9, 1000, 1 << 30)
        )
    grants = {
        g.record.body.author: g.record
        for g in pen.known.values()
        if isinstance(g.record.body, Grant)
    }
    seat = Seat(pen, READER)
    for member in crowd:
        grant = grants[member.public]
        seat.hear(*(write(member, grant, add_of(c)) for c in CONTENTS[:2]))
    seat.forks.turn()
    assert seat.forks.noticed == NOTICED_MAX
    counts = [len(seat.said)]
    for _ in range(WAIT_TURNS_MAX + 2 * len(crowd)):
        seat.forks.turn()
        counts.append(len(seat.said))
    steps = {after - before for before, after in pairwise(counts)}
    assert steps <= {0, 1}
    assert counts[-1] == len(crowd)
    assert len(set(seat.places)) == len(crowd)


def test_a_proof_that_came_is_not_said_again(pen: Pen) -> None:
    """While it waited for its turn, somebody else has shown the fork."""
    seat = Seat(pen, READER)
    branch = other(pen, CLEO, 1)
    first = next(
        s
        for s in pen.known.values()
        if (s.record.author, s.record.author_seq) == (CLEO.public, 1)
    )
    seat.hear(branch, pen.write(CARL, fork_of(first, branch)))
    seat.wait()
    assert seat.places == []
