"""The address book orders by evidence, forgets in time, and never outgrows its limits."""

import random

from nodes.book import (
    LATELY_S,
    NEVER_S,
    OLD_S,
    ROWS_MAX,
    ROWS_OF_NODE_MAX,
    TIRED,
    Book,
)

NODE, OTHER = b"n" * 32, b"o" * 32


def test_what_worked_last_comes_first_and_what_fails_comes_last() -> None:
    """Successes by their time, then the untried, then failures by their number."""
    book, rng = Book(), random.Random(1)
    book.worked(NODE, "old:1", 1.0)
    book.worked(NODE, "new:1", 2.0)
    for times in (1, 2):
        for _ in range(times):
            book.failed(NODE, f"bad{times}:1", 3.0)
    asked = ("bad2:1", "old:1", "fresh:1", "bad1:1", "new:1")
    assert book.order(NODE, asked, rng) == [
        "new:1",
        "old:1",
        "fresh:1",
        "bad1:1",
        "bad2:1",
    ]
    assert sorted(book.order(OTHER, asked, rng)) == sorted(asked)  # nothing of another


def test_one_that_fails_often_is_no_better_than_the_untried() -> None:
    """A moved node's old address stands back after a few failures, and counts no more."""
    book = Book()
    book.worked(NODE, "moved:1", 0.0)
    assert book.age(NODE, 5.0) == 5.0
    for _ in range(TIRED):
        assert book.order(NODE, ("new:1", "moved:1"), random.Random(1))[0] == "moved:1"
        book.failed(NODE, "moved:1", 1.0)
        assert book.age(NODE, 5.0) is None
    assert book.order(NODE, ("moved:1", "new:1"), random.Random(1))[0] == "new:1"
    assert book.age(NODE, 5.0) is None
    assert book.lately(5.0) == []
    book.worked(NODE, "moved:1", 6.0)
    assert book.age(NODE, 8.0) == 2.0
    assert book.lately(8.0) == [NODE]
    assert book.age(NODE, 6.0 + LATELY_S) is None


def test_what_never_worked_goes_and_who_left_goes() -> None:
    """Failures are kept for an hour, successes for a month, of members alone."""
    book = Book()
    book.failed(NODE, "never:1", 0.0)
    book.worked(NODE, "worked:1", 0.0)
    book.worked(OTHER, "gone:1", 0.0)
    book.decay([NODE, OTHER], NEVER_S)
    assert sorted(book.of(NODE)) == ["never:1", "worked:1"]
    assert book.of(OTHER)
    book.decay([NODE], NEVER_S + 1)
    assert sorted(book.of(NODE)) == ["worked:1"]
    assert not book.of(OTHER)
    book.decay([NODE], OLD_S + 1)
    assert not book.of(NODE)


def test_nobody_fills_the_book() -> None:
    """A node has few rows, all have a limit, and what worked outlives what did not."""
    book = Book()
    book.worked(NODE, "works:1", 0.0)
    for nth in range(1000):
        book.failed(NODE, f"n{nth}:1", 1.0 + nth)
    assert len(book.of(NODE)) == ROWS_OF_NODE_MAX
    assert "works:1" in book.of(NODE)
    book.take_changes()
    for nth in range(2 * ROWS_MAX):
        book.failed(nth.to_bytes(32, "big"), "x:1", 2000.0 + nth)
    kept = sum(bool(book.of(nth.to_bytes(32, "big"))) for nth in range(2 * ROWS_MAX))
    assert ROWS_MAX // 2 < kept + ROWS_OF_NODE_MAX <= ROWS_MAX + ROWS_OF_NODE_MAX
    assert "works:1" in book.of(NODE)


def test_what_is_local_is_told_to_nobody() -> None:
    """An address of the local network is used, and not passed on; nor what failed."""
    book = Book()
    book.worked(NODE, "10.0.0.7:1", 5.0, local=True)
    book.worked(NODE, "a.example:1", 3.0)
    book.worked(NODE, "b.example:1", 4.0)
    book.failed(NODE, "c.example:1", 4.0)
    assert book.shareable(NODE, 6.0) == ["b.example:1", "a.example:1"]
    assert book.shareable(NODE, 4.0 + LATELY_S) == []


def test_changes_are_told_once() -> None:
    """What the disk must follow: what is new as it stands, what is gone as nothing."""
    book = Book()
    book.failed(NODE, "a:1", 1.0)
    book.worked(NODE, "a:1", 2.0)
    ((place, tried),) = book.take_changes()
    assert place == (NODE, "a:1")
    assert tried is not None
    assert (tried.successes, tried.failures, tried.worked_at) == (1, 0, 2.0)
    assert book.take_changes() == []
    book.decay([], 3.0)
    assert book.take_changes() == [((NODE, "a:1"), None)]
