"""The tables of a store file, and how a file of an older version gets them.

Owns the schema, its version, and the steps between versions. Does not own the connection,
transactions or errors (`database`), nor what the tables say (`sqlite`, `blobs`).

A new file and one that was brought up to date have the same tables: a new one is laid out
as the oldest version knew it, and takes every step since.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import apsw

SCHEMA_VERSION: Final = 2
APPLICATION_ID: Final = 0x43524454  # "CRDT"

_FIRST: Final = (
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
    # path is NULL for a blob that lies in the blob folder itself.
    """CREATE TABLE blobs (
        blob BLOB PRIMARY KEY, size INTEGER NOT NULL, chunks BLOB NOT NULL,
        path BLOB, offset INTEGER NOT NULL
    ) STRICT""",
)

_SECOND: Final = (
    # form 0 is raw; against is the blob that a packed one is encoded against; stored is
    # how many bytes a packed one takes; used is when a resolve last read it, in unix s.
    "ALTER TABLE blobs ADD COLUMN form INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE blobs ADD COLUMN against BLOB",
    "ALTER TABLE blobs ADD COLUMN stored INTEGER",
    "ALTER TABLE blobs ADD COLUMN used INTEGER NOT NULL DEFAULT 0",
    # held is a bit for each chunk that is verified and synced.
    """CREATE TABLE downloads (
        blob BLOB PRIMARY KEY, size INTEGER NOT NULL, chunks BLOB NOT NULL,
        held BLOB NOT NULL
    ) STRICT""",
    # contributions that collection leaves alone
    """CREATE TABLE pins (
        space BLOB NOT NULL, content BLOB NOT NULL, note TEXT NOT NULL,
        PRIMARY KEY (space, content)
    ) STRICT, WITHOUT ROWID""",
    # what a file of the user's was like when its bytes were last found right
    """CREATE TABLE files (
        path BLOB PRIMARY KEY, size INTEGER NOT NULL, changed INTEGER NOT NULL,
        inode INTEGER NOT NULL
    ) STRICT""",
    # blobs that were set aside because their file is another one now, and where they were
    """CREATE TABLE strays (
        blob BLOB PRIMARY KEY, path BLOB NOT NULL, offset INTEGER NOT NULL
    ) STRICT""",
    # since when nothing needs a blob, in unix s
    "CREATE TABLE unneeded (blob BLOB PRIMARY KEY, since INTEGER NOT NULL) STRICT",
)

STEPS: Final = (_FIRST, _SECOND)
"""What takes a file from one version to the next; the first starts from nothing."""


@dataclass(frozen=True, slots=True)
class Schema:
    """One kind of file: how it is told from others, and the steps to its tables."""

    application_id: int
    steps: tuple[tuple[str, ...], ...]

    @property
    def version(self) -> int:
        """The version of a file that took every step."""
        return len(self.steps)


STORE: Final = Schema(APPLICATION_ID, STEPS)
"""The store of a home."""


def bring_up_to_date(
    sql: apsw.Connection,
    version: int,
    settings: Mapping[str, bytes] | None = None,
    schema: Schema = STORE,
) -> None:
    """Take every step after `version`, in one transaction that ends with the number.

    A new file, of version 0, is whole, with its `settings`, or not there at all.
    """
    sql.execute("BEGIN IMMEDIATE")
    try:
        for statements in schema.steps[version:]:
            for statement in statements:
                sql.execute(statement)
        for row in (settings or {}).items():
            sql.execute("INSERT INTO settings VALUES (?, ?)", row)
        sql.execute(f"PRAGMA application_id = {schema.application_id}")
        sql.execute(f"PRAGMA user_version = {schema.version}")
        sql.execute("COMMIT")
    except BaseException:
        if sql.in_transaction:
            sql.execute("ROLLBACK")
        raise
