"""What resolves found out, in an SQLite file of the home: results by task key.

Owns its tables, and that whatever is wrong with the file is no error. Does not own what is
remembered, nor when it is used (`crdtmerge.resolve.memo`, `reuse`).

It is derived data: it may be removed at any time. A file that is damaged, of another kind
or of a later version is removed and begun again. Each row has a digest over itself, so that
a damaged one is like none. One transaction remembers a whole resolve, or nothing of it.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import numpy as np

from crdtmerge.codec import Value, encode
from crdtmerge.digest import BlobId, Domain, digest
from crdtmerge.errors import CrdtMergeError
from crdtmerge.formats.header import FileState
from crdtmerge.resolve.memo import Known, Measures, Place

from .database import Database, Sql, is_damage, lay_out
from .disk import SYSTEM_DISK, Disk
from .schema import Schema

MEMO_FILE: Final = "memo.sqlite"
ROWS_MAX: Final = 1 << 18
"""Places of outputs that are remembered; the oldest go. Each takes some 300 bytes."""

SCHEMA: Final = Schema(
    0x43524D4D,  # "CRMM"
    (
        (
            # number counts the resolves that were remembered
            """CREATE TABLE outputs (
                task BLOB NOT NULL, path BLOB NOT NULL, digest BLOB NOT NULL,
                start INTEGER NOT NULL, size INTEGER NOT NULL,
                file_size INTEGER NOT NULL, changed INTEGER NOT NULL,
                inode INTEGER NOT NULL, number INTEGER NOT NULL, seal BLOB NOT NULL,
                PRIMARY KEY (task, path)
            ) STRICT, WITHOUT ROWID""",
            "CREATE INDEX outputs_by_number ON outputs (number)",
            """CREATE TABLE measures (
                task BLOB PRIMARY KEY, numbers BLOB NOT NULL, number INTEGER NOT NULL,
                seal BLOB NOT NULL
            ) STRICT, WITHOUT ROWID""",
            "CREATE INDEX measures_by_number ON measures (number)",
        ),
    ),
)

_LATEST: Final = """SELECT max(number) FROM (
    SELECT number FROM outputs UNION ALL SELECT number FROM measures
)"""
_SHORTEN: Final = (
    (
        "SELECT count(*) FROM outputs",
        "DELETE FROM outputs WHERE number = (SELECT min(number) FROM outputs)",
    ),
    (
        "SELECT count(*) FROM measures",
        "DELETE FROM measures WHERE number = (SELECT min(number) FROM measures)",
    ),
)
"""How many rows there are, and what forgets the oldest resolve."""


class HomeMemo:
    """The memo of a home; a `crdtmerge.resolve.memo.Memo`."""

    def __init__(self, home: Path, disk: Disk = SYSTEM_DISK) -> None:
        """Use the file in `home`; it is made when there is something to remember."""
        self._path = home / MEMO_FILE
        self._disk = disk

    def outputs(self, keys: Iterable[bytes]) -> Mapping[bytes, Sequence[Known]]:
        """Return the places of known outputs, the latest first."""
        found: dict[bytes, list[Known]] = {}

        def look(sql: Sql) -> None:
            query = (
                "SELECT path, digest, start, size, file_size, changed, inode, seal"
                " FROM outputs WHERE task = ? ORDER BY number DESC"
            )
            for key in keys:
                rows = sql.execute(query, (key,)).fetchall()
                if known := [k for row in rows if (k := _known(key, row))]:
                    found[key] = known

        self._read(look)
        return found

    def measures(self, keys: Iterable[bytes]) -> Mapping[bytes, Measures]:
        """Return what maps came to."""
        found: dict[bytes, Measures] = {}

        def look(sql: Sql) -> None:
            query = "SELECT numbers, seal FROM measures WHERE task = ?"
            for key in keys:
                row = sql.execute(query, (key,)).fetchone()
                if row and row[1] == _seal([key, row[0]]):
                    found[key] = tuple(np.frombuffer(row[0], "<f8").tolist())

        self._read(look)
        return found

    def keep(
        self, outputs: Mapping[bytes, Known], measures: Mapping[bytes, Measures]
    ) -> None:
        """Remember results in one transaction; if that fails, all is as it was."""
        if not outputs and not measures:
            return
        with self._unfailing():
            if not self._disk.exists(self._path):
                lay_out(self._path, SCHEMA, disk=self._disk)
            database = Database(self._path, write=True, disk=self._disk, schema=SCHEMA)
            try:
                with database.writing() as sql:
                    _keep(sql, outputs, measures)
            finally:
                database.close()

    def _read(self, look: Callable[[Sql], None]) -> None:
        """Let somebody look at the open file, if there is one."""
        with self._unfailing():
            if not self._disk.exists(self._path):
                return
            # SUBTLE: as a writer, who may bring an older file up to date and recover one.
            database = Database(self._path, write=True, disk=self._disk, schema=SCHEMA)
            try:
                with database.reading() as sql:
                    look(sql)
            finally:
                database.close()

    @contextmanager
    def _unfailing(self) -> Iterator[None]:
        """Take every refusal for an empty memo; remove a file that is no use."""
        try:
            yield
        except CrdtMergeError as e:
            if is_damage(e):
                self._remove()

    def _remove(self) -> None:
        for end in ("", "-wal", "-shm"):
            path = self._path.with_name(MEMO_FILE + end)
            with suppress(OSError):
                if self._disk.exists(path):
                    self._disk.remove(path)


def _known(key: bytes, row: Sequence[object]) -> Known | None:
    """Return what a row says, if it says what was written."""
    match row:
        case [
            bytes(path), bytes(found), int(start), int(size),
            int(file_size), int(changed), int(inode), seal,
        ]:  # fmt: skip
            state = FileState(file_size, changed, inode)
            if seal != _seal([key, path, found, start, size, *state]):
                return None
            place = Place(Path(os.fsdecode(path)), start, size, state)
            return Known(BlobId(found), place)
        case _:
            return None


def _seal(value: list[Value]) -> bytes:
    return digest(Domain.MEMO, encode(value))


def _keep(
    sql: Sql, outputs: Mapping[bytes, Known], measures: Mapping[bytes, Measures]
) -> None:
    """Put rows in place of those that these files held, or that are of files gone."""
    row = sql.execute(_LATEST).fetchone()
    number = (row[0] or 0) + 1 if row else 1
    written = {os.fsencode(known.place.path) for known in outputs.values()}
    for (path,) in sql.execute("SELECT DISTINCT path FROM outputs").fetchall():
        if path in written or not Path(os.fsdecode(path)).exists():
            sql.execute("DELETE FROM outputs WHERE path = ?", (path,))
    for key, known in outputs.items():
        place = known.place
        said: list[Value] = [
            key, os.fsencode(place.path), known.digest, place.offset, place.size,
            *place.state,
        ]  # fmt: skip
        sql.execute(
            "INSERT OR REPLACE INTO outputs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*said, number, _seal(said)),
        )
    for key, found in measures.items():
        numbers = np.array(found, "<f8").tobytes()
        values = (key, numbers, number, _seal([key, numbers]))
        sql.execute("INSERT OR REPLACE INTO measures VALUES (?, ?, ?, ?)", values)
    for count, shorten in _SHORTEN:
        while (row := sql.execute(count).fetchone()) and row[0] > ROWS_MAX:
            sql.execute(shorten)
