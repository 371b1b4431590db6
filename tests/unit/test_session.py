"""Two sessions end with the same records, whatever each had; a liar gets nowhere."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import Domain, digest
from crdtmerge.errors import (
    BadSignatureError,
    MalformedMessageError,
    MissingAuthorityError,
    RemoteError,
    UnansweredError,
    VersionsApartError,
    WrongSpaceError,
)
from crdtmerge.replica import found_space
from crdtmerge.sync.messages import (
    FEATURES,
    IDS_MAX,
    MESSAGE_BYTES_MAX,
    PROTOCOL_VERSION,
    SALT_BYTES,
    SECTIONS_MAX,
    SPEAKS_ATTESTATIONS,
    SPEAKS_COMPARE,
    CompareReply,
    CompareRequest,
    FeedReply,
    FeedRequest,
    Heartbeat,
    Hello,
    Ids,
    Message,
    RecordsReply,
    RecordsRequest,
    Rumour,
    SignedBytes,
    TrieInner,
    TrieLeaf,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.pulls import IN_VAIN_SPARE, Cursor, Learned
from crdtmerge.sync.repairing import REPAIR_BEATS_MAX, UNDELIVERED_MAX
from crdtmerge.sync.session import DOUBTS_MAX, FEED_WITHOUT_CURSOR_MAX, Session
from crdtmerge.trie import Leaf, Prefix
from nodes.spaces import Spaces
from tests.unit.peers import (
    BASE,
    MEMBER,
    OWNER,
    SPACE,
    Reply,
    Wire,
    answer,
    connect,
    grant,
    ids,
    note,
    notes,
    raw,
    session,
    spaces_with,
)

MANY = FEED_WITHOUT_CURSOR_MAX + 40
HASHES = tuple(digest(Domain.SEED, bytes([n])) for n in range(16))


# --- honest peers ----------------------------------------------------------------------


def test_equal_sides_only_beat() -> None:
    """Equal roots mean that nothing is asked for; a cursor is the gain."""
    wire = connect(
        spaces_with("a", notes(range(1, 9))), spaces_with("b", notes(range(1, 9)))
    )
    wire.run()
    assert wire.kinds == {"Hello": 2, "Heartbeat": 2}
    assert wire.left.cursors[SPACE].sequence == 9


def test_a_new_replica_reads_the_feed_from_the_start() -> None:
    """From nothing but the genesis, the feed brings all in its order."""
    wire = connect(spaces_with("a", notes(range(1, 200))), spaces_with("b", ()))
    wire.run()
    assert wire.equal
    assert wire.kinds["TrieRequest"] == 0
    assert len(ids(wire.right.spaces)) == 200


def test_both_sides_end_equal_from_one_connection() -> None:
    """Each has what the other lacks: one meeting is enough for both."""
    wire = connect(
        spaces_with("a", notes(range(1, 20))), spaces_with("b", notes(range(10, 40)))
    )
    wire.run()
    assert wire.equal
    assert len(ids(wire.left.spaces)) == 40


def test_one_heartbeat_is_enough_for_push_and_pull() -> None:
    """A heartbeat that differs is answered, so the silent side's news travels too."""
    left, right = spaces_with("a", ()), spaces_with("b", ())
    wire = connect(left, right)
    wire.run()
    left.commit(SPACE, [note(1)])
    right.commit(SPACE, [note(2)])
    outbox = [*wire.left.heartbeats()]
    sides = {id(wire.left): wire.right, id(wire.right): wire.left}
    queue: list[tuple[Session, Message | Learned]] = [(wire.left, m) for m in outbox]
    while queue:
        sender, item = queue.pop(0)
        if not isinstance(item, Learned):
            receiver = sides[id(sender)]
            queue += [(receiver, answer) for answer in receiver.handle(item)]
    assert wire.equal


def test_a_cursor_brings_nothing_but_the_new() -> None:
    """Syncing again costs what is new, also over a new connection."""
    left, right = spaces_with("a", notes(range(1, 300))), spaces_with("b", ())
    first = connect(left, right)
    first.run()
    left.commit(SPACE, [note(300)])
    again = connect(left, right)
    again.right.cursors.update(first.right.cursors)
    again.run()
    assert again.equal
    assert again.kinds["FeedReply"] == 1
    assert sum(again.sizes) < 2_500


def test_a_new_generation_starts_over() -> None:
    """A peer whose store was made anew has other numbers: the cursor is dropped."""
    left, right = spaces_with("a", notes(range(1, 9))), spaces_with("b", ())
    first = connect(left, right)
    first.run()
    reborn = spaces_with("c", notes(range(20, 24)))
    again = connect(reborn, right)
    again.right.cursors.update(first.right.cursors)
    again.run()
    assert again.equal
    assert len(ids(right)) == 13


def test_a_generation_that_ends_under_the_question_is_no_lie() -> None:
    """The feed's answer in another generation drops the cursor; the next beat goes on."""
    ours = session(spaces_with("a", ()))
    ours.handle(Hello(PROTOCOL_VERSION, "t"))
    theirs = spaces_with("b", notes(range(1, 9))).heartbeat(SPACE)
    (_, asked) = ours.handle(theirs)
    assert isinstance(asked, FeedRequest)
    assert answer(ours, FeedReply(SPACE, b"g" * 16, 0, more=False, records=())) == []
    assert SPACE not in ours.cursors


@pytest.mark.parametrize("features", [FEATURES, SPEAKS_ATTESTATIONS])
@pytest.mark.parametrize("differences", [1, 30, MANY])
def test_two_large_sets_repair(differences: int, features: int) -> None:
    """Without a cursor, large sets are compared by trie; both sides end equal."""
    left = spaces_with("a", notes(range(1, 400)))
    right = spaces_with("b", notes(range(1 + differences, 400 + differences)))
    wire = connect(left, right, features=features)
    wire.run()
    assert wire.equal
    assert wire.kinds["FeedRequest"] == 0
    by_clues = bool(features & SPEAKS_COMPARE)
    assert bool(wire.kinds["CompareRequest"]) == by_clues
    assert bool(wire.kinds["TrieRequest"]) == (not by_clues)
    assert len(ids(left)) == 400 + differences


def test_who_does_not_speak_comparisons_is_asked_for_none() -> None:
    """A peer of the version before refuses frames that it does not know."""
    ours = session(spaces_with("a", notes(range(1, MANY))))
    ours.open()
    ours.handle(Hello(PROTOCOL_VERSION, "before", features=SPEAKS_ATTESTATIONS))
    (asked,) = ours.handle(_claims())
    assert isinstance(asked, TrieRequest)


def test_who_does_not_speak_comparisons_is_answered_none() -> None:
    """What it asks out of turn must not bring an answer that it cannot read."""
    ours = session(spaces_with("a", notes(range(1, MANY))))
    ours.open()
    ours.handle(Hello(PROTOCOL_VERSION, "before", features=SPEAKS_ATTESTATIONS))
    asked = CompareRequest(SPACE, bytes(SALT_BYTES), (Ids((), ()),), 1)
    assert not any(isinstance(m, CompareReply) for m in ours.handle(asked))
    ours.handle(Hello(PROTOCOL_VERSION, "now", features=FEATURES))
    assert any(isinstance(m, CompareReply) for m in ours.handle(asked))


def test_a_feed_that_does_not_explain_the_difference_is_repaired() -> None:
    """A cursor that claims too much is found out by the root, not believed for ever."""
    left, right = spaces_with("a", notes(range(1, 9))), spaces_with("b", ())
    wire = connect(left, right)
    generation = left.heartbeat(SPACE).generation
    wire.right.cursors[SPACE] = Cursor(generation, 9)
    for _ in range(DOUBTS_MAX):
        wire.run()
    assert wire.equal


def test_replies_larger_than_a_message_continue() -> None:
    """Feed and repair go on where a message was full; no frame is above the limit."""
    large = notes(range(1, 60), size=50_000)
    fed = connect(spaces_with("a", large), spaces_with("b", ()))
    fed.run()
    assert fed.equal
    assert fed.kinds["FeedReply"] > 2

    common = notes(range(100, 200))
    repaired = connect(spaces_with("c", [*common, *large]), spaces_with("d", common))
    repaired.run()
    assert repaired.equal
    assert repaired.kinds["RecordsReply"] > 2
    assert max(fed.sizes + repaired.sizes) <= MESSAGE_BYTES_MAX


def test_ids_that_do_not_fit_leave_room_for_themselves() -> None:
    """A request of the most ids is answered in one frame, the unsent ids included."""
    large = notes(range(1, 30), size=50_000)
    spaces = spaces_with("a", large)
    asked = (*(s.record.id for s in large), *(bytes([1]) * 32,) * (IDS_MAX - 29))
    reply = spaces.fetch(SPACE, asked)
    size = sum(len(r.data) + len(r.signature) + 16 for r in reply.records)
    assert reply.records
    assert reply.unsent
    assert size + 32 * len(reply.unsent) <= 1 << 20


def test_chains_come_before_what_hangs_on_them() -> None:
    """A repair brings the grant first, so that what hangs on it is admitted."""
    common = notes(range(100, 200))
    given = grant(1)
    theirs = [note(n, key=MEMBER, auth=given.record) for n in range(8)]
    left = spaces_with("a", [*common, given, *theirs])
    wire = connect(left, spaces_with("b", common))
    wire.run()
    assert wire.equal


def test_what_was_learned_is_told_once() -> None:
    """Each record that came in is reported once, so that it can be passed on."""
    wire = connect(spaces_with("a", notes(range(1, 9))), spaces_with("b", ()))
    wire.run()
    learned = [key for item in wire.learned for key in item.records]
    assert sorted(learned) == sorted(s.record.id for s in notes(range(1, 9)))


def test_a_rumour_is_taken_and_an_early_one_ignored() -> None:
    """A rumour whose grant is unknown waits for the feed; the peer did no wrong."""
    given = grant(1)
    spaces = spaces_with("a", ())
    ours = _greeted(spaces)
    early = raw(note(0, key=MEMBER, auth=given.record))
    assert ours.handle(Rumour(SPACE, (early,))) == []
    said = ours.handle(Rumour(SPACE, (raw(given), early)))
    assert isinstance(said[0], Learned)
    assert len(ids(spaces)) == 3


def test_a_space_that_is_not_shared_is_ignored() -> None:
    """Messages about another space may be under way while membership changes."""
    ours = _greeted(spaces_with("a", ()))
    assert ours.handle(FeedRequest(bytes(32), b"g" * 16, 0)) == []


def test_sharing_less_forgets_what_was_asked() -> None:
    """A pull in a space that is no longer shared must not block it when it is again."""
    ours = _greeted(spaces_with("a", ()))
    theirs = spaces_with("b", notes(range(1, 9))).heartbeat(SPACE)
    assert any(isinstance(m, FeedRequest) for m in ours.handle(theirs))
    assert ours.share(frozenset()) == []
    assert ours.share(frozenset([SPACE])) == [ours.spaces.heartbeat(SPACE)]
    assert any(isinstance(m, FeedRequest) for m in ours.handle(theirs))


# --- liars -----------------------------------------------------------------------------


def _greeted(spaces: Spaces) -> Session:
    ours = session(spaces)
    ours.open()
    ours.handle(Hello(PROTOCOL_VERSION, "tests/1"))
    return ours


def _stored(ours: Session) -> set[bytes]:
    return set(ours.spaces.trie(SPACE))


def _claims(count: int = 1_000, sequence: int = 1_000) -> Heartbeat:
    """Return the heartbeat of a peer that claims to have a great deal."""
    return Heartbeat(SPACE, b"r" * 32, count, b"g" * 16, sequence, echo=True)


def _feeding() -> Session:
    """Return a session that waits for a feed from the start."""
    ours = _greeted(spaces_with("a", notes(range(1, 4))))
    (asked,) = ours.handle(_claims())
    assert isinstance(asked, FeedRequest)
    return ours


def _repairing() -> Session:
    """Return a session that waits for the root of the peer's trie."""
    ours = _greeted(spaces_with("a", notes(range(1, MANY))))
    (asked,) = ours.handle(_claims())
    assert asked == TrieRequest(SPACE, ((),), number=1)
    return ours


def _records(*records: SignedBytes) -> RecordsReply:
    return RecordsReply(SPACE, records, ())


A_FEED = FeedReply(SPACE, b"g" * 16, 1, more=False, records=(raw(note(50)),))
A_NODE = TrieReply(SPACE, (TrieLeaf((), ()),))
A_RECORD = _records(raw(note(50)))


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("idle", A_FEED),
        ("idle", A_NODE),
        ("idle", A_RECORD),
        ("feeding", A_NODE),
        ("feeding", A_RECORD),
        ("repairing", A_FEED),
        ("repairing", A_RECORD),
    ],
)
def test_an_unasked_reply_is_refused(start: str, message: Reply) -> None:
    """No reply is taken that was not asked for, in no state of the session."""
    starts = {"feeding": _feeding, "repairing": _repairing}
    ours = starts[start]() if start in starts else _greeted(spaces_with("a", ()))
    before = _stored(ours)
    with pytest.raises(MalformedMessageError):
        answer(ours, message)
    assert _stored(ours) == before


@pytest.mark.parametrize(
    "reply",
    [
        FeedReply(SPACE, b"g" * 16, 0, more=True, records=()),
        FeedReply(SPACE, b"g" * 16, 5, more=True, records=()),
        FeedReply(SPACE, b"g" * 16, 0, more=True, records=(raw(note(1)),)),
        FeedReply(SPACE, b"g" * 16, 1, more=True, records=(raw(note(1)), raw(note(2)))),
    ],
    ids=["empty", "empty-but-moving", "standing", "records-without-numbers"],
)
def test_a_feed_that_does_not_move_is_refused(reply: FeedReply) -> None:
    """Every record moves the feed by one at least, or it could go on for ever."""
    with pytest.raises(MalformedMessageError):
        answer(_feeding(), reply)


def test_a_feed_that_runs_backwards_is_refused() -> None:
    """A second part may not go back behind the first."""
    ours = _feeding()
    first = FeedReply(SPACE, b"g" * 16, 7, more=True, records=(raw(note(8)),))
    answer(ours, first)
    with pytest.raises(MalformedMessageError):
        answer(ours, replace(first, through=6))


def _foreign() -> SignedBytes:
    genesis = found_space(OWNER, name="other", mode="open", base=BASE, nonce=bytes(16))
    return raw(genesis)


BAD = {
    "forged": (replace(raw(note(9)), signature=bytes(64)), BadSignatureError),
    "garbage": (SignedBytes(b"\x93\x01\x02\x03", bytes(64)), RemoteError),
    "foreign": (_foreign(), WrongSpaceError),
    "no-grant": (
        raw(note(0, key=MEMBER, auth=grant(1).record)),
        MissingAuthorityError,
    ),
    "no-right": (raw(note(0, key=MEMBER)), RemoteError),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_record_spoils_the_feed_reply(name: str) -> None:
    """Nothing of a reply is stored if one of its records breaks a rule."""
    bad, error = BAD[name]
    ours = _feeding()
    before = _stored(ours)
    good = raw(note(8))
    with pytest.raises(error):
        answer(ours, FeedReply(SPACE, b"g" * 16, 2, more=False, records=(good, bad)))
    assert _stored(ours) == before
    assert ours.cursors[SPACE].sequence == 0


@pytest.mark.parametrize("name", sorted(BAD.keys() - {"no-grant"}))
def test_one_bad_record_spoils_a_rumour(name: str) -> None:
    """A rumour is checked like everything else."""
    bad, error = BAD[name]
    ours = _greeted(spaces_with("a", ()))
    with pytest.raises(error):
        ours.handle(Rumour(SPACE, (raw(note(8)), bad)))
    assert len(_stored(ours)) == 1


def _shown_in_vain(
    ours: Session, root: bytes, records: tuple[SignedBytes, ...] = ()
) -> None:
    """Let a repair begin, show ids that nothing has, and send something else."""
    claim = replace(_claims(), root=root)
    said = ours.handle(claim)
    while not any(isinstance(item, TrieRequest) for item in said):
        said = ours.handle(claim)
    (asked,) = answer(ours, TrieReply(SPACE, (TrieLeaf((), HASHES[:4]),)))
    assert isinstance(asked, RecordsRequest)
    assert asked.ids == HASHES[:4]
    assert answer(ours, RecordsReply(SPACE, records, () if records else asked.ids)) == (
        [Learned(SPACE, tuple(_id_of(r) for r in records))] if records else []
    )


def _id_of(record: SignedBytes) -> RecordId:
    return RecordId(digest(Domain.RECORD, record.data))


def _answering(ours: Session, root: bytes) -> Heartbeat:
    """Return a heartbeat that was sent after all that we asked had been answered."""
    return replace(_claims(), root=root, answered=ours.pulls.questions)


ROOTS = [bytes([n]) * 32 for n in range(UNDELIVERED_MAX + 1)]


@pytest.mark.parametrize("records", [(), (raw(note(MANY + 1)),)])
def test_ids_of_no_record_are_a_lie_of_who_still_has_the_same(
    records: tuple[SignedBytes, ...],
) -> None:
    """It showed ids, sent other records or none, and its root is still the one it told."""
    ours = _greeted(spaces_with("a", notes(range(1, MANY))))
    _shown_in_vain(ours, ROOTS[0], records)
    with pytest.raises(MalformedMessageError):
        ours.handle(_answering(ours, ROOTS[0]))


def test_a_beat_from_before_the_answer_proves_nothing() -> None:
    """It tells of the root that the peer had then, and of no lie."""
    ours = _greeted(spaces_with("a", notes(range(1, MANY))))
    _shown_in_vain(ours, ROOTS[0])
    early = replace(_answering(ours, ROOTS[0]), answered=ours.pulls.questions - 1)
    assert ours.handle(early) == []


def test_who_compacted_meanwhile_is_forgiven_but_not_for_ever() -> None:
    """A root that moved explains ids without a record, a few times in a row."""
    ours = _greeted(spaces_with("a", notes(range(1, MANY))))
    for before, after in pairwise(ROOTS):
        _shown_in_vain(ours, before)
        ours.handle(_answering(ours, after))
    with pytest.raises(MalformedMessageError):
        _shown_in_vain(ours, ROOTS[-1])


def test_a_record_that_comes_ends_the_count_of_those_that_did_not() -> None:
    """Who delivers between two compactions is forgiven as often as it compacts."""
    ours = _greeted(spaces_with("a", notes(range(1, MANY))))
    for number in range(2 * UNDELIVERED_MAX):
        _shown_in_vain(ours, ROOTS[0])
        claim = _answering(ours, ROOTS[1])
        said = ours.handle(claim)
        while not any(isinstance(item, TrieRequest) for item in said):
            said = ours.handle(claim)
        real = note(MANY + number)
        answer(ours, TrieReply(SPACE, (TrieLeaf((), (real.record.id,)),)))
        answer(ours, _records(raw(real)))
        assert real.record.id in _stored(ours)


@dataclass
class Killing:
    """Spaces in which some records are dead: they are not kept, whoever brings them."""

    spaces: Spaces
    dead: frozenset[bytes]

    def receive(
        self, space: SpaceId, records: Sequence[SignedBytes]
    ) -> tuple[RecordId, ...]:
        """Keep what is not dead."""
        kept = [record for record in records if _id_of(record) not in self.dead]
        return self.spaces.receive(space, kept)

    def listed(self, _: SpaceId, record: bytes) -> bool:
        """They are listed, and a living one too."""
        return record in self.dead or record == note(MANY + 10).record.id

    def __getattr__(self, name: str) -> Any:
        """Be as those in all else."""
        return getattr(self.spaces, name)


@pytest.mark.parametrize("features", [FEATURES, SPEAKS_ATTESTATIONS])
def test_dead_records_are_asked_for_once(features: int) -> None:
    """A peer that has not heard of their death shows them each time, and is no liar."""
    theirs = spaces_with("a", notes(range(1, MANY + 20)))
    dead = frozenset(note(n).record.id for n in range(MANY, MANY + 9))
    ours = Killing(spaces_with("b", notes(range(1, MANY))), dead)
    wire = Wire(session(theirs), session(ours), features)
    for _ in range(40):
        wire.run()
    assert set(theirs.trie(SPACE)) - ids(ours) == dead
    assert wire.kinds["RecordsRequest"] == 1
    asked = "CompareRequest" if features & SPEAKS_COMPARE else "TrieRequest"
    assert wire.kinds[asked] > 4  # it was repaired more than once


def test_a_repair_that_brings_nothing_for_long_is_given_up() -> None:
    """A peer that answers one node now and then, and never with an id, is no help."""
    ours = _repairing()

    def dawdle() -> None:
        prefix: Prefix = ()
        for _ in range(REPAIR_BEATS_MAX + 1):
            ours.handle(_claims())
            empty = (Leaf(len(prefix) + 1, ()).hash,) * 16
            node = TrieInner(prefix, HASHES if len(prefix) < 4 else empty)
            (asked,) = answer(ours, TrieReply(SPACE, (node,)))
            assert isinstance(asked, TrieRequest)
            prefix = asked.prefixes[0]

    with pytest.raises(UnansweredError):
        dawdle()


def test_a_peer_that_feeds_the_same_again_and_again_is_given_up() -> None:
    """Each part moves on and brings what we have: a feed of honest records ends before."""
    ours = _feeding()
    part = tuple(raw(note(n)) for n in range(1, 4)) * 1_000

    def feed() -> None:
        through = 0
        while through < 2 * IN_VAIN_SPARE:
            through += len(part)
            answer(ours, FeedReply(SPACE, b"g" * 16, through, more=True, records=part))

    before = _stored(ours)
    with pytest.raises(UnansweredError):
        feed()
    assert _stored(ours) == before


def test_a_new_life_with_each_beat_is_not_repaired_each_time() -> None:
    """A peer that tells of another generation again and again is doubted as any other."""
    ours = _greeted(spaces_with("a", notes(range(1, MANY))))
    began = 0
    for number in range(100):
        claim = replace(_claims(), generation=bytes([number]) * 16)
        for item in ours.handle(claim):
            if isinstance(item, TrieRequest):
                began += 1
                answer(ours, TrieReply(SPACE, (TrieLeaf((), ()),)))
    assert 1 < began <= 6


def test_a_comparison_is_salted_anew() -> None:
    """Each repair draws a salt that hangs on what we alone know."""
    salts: list[bytes] = []
    for secret in (bytes(16), b"x" * 16):
        ours = _greeted(spaces_with("a", notes(range(1, MANY))))
        ours = replace(ours, secret=secret)
        ours.handle(Hello(PROTOCOL_VERSION, "t", features=FEATURES))
        said = ours.handle(_claims())
        for _ in range(2):
            while not (asked := [i for i in said if isinstance(i, CompareRequest)]):
                said = ours.handle(_claims())
            salts.append(asked[0].salt)
            covered = len(asked[0].sections)
            said = answer(ours, CompareReply(SPACE, (), covered))
    assert len(set(salts)) == 4
    assert {len(salt) for salt in salts} == {SALT_BYTES}


def test_endless_differences_end() -> None:
    """A peer that answers every question with more of a made-up trie is cut off."""
    ours = _repairing()
    replies: list[int] = []

    def made_up(prefix: Prefix) -> TrieLeaf | TrieInner:
        return TrieInner(prefix, HASHES) if len(prefix) < 20 else TrieLeaf(prefix, ())

    def make_up() -> None:
        prefixes: tuple[Prefix, ...] = ((),)
        while prefixes:
            nodes = tuple(made_up(prefix) for prefix in prefixes)
            (asked,) = answer(ours, TrieReply(SPACE, nodes))
            prefixes = asked.prefixes if isinstance(asked, TrieRequest) else ()
            replies.append(len(nodes))

    with pytest.raises(MalformedMessageError):
        make_up()
    assert len(replies) < 200


def test_what_lacks_is_asked_for_in_bounded_batches() -> None:
    """Ids are fetched as they are found: a huge trie is never held in memory."""
    ours = _repairing()
    asked = answer(ours, TrieReply(SPACE, (TrieInner((), HASHES),)))
    while isinstance(request := asked[0], TrieRequest):
        nodes = tuple(
            TrieInner(p, HASHES) if len(p) < 4 else _full_leaf(p)
            for p in request.prefixes
        )
        asked = answer(ours, TrieReply(SPACE, nodes))
    assert isinstance(request, RecordsRequest)
    assert len(request.ids) == IDS_MAX


def _full_leaf(prefix: tuple[int, ...]) -> TrieLeaf:
    head = bytes(16 * a + b for a, b in zip(prefix[::2], prefix[1::2], strict=True))
    rest = 32 - len(head)
    return TrieLeaf(prefix, tuple(head + bytes([n]) * rest for n in range(16)))


def test_a_lying_heartbeat_costs_one_question() -> None:
    """A made-up root starts one pull, however often it is told meanwhile."""
    ours = _feeding()
    assert ours.handle(_claims(sequence=2_000)) == []


@pytest.mark.parametrize(
    "message",
    [
        RecordsRequest(SPACE, (), 1),
        RecordsRequest(SPACE, HASHES * 513, 1),
        RecordsRequest(SPACE, HASHES, 0),
        CompareRequest(SPACE, bytes(SALT_BYTES), (), 1),
        CompareRequest(
            SPACE, bytes(SALT_BYTES), (Ids((), ()),) * (SECTIONS_MAX + 1), 1
        ),
        CompareRequest(SPACE, bytes(SALT_BYTES), (Ids((), ()),), 0),
    ],
)
def test_a_question_out_of_bounds_is_refused(message: Message) -> None:
    """Too many ids at once, or none, or no number, break the protocol."""
    ours = _greeted(spaces_with("a", ()))
    ours.handle(Hello(PROTOCOL_VERSION, "t", features=FEATURES))
    with pytest.raises(MalformedMessageError):
        ours.handle(message)


@pytest.mark.parametrize(
    ("hello", "who"),
    [
        (Hello(2, "later"), "this node must be upgraded"),
        (Hello(3, "later", oldest=2, newest=4), "this node must be upgraded"),
    ],
)
def test_hello_names_a_version_of_ours(hello: Hello, who: str) -> None:
    """No other protocol is spoken, neither at first nor later; it is said who upgrades."""
    spaces = spaces_with("a", ())
    for ours in (session(spaces), _greeted(spaces)):
        with pytest.raises(VersionsApartError, match=who):
            ours.handle(hello)


def test_the_newest_version_that_both_speak_is_spoken() -> None:
    """A later peer that still speaks ours is talked to in ours, as one before us is."""
    spaces = spaces_with("a", ())
    for hello in (
        Hello(1, "before"),
        Hello(1, "like us", oldest=1, newest=1),
        Hello(1, "later", features=2**63, oldest=1, newest=7),
    ):
        ours = session(spaces)
        ours.handle(hello)
        assert (ours.greeted, ours.version) == (True, 1)


def test_who_is_older_than_all_that_we_speak_must_upgrade() -> None:
    """The words name the side that is behind, seen from both."""
    behind = VersionsApartError((4, 5), (1, 3))
    assert "the peer must be upgraded" in str(behind)
    assert "the peer speaks 1 to 3, we speak 4 to 5" in str(behind)
    assert "this node must be upgraded" in str(VersionsApartError((1, 3), (4, 5)))


def test_heartbeats_are_in_the_order_of_the_spaces() -> None:
    """What is said does not depend on the order of a set."""
    one = _greeted(spaces_with("a", ()))
    assert one.shared == frozenset([SpaceId(SPACE)])
    assert [m for m in one.heartbeats() if isinstance(m, Heartbeat)]
