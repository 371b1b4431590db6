"""What collection remembers: contributions that are pinned, blobs that nothing needs.

Owns the SQL of both. Does not own what needs a blob, nor how long one that nothing needs
stays (`nodes.upkeep`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId, ContentId

from .database import Database


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    """A contribution that collection leaves alone, and why."""

    space: SpaceId
    content: ContentId
    note: str = ""


class Marks:
    """The pins and the blobs that nothing needs, of one home."""

    def __init__(self, database: Database) -> None:
        """Use the open `database`; its owner closes it."""
        self._database = database

    def pin(self, pin: Pin) -> None:
        """Keep a contribution, visible or not; a later note replaces an earlier one."""
        with self._database.writing() as sql:
            row = (pin.space, pin.content, pin.note)
            sql.execute("INSERT OR REPLACE INTO pins VALUES (?, ?, ?)", row)

    def unpin(self, space: SpaceId, content: ContentId) -> bool:
        """Forget a pin; tell whether it was there."""
        with self._database.writing() as sql:
            query = "DELETE FROM pins WHERE space = ? AND content = ?"
            sql.execute(query, (space, content))
            return sql.changes() > 0

    def pins(self) -> list[Pin]:
        """Return the pins, sorted."""
        with self._database.reading() as sql:
            query = "SELECT space, content, note FROM pins ORDER BY space, content"
            rows = sql.execute(query).fetchall()
        return [Pin(SpaceId(s), ContentId(c), str(note)) for s, c, note in rows]

    def unneeded(self) -> dict[BlobId, int]:
        """Return since when nothing needs each blob, in seconds of the system's clock."""
        with self._database.reading() as sql:
            rows = sql.execute("SELECT blob, since FROM unneeded").fetchall()
        return {BlobId(blob): since for blob, since in rows}

    def mark(self, since: Mapping[BlobId, int], needed: Iterable[BlobId]) -> None:
        """Keep since when these are unneeded, and forget it of those that are `needed`."""
        forgotten = [(blob,) for blob in needed]
        if not since and not forgotten:
            return
        with self._database.writing() as sql:
            sql.executemany("DELETE FROM unneeded WHERE blob = ?", forgotten)
            query = "INSERT OR REPLACE INTO unneeded VALUES (?, ?)"
            sql.executemany(query, list(since.items()))
