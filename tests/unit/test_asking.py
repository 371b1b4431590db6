"""Few questions to a peer are out at once, and the space that was sent least asks next."""

from dataclasses import replace

from crdtmerge.sync.messages import (
    AttestationsRequest,
    FeedReply,
    FeedRequest,
    Heartbeat,
    RecordsRequest,
    SignedBytes,
    TensorsRequest,
)
from nodes.asking import ANSWER_S, ASKED_MAX, Asking, answers, asks

SPACES = [bytes([n]) * 32 for n in range(20)]


def question(space: bytes, number: int) -> FeedRequest:
    """Return a question about a space."""
    return FeedRequest(space, bytes(16), 0, number)


def answer(space: bytes, number: int, size: int = 1 << 20) -> FeedReply:
    """Return what answers it."""
    records = (SignedBytes(bytes(size), b""),)
    return FeedReply(space, bytes(16), 1, True, records, number)


def test_few_questions_are_out_and_all_are_asked_in_the_end() -> None:
    """Whatever the number of spaces; each answer lets one more out."""
    asking = Asking()
    out = [q for n, s in enumerate(SPACES, 1) for q in asking.ask(question(s, n), 0.0)]
    asked = list(out)
    while out:
        assert len(out) <= ASKED_MAX
        first = out.pop(0)
        more = asking.answered(answer(first.space, first.number), 0.0)  # type: ignore[union-attr]
        out += more
        asked += more
    assert asked == [question(s, n) for n, s in enumerate(SPACES, 1)]
    assert len(asking) == 0


def test_a_small_space_asks_before_large_ones_that_wait() -> None:
    """It is not known to be large, and does not wait for one answer of each of them."""
    asking = Asking()
    numbers = iter(range(1, 1000))
    out = []
    for space in SPACES[:10]:
        out += asking.ask(question(space, next(numbers)), 0.0)
    for _ in range(30):
        first = out.pop(0)
        assert isinstance(first, FeedRequest)
        out += asking.answered(answer(first.space, first.number), 0.0)
        out += asking.ask(question(first.space, next(numbers)), 0.0)
    small = question(SPACES[15], next(numbers))
    out += asking.ask(small, 0.0)
    assert small not in out
    first = out.pop(0)
    assert isinstance(first, FeedRequest)
    out += asking.answered(answer(first.space, first.number), 0.0)
    assert small in out


def test_a_question_asked_again_goes_out_again_or_waits_on() -> None:
    """It may have been lost on the way; one that never went was not."""
    asking = Asking()
    first, second, third = (question(s, n) for n, s in enumerate(SPACES[:3], 1))
    assert asking.ask(first, 0.0) == [first]
    assert asking.ask(second, 0.0) == [second]
    assert asking.ask(third, 0.0) == []
    assert asking.ask(first, 1.0) == [first]
    assert asking.ask(third, 1.0) == []
    assert len(asking) == 1
    newer = RecordsRequest(third.space, (bytes(32),), 9)
    assert asking.ask(replace(third, number=8), 1.0) == []
    assert asking.ask(newer, 1.0) == []
    assert asking.answered(answer(first.space, 1), 2.0) == [replace(third, number=8)]
    assert asking.answered(answer(second.space, 2), 2.0) == [newer]


def test_questions_without_an_answer_keep_nobody_waiting_for_ever() -> None:
    """A peer that does not share a space any more does not answer about it."""
    asking = Asking()
    for number, space in enumerate(SPACES[:3], 1):
        asking.ask(question(space, number), 0.0)
    last = question(SPACES[3], 4)
    assert asking.ask(last, ANSWER_S - 1) == []
    found = asking.ask(question(SPACES[4], 5), ANSWER_S + 1)
    assert found == [question(SPACES[2], 3), last]


def test_an_answer_to_nothing_lets_nothing_out_twice() -> None:
    """Late and doubled answers free no place that was freed."""
    asking = Asking()
    for number, space in enumerate(SPACES[:6], 1):
        asking.ask(question(space, number), 0.0)
    assert len(asking.answered(answer(SPACES[0], 1), 0.0)) == 1
    assert asking.answered(answer(SPACES[0], 1), 0.0) == []
    assert asking.answered(answer(SPACES[9], 77), 0.0) == []


def test_only_what_has_a_numbered_answer_is_held_back() -> None:
    """All else goes out as ever."""
    assert asks(question(SPACES[0], 1))
    assert asks(TensorsRequest(SPACES[0], bytes(32), 0, 1))
    assert answers(answer(SPACES[0], 1))
    for other in (
        Heartbeat(SPACES[0], bytes(32), 0, bytes(16), 0),
        AttestationsRequest(SPACES[0], ()),
    ):
        assert not asks(other)
        assert not answers(other)
