"""Homes as crdtmerge left them at schema 1 (commit 91f31e8): no packing, pins or anchor.

Made from a home of today: its rows go into a file with the tables of that version, word
for word, through Python's own SQLite. A home that the old code itself made has the same
tables (checked by hand, as has what the tests say of it).
"""

import sqlite3
from pathlib import Path

APPLICATION_ID = 0x43524454
SCHEMA_1 = (
    "CREATE TABLE settings (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT",
    """CREATE TABLE spaces (space BLOB PRIMARY KEY, last INTEGER NOT NULL) STRICT""",
    """CREATE TABLE records (
        space BLOB NOT NULL REFERENCES spaces (space),
        sequence INTEGER NOT NULL,
        record BLOB NOT NULL,
        data BLOB NOT NULL,
        signature BLOB NOT NULL,
        PRIMARY KEY (space, sequence),
        UNIQUE (space, record)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE bases (
        space BLOB PRIMARY KEY, folder BLOB NOT NULL, manifest BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE invites (
        space BLOB NOT NULL, secret BLOB NOT NULL, PRIMARY KEY (space, secret)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE peers (
        space BLOB NOT NULL, node BLOB NOT NULL, addresses BLOB NOT NULL,
        PRIMARY KEY (space, node)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE blobs (
        blob BLOB PRIMARY KEY, size INTEGER NOT NULL, chunks BLOB NOT NULL,
        path BLOB, offset INTEGER NOT NULL
    ) STRICT""",
)
TABLES = {
    "settings": "key, value",
    "spaces": "space, last",
    "records": "space, sequence, record, data, signature",
    "bases": "space, folder, manifest",
    "invites": "space, secret",
    "peers": "space, node, addresses",
    "blobs": "blob, size, chunks, path, offset",
}
LATER = ("local/anchor", "local/doubts")
"""Settings that version 1 did not know."""


def age(home: Path) -> None:
    """Give a home, which is closed, the store that version 1 would have left."""
    store, old = home / "store.sqlite", home / "old.sqlite"
    with sqlite3.connect(old, isolation_level=None) as sql:
        sql.execute("PRAGMA journal_mode = WAL")
        for statement in SCHEMA_1:
            sql.execute(statement)
        sql.execute("ATTACH ? AS today", [str(store)])
        for table, columns in TABLES.items():
            sql.execute(f"INSERT INTO main.{table} SELECT {columns} FROM today.{table}")
        sql.execute("DETACH today")
        for key in LATER:
            sql.execute("DELETE FROM settings WHERE key = ?", [key])
        sql.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        sql.execute("PRAGMA user_version = 1")
    sql.close()
    old.chmod(0o600)
    for path in home.iterdir():
        if path.name.startswith("store.sqlite") or path.name in {"anchor", "readers"}:
            path.unlink()
    old.rename(store)


def version(home: Path) -> int:
    """Return the version that the store of a home says it has."""
    sql = sqlite3.connect(home / "store.sqlite")
    try:
        (found,) = sql.execute("PRAGMA user_version").fetchone()
    finally:
        sql.close()
    return int(found)


def from_the_future(home: Path) -> None:
    """Let the store of a home say that a later version wrote it."""
    sql = sqlite3.connect(home / "store.sqlite", isolation_level=None)
    sql.execute("PRAGMA user_version = 1000")
    sql.close()
