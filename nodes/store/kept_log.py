"""The records of one space as a log that reads its rows when they are asked for.

Owns reading records back, what is remembered of that, and the order of arrival over gaps.
Does not own the tables (`schema`), nor writing (`sqlite`).

A log sees the first so many records of a store that goes on growing. Those that were
dropped since are missed by who asks for them by name, and passed over by who asks for all.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import Final, final

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.errors import MachineError, MalformedRecordError
from crdtmerge.identity import AuthorId
from crdtmerge.log import ChangedLog, Log, MemoryLog
from crdtmerge.record import SignedRecord, decode_record

from .database import Database

REMEMBERED_BYTES_MAX: Final = 32 << 20
"""How much of the records of one space stays in memory, beside what somebody holds."""
OVERHEAD_BYTES: Final = 2 << 10
"""What a record takes in memory beside its bytes, about."""
PAGE: Final = 512
"""How many rows are read at once: a reader of all holds no lock for longer."""

OF_PART: Final = (
    "SELECT records.sequence, record, data, signature FROM placed CROSS JOIN records"
    " ON records.space = ? AND records.sequence = placed.sequence"
    " WHERE part = ? AND placed.sequence <= ?"
)
"""CROSS keeps the order: else all records may be read to find those of a part."""

Row = tuple[int, bytes, bytes, bytes]
"""A record's number, its id, its bytes, and its signature."""


class Shelf:
    """The rows of one space, and the records that were read of them last."""

    def __init__(self, database: Database, space: SpaceId) -> None:
        """Read from the open `database`; its owner closes it."""
        self._database = database
        self._space = space
        self._lock = Lock()
        self._read: OrderedDict[RecordId, tuple[int, SignedRecord]] = OrderedDict()
        self._bytes = 0

    def find(self, key: RecordId) -> tuple[int, SignedRecord] | None:
        """Return a record and its number.

        Raises:
            MachineError: the disk refused, or what it holds is damaged.
        """
        with self._lock:
            known = self._read.get(key)
            if known is not None:
                self._read.move_to_end(key)
                return known
        query = (
            "SELECT sequence, record, data, signature FROM records"
            " WHERE space = ? AND record = ?"
        )
        with self._database.reading() as sql:
            row = sql.execute(query, (self._space, key)).fetchone()
        if row is None:
            return None
        found = row[0], restored(self._database, *row[1:])
        self._remember(key, found)
        return found

    def number(self, key: RecordId) -> int | None:
        """Return a record's number, without reading the record."""
        with self._lock:
            known = self._read.get(key)
        if known is not None:
            return known[0]
        query = "SELECT sequence FROM records WHERE space = ? AND record = ?"
        with self._database.reading() as sql:
            row = sql.execute(query, (self._space, key)).fetchone()
        return row[0] if row else None

    def ids(self, through: int) -> Iterator[RecordId]:
        """Yield the ids of the records up to a number, in order."""
        query = (
            "SELECT sequence, record FROM records WHERE space = ? AND sequence > ?"
            " AND sequence <= ? ORDER BY sequence LIMIT ?"
        )
        for row in self._paged(query, 0, through):
            yield RecordId(row[1])

    def between(self, after: int, through: int) -> Iterator[SignedRecord]:
        """Yield the records above one number and up to another, in order."""
        query = (
            "SELECT sequence, record, data, signature FROM records WHERE space = ?"
            " AND sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?"
        )
        for row in self._paged(query, after, through):
            yield restored(self._database, *row[1:])

    def number_of(self, count: int, through: int) -> int:
        """Return the number of the record that comes after `count` others, less one."""
        query = (
            "SELECT sequence FROM records WHERE space = ? AND sequence <= ?"
            " ORDER BY sequence LIMIT 1 OFFSET ?"
        )
        with self._database.reading() as sql:
            row = sql.execute(query, (self._space, through, count)).fetchone()
        return row[0] - 1 if row else through

    def parts_of(self, column: str, values: Sequence[bytes | str]) -> list[int]:
        """Return the parts whose author or kind is one of `values`."""
        marks = ", ".join("?" * len(values))
        query = f"SELECT part FROM parts WHERE space = ? AND {column} IN ({marks})"  # noqa: S608
        with self._database.reading() as sql:
            rows = sql.execute(query, (self._space, *values)).fetchall()
        return [part for (part,) in rows]

    def authors(self, through: int) -> frozenset[AuthorId]:
        """Return who made a record up to a number."""
        query = (
            "SELECT DISTINCT author FROM parts WHERE space = ? AND EXISTS"
            " (SELECT 1 FROM placed WHERE placed.part = parts.part AND sequence <= ?)"
        )
        with self._database.reading() as sql:
            rows = sql.execute(query, (self._space, through)).fetchall()
        return frozenset(AuthorId(author) for (author,) in rows)

    def of_parts(self, parts: list[int], through: int) -> list[SignedRecord]:
        """Return the records of some parts up to a number, in order."""
        rows: list[Row] = []
        with self._database.reading() as sql:
            for part in parts:
                rows += sql.execute(OF_PART, (self._space, part, through)).fetchall()
        rows.sort()  # by number
        return [restored(self._database, *row[1:]) for row in rows]

    def forget(self, gone: frozenset[RecordId]) -> None:
        """Remember nothing of records that were dropped."""
        with self._lock:
            for key in gone:
                known = self._read.pop(key, None)
                self._bytes -= _size(known[1]) if known else 0

    def _paged(self, query: str, after: int, through: int) -> Iterator[Row]:
        while True:
            with self._database.reading() as sql:
                given = (self._space, after, through, PAGE)
                rows: list[Row] = sql.execute(query, given).fetchall()
            yield from rows
            if len(rows) < PAGE:
                return
            after = rows[-1][0]

    def _remember(self, key: RecordId, found: tuple[int, SignedRecord]) -> None:
        with self._lock:
            if key not in self._read:
                self._bytes += _size(found[1])
            self._read[key] = found
            while self._bytes > REMEMBERED_BYTES_MAX:
                _, (_, oldest) = self._read.popitem(last=False)
                self._bytes -= _size(oldest)


@final
class KeptLog(Log):
    """The records of one space up to a number, `length` in all, on a shelf."""

    __slots__ = ("_length", "_shelf", "_through")

    def __init__(self, shelf: Shelf, through: int, length: int) -> None:
        self._shelf, self._through, self._length = shelf, through, length

    def __len__(self) -> int:
        """Return the number of records."""
        return self._length

    def __getitem__(self, key: RecordId) -> SignedRecord:
        """Return the record with this id.

        Raises:
            MachineError: the disk refused, or what it holds is damaged.
        """
        found = self._shelf.find(key)
        if found is None or found[0] > self._through:
            raise KeyError(key)
        return found[1]

    def __contains__(self, key: object) -> bool:
        """Tell whether the log holds the record with this id."""
        number = self._shelf.number(key)  # type: ignore[arg-type]
        return number is not None and number <= self._through

    def __iter__(self) -> Iterator[RecordId]:
        """Yield the ids in the order of arrival."""
        return self._shelf.ids(self._through)

    def since(self, count: int) -> Iterator[SignedRecord]:
        """Yield the records after the first `count`, in the order of their arrival."""
        if count >= self._length:
            return iter(())
        # with no gap in the numbers they are the counts themselves
        whole = self._through == self._length
        after = count if whole else self._shelf.number_of(count, self._through)
        return self._shelf.between(after, self._through)

    def of_author(self, author: AuthorId) -> list[SignedRecord]:
        """Return the records of `author`, in the order of their arrival."""
        parts = self._shelf.parts_of("author", [author])
        return self._shelf.of_parts(parts, self._through)

    def of_kinds(self, kinds: frozenset[str]) -> list[SignedRecord]:
        """Return the records of these kinds, in the order of their arrival."""
        parts = self._shelf.parts_of("kind", sorted(kinds))
        return self._shelf.of_parts(parts, self._through)

    def authors(self) -> frozenset[AuthorId]:
        """Return who made a record that the log holds."""
        return self._shelf.authors(self._through)

    def extended(self, fresh: Mapping[RecordId, SignedRecord]) -> ChangedLog:
        """Return the log with records added at its end that it does not hold yet."""
        return ChangedLog(self, more=MemoryLog(fresh.values()))

    def without(self, gone: frozenset[RecordId]) -> ChangedLog:
        """Return a log that lacks the records `gone`, in the same order."""
        return ChangedLog(self).without(gone)


def restored(
    database: Database, known: bytes, data: bytes, signature: bytes
) -> SignedRecord:
    """Return the record of a row, unless the disk changed it.

    Signatures were verified before they were stored and are not verified again; ids are
    digests of the bytes, so comparing them finds damage.

    Raises:
        MachineError: the row is damaged.
    """
    try:
        record = decode_record(data)
    except MalformedRecordError as e:
        raise damaged(database, f"record {known.hex()[:12]}: {e}") from e
    if record.id != known:
        raise damaged(database, f"record {known.hex()[:12]} has other bytes")
    return SignedRecord(record, signature)


def damaged(database: Database, reason: str) -> MachineError:
    """Return the error for what only the disk can have changed."""
    return MachineError(
        f"{database.path} is damaged: {reason}",
        hint="check the disk, and restore the home from a backup",
    )


def _size(signed: SignedRecord) -> int:
    return len(signed.record.data) + OVERHEAD_BYTES
