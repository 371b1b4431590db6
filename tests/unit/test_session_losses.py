"""A session over a link that loses, doubles and delays: safe always, and never stuck."""

from dataclasses import replace

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.errors import MalformedMessageError, UnansweredError
from crdtmerge.sync.messages import (
    FEATURES,
    OLDEST_VERSION,
    PROTOCOL_VERSION,
    SALT_BYTES,
    SPEAKS_ATTESTATIONS,
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
    TrieLeaf,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.pulls import (
    ASK_AGAIN_BEATS,
    UNANSWERED_MAX,
    Answer,
    Learned,
    Pulls,
    Question,
)
from crdtmerge.sync.session import FEED_WITHOUT_CURSOR_MAX, UNGREETED_MAX, Session
from crdtmerge.sync.waiting import NothingWaits
from tests.unit.peers import SPACE, Reply, ids, note, notes, raw, session, spaces_with

SPOKEN = OLDEST_VERSION, PROTOCOL_VERSION
HELLO = Hello(OLDEST_VERSION, "tests/1", False, FEATURES, *SPOKEN)
BEFORE = replace(HELLO, features=SPEAKS_ATTESTATIONS)
"""What the version before says, which knows of no comparisons."""
GENERATION = b"g" * 16
CLAIM = Heartbeat(SPACE, b"r" * 32, 1_000, GENERATION, 1_000, echo=True)
"""Where a peer claims to stand that has a great deal."""
MANY = FEED_WITHOUT_CURSOR_MAX + 40


def _greeted(count: int, hello: Hello = HELLO) -> Session:
    ours = session(spaces_with("a", notes(range(1, count))))
    ours.open()
    ours.handle(hello)
    return ours


def _asking(kind: type) -> tuple[Session, Message]:
    """Return a session that waits for the answer to a question of this kind."""
    hello = BEFORE if kind is TrieRequest else HELLO
    ours = _greeted(4 if kind is FeedRequest else MANY, hello)
    said = ours.handle(CLAIM)
    if kind is RecordsRequest:
        found = Ids((0,), (bytes(32),))
        (shown,) = said
        assert isinstance(shown, CompareRequest)
        covered = len(shown.sections)
        said = ours.handle(CompareReply(SPACE, (found,), covered, number=1))
    (asked,) = said
    assert isinstance(asked, kind)
    assert not isinstance(asked, Learned)
    return ours, asked


QUESTIONS = [FeedRequest, TrieRequest, CompareRequest, RecordsRequest]


@pytest.mark.parametrize("kind", QUESTIONS)
def test_a_lost_question_is_asked_again_as_it_was(kind: type) -> None:
    """Every few heartbeats, under the number that it had: it may only be slow."""
    ours, asked = _asking(kind)
    said = [ours.handle(CLAIM) for _ in range(2 * ASK_AGAIN_BEATS)]
    assert said == [*[[]] * (ASK_AGAIN_BEATS - 1), [asked]] * 2


@pytest.mark.parametrize("kind", QUESTIONS)
def test_a_lost_answer_is_asked_for_under_a_new_number(kind: type) -> None:
    """A heartbeat that tells of an answer which did not come: that one is lost."""
    ours, asked = _asking(kind)
    assert isinstance(asked, Question)
    (again,) = ours.handle(replace(CLAIM, answered=asked.number))
    assert again == replace(asked, number=asked.number + 1)
    assert ours.handle(replace(CLAIM, answered=asked.number)) == [again]


@pytest.mark.parametrize("kind", QUESTIONS)
def test_a_peer_that_beats_but_does_not_answer_is_given_up(kind: type) -> None:
    """A question that is never answered may not hold us for ever; that is no lie."""
    ours, _ = _asking(kind)
    for _ in range(UNANSWERED_MAX):
        ours.handle(CLAIM)
    with pytest.raises(UnansweredError):
        ours.handle(CLAIM)


def test_a_peer_that_claims_to_have_answered_is_given_up() -> None:
    """Telling of answers that never come buys no more time than silence."""
    ours, _ = _asking(FeedRequest)
    lie = replace(CLAIM, answered=2**62)
    for _ in range(UNANSWERED_MAX):
        ours.handle(lie)
    with pytest.raises(UnansweredError):
        ours.handle(lie)


def test_a_heartbeat_that_differs_is_always_answered_and_an_echo_never() -> None:
    """The answer may be lost too, so it is given each time; and two never echo on."""
    ours = _greeted(4)
    for _ in range(3):
        first = ours.handle(replace(CLAIM, echo=False))[0]
        assert first == replace(ours.spaces.heartbeat(SPACE), echo=True)
    assert not [item for item in ours.handle(CLAIM) if isinstance(item, Heartbeat)]


def test_an_answer_ends_the_count_of_heartbeats() -> None:
    """Who answers now and then is not given up, however long a feed takes."""
    ours, _ = _asking(FeedRequest)
    for number in range(1, 5):
        for _ in range(UNANSWERED_MAX):
            ours.handle(CLAIM)
        news = raw(note(number + 10))
        part = FeedReply(SPACE, GENERATION, number, more=True, records=(news,))
        ours.handle(replace(part, number=number))
    assert len(ids(ours.spaces)) == 8


def test_an_answer_that_comes_twice_counts_once() -> None:
    """The second copy is ignored: no error, no other state, nothing said."""
    ours, _ = _asking(FeedRequest)
    reply = FeedReply(SPACE, GENERATION, 1, True, (raw(note(50)),), number=1)
    first = ours.handle(reply)
    assert any(isinstance(item, FeedRequest) for item in first)
    cursor, held = ours.cursors[SPACE], ids(ours.spaces)
    assert ours.handle(reply) == []
    assert (ours.cursors[SPACE], ids(ours.spaces)) == (cursor, held)


def test_a_last_answer_frees_the_space_for_the_next_question() -> None:
    """Its second copy is ignored, and news is asked for at once."""
    ours, _ = _asking(FeedRequest)
    last = FeedReply(SPACE, GENERATION, 1_000, False, (raw(note(50)),), number=1)
    ours.handle(last)
    assert ours.handle(last) == []
    asked = ours.handle(replace(CLAIM, sequence=1_001))[-1]
    assert asked == FeedRequest(SPACE, GENERATION, 1_000, number=2)


def test_a_late_answer_does_not_answer_the_next_question() -> None:
    """The copy of an old answer never moves the cursor of a question asked since."""
    ours, _ = _asking(FeedRequest)
    old = FeedReply(SPACE, GENERATION, 1, True, (raw(note(50)),), number=1)
    ours.handle(old)
    ours.handle(FeedReply(SPACE, GENERATION, 900, True, (raw(note(51)),), number=2))
    late = replace(old, through=950, records=(raw(note(52)),))
    assert ours.handle(late) == []
    assert ours.cursors[SPACE].sequence == 900
    assert note(52).record.id not in ids(ours.spaces)


def test_a_late_answer_after_a_space_was_left_is_ignored() -> None:
    """Who shares a space again has forgotten the question, and the answer is no lie."""
    ours, _ = _asking(FeedRequest)
    ours.share(frozenset())
    ours.share(frozenset([SPACE]))
    reply = FeedReply(SPACE, GENERATION, 1, False, (raw(note(50)),), number=1)
    assert ours.handle(reply) == []
    assert note(50).record.id not in ids(ours.spaces)


@pytest.mark.parametrize("kind", QUESTIONS)
def test_an_answer_of_another_kind_is_a_lie(kind: type) -> None:
    """No link turns the answer to one question into one of another kind."""
    answers: dict[type, Reply] = {
        FeedRequest: RecordsReply(SPACE, (), ()),
        TrieRequest: CompareReply(SPACE, (), 1),
        CompareRequest: TrieReply(SPACE, (TrieLeaf((), ()),)),
        RecordsRequest: TrieReply(SPACE, ()),
    }
    ours, asked = _asking(kind)
    assert isinstance(asked, Question)
    with pytest.raises(MalformedMessageError):
        ours.handle(replace(answers[kind], number=asked.number))


@pytest.mark.parametrize("number", [0, 2])
def test_an_answer_to_what_was_never_asked_is_a_lie(number: int) -> None:
    """No link makes up numbers: they are counted by us."""
    ours, _ = _asking(FeedRequest)
    with pytest.raises(MalformedMessageError):
        ours.handle(FeedReply(SPACE, GENERATION, 1, False, (), number))


def test_a_question_is_answered_once_under_one_number() -> None:
    """A doubled question costs nothing; under a new number it is answered again."""
    ours = _greeted(9)
    generation = ours.spaces.heartbeat(SPACE).generation
    questions: tuple[Message, ...] = (
        FeedRequest(SPACE, generation, 3),
        TrieRequest(SPACE, ((),)),
        CompareRequest(SPACE, bytes(SALT_BYTES), (Ids((), ()),)),
        RecordsRequest(SPACE, (note(1).record.id,)),
    )
    for number, question in enumerate((*questions, *questions), 1):
        assert isinstance(question, Question)
        numbered = replace(question, number=number)
        (reply,) = ours.handle(numbered)
        assert isinstance(reply, Answer)
        assert reply.number == number
        assert ours.handle(numbered) == []
        (beat,) = ours.heartbeats()
        assert isinstance(beat, Heartbeat)
        assert beat.answered == number


def test_an_overtaken_question_is_not_answered() -> None:
    """Its asker has gone on: only the answer to the later one is waited for."""
    ours = _greeted(9)
    assert ours.handle(TrieRequest(SPACE, ((),), number=5))
    assert ours.handle(TrieRequest(SPACE, ((),), number=4)) == []


def test_a_hello_that_was_lost_is_asked_for() -> None:
    """Until the peer has said hello nothing is taken, and it is asked to say it."""
    left, right = session(spaces_with("a", notes([1]))), session(spaces_with("b", []))
    left.open()  # all of it is lost
    right.open()
    beat = left.heartbeats()[0]
    assert not isinstance(beat, Learned)
    assert right.handle(beat) == [HELLO]
    assert not right.greeted
    left.handle(HELLO)
    again, told = left.handle(HELLO)  # the one that asks
    assert again == replace(HELLO, heard=True)
    assert told == beat
    assert right.handle(again) == []
    asked = [item for item in right.handle(beat) if isinstance(item, FeedRequest)]
    assert len(asked) == 1


def test_two_never_greet_each_other_without_end() -> None:
    """A hello that says it was heard is not answered."""
    ours = _greeted(1)
    assert ours.handle(replace(HELLO, heard=True)) == []


def test_a_peer_that_never_says_hello_is_given_up() -> None:
    """What comes before the hello is bounded, and none of it counts."""
    ours = session(spaces_with("a", ()))
    question = FeedRequest(SPACE, ours.spaces.heartbeat(SPACE).generation, 0, number=1)
    for _ in range(UNGREETED_MAX):
        assert ours.handle(question) == []
    with pytest.raises(UnansweredError):
        ours.handle(question)


def test_a_question_that_waits_for_its_turn_is_not_taken_for_unanswered() -> None:
    """A peer that answers about other spaces meanwhile is there, and will answer."""
    pulls = Pulls(spaces_with("a", notes(range(1, 3))), {}, NothingWaits())
    slow, busy = SpaceId(b"s" * 32), SpaceId(b"b" * 32)
    pulls.ask(pulls.of(slow), FeedRequest(slow, bytes(16), 0))
    asked = pulls.of(slow).asked
    beat = Heartbeat(slow, bytes(32), 1, bytes(16), 1)
    assert asked is not None
    for _ in range(3 * UNANSWERED_MAX):
        pulls.ask(pulls.of(busy), FeedRequest(busy, bytes(16), 0))
        assert pulls.answered(busy, pulls.questions, FeedRequest) is not None
        pulls.wait(pulls.of(slow), asked, beat)
    for _ in range(UNANSWERED_MAX - 1):
        pulls.wait(pulls.of(slow), asked, beat)
    with pytest.raises(UnansweredError):
        pulls.wait(pulls.of(slow), asked, beat)
