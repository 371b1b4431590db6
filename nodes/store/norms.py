"""Norms of task vectors, measured in this home and kept: derived data, in a file apart.

Owns the file, and that nothing in it is taken for more than it is: a file that is damaged,
or of another version, is dropped and begun again, and a row that is not what was written
counts as not there. Does not own norms (`crdtmerge.resolve.norms`). The file may be
deleted at any time; then norms are measured again.

Whoever only reads a home keeps norms too: the file is no part of the store, and SQLite's
own locks hold between processes.
"""

import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import apsw

from crdtmerge.digest import Domain, digest

from .database import BUSY_TIMEOUT_MS, local_error
from .disk import SYSTEM_DISK, Disk, explained

NORMS_FILE: Final = "norms.sqlite"
APPLICATION_ID: Final = 0x43524E4D  # "CRNM"
VERSION: Final = 1

_TABLE: Final = """CREATE TABLE norms (
    key BLOB PRIMARY KEY, norm BLOB NOT NULL, checked BLOB NOT NULL
) STRICT, WITHOUT ROWID"""
_DAMAGED: Final = frozenset({apsw.SQLITE_CORRUPT, apsw.SQLITE_NOTADB})
_ENDS: Final = ("-journal", "-wal", "-shm", "")

Result = TypeVar("Result")


class FileNorms:
    """The norms of a home; safe for several threads, which take turns."""

    def __init__(self, home: Path, disk: Disk = SYSTEM_DISK) -> None:
        """Open the file in a home, or begin one.

        Raises:
            MachineError: the disk refused.
        """
        self._path = home / NORMS_FILE
        self._disk = disk
        self._lock = threading.Lock()
        self._connection: apsw.Connection | None = None
        self._run(lambda _: None)

    def load(self, keys: Iterable[bytes]) -> dict[bytes, float]:
        """Return the squared norms that are kept of these.

        Raises:
            MachineError: the disk refused.
            ConflictError: other processes are at it, and stay.
        """
        wanted = list(keys)

        def found(sql: apsw.Connection) -> dict[bytes, float]:
            norms = {}
            for key in wanted:
                row = sql.execute(
                    "SELECT norm, checked FROM norms WHERE key = ?", (key,)
                ).fetchone()
                if row is not None and row[1] == _check(key, row[0]):
                    norms[key] = struct.unpack("<d", row[0])[0]
            return norms

        return self._run(found)

    def save(self, norms: Mapping[bytes, float]) -> None:
        """Keep these squared norms, as the bits of their float64.

        Raises:
            MachineError: the disk refused.
            ConflictError: other processes are at it, and stay.
        """
        packed = [(key, struct.pack("<d", norm)) for key, norm in norms.items()]
        rows = [(key, bits, _check(key, bits)) for key, bits in packed]

        def put(sql: apsw.Connection) -> None:
            with sql:
                sql.executemany("INSERT OR REPLACE INTO norms VALUES (?, ?, ?)", rows)

        self._run(put)

    def close(self) -> None:
        """Close the file; calling it twice does no harm."""
        with self._lock:
            self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, work: Callable[[apsw.Connection], Result]) -> Result:
        """Do some work on the file; if it is damaged, once more on a new one."""
        with self._lock:
            try:
                return work(self._opened())
            except _StrangeError:
                pass
            except apsw.Error as e:
                if getattr(e, "result", apsw.SQLITE_OK) not in _DAMAGED:
                    raise local_error(e, self._path) from e
            self._drop()
            try:
                return work(self._opened())
            except apsw.Error as e:
                raise local_error(e, self._path) from e

    def _opened(self) -> apsw.Connection:
        if self._connection is None:
            if not self._disk.exists(self._path):
                self._begin()
            self._connection = _connected(self._path, self._disk)
        return self._connection

    def _begin(self) -> None:
        """Make an empty file, private; another process may have been quicker."""
        with explained(f"creating {self._path}"):
            try:
                self._disk.create(self._path).close()
            except FileExistsError:
                return

    def _drop(self) -> None:
        self._let_go()
        with explained(f"removing {self._path}"):
            for end in _ENDS:
                self._disk.remove(self._path.with_name(NORMS_FILE + end))

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _StrangeError(Exception):
    """The file is another's, or of another version."""


def _connected(path: Path, disk: Disk) -> apsw.Connection:
    """Return a connection to a file of ours, with its table.

    Raises:
        _StrangeError: it is none of this version.
    """
    connection = apsw.Connection(
        path.absolute().as_uri(),
        flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI,
        vfs=disk.vfs or None,
    )
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        # What a power cut may spoil is found, and measured again.
        connection.execute("PRAGMA synchronous = OFF")
        with connection:
            _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: apsw.Connection) -> None:
    """Lay out a file that is empty; refuse one that is not ours."""
    is_empty = not connection.execute("SELECT count(*) FROM sqlite_schema").get
    marks = (APPLICATION_ID, VERSION)
    if is_empty:
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA application_id = {marks[0]}")
        connection.execute(f"PRAGMA user_version = {marks[1]}")
    found = tuple(
        connection.execute(f"PRAGMA {name}").get
        for name in ("application_id", "user_version")
    )
    if found != marks:
        raise _StrangeError


def _check(key: bytes, bits: bytes) -> bytes:
    """Return what vouches for a row."""
    return digest(Domain.NORM_ROW, key + bits)
