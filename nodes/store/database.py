"""The one SQLite file of a home: its connection, schema, transactions and failures.

Owns opening, the schema version, locking between threads, and what an SQLite error means.
Does not own what the tables say: records and local facts (`sqlite`), blobs (`blobs`).

WAL lets other processes read while a node writes; synchronous=FULL makes a commit durable
when it returns.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from crdtmerge.errors import (
    ConflictError,
    LocalError,
    MachineError,
    NotFoundError,
    UpgradeNeededError,
)
from crdtmerge.sync.messages import GENERATION_BYTES

from .disk import create_file, explained

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x43524454  # "CRDT"
BUSY_TIMEOUT_MS: Final = 10_000
SQLITE_OLDEST: Final = (3, 37)
"""The first with STRICT tables."""

SCHEMA: Final = (
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

_RESTORE: Final = (
    "restore it from a backup; or keep the two .key files, `crdtmerge init` elsewhere"
    " and join again: records come back from peers"
)
_STOPPED: Final = "stop this process, check the disk, and start again"
_HINTS: Final = {
    sqlite3.SQLITE_FULL: "free some space on its disk; nothing was changed",
    sqlite3.SQLITE_IOERR: "check the disk and its free space before you start again",
    sqlite3.SQLITE_CORRUPT: _RESTORE,
    sqlite3.SQLITE_NOTADB: _RESTORE,
    sqlite3.SQLITE_CANTOPEN: "check the owner and mode of the home",
    sqlite3.SQLITE_READONLY: "check the owner and mode of the home",
}
_FATAL: Final = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Database:
    """An open store file; safe for several threads, which take turns."""

    def __init__(self, path: Path, *, write: bool) -> None:
        """Open the store at `path`; without `write`, beside another process's writer.

        Raises:
            NotFoundError: there is no such file.
            UpgradeNeededError: a newer version of crdtmerge wrote it.
            MachineError: the file is damaged, no store, or cannot be opened.
        """
        if not path.is_file():
            raise NotFoundError(f"there is no store at {path}")
        self.path = path
        self._lock = threading.RLock()
        self._broken: LocalError | None = None
        mode = "rw" if write else "ro"
        with self._explained():
            self._connection = _connect(path, mode)
        try:
            with self._explained():
                self._prepare(write=write)
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def create(cls, path: Path, generation: bytes) -> Self:
        """Make a new store file with this random `generation`, and open it.

        Raises:
            MachineError: the name is taken, or the disk refused.
        """
        if len(generation) != GENERATION_BYTES:
            raise ValueError(f"a generation has {GENERATION_BYTES} bytes")
        with explained(f"creating {path}"):
            # SQLite gives its -wal and -shm files the mode of this one: private.
            os.close(create_file(path))
        try:
            _lay_out(path, generation)
        except sqlite3.Error as e:
            raise _local_error(e, path) from e
        return cls(path, write=True)

    def _prepare(self, *, write: bool) -> None:
        """Check whose file it is, and set what SQLite keeps per connection."""
        sql = self._connection
        _require_ours(sql, self.path)
        if write and _pragma(sql, "journal_mode = WAL") != "wal":
            raise MachineError(
                f"the file system of {self.path} cannot share memory between processes",
                hint="put the home on a local disk",
            )

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run the block as one transaction: durable at its end, undone by any error.

        Raises:
            MachineError: the disk refused; the store is as it was.
        """
        with self._lock, self._explained():
            sql = self._connection
            sql.execute("BEGIN IMMEDIATE")
            try:
                yield sql
                sql.execute("COMMIT")
            except BaseException:
                if sql.in_transaction:
                    with suppress(sqlite3.Error):
                        sql.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection for reading; other threads wait.

        Raises:
            MachineError: the disk refused, or the file is damaged.
        """
        with self._lock, self._explained():
            yield self._connection

    def close(self) -> None:
        """Close the file; calling it twice does no harm."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's refusals into ours; after an I/O error nothing works any more.

        SUBTLE: after a failed sync SQLite could go on as if its cache were on the disk,
        so the first I/O error is final for this process.
        """
        if self._broken:
            raise MachineError(f"{self._broken}; nothing more is tried", hint=_STOPPED)
        try:
            yield
        except (
            sqlite3.ProgrammingError,
            sqlite3.IntegrityError,
            sqlite3.InterfaceError,
        ):
            raise  # a bug of ours, not of the machine
        except sqlite3.Error as e:
            error = _local_error(e, self.path)
            if _primary(e) in _FATAL:
                self._broken = error
            raise error from e


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Return a connection that leaves transactions to us and works in any thread."""
    if sqlite3.sqlite_version_info < SQLITE_OLDEST:
        oldest = ".".join(map(str, SQLITE_OLDEST))
        message = f"SQLite {sqlite3.sqlite_version} is older than {oldest}"
        raise MachineError(message, hint="use a Python built with a newer SQLite")
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    settings = ("synchronous = FULL", "fullfsync = ON", "foreign_keys = ON")
    try:
        for setting in (*settings, f"busy_timeout = {BUSY_TIMEOUT_MS}"):
            connection.execute(f"PRAGMA {setting}")
    except BaseException:
        connection.close()
        raise
    return connection


def _lay_out(path: Path, generation: bytes) -> None:
    """Write the schema, in one transaction that ends with the version."""
    connection = _connect(path, "rw")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA:
            connection.execute(statement)
        row = ("generation", generation)
        connection.execute("INSERT INTO settings VALUES (?, ?)", row)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    finally:
        connection.close()


def _require_ours(sql: sqlite3.Connection, path: Path) -> None:
    """Check that the file is a store of a version that we know."""
    if _pragma(sql, "application_id") != APPLICATION_ID:
        raise MachineError(f"{path} is not a store of crdtmerge", hint=_RESTORE)
    version = _pragma(sql, "user_version")
    if version != SCHEMA_VERSION:
        raise UpgradeNeededError(
            f"{path} has schema {version}, this version knows {SCHEMA_VERSION}",
            hint="upgrade crdtmerge; a newer version wrote this home",
        )


def _pragma(sql: sqlite3.Connection, text: str) -> object:
    """Return the one value that a PRAGMA answers with."""
    row = sql.execute(f"PRAGMA {text}").fetchone()
    return row[0] if row else None


def _primary(error: sqlite3.Error) -> int:
    """Return the primary result code, without SQLite's detail in the upper bits."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF


def _local_error(error: sqlite3.Error, path: Path) -> LocalError:
    """Return our error for SQLite's."""
    code = _primary(error)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        message = f"{path} is in use by another process"
        return ConflictError(message, hint="try again once it has finished")
    name = getattr(error, "sqlite_errorname", "")
    detail = f" ({name})" if code == sqlite3.SQLITE_IOERR else ""
    return MachineError(f"{path}: {error}{detail}", hint=_HINTS.get(code, ""))
