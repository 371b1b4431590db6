"""The user's files that blobs lie in: as they were found right, and what became of them.

Owns the tables `files` (what a file was like when its bytes were verified) and `strays`
(blobs that had to be set aside because their file is another one now). Does not own the
rows of blobs (`rows`), nor when files are looked at (`nodes.upkeep.references`).

A file whose state is as it was is taken to hold what it held; every use verifies the bytes
all the same. A row says that a blob is there, a stray where it was.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crdtmerge.digest import BlobId
from crdtmerge.formats.header import UNSEEN, FileState

from .database import Database, Sql

Fate = Literal["as it was", "gone", "changed", "unknown"]
"""Of a file: `unknown` if nobody noted what it was like."""

REMEDY = (
    "put the file back as it was, or contribute again with a copy; a running node fetches"
    " what a contribution needs from peers that have it; for the base of a space,"
    " `crdtmerge space join TICKET --base DIR` names another copy"
)


@dataclass(frozen=True, slots=True)
class Stray:
    """A blob that was set aside, and the range of the user's file where it was."""

    blob: BlobId
    path: Path
    offset: int


class References:
    """The files of one home; every call is one transaction."""

    def __init__(self, database: Database) -> None:
        """Use the open `database`; its owner closes it."""
        self._database = database

    def files(self) -> dict[Path, list[BlobId]]:
        """Return the files that blobs lie in, with those blobs, sorted."""
        with self._database.reading() as sql:
            rows = sql.execute(
                "SELECT path, blob FROM blobs WHERE path IS NOT NULL ORDER BY path, blob"
            ).fetchall()
        found: dict[Path, list[BlobId]] = {}
        for path, blob in rows:
            found.setdefault(Path(os.fsdecode(path)), []).append(BlobId(blob))
        return found

    def strays(self) -> list[Stray]:
        """Return what was set aside, sorted."""
        with self._database.reading() as sql:
            query = "SELECT blob, path, offset FROM strays ORDER BY blob"
            rows = sql.execute(query).fetchall()
        return [Stray(BlobId(b), Path(os.fsdecode(p)), o) for b, p, o in rows]

    def stray(self, blob: BlobId) -> Path | None:
        """Return the file that a blob was in before it was set aside."""
        with self._database.reading() as sql:
            query = "SELECT path FROM strays WHERE blob = ?"
            row = sql.execute(query, [blob]).fetchone()
        return Path(os.fsdecode(row[0])) if row else None

    def fate(self, path: Path) -> Fate:
        """Return what became of a file, as far as that is seen without reading it."""
        now = state_of(path)
        with self._database.reading() as sql:
            query = "SELECT size, changed, inode FROM files WHERE path = ?"
            row = sql.execute(query, [os.fsencode(path)]).fetchone()
        if now is None:
            return "gone"
        if row is None:
            return "unknown"
        return "as it was" if FileState(*row) == now else "changed"

    def note(self, path: Path, state: FileState) -> None:
        """Say that a file was found right while it was in this state."""
        with self._database.writing() as sql:
            note_states(sql, {path: state})


def state_of(path: Path) -> FileState | None:
    """Return the state of a file now; None if it cannot be looked at."""
    try:
        return FileState.of(path.stat())
    except OSError:
        return None


def note_states(sql: Sql, states: Mapping[Path, FileState]) -> None:
    """Say in a transaction of the caller's what files were like when they were read."""
    for path, state in states.items():
        if state == UNSEEN:
            continue
        row = (os.fsencode(path), *state)
        sql.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", row)


def stray_away(sql: Sql, blob: BlobId) -> None:
    """Remember where a blob is said to lie, before its row goes; own files are not."""
    sql.execute(
        "INSERT OR REPLACE INTO strays SELECT blob, path, offset FROM blobs"
        " WHERE blob = ? AND path IS NOT NULL",
        [blob],
    )


def come_back(sql: Sql, blobs: Iterable[BlobId]) -> None:
    """Forget that these were set aside: they are there again, or nobody asks for them."""
    sql.executemany("DELETE FROM strays WHERE blob = ?", [(blob,) for blob in blobs])
