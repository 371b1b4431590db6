"""The rows of the `blobs` table: which blobs are there, and where each lies.

Owns the SQL of that table. Does not own files: that a row is written only once its bytes
are durable is `blobs`' to see to.
"""

import json
import os
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from crdtmerge.digest import DIGEST_BYTES, BlobId
from crdtmerge.errors import ContentMissingError

from .database import Database, Sql
from .download import check_chunk_list
from .holdings import Form, Holding
from .places import Places
from .ranges import Stored
from .references import REMEDY, References, come_back, stray_away

RAW: Final = 0
PACKED: Final = 1
USED_GRAIN_S: Final = 3600
"""How exactly it is kept when a resolve last used a blob."""
ALIKE_MAX: Final = 64
"""Blobs of one size and one first chunk that a new one is compared with."""


class BlobRows:
    """The rows of one home; every call is one transaction."""

    def __init__(self, database: Database, places: Places) -> None:
        """Use the open `database`; its owner closes it."""
        self._database = database
        self._places = places
        self.references = References(database)

    def has(self, blob: BlobId) -> bool:
        """Tell whether the blob is there."""
        with self._database.reading() as sql:
            query = "SELECT 1 FROM blobs WHERE blob = ?"
            return sql.execute(query, [blob]).fetchone() is not None

    def ids(self) -> list[BlobId]:
        """Return the ids of all blobs, sorted."""
        with self._database.reading() as sql:
            rows = sql.execute("SELECT blob FROM blobs ORDER BY blob").fetchall()
        return [BlobId(blob) for (blob,) in rows]

    def find(self, blob: BlobId) -> Stored:
        """Return where a blob lies, its chunk list verified against the id.

        Raises:
            ContentMissingError: it is not there.
            CorruptBlobError: the stored list is damaged.
        """
        with self._database.reading() as sql:
            row = sql.execute(
                "SELECT size, chunks, path, offset, form, stored, against"
                " FROM blobs WHERE blob = ?",
                [blob],
            ).fetchone()
        if row is None:
            raise self._missing(blob)
        size, joined, path, offset, form, taken, against = row
        starts = range(0, len(joined), DIGEST_BYTES)
        chunks = tuple(joined[start : start + DIGEST_BYTES] for start in starts)
        check_chunk_list(blob, size, chunks)
        if form == PACKED:
            place = self._places.packed(blob)
            base = None if against is None else BlobId(against)
            return Stored(blob, size, chunks, place, 0, False, taken, base)
        place = self._places.own(blob) if path is None else Path(os.fsdecode(path))
        return Stored(blob, size, chunks, place, offset, path is not None)

    def _missing(self, blob: BlobId) -> ContentMissingError:
        path = self.references.stray(blob)
        if path is None:
            return ContentMissingError(f"blob {blob.hex()[:12]} has not arrived")
        message = f"blob {blob.hex()[:12]} is gone: {path} is not as it was referenced"
        return ContentMissingError(message, hint=REMEDY)

    def write(self, stored: Stored) -> None:
        """Commit a row: from here on the blob is there."""
        with self._database.writing() as sql:
            insert(sql, stored)

    def alike(self, size: int) -> dict[bytes, list[BlobId]]:
        """Return the blobs of a size by their first chunk's digest, a few for each."""
        with self._database.reading() as sql:
            query = "SELECT blob, substr(chunks, 1, ?) FROM blobs WHERE size = ?"
            rows = sql.execute(query, (DIGEST_BYTES, size)).fetchall()
        found: dict[bytes, list[BlobId]] = {}
        for blob, first in rows:
            if len(same := found.setdefault(first, [])) < ALIKE_MAX:
                same.append(BlobId(blob))
        return found

    def pack(self, blob: BlobId, against: BlobId | None, taken: int) -> bool:
        """Commit that a raw blob of ours is packed now, in `taken` bytes; tell whether.

        It is not if it went, or lies elsewhere; nor if others are packed against it, or
        its base is packed or gone: what is packed takes one step to be read, never more.
        """
        with self._database.writing() as sql:
            sql.execute(
                "UPDATE blobs SET form = ?1, against = ?2, stored = ?3"
                " WHERE blob = ?4 AND form = ?5 AND path IS NULL"
                " AND NOT EXISTS (SELECT 1 FROM blobs WHERE against = ?4)"
                " AND (?2 IS NULL OR EXISTS"
                " (SELECT 1 FROM blobs WHERE blob = ?2 AND form = ?5))",
                (PACKED, against, taken, blob, RAW),
            )
            return sql.changes() > 0

    def unpack(self, blob: BlobId) -> bool:
        """Commit that a packed blob has its raw file again; tell whether it was packed."""
        with self._database.writing() as sql:
            sql.execute(
                "UPDATE blobs SET form = ?, against = NULL, stored = NULL"
                " WHERE blob = ? AND form = ?",
                (RAW, blob, PACKED),
            )
            return sql.changes() > 0

    def against(self) -> dict[BlobId, BlobId]:
        """Return for each blob that is packed against another what that is."""
        with self._database.reading() as sql:
            query = "SELECT blob, against FROM blobs WHERE against IS NOT NULL"
            return {BlobId(b): BlobId(a) for b, a in sql.execute(query).fetchall()}

    def is_base(self, blob: BlobId) -> bool:
        """Tell whether another blob is packed against this one."""
        with self._database.reading() as sql:
            query = "SELECT 1 FROM blobs WHERE against = ? LIMIT 1"
            return sql.execute(query, [blob]).fetchone() is not None

    def mark_used(self, blobs: Iterable[BlobId], now: int) -> None:
        """Keep that a resolve uses these at `now` (unix s), in one statement.

        A time of the last hour is let stand: what is asked is in days.
        """
        named = json.dumps([blob.hex() for blob in sorted(set(blobs))])
        with self._database.writing() as sql:
            sql.execute(
                "UPDATE blobs SET used = ? WHERE used < ? AND blob IN"
                " (SELECT unhex(value) FROM json_each(?))",
                (now, now - USED_GRAIN_S, named),
            )

    def form(self, blob: BlobId) -> Form | None:
        """Return how a blob lies here; None if it does not."""
        with self._database.reading() as sql:
            query = "SELECT path IS NOT NULL, form FROM blobs WHERE blob = ?"
            row = sql.execute(query, [blob]).fetchone()
        return None if row is None else _form(*row)

    def delete(self, blobs: Iterable[BlobId]) -> None:
        """Forget that these blobs are here, all or none of them."""
        gone = list(blobs)
        with self._database.writing() as sql:
            for table in ("blobs", "unneeded"):
                _delete(sql, table, gone)
            come_back(sql, gone)

    def set_aside(self, blob: BlobId) -> None:
        """Forget that a blob is here, but not its chunk list: it is to be fetched again."""
        with self._database.writing() as sql:
            stray_away(sql, blob)
            sql.execute(
                "INSERT OR REPLACE INTO downloads"
                " SELECT blob, size, chunks, x'' FROM blobs WHERE blob = ?",
                [blob],
            )
            _delete(sql, "blobs", [blob])

    def drop(self, blobs: AbstractSet[BlobId]) -> set[BlobId]:
        """Forget blobs that nothing needs, all or none of them.

        Returns those that stay, because others that stay are encoded against them.
        """
        with self._database.writing() as sql:
            against = self.against()
            kept: set[BlobId] = set()
            while more := {
                base
                for blob, base in against.items()
                if base in blobs - kept and blob not in blobs - kept
            }:
                kept |= more
            for table in ("blobs", "unneeded", "strays"):
                _delete(sql, table, blobs - kept)
        return kept

    def holdings(self) -> Iterator[Holding]:
        """Return all rows as collection sees them, sorted."""
        with self._database.reading() as sql:
            rows = sql.execute(f"{_HOLDINGS} ORDER BY blob").fetchall()
        return (_holding(row) for row in rows)

    def colder_first(
        self, used: int, blob: bytes, limit: int, *, behind: bool
    ) -> list[Holding]:
        """Return blobs by when they were last used, then by id, from this place on.

        With `behind` not the one at the place itself.
        """
        compare = ">" if behind else ">="
        query = f"{_HOLDINGS} WHERE (used, blob) {compare} (?, ?) ORDER BY used, blob"
        with self._database.reading() as sql:
            rows = sql.execute(f"{query} LIMIT ?", (used, blob, limit)).fetchall()
        return [_holding(row) for row in rows]

    def with_chunks(
        self, wanted: AbstractSet[bytes]
    ) -> dict[bytes, list[tuple[BlobId, int]]]:
        """Return which blobs have chunks of these digests, and where: all of the store."""
        found: dict[bytes, list[tuple[BlobId, int]]] = {}
        with self._database.reading() as sql:
            query = "SELECT blob, chunks FROM blobs ORDER BY blob"
            for blob, joined in sql.execute(query):
                for index in range(len(joined) // DIGEST_BYTES):
                    start = index * DIGEST_BYTES
                    digest = joined[start : start + DIGEST_BYTES]
                    if digest in wanted:
                        found.setdefault(digest, []).append((BlobId(blob), index))
        return found

    def downloads(self) -> dict[BlobId, int]:
        """Return the downloads that have begun, and how large each blob is."""
        with self._database.reading() as sql:
            rows = sql.execute("SELECT blob, size FROM downloads").fetchall()
        return {BlobId(blob): size for blob, size in rows}


def insert(sql: Sql, stored: Stored) -> None:
    """Write a row in a transaction of the caller's; replaces what was said before."""
    path = os.fsencode(stored.path) if stored.referenced else None
    row = (stored.blob, stored.size, b"".join(stored.chunks), path, stored.offset)
    sql.execute(
        "INSERT OR REPLACE INTO blobs (blob, size, chunks, path, offset)"
        " VALUES (?, ?, ?, ?, ?)",
        row,
    )
    _delete(sql, "downloads", [stored.blob])
    come_back(sql, [stored.blob])


_HOLDINGS: Final = (
    "SELECT blob, size, path IS NOT NULL, form, stored, used, against FROM blobs"
)


Row = tuple[bytes, int, int, int, int | None, int, bytes | None]


def _holding(row: Row) -> Holding:
    blob, size, referenced, form, stored, used, against = row
    taken = 0 if referenced else size if stored is None else stored
    base = None if against is None else BlobId(against)
    return Holding(BlobId(blob), _form(referenced, form), size, taken, used, base)


def _form(referenced: int, form: int) -> Form:
    if referenced:
        return "referenced"
    return "packed" if form == PACKED else "own"


def _delete(sql: Sql, table: str, blobs: Iterable[BlobId]) -> None:
    statement = f"DELETE FROM {table} WHERE blob = ?"  # noqa: S608  a name of ours
    sql.executemany(statement, [(blob,) for blob in sorted(blobs)])
