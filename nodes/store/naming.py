"""Giving files the names of their blobs: many at once are all blobs afterwards, or none.

Owns the order of names and rows, and what is undone after a crash. Does not own the bytes,
which are synced before (`intake`), nor where a blob lies (`blobs`).

Which names are about to be given is written down first (the intent), and goes with the
transaction that writes the rows. A crash in between leaves names without rows: they are
removed at the next start, and what has a row stays.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from crdtmerge.digest import DIGEST_BYTES, BlobId
from crdtmerge.errors import CrdtMergeError
from crdtmerge.formats.header import FileState

from .database import Database, in_doubt
from .disk import Disk, explained, make_folder
from .places import Places
from .ranges import Stored
from .references import note_states
from .rows import insert

INTENDED: Final = "intended"
"""The setting that lists the blobs whose files are being named."""


class Naming:
    """Names of one home's blobs; its caller sees to it that one at a time is at work."""

    def __init__(self, disk: Disk, database: Database, places: Places) -> None:
        """Use the files and rows of a home."""
        self._disk = disk
        self._database = database
        self._places = places

    def name(self, path: Path, stored: Stored) -> None:
        """Give one synced file its name, durably, and then its row.

        Raises:
            MachineError: the disk refused; the file has its old name, or a row in doubt.
        """
        final, named = stored.path, False
        try:
            with explained(f"keeping {final}"):
                make_folder(self._disk, final.parent)
                self._disk.rename(path, final)
                self._disk.sync_folder(final.parent)
            named = True
            with self._database.writing() as sql:
                insert(sql, stored)
        except BaseException as e:
            # The file of a row that may be there stays; without one it is a leftover. So
            # does that of a row from before, whose own file this one has replaced.
            if not (named and in_doubt(e)):
                with suppress(OSError, CrdtMergeError):
                    if not self._lies_here(stored.blob):
                        self._disk.rename(final, path)
            raise

    def name_all(
        self,
        moves: Mapping[Path, Stored],
        rows: Iterable[Stored],
        states: Mapping[Path, FileState],
    ) -> None:
        """Give synced files the names of their blobs, durably, then write all rows.

        `moves` are from temporary names; `rows` need no file of ours, and lie in
        files that were in these `states` when they were read.

        Raises:
            MachineError: the disk refused; no row was written.
        """
        self.undo()  # what an earlier one could not, or its list would be overwritten
        try:
            if moves:
                self._intend([stored.blob for stored in moves.values()])
                with explained("keeping blobs"):
                    self._rename(moves)
            with self._database.writing() as sql:
                for stored in (*moves.values(), *rows):
                    insert(sql, stored)
                note_states(sql, states)
                sql.execute("DELETE FROM settings WHERE key = ?", [INTENDED])
        except BaseException:
            with suppress(CrdtMergeError):  # then the next start does it
                self.undo()
            raise

    def undo(self) -> None:
        """Remove the files that were being named and have no row.

        SUBTLE: rows decide, not what the last transaction was heard to say: one that
        reported an error may have become durable.

        Raises:
            MachineError: the disk refused; a later start tries again.
        """
        intended = self._intended()
        folders = set()
        for blob in intended:
            if not self._lies_here(blob):
                path = self._places.own(blob)
                folders.add(path.parent)
                with explained(f"removing {path}"):
                    self._disk.remove(path)
        # The list goes last: a crash can bring a name back that was taken away.
        for folder in sorted(folders):
            if self._disk.exists(folder):
                with explained(f"syncing {folder}"):
                    self._disk.sync_folder(folder)
        if intended:
            with self._database.writing() as sql:
                sql.execute("DELETE FROM settings WHERE key = ?", [INTENDED])

    def _lies_here(self, blob: BlobId) -> bool:
        """Tell whether a row says that the blob lies in a file of ours."""
        with self._database.reading() as sql:
            query = "SELECT 1 FROM blobs WHERE blob = ? AND path IS NULL"
            return sql.execute(query, [blob]).fetchone() is not None

    def _intended(self) -> list[BlobId]:
        with self._database.reading() as sql:
            query = "SELECT value FROM settings WHERE key = ?"
            found = sql.execute(query, [INTENDED]).fetchone()
        joined = found[0] if found else b""
        starts = range(0, len(joined), DIGEST_BYTES)
        return [BlobId(joined[start : start + DIGEST_BYTES]) for start in starts]

    def _intend(self, blobs: Iterable[BlobId]) -> None:
        row = (INTENDED, b"".join(sorted(blobs)))
        with self._database.writing() as sql:
            sql.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", row)

    def _rename(self, moves: Mapping[Path, Stored]) -> None:
        folders = sorted({stored.path.parent for stored in moves.values()})
        for folder in folders:
            self._disk.make_folder(folder)
        for parent in sorted({folder.parent for folder in folders}):
            self._disk.sync_folder(parent)
        for path, stored in moves.items():
            self._disk.rename(path, stored.path)
        for folder in folders:
            self._disk.sync_folder(folder)
