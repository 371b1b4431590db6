"""The records of a store are read again as if nothing of them were known to be right."""

import sqlite3
from pathlib import Path

import pytest

from crdtmerge.bodies import SpaceId
from nodes.store.database import Database
from nodes.store.rereading import SAID_MAX, damaged_rows
from nodes.store.sqlite import SqliteRecords
from tests.kept_records import found_records

COUNT = 300


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the file of a store with some hundred records of three authors."""
    file = tmp_path / "store.sqlite"
    database = Database.create(file, bytes(16))
    made = found_records(COUNT)
    SqliteRecords(database).append(SpaceId(made[0].record.id), made)
    database.close()
    return file


def reread(path: Path) -> list[str]:
    """Return what is said of the tables."""
    database = Database(path, write=False)
    try:
        return damaged_rows(database)
    finally:
        database.close()


def change(path: Path, statement: str) -> None:
    """Change a store behind its back."""
    with sqlite3.connect(path) as sql:
        sql.execute(statement)
    sql.close()


def test_a_sound_store_is_sound(path: Path) -> None:
    """Nothing is said of it."""
    assert reread(path) == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "UPDATE records SET signature = zeroblob(64) WHERE sequence = 7",
            "not signed by",
        ),
        (
            "UPDATE records SET data = CAST(x'80' || data AS BLOB) WHERE sequence = 7",
            "record ",
        ),
        (
            "UPDATE records SET record = zeroblob(32) WHERE sequence = 7",
            "record 7 has other bytes",
        ),
        ("DELETE FROM spaces", "records of a space"),
        ("DELETE FROM records WHERE sequence = 7", "299 records up to 300, not 300"),
        ("UPDATE spaces SET last = 299", "up to 300, not 300 to 299"),
        ("UPDATE spaces SET root = zeroblob(32)", "the trie of space"),
        ("DELETE FROM tries", "the trie of space"),
        ("UPDATE parts SET kind = 'xdd' WHERE kind = 'odd'", "listed"),
        ("UPDATE parts SET count = count + 1 WHERE part = 2", "listed wrongly"),
        ("UPDATE placed SET part = 99 WHERE sequence = 7", "listed wrongly"),
        ("DELETE FROM placed WHERE sequence = 7", "listed wrongly"),
        ("DELETE FROM parts WHERE part = 2", "are not listed"),
    ],
)
def test_what_does_not_fit_is_named(path: Path, statement: str, said: str) -> None:
    """Whatever table it lies in: what was signed, or how it is found."""
    change(path, statement)
    assert any(said in one for one in reread(path)), reread(path)


def test_a_damaged_page_is_named(path: Path) -> None:
    """What SQLite itself finds malformed, and no more lines than a person reads."""
    data = bytearray(path.read_bytes())
    for page in range(30, len(data) // 4096, 2):
        data[page * 4096 : page * 4096 + 16] = bytes(16)
    path.write_bytes(data)
    found = reread(path)
    assert 0 < len(found) <= SAID_MAX
    assert found[0].startswith("the file: ")
