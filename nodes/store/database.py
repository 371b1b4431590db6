"""An SQLite file of a home: its connection, transactions and failures.

Owns opening, locking between threads, and what an SQLite error means. Does not own the
tables (`schema`) nor what they say: records and local facts (`sqlite`), blobs (`blobs`),
and in a file of its own what resolves found out (`memo`).

WAL lets other processes read while a node writes; synchronous=FULL makes a commit durable
when it returns.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol, Self, cast

import apsw

from crdtmerge.errors import (
    ConflictError,
    LocalError,
    MachineError,
    NoRoomError,
    NotFoundError,
    UpgradeNeededError,
)
from crdtmerge.sync.messages import GENERATION_BYTES

from .disk import SYSTEM_DISK, Disk, explained
from .schema import STORE, Schema, bring_up_to_date

BUSY_TIMEOUT_MS: Final = 10_000
_SETTINGS: Final = ("synchronous = FULL", "fullfsync = ON", "foreign_keys = ON")
RESTORE: Final = (
    "restore it from a backup; or keep the two .key files, `crdtmerge init` elsewhere"
    " and join again: records come back from peers"
)
"""What is to be done about damage that no repair puts right."""
_STOPPED: Final = "stop this process, check the disk, and start again"
_HINTS: Final = {
    apsw.SQLITE_FULL: "free some space on its disk; nothing was changed",
    apsw.SQLITE_IOERR: "check the disk and its free space before you start again",
    apsw.SQLITE_CORRUPT: RESTORE,
    apsw.SQLITE_NOTADB: RESTORE,
    apsw.SQLITE_CANTOPEN: "check the owner and mode of the home",
    apsw.SQLITE_READONLY: "check the owner and mode of the home",
}
_FATAL: Final = {apsw.SQLITE_IOERR, apsw.SQLITE_CORRUPT, apsw.SQLITE_NOTADB}


class OlderStoreError(UpgradeNeededError):
    """An older version of crdtmerge wrote the store, and only a writer may change it."""

    hint = "any command that changes this home brings it up to date"


class Rows(Protocol):
    """What a statement answers with, row by row."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows that are left."""

    def close(self) -> None:
        """Let go of the rows that are left: they hold back checkpoints."""


class Sql(Protocol):
    """A connection as it is lent; one at a time holds it."""

    def execute(self, statement: str, row: Sequence[object] = ..., /) -> Rows:
        """Run one statement, with the values of its question marks."""

    def executemany(self, statement: str, rows: Iterable[Sequence[object]], /) -> Rows:
        """Run one statement for each row of values."""

    def changes(self) -> int:
        """Return how many rows the last statement that writes has touched."""


class Database:
    """An open store file; safe for several threads, which take turns."""

    def __init__(
        self,
        path: Path,
        *,
        write: bool,
        disk: Disk = SYSTEM_DISK,
        schema: Schema = STORE,
    ) -> None:
        """Open the store at `path`; without `write`, beside another process's writer.

        A writer, under the home's lock, brings a file of an older version up to date.

        Raises:
            NotFoundError: there is no such file.
            OlderStoreError: an older version wrote it, and only a writer may change it.
            UpgradeNeededError: a newer version of crdtmerge wrote it.
            MachineError: the file is damaged, no store, or cannot be opened.
        """
        if not disk.exists(path):
            raise NotFoundError(f"there is no store at {path}")
        self.path = path
        self.writes = write
        """Whether this process may write."""
        self._schema = schema
        self._lock = threading.RLock()
        self._broken: LocalError | None = None
        with self._explained():
            self._connection = _connect(path, disk, write=write)
        try:
            with self._explained():
                self._prepare(write=write)
            if write:
                # SUBTLE: SQLite goes on if the name of its new journal did not get to the
                # disk; without that name, what is committed would be lost.
                with explained(f"opening {path}"):
                    disk.sync_folder(path.parent)
        except BaseException:
            _close(self._connection)
            raise

    @classmethod
    def create(cls, path: Path, generation: bytes, *, disk: Disk = SYSTEM_DISK) -> Self:
        """Make a new store file with this random `generation`, and open it.

        Raises:
            MachineError: the name is taken, or the disk refused.
        """
        if len(generation) != GENERATION_BYTES:
            raise ValueError(f"a generation has {GENERATION_BYTES} bytes")
        lay_out(path, STORE, {"generation": generation}, disk)
        return cls(path, write=True, disk=disk)

    def _prepare(self, *, write: bool) -> None:
        """Check whose file it is, and set what SQLite keeps per connection."""
        sql = self._connection
        schema = self._schema
        version = _version(sql, self.path, schema)
        if not write:
            if version < schema.version:
                raise OlderStoreError(f"{self.path} was written by an older version")
            return
        if _pragma(sql, "journal_mode = WAL") != "wal":
            raise MachineError(
                f"the file system of {self.path} cannot share memory between processes",
                hint="put the home on a local disk",
            )
        if version < schema.version:
            bring_up_to_date(sql, version, schema=schema)

    @contextmanager
    def writing(self) -> Iterator[Sql]:
        """Run the block as one transaction: durable at its end, undone by any error.

        Raises:
            MachineError: the disk refused; the store is as it was.
        """
        with self._lock, self._explained():
            sql = self._connection
            sql.execute("BEGIN IMMEDIATE")
            try:
                yield cast("Sql", sql)
                sql.execute("COMMIT")
            except BaseException:
                if sql.in_transaction:
                    with suppress(apsw.Error):
                        sql.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[Sql]:
        """Lend the connection for reading; other threads wait.

        Raises:
            MachineError: the disk refused, or the file is damaged.
        """
        with self._lock, self._explained():
            yield cast("Sql", self._connection)

    def close(self) -> None:
        """Close the file; calling it twice does no harm."""
        with self._lock:
            _close(self._connection)

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
        except apsw.Error as e:
            if _is_bug(e):
                raise
            error = local_error(e, self.path)
            if _primary(e) in _FATAL:
                self._broken = error
            raise error from e


def in_doubt(error: BaseException) -> bool:
    """Tell whether a transaction that ended in `error` may be there after a restart.

    SUBTLE: a commit whose sync failed may have become durable all the same. One that found
    no room, or a file in use, never was.
    """
    return isinstance(error, MachineError) and not isinstance(error, NoRoomError)


def _connect(path: Path, disk: Disk, *, write: bool) -> apsw.Connection:
    """Return a connection that leaves transactions to us and works in any thread."""
    mode = apsw.SQLITE_OPEN_READWRITE if write else apsw.SQLITE_OPEN_READONLY
    connection = apsw.Connection(
        # a URI, because a path need not be UTF-8
        path.absolute().as_uri(),
        flags=mode | apsw.SQLITE_OPEN_URI,
        vfs=disk.vfs or None,
    )
    try:
        if not disk.shares_memory:  # WAL without a shared index: it is ours alone
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # before any read
        for setting in _SETTINGS:
            connection.execute(f"PRAGMA {setting}")
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    except BaseException:
        _close(connection)
        raise
    return connection


def _close(connection: apsw.Connection) -> None:
    """Close a connection, which tidies its journal up.

    What was committed lies in the journal whether or not that succeeds.
    """
    with suppress(apsw.Error):
        connection.close()


def lay_out(
    path: Path,
    schema: Schema,
    settings: Mapping[str, bytes] | None = None,
    disk: Disk = SYSTEM_DISK,
) -> None:
    """Make a new file with the tables of `schema`, in one transaction with its settings.

    Raises:
        MachineError: the name is taken, or the disk refused.
    """
    with explained(f"creating {path}"):
        # SQLite gives its -wal and -shm files the mode of this one: private.
        disk.create(path).close()
    try:
        connection = _connect(path, disk, write=True)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            bring_up_to_date(connection, 0, settings, schema)
        finally:
            _close(connection)
    except apsw.Error as e:
        raise local_error(e, path) from e


def is_damage(error: BaseException) -> bool:
    """Tell whether an error says that a file is no store, or a torn one, or too new."""
    if isinstance(error, UpgradeNeededError):
        return True
    cause = error.__cause__
    torn = isinstance(cause, apsw.CorruptError | apsw.NotADBError)
    return isinstance(error, MachineError) and (cause is None or torn)


def _version(sql: apsw.Connection, path: Path, schema: Schema) -> int:
    """Return the version of a store, unless the file is none or of a newer one."""
    if _pragma(sql, "application_id") != schema.application_id:
        raise MachineError(f"{path} is not a store of crdtmerge", hint=RESTORE)
    version = _pragma(sql, "user_version")
    if isinstance(version, int) and 0 < version <= schema.version:
        return version
    raise UpgradeNeededError(
        f"{path} has schema {version}, this version knows {schema.version}",
        hint="upgrade crdtmerge; a newer version wrote this home",
    )


def _pragma(sql: apsw.Connection, text: str) -> object:
    """Return the one value that a PRAGMA answers with."""
    row = sql.execute(f"PRAGMA {text}").fetchone()
    return row[0] if row else None


def _primary(error: apsw.Error) -> int:
    """Return the primary result code; 0 for what apsw refuses before SQLite sees it."""
    return getattr(error, "result", None) or apsw.SQLITE_OK


def _is_bug(error: apsw.Error) -> bool:
    """Tell whether an error is ours, and not the machine's."""
    ours = {apsw.SQLITE_OK, apsw.SQLITE_CONSTRAINT, apsw.SQLITE_MISUSE}
    return _primary(error) in ours


def local_error(error: apsw.Error, path: Path) -> LocalError:
    """Return our error for SQLite's."""
    code = _primary(error)
    if code in {apsw.SQLITE_BUSY, apsw.SQLITE_LOCKED}:
        message = f"{path} is in use by another process"
        return ConflictError(message, hint="try again once it has finished")
    message = f"{path}: {error}"
    if code == apsw.SQLITE_IOERR:
        detail = getattr(error, "extendedresult", code)
        message += f" ({apsw.mapping_extended_result_codes.get(detail, detail)})"
    kind = NoRoomError if code == apsw.SQLITE_FULL else MachineError
    return kind(message, hint=_HINTS.get(code, ""))
