"""The tables of a store file, and how a file of an older version gets them.

Owns the schema, its version, and the steps between versions. Does not own the connection,
transactions or errors (`database`), nor what the tables say (`sqlite`, `blobs`).

A new file and one that was brought up to date have the same tables: a new one is laid out
as the oldest version knew it, and takes every step since.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import apsw

from crdtmerge.codec import decode
from crdtmerge.errors import EncodingError

T = TypeVar("T", bytes, str)

SCHEMA_VERSION: Final = 4
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

_THIRD: Final = (
    # count is how many records there are; root is that of the trie, NULL if unknown
    "ALTER TABLE spaces ADD COLUMN count INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE spaces ADD COLUMN root BLOB",
    # the records of one author and kind, and how many there are
    """CREATE TABLE parts (
        part INTEGER PRIMARY KEY, space BLOB NOT NULL, author BLOB NOT NULL,
        kind TEXT NOT NULL, count INTEGER NOT NULL, UNIQUE (space, author, kind)
    ) STRICT""",
    "CREATE INDEX parts_by_author ON parts (author)",
    """CREATE TABLE placed (
        part INTEGER NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (part, sequence)
    ) STRICT, WITHOUT ROWID""",
    # prefix has a byte for each nibble; children is what `crdtmerge.trie_rows` says
    """CREATE TABLE tries (
        space BLOB NOT NULL, prefix BLOB NOT NULL, children BLOB NOT NULL,
        PRIMARY KEY (space, prefix)
    ) STRICT, WITHOUT ROWID""",
    """INSERT INTO parts (space, author, kind, count)
        SELECT space, author_of(data) AS author, kind_of(data) AS kind, count(*)
        FROM records GROUP BY space, author, kind""",
    """INSERT INTO placed SELECT part, sequence FROM records JOIN parts
        ON parts.space = records.space AND author = author_of(data)
        AND kind = kind_of(data)""",
    """UPDATE spaces SET count =
        (SELECT count(*) FROM records WHERE records.space = spaces.space)""",
)

_FOURTH: Final = (
    # What came of dialling a node at an address; failures are those since the last
    # success, times are unix s, worked is NULL for what never did.
    """CREATE TABLE tried (
        node BLOB NOT NULL, address TEXT NOT NULL, successes INTEGER NOT NULL,
        failures INTEGER NOT NULL, worked INTEGER, tried INTEGER NOT NULL,
        local INTEGER NOT NULL, PRIMARY KEY (node, address)
    ) STRICT, WITHOUT ROWID""",
)

STEPS: Final = (_FIRST, _SECOND, _THIRD, _FOURTH)
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


def _field(data: bytes, place: int, of: type[T], otherwise: T) -> T:
    """Return a field of a record's bytes.

    Of damaged ones it does not matter: they are found out when they are read.
    """
    try:
        value = decode(data, len(data))
    except EncodingError:
        return otherwise
    found = value[place] if isinstance(value, list) and len(value) > place else None
    return found if isinstance(found, of) else otherwise


def _author_of(data: bytes) -> bytes:
    return _field(data, 2, bytes, b"")


def _kind_of(data: bytes) -> str:
    return _field(data, 6, str, "")


_FUNCTIONS: Final[Mapping[str, Callable[..., bytes | str]]] = {
    "author_of": _author_of,
    "kind_of": _kind_of,
}
"""What the steps ask of a record's bytes."""


def bring_up_to_date(
    sql: apsw.Connection,
    version: int,
    settings: Mapping[str, bytes] | None = None,
    schema: Schema = STORE,
) -> None:
    """Take every step after `version`, in one transaction that ends with the number.

    A new file, of version 0, is whole, with its `settings`, or not there at all.
    """
    for name, read in _FUNCTIONS.items():
        sql.create_scalar_function(name, read, 1, deterministic=True)
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
