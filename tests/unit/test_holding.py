"""What an author says beyond its quota waits, and nothing of anybody else; none is lost."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.bodies import BODIES, Ban, Body, Grant, Lift, RecordId, Revoke
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import BadSignatureError
from crdtmerge.faults import Fault
from crdtmerge.identity import AuthorId, SigningKey
from crdtmerge.record import SignedRecord, make_record, sign_record
from crdtmerge.sync.session import DOUBTS_MAX, FEED_WITHOUT_CURSOR_MAX, Session
from nodes import holding as module
from nodes.holding import Holding, may_wait
from nodes.quotas import Quotas
from nodes.spaces import Spaces
from tests.unit.peers import (
    GENESIS,
    MEMBER,
    OWNER,
    SPACE,
    Wire,
    grant,
    ids,
    note,
    notes,
    raw,
    session,
    spaces_with,
)

TIGHT = Quotas(author_rate=1, author_records=0, burst_s=10)
"""Ten records of an author at once, and one a second."""
MANY = FEED_WITHOUT_CURSOR_MAX + 40
GRANT = grant(1)


def member(number: int) -> SignedRecord:
    """Return record `number` of the member, which is not the owner."""
    return note(number, key=MEMBER, auth=GRANT.record)


def flood(count: int, start: int = 0) -> list[SignedRecord]:
    return [member(number) for number in range(start, start + count)]


@dataclass
class Side:
    """One side with quotas: its spaces, and what waits."""

    spaces: Spaces
    quotas: Quotas = TIGHT
    holding: Holding = field(init=False)
    session: Session = field(init=False)

    def __post_init__(self) -> None:
        self.holding = Holding(self.quotas, self.spaces.said)
        self.spaces.admission = self.holding
        self.session = replace(session(self.spaces), waiting=self.holding)

    def take(self, *records: SignedRecord) -> tuple[RecordId, ...]:
        """Take what a peer sent in one message."""
        return self.spaces.receive(SPACE, [raw(r) for r in records])

    def wait(self, seconds: float) -> None:
        """Let time pass, tick by tick."""
        for _ in range(int(seconds)):
            self.holding.now += 1
            self.holding.tick()

    @property
    def left(self) -> dict[AuthorId, int]:
        """How many records of each author wait."""
        return dict(self.holding.waiting())

    def of(self, key: SigningKey) -> int:
        """Return how many records of an author are here."""
        return self.spaces.said(key.public)


def side(*records: SignedRecord, name: str = "s", quotas: Quotas = TIGHT) -> Side:
    made = Side(spaces_with(name, [GRANT, *records]), quotas)
    made.holding.now = 1000.0
    return made


def connect(left: Side, right: Side | Spaces) -> Wire:
    """Return the wire between two sides that have never met."""
    theirs = right.session if isinstance(right, Side) else session(right)
    return Wire(left.session, theirs)


def beats(wire: Wire, count: int) -> dict[str, int]:
    """Let both sides beat so many times; return what was said beside beats."""
    before = wire.kinds.copy()
    for _ in range(count):
        wire.run()
    return {k: n for k, n in (wire.kinds - before).items() if k != "Heartbeat"}


# --- what waits, and what does not -----------------------------------------------------


def test_an_author_over_its_quota_waits_and_nobody_else() -> None:
    """Of one message the first ten of the flood are taken, and all of the other's."""
    node = side()
    fresh = node.take(*flood(30), *notes(range(10, 15)))
    assert node.of(MEMBER) == 10
    assert {r.record.id for r in notes(range(10, 15))} <= set(fresh)
    assert node.left == {MEMBER.public: 20}
    assert node.holding.held == {"rate": 20}


def test_of_one_author_the_oldest_go_first() -> None:
    """Whatever the order of a message, what is taken is the beginning."""
    node = side()
    node.take(*reversed(flood(30)))
    assert {r.record.id for r in flood(10)} <= ids(node.spaces)
    assert node.of(MEMBER) == 10


def test_what_waits_is_not_verified() -> None:
    """A signature costs us nothing while its author is over the quota."""
    node = side()
    node.take(*flood(10))
    forged = replace(raw(member(10)), signature=bytes(64))
    spent = node.holding.spent
    assert node.spaces.receive(SPACE, [forged]) == ()
    assert node.holding.spent - spent < 1
    node.wait(1)
    with pytest.raises(BadSignatureError):
        node.spaces.receive(SPACE, [forged])


def test_forgers_do_not_use_up_the_quota_of_whom_they_name() -> None:
    """Only what an author signed counts against it, and each record once."""
    node = side()
    forged = [replace(raw(r), signature=bytes(64)) for r in flood(5)]
    for _ in range(20):
        with pytest.raises(BadSignatureError):
            node.spaces.receive(SPACE, forged)
    node.take(*[member(0)] * 50)
    node.take(*[member(0)] * 50)
    node.take(*flood(10))
    assert node.of(MEMBER) == 10
    assert node.left == {}


def _rights() -> list[Body]:
    other = SigningKey(b"o" * 32).public
    return [
        Grant(other, 1, DECIMAL_UNIT, 1000, 1 << 30),
        Revoke(MEMBER.public, ()),
        Ban("author", MEMBER.public),
        Ban("content", bytes(32)),
        Lift(RecordId(bytes(32))),
    ]


@pytest.mark.parametrize("body", _rights(), ids=lambda body: body.KIND)
def test_what_gives_or_takes_rights_never_waits(body: Body) -> None:
    """An owner over its quota bans at once, and whom it lets in is not held back."""
    node = side()
    node.take(*notes(range(10, 60)))
    assert node.left == {OWNER.public: 40}
    record = make_record(
        space=SPACE,
        author=OWNER.public,
        author_seq=100,
        prev=bytes(32),
        auth=GENESIS.record.id,
        body=body,
    )
    assert node.take(sign_record(record, OWNER)) == (record.id,)


def _kinds() -> dict[str, Body]:
    """Return a body of each kind there is; whether one may wait is read off its type."""
    return {kind: cast(Body, object.__new__(body)) for kind, body in BODIES.items()}


def test_what_may_wait_is_what_any_member_may_say() -> None:
    """Rights, and what others hang on, come at once: of every kind that there is."""
    waits = {
        kind
        for kind, body in _kinds().items()
        if may_wait(replace(GRANT.record, body=body))
    }
    assert waits == {"add", "remove", "node", "fault", "fork", "evaluation"}
    assert may_wait(member(0).record)  # of a kind that this version does not know


def test_proofs_count_for_what_it_takes_to_check_them() -> None:
    """A fault is as dear as eighty signatures: for its author, and for who sends it."""
    node = side(quotas=Quotas(author_rate=1, burst_s=100))
    fault: Body = object.__new__(Fault)
    many = [
        replace(member(n).record, body=fault, id=RecordId(n.to_bytes(32, "big")))
        for n in range(5)
    ]
    assert len(node.holding.leave(many, None)) == 3
    assert node.holding.spent > 160


def test_a_large_space_of_a_few_authors_comes_at_once() -> None:
    """A new node takes the quarter of a million that one author may have said by then."""
    node = side(quotas=Quotas())
    one = member(0).record
    many = [replace(one, id=RecordId(n.to_bytes(32, "big"))) for n in range(1000)]
    for _ in range(262):
        assert node.holding.leave(many, None) == {}
        node.holding._bucket(MEMBER.public).take(len(many), node.holding.now)
    assert len(node.holding.leave(many, None)) > 500


def test_records_of_this_home_never_wait() -> None:
    """What this author signed comes back whole, however much it is."""
    node = side()
    node.spaces.author = MEMBER.public
    assert len(node.take(*flood(50))) == 50


def test_forgers_do_not_hold_up_what_waits_of_whom_they_name() -> None:
    """Ids that nobody can serve came first; the true ones wait little longer for them."""
    node = side(name="node", quotas=Quotas(author_rate=1, burst_s=100))
    peer = spaces_with("peer", [GRANT, *flood(100)])
    wire = connect(node, peer)
    wire.run()
    forged = [replace(raw(member(1000 + n)), signature=bytes(64)) for n in range(2000)]
    assert node.spaces.receive(SPACE, forged) == ()
    peer.commit(SPACE, flood(20, start=100))
    beats(wire, 1)
    assert node.left == {MEMBER.public: 2020}
    _until_equal(wire, (node,), 150)
    assert node.left == {}


def test_a_full_author_waits_for_the_user() -> None:
    """Time alone does not let more in than may lie here in all; a larger quota does."""
    quotas = Quotas(author_rate=0, author_records=25)
    node, peer = side(quotas=quotas), spaces_with("p", [GRANT, *flood(60)])
    wire = connect(node, peer)
    wire.run()
    assert node.of(MEMBER) == 25
    assert node.holding.by_quota() == {"rate": 0, "total": 35}
    assert [held.full for held in node.holding.in_space(SPACE)] == [True]
    node.wait(1000)
    beats(wire, 10)
    assert node.of(MEMBER) == 25
    node.holding.change(Quotas(author_rate=0, author_records=100))
    node.wait(1)
    beats(wire, 5)
    assert wire.equal
    assert node.left == {}


def test_the_records_here_are_counted_from_the_store() -> None:
    """After a restart an author has no second share."""
    node = side(*flood(25), quotas=Quotas(author_rate=0, author_records=25))
    assert node.take(member(25)) == ()


# --- sessions --------------------------------------------------------------------------


def _through_feed() -> tuple[Side, Wire]:
    node = side(name="node")
    wire = connect(node, spaces_with("peer", [GRANT, *flood(50)]))
    return node, wire


def _through_repair() -> tuple[Side, Wire]:
    ours = notes(range(2, MANY))
    node = side(*ours, name="node")
    theirs = notes(range(MANY, MANY + 5))
    peer = spaces_with("peer", [GRANT, *ours, *flood(50), *theirs])
    return node, connect(node, peer)


@pytest.mark.parametrize("begin", [_through_feed, _through_repair])
def test_held_back_records_come_once_the_quota_allows(begin: object) -> None:
    """Others' arrive at once; the author's as time passes, to the last of them."""
    node, wire = begin()  # type: ignore[operator]
    wire.run()
    assert node.of(MEMBER) == 10
    assert node.of(OWNER) == wire.right.spaces.said(OWNER.public)
    for _ in range(60):
        if wire.equal:
            break
        node.wait(1)
        beats(wire, 1)
    assert wire.equal
    assert node.left == {}
    assert 39 < node.holding.now - 1000 < 60


@pytest.mark.parametrize("begin", [_through_feed, _through_repair])
def test_what_waits_is_not_asked_for_again_and_again(begin: object) -> None:
    """While nothing may come, the two only beat: no records, hardly a look at the trie."""
    node, wire = begin()  # type: ignore[operator]
    wire.run()
    beats(wire, DOUBTS_MAX)
    said = beats(wire, 50)
    assert said.get("RecordsReply", 0) == said.get("FeedReply", 0) == 0
    assert said.get("CompareRequest", 0) <= 12  # the peer's, which doubts less and less
    assert node.of(MEMBER) == 10


def test_news_of_others_is_not_kept_waiting_by_what_waits() -> None:
    """The feed passes what is held back."""
    node, wire = _through_feed()
    wire.run()
    news = notes(range(50, 60))
    wire.right.spaces.receive(SPACE, [raw(r) for r in news])
    said = beats(wire, 1)
    assert {r.record.id for r in news} <= ids(node.spaces)
    assert said.keys() == {"FeedRequest", "FeedReply"}


def test_a_peer_that_sends_what_waits_is_no_liar() -> None:
    """It sent what it named; that we leave it for later is our own matter."""
    ours = notes(range(2, MANY))
    node = side(*ours)
    node.take(*flood(10))
    peer = spaces_with("peer", [GRANT, *ours, *flood(40)])
    wire = connect(node, peer)
    wire.run()
    assert node.left == {MEMBER.public: 30}


def test_ids_that_are_forgotten_are_found_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory is bounded: what is forgotten of what waits costs its way, and comes."""
    monkeypatch.setattr(module, "HELD_MAX", 16)
    node, wire = _through_repair()
    wire.run()
    assert sum(node.left.values()) <= 16
    for _ in range(400):
        if wire.equal:
            break
        node.wait(1)
        beats(wire, 1)
    assert wire.equal


def test_peers_with_different_quotas_end_equal() -> None:
    """Two that both hold back, and each has what the other lacks."""
    slow = Quotas(author_rate=1, burst_s=5)
    left = side(*flood(30), name="left", quotas=slow)
    right = side(*flood(30, start=100), name="right", quotas=Quotas(author_rate=4))
    wire = connect(left, right)
    _until_equal(wire, (left, right), 200)


def _until_equal(wire: Wire, sides: Iterable[Side], seconds: int) -> None:
    for _ in range(seconds):
        if wire.equal:
            return
        for one in sides:
            one.wait(1)
        beats(wire, 1)
    raise AssertionError("they never became equal")


Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["beat", "wait", "flood", "owner", "push"]), st.integers(1, 12)
    ),
    max_size=12,
)


@given(STEPS, st.integers(1, 5), st.integers(2, 10), st.integers(0, 4))
def test_whatever_happens_in_the_end_all_is_delivered(
    steps: list[Step], rate: int, burst: int, other: int
) -> None:
    """Delay, never loss: any order of floods, pushes, beats and time ends in equal sets."""
    left = side(name="left", quotas=Quotas(author_rate=rate, burst_s=burst))
    right = side(name="right", quotas=Quotas(author_rate=other))
    wire = connect(left, right)
    said = 0
    for what, count in steps:
        records = [member(said + n) for n in range(count)]
        if what == "owner":
            records = notes(range(2 + said, 2 + said + count))
        if what in {"flood", "owner"}:
            right.spaces.commit(SPACE, records)
            said += count
        elif what == "push":
            left.take(*records)
            right.spaces.commit(SPACE, records)
            said += count
        elif what == "wait":
            left.wait(count)
        else:
            beats(wire, min(count, 3))
        assert left.of(MEMBER) <= burst * rate + rate * (left.holding.now - 1000)
    _until_equal(wire, (left, right), 60 + 2 * said)
    assert ids(left.spaces) == ids(right.spaces)
    assert not left.left
