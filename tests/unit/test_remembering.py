"""The address book outlives its node: on disk by date, in a node by its own clock."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from crdtmerge.errors import BadInputError
from nodes.book import Book
from nodes.finding import LISTED_MAX, read_list
from nodes.remembering import Remembering
from nodes.store.base import TriedFacts
from nodes.store.database import Database
from nodes.store.sqlite import SqliteLocal

NODE, OTHER = b"n" * 32, b"o" * 32
DATE = 1_700_000_000.0


@pytest.fixture
def local(tmp_path: Path) -> Iterator[SqliteLocal]:
    """Return the local facts of a new store."""
    database = Database.create(tmp_path / "store.sqlite", bytes(16))
    yield SqliteLocal(database)
    database.close()


def at(local: SqliteLocal, clock: float, date: float) -> Remembering:
    """Return what keeps the book, at one moment of both clocks."""
    return Remembering(local, lambda: clock, lambda: date)


def test_a_book_goes_on_where_it_was(local: SqliteLocal) -> None:
    """Ages are true across a restart, which begins the node's clock anew."""
    book = Book()
    book.worked(NODE, "a:1", 100.0, local=True)
    book.worked(NODE, "b:1", 103.0)
    book.failed(OTHER, "c:1", 104.0)
    at(local, 105.0, DATE).save(book.take_changes())
    assert local.tried() == [
        TriedFacts(NODE, "a:1", 1, 0, int(DATE) - 5, int(DATE) - 5, local=True),
        TriedFacts(NODE, "b:1", 1, 0, int(DATE) - 2, int(DATE) - 2, local=False),
        TriedFacts(OTHER, "c:1", 0, 1, None, int(DATE) - 1, local=False),
    ]
    again = Book()
    at(local, 7.0, DATE + 60).load(again)
    assert again.age(NODE, 7.0) == 62.0
    assert again.age(OTHER, 7.0) is None
    assert again.shareable(NODE, 7.0) == ["b:1"]
    assert again.take_changes() == []  # what came from the disk need not go there


def test_what_is_forgotten_goes_from_the_disk(local: SqliteLocal) -> None:
    """Rows of who left the space, of a book that was read from disk."""
    book = Book()
    book.worked(NODE, "a:1", 1.0)
    book.worked(OTHER, "b:1", 1.0)
    at(local, 1.0, DATE).save(book.take_changes())
    again = Book()
    at(local, 2.0, DATE + 1).load(again)
    again.decay([OTHER], 2.0)
    at(local, 2.0, DATE + 1).save(again.take_changes())
    assert [facts.node for facts in local.tried()] == [OTHER]


def test_a_date_that_was_set_back_harms_nothing(local: SqliteLocal) -> None:
    """What worked in the future worked just now."""
    book = Book()
    book.worked(NODE, "a:1", 1.0)
    at(local, 1.0, DATE).save(book.take_changes())
    again = Book()
    at(local, 5.0, DATE - 10**6).load(again)
    assert again.age(NODE, 5.0) == 0.0


def test_a_list_of_peers_is_read(tmp_path: Path) -> None:
    """Comments and empty lines are skipped, and lines of one node belong together."""
    path = tmp_path / "peers"
    lines = ["# ours", "", f"{NODE.hex()} a.example:1 [::1]:2 # the hub"]
    path.write_text("\n".join([*lines, f"{OTHER.hex()} b:3", f"{NODE.hex()} c:4"]))
    assert read_list(path) == {
        NODE: ("a.example:1", "[::1]:2", "c:4"),
        OTHER: ("b:3",),
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("abcd host:1", "line 1 of"),
        (f"{NODE.hex()}", "has no address"),
        (f"\n{NODE.hex()} host", "line 2 of"),
        (f"{NODE.hex()} host:0", "is not HOST:PORT"),
        ("\udcff", "cannot read"),
        ("# " + "x" * (1 << 20), "is above"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, text: str, says: str) -> None:
    """With the line and the reason, before anything is dialled."""
    path = tmp_path / "peers"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInputError, match=says):
        read_list(path)


def test_a_list_has_a_limit_and_must_exist(tmp_path: Path) -> None:
    """A file of thousands of nodes is no list of peers."""
    path = tmp_path / "peers"
    with pytest.raises(BadInputError, match="cannot read"):
        read_list(path)
    keys = (nth.to_bytes(32, "big").hex() for nth in range(1, LISTED_MAX + 2))
    path.write_text("\n".join(f"{key} h:1" for key in keys))
    with pytest.raises(BadInputError, match="names 4097 nodes"):
        read_list(path)
