"""Giving many files their names at once: all of them are blobs afterwards, or none.

Owns the order of names and rows, and what is undone after a crash. Does not own the bytes,
which are synced before (`intake`), nor where a blob lies (`blobs`).

Which names are about to be given is written down first (the intent), and goes with the
transaction that writes the rows. A crash in between leaves names without rows: they are
removed at the next start, and what has a row stays.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from crdtmerge.digest import DIGEST_BYTES, BlobId

from .database import Database, Sql
from .disk import Disk, explained
from .ranges import Stored

INTENDED: Final = "intended"
"""The setting that lists the blobs whose files are being named."""

PathOf = Callable[[BlobId], Path]


def write_row(sql: Sql, stored: Stored) -> None:
    """Say where a blob lies; replaces what was said before."""
    path = os.fsencode(stored.path) if stored.referenced else None
    row = (stored.blob, stored.size, b"".join(stored.chunks), path, stored.offset)
    sql.execute(
        "INSERT OR REPLACE INTO blobs (blob, size, chunks, path, offset)"
        " VALUES (?, ?, ?, ?, ?)",
        row,
    )
    sql.execute("DELETE FROM downloads WHERE blob = ?", [stored.blob])


def name_all(
    disk: Disk,
    database: Database,
    moves: Mapping[Path, Stored],
    rows: Iterable[Stored],
) -> None:
    """Give synced files the names of their blobs, durably, then write all rows at once.

    `moves` are from temporary names; `rows` need no file of ours. When this fails, call
    `undo`: the files may have either name.

    Raises:
        MachineError: the disk refused.
    """
    if moves:
        _intend(database, [stored.blob for stored in moves.values()])
        with explained("keeping blobs"):
            _rename(disk, moves)
    with database.writing() as sql:
        for stored in (*moves.values(), *rows):
            write_row(sql, stored)
        sql.execute("DELETE FROM settings WHERE key = ?", [INTENDED])


def _intend(database: Database, blobs: Iterable[BlobId]) -> None:
    row = (INTENDED, b"".join(sorted(blobs)))
    with database.writing() as sql:
        sql.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", row)


def _rename(disk: Disk, moves: Mapping[Path, Stored]) -> None:
    folders = sorted({stored.path.parent for stored in moves.values()})
    for folder in folders:
        disk.make_folder(folder)
    for parent in sorted({folder.parent for folder in folders}):
        disk.sync_folder(parent)
    for path, stored in moves.items():
        disk.rename(path, stored.path)
    for folder in folders:
        disk.sync_folder(folder)


def undo(disk: Disk, database: Database, path_of: PathOf) -> None:
    """Remove the files that were being named and have no row.

    SUBTLE: rows decide, not what the last transaction was heard to say: one that reported
    an error may have become durable.

    Raises:
        MachineError: the disk refused; a later start tries again.
    """
    with database.reading() as sql:
        query = "SELECT value FROM settings WHERE key = ?"
        found = sql.execute(query, [INTENDED]).fetchone()
    if found is None:
        return
    starts = range(0, len(found[0]), DIGEST_BYTES)
    blobs = [BlobId(found[0][start : start + DIGEST_BYTES]) for start in starts]
    for blob in blobs:
        with database.reading() as sql:
            query = "SELECT path FROM blobs WHERE blob = ?"
            row = sql.execute(query, [blob]).fetchone()
        if row is None or row[0] is not None:
            path = path_of(blob)
            with explained(f"removing {path}"):
                disk.remove(path)
    with database.writing() as sql:
        sql.execute("DELETE FROM settings WHERE key = ?", [INTENDED])
