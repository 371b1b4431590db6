"""Reading all records of a store again, as if nothing of it were known to be right.

Owns what counts as damage of the tables: a file that SQLite finds malformed, a record that
its author did not sign, and what is kept beside the records that does not fit them. Does
not own blobs (`examining`), nor what is done about damage: it is not repaired.

Records are checked by their ids when they are read (`kept_log`). Here signatures are
verified too, and the tables by which records are found: a bit of those that flipped would
leave a record out, and say nothing.
"""

from array import array
from collections.abc import Generator, Iterator
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.errors import CrdtMergeError
from crdtmerge.record import decode_record, verified
from crdtmerge.trie import Trie
from crdtmerge.trie_rows import rows_changed

from .database import Database

SAID_MAX: Final = 8
"""Damages that are told one by one: one sector can hold many rows."""
PAGE: Final = 512

Part = tuple[bytes, str]
"""An author and a kind."""


def damaged_rows(database: Database) -> list[str]:
    """Return what is wrong with the tables of records, in words; nothing if all is right.

    Raises:
        MachineError: the disk refused, or the file cannot be read any further.
    """
    found: list[str] = []
    for reason in _reasons(database):
        found.append(reason)
        if len(found) == SAID_MAX:
            break
    return found


def _reasons(database: Database) -> Iterator[str]:
    with database.reading() as sql:
        told = sql.execute(f"PRAGMA integrity_check({SAID_MAX})").fetchall()
    if told != [("ok",)]:  # what else is read then means nothing
        yield from (f"the file: {said}" for (said,) in told)
        return
    with database.reading() as sql:
        query = "SELECT space, last, count, root FROM spaces ORDER BY space"
        spaces = sql.execute(query).fetchall()
    yield from _unlisted(database)
    for space, last, count, root in spaces:
        name, ids, places = f"space {space.hex()[:12]}", list[bytes](), _Places()
        through = yield from _records(database, SpaceId(space), ids, places)
        if (len(ids), through <= last) != (count, True):
            yield f"{name}: {len(ids)} records up to {through}, not {count} to {last}"
        yield from _parts(database, SpaceId(space), places)
        if root is not None:
            yield from _trie(database, SpaceId(space), Trie.build(ids), root)


def _unlisted(database: Database) -> Iterator[str]:
    """Look for records of spaces that are not known to be here."""
    for table in ("records", "parts"):
        query = (
            f"SELECT DISTINCT space FROM {table}"  # noqa: S608  a name of ours
            " WHERE space NOT IN (SELECT space FROM spaces)"
        )
        with database.reading() as sql:
            rows = sql.execute(query).fetchall()
        yield from (
            f"{table} of a space {s.hex()[:12]} that is not listed" for (s,) in rows
        )


class _Places(dict[Part, "array[int]"]):
    """The numbers of the records of each part, ascending."""

    def __missing__(self, part: Part) -> "array[int]":
        return self.setdefault(part, array("q"))


def _records(
    database: Database, space: SpaceId, ids: list[bytes], places: _Places
) -> Generator[str, None, int]:
    """Read and verify the records of a space; fill in their ids and places.

    Returns the number of the last one.
    """
    query = (
        "SELECT sequence, record, data, signature FROM records"
        " WHERE space = ? AND sequence > ? ORDER BY sequence LIMIT ?"
    )
    number = 0
    while True:
        with database.reading() as sql:
            rows = sql.execute(query, (space, number, PAGE)).fetchall()
        for number, key, data, signature in rows:
            ids.append(key)
            try:
                record = decode_record(data)
                if (record.id, record.space_id) != (key, space):
                    yield f"record {number} has other bytes than {key.hex()[:12]}"
                places[record.author, record.kind].append(number)
                verified(record, signature)
            except CrdtMergeError as e:
                yield f"record {key.hex()[:12]}: {e}"
        if len(rows) < PAGE:
            return number


def _parts(database: Database, space: SpaceId, places: _Places) -> Iterator[str]:
    """Compare the tables by which the records of an author or a kind are found."""
    with database.reading() as sql:
        query = "SELECT part, author, kind, count FROM parts WHERE space = ?"
        parts = sql.execute(query, [space]).fetchall()
    for part, author, kind, count in parts:
        with database.reading() as sql:
            query = "SELECT sequence FROM placed WHERE part = ? ORDER BY sequence"
            held = array("q", (n for (n,) in sql.execute(query, [part])))
        if held != places.pop((author, kind), array("q")) or len(held) != count:
            yield f"the {kind} records of author {author.hex()[:12]} are listed wrongly"
    for author, kind in places:
        yield f"the {kind} records of author {author.hex()[:12]} are not listed"


def _trie(database: Database, space: SpaceId, trie: Trie, root: bytes) -> Iterator[str]:
    """Compare the trie that is kept with one that is built of the ids."""
    with database.reading() as sql:
        query = "SELECT prefix, children FROM tries WHERE space = ?"
        kept = dict(sql.execute(query, [space]).fetchall())
    built = {bytes(prefix): row for prefix, row in rows_changed(None, trie.node)}
    if len(root) != DIGEST_BYTES or root != trie.root or kept != built:
        yield f"the trie of space {space.hex()[:12]} is not that of its records"
