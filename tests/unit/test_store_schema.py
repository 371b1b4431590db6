"""A store of an older version is brought up to date, wholly or not at all."""

from pathlib import Path

import apsw
import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import CHUNK_BYTES, blob_id_of, chunk_digests
from crdtmerge.errors import UpgradeNeededError
from nodes.home import create_home, open_home
from nodes.lock import HomeLock
from nodes.store import schema
from nodes.store.blobs import FileBlobs
from nodes.store.database import Database, OlderStoreError
from nodes.store.sqlite import SqliteLocal, SqliteRecords

GENERATION = bytes(range(16))
DATA = b"old" * CHUNK_BYTES
BLOB = blob_id_of(DATA)

VERSION_1 = """
CREATE TABLE settings (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE spaces (space BLOB PRIMARY KEY, last INTEGER NOT NULL) STRICT;
CREATE TABLE records (
    space BLOB NOT NULL REFERENCES spaces (space),
    sequence INTEGER NOT NULL,
    record BLOB NOT NULL,
    data BLOB NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (space, sequence),
    UNIQUE (space, record)
) STRICT, WITHOUT ROWID;
CREATE TABLE bases (
    space BLOB PRIMARY KEY, folder BLOB NOT NULL, manifest BLOB NOT NULL
) STRICT;
CREATE TABLE invites (
    space BLOB NOT NULL, secret BLOB NOT NULL, PRIMARY KEY (space, secret)
) STRICT, WITHOUT ROWID;
CREATE TABLE peers (
    space BLOB NOT NULL, node BLOB NOT NULL, addresses BLOB NOT NULL,
    PRIMARY KEY (space, node)
) STRICT, WITHOUT ROWID;
CREATE TABLE blobs (
    blob BLOB PRIMARY KEY, size INTEGER NOT NULL, chunks BLOB NOT NULL,
    path BLOB, offset INTEGER NOT NULL
) STRICT;
PRAGMA application_id = 1129464916;
PRAGMA user_version = 1;
"""
"""What version 0.5 of the program laid out, kept as it was."""

COLUMNS_3 = {
    "bases": "space folder manifest",
    "blobs": "blob size chunks path offset form against stored used",
    "downloads": "blob size chunks held",
    "files": "path size changed inode",
    "invites": "space secret",
    "peers": "space node addresses",
    "parts": "part space author kind count",
    "pins": "space content note",
    "placed": "part sequence",
    "records": "space sequence record data signature",
    "settings": "key value",
    "spaces": "space last count root",
    "strays": "blob path offset",
    "tries": "space prefix children",
    "tried": "node address successes failures worked tried local",
    "unneeded": "blob since",
}


def make_old(path: Path) -> None:
    """Write a store as version 1 left it, with a row in it."""
    sql = apsw.Connection(str(path))
    sql.execute("PRAGMA journal_mode = WAL")
    sql.execute(VERSION_1)
    sql.execute("INSERT INTO settings VALUES ('generation', ?)", [GENERATION])
    row = (BLOB, len(DATA), b"".join(chunk_digests(DATA)), None, 0)
    sql.execute("INSERT INTO blobs VALUES (?, ?, ?, ?, ?)", row)
    sql.execute("INSERT INTO invites VALUES (?, ?)", [bytes(32), b"secret"])
    sql.close()
    name = BLOB.hex()
    folder = path.parent / "blobs" / name[:2]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name[2:]).write_bytes(DATA)


def columns(path: Path) -> dict[str, str]:
    """Return the columns of each table in a file, as SQLite tells them."""
    sql = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    tables = [name for (name,) in sql.execute("SELECT name FROM sqlite_schema")]
    own = [name for name in tables if not str(name).startswith(("sqlite_", "parts_"))]
    found = {
        str(name): " ".join(
            str(row[1]) for row in sql.execute(f"PRAGMA table_info({name})")
        )
        for name in own
    }
    sql.close()
    return found


def version(path: Path) -> int:
    """Return the version that a file says it has."""
    sql = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    [(number,)] = sql.execute("PRAGMA user_version")
    sql.close()
    assert isinstance(number, int)
    return number


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store of version 1."""
    path = tmp_path / "store.sqlite"
    make_old(path)
    return path


def test_a_new_store_has_the_tables_of_today(tmp_path: Path) -> None:
    """Every column that other parts count on."""
    path = tmp_path / "new.sqlite"
    Database.create(path, GENERATION).close()
    assert columns(path) == COLUMNS_3
    assert version(path) == 4


def test_an_old_store_is_brought_up_to_date_with_all_it_held(path: Path) -> None:
    """Tables as in a new one; rows, blobs and the generation as they were."""
    database = Database(path, write=True)
    assert SqliteRecords(database).generation == GENERATION
    assert SqliteLocal(database).invites(SpaceId(bytes(32))) == [b"secret"]
    blobs = FileBlobs(path.parent, database, write=True)
    assert blobs.ids() == [BLOB]
    assert blobs.read(BLOB, len(DATA)) == DATA
    with database.reading() as sql:
        row = sql.execute("SELECT form, against, stored, used FROM blobs").fetchone()
        assert row == (0, None, None, 0)
    database.close()
    assert columns(path) == COLUMNS_3
    assert version(path) == 4
    Database(path, write=True).close()


def test_a_step_that_ends_early_leaves_the_old_version(
    path: Path,
) -> None:
    """Cut after each statement: all of version 1, nothing of 4; then it goes through."""
    before = columns(path)
    [first, *later] = schema.STEPS
    statements = [statement for step in later for statement in step]
    for count in range(len(statements) + 1):
        cut = (*statements[:count], "SELECT no_such_function()")
        steps = schema.Schema(schema.APPLICATION_ID, (first, cut))
        with pytest.raises(Exception, match="no_such_function"):
            Database(path, write=True, schema=steps)
        assert columns(path) == before
        assert version(path) == 1
    Database(path, write=True).close()
    assert columns(path) == COLUMNS_3


def test_a_reader_of_an_old_store_changes_nothing(path: Path) -> None:
    """Only who holds the home's lock may bring it up to date."""
    with pytest.raises(OlderStoreError, match="older version") as caught:
        Database(path, write=False)
    assert "brings it up to date" in caught.value.hint
    assert version(path) == 1


def test_reading_an_old_home_brings_it_up_to_date_first(tmp_path: Path) -> None:
    """Unless the old version still runs on it: then the message says to stop it."""
    home = tmp_path / "home"
    create_home(
        home, author_seed=b"a" * 32, node_seed=b"n" * 32, generation=GENERATION
    ).close()
    (home / "store.sqlite").unlink()
    make_old(home / "store.sqlite")
    lock = HomeLock(home, "node")
    with pytest.raises(UpgradeNeededError, match="still runs") as caught:
        open_home(home, write=False)
    assert "stop it" in caught.value.hint
    assert version(home / "store.sqlite") == 1
    lock.release()
    with open_home(home, write=False) as opened:
        assert opened.blobs.read(BLOB, len(DATA)) == DATA
    assert version(home / "store.sqlite") == 4
