"""Records and local facts in SQLite: the ports of `base`, on the file of `database`.

Owns the SQL of records, bases, invites, peers and settings. Does not own the connection,
transactions or errors (`database`), nor blobs (`blobs`).
"""

import os
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.codec import decode, encode
from crdtmerge.digest import BlobId
from crdtmerge.errors import EncodingError, WrongSpaceError
from crdtmerge.identity import AuthorId
from crdtmerge.record import SignedRecord, decode_record
from crdtmerge.sync.messages import SignedBytes
from crdtmerge.trie import Trie

from .base import RECORD_OVERHEAD_BYTES, BaseFacts, PeerFacts, TriedFacts
from .database import Database, Sql
from .kept_log import KeptLog, Shelf, damaged
from .kept_trie import KeptTrie

SEQUENCE_MAX = 2**63 - 1
ADDRESSES_BYTES_MAX = 64 << 10
ANYWHERE = SpaceId(b"")
"""In place of a space, for addresses that the user added: they hold in every space."""


class SqliteRecords:
    """The `RecordStore` of a home."""

    def __init__(self, database: Database) -> None:
        """Use the open `database`; its owner closes it."""
        self._database = database
        found = _value(database, "generation")
        if found is None:
            raise damaged(database, "the generation is missing")
        self._generation = found
        self._shelves: dict[SpaceId, Shelf] = {}
        self._tries: dict[SpaceId, KeptTrie] = {}

    @property
    def generation(self) -> bytes:
        """The random id of this store's life; sequence numbers hold within it."""
        return self._generation

    def renew(self, generation: bytes) -> None:
        """Begin another life of the store: what peers know of its order holds no more.

        Raises:
            MachineError: the disk refused; the life goes on.
        """
        with self._database.writing() as sql:
            sql.execute(
                "UPDATE settings SET value = ? WHERE key = 'generation'", [generation]
            )
        self._generation = generation

    def spaces(self) -> list[SpaceId]:
        """Return the spaces that have a record, sorted by id."""
        with self._database.reading() as sql:
            rows = sql.execute("SELECT space FROM spaces ORDER BY space").fetchall()
        return [SpaceId(space) for (space,) in rows]

    def append(
        self,
        space: SpaceId,
        records: Sequence[SignedRecord],
        gone: frozenset[RecordId] = frozenset(),
    ) -> None:
        """Keep `records`, and drop those that are `gone`, all or none, durably.

        The rows of the trie are written with them, so they fit whatever happens.

        Raises:
            WrongSpaceError: one of them belongs to another space.
            MachineError: the disk refused; nothing was kept.
        """
        if any(signed.record.space_id != space for signed in records):
            raise WrongSpaceError(f"a record of another space than {space.hex()[:12]}")
        if not records and not gone:
            return
        kept = self._trie_of(space)
        before = kept.trie()
        with self._database.writing() as sql:
            fresh = self._insert(sql, space, records)
            dropped = [key for key in sorted(gone) if key not in fresh]
            after = kept.write(sql, before, fresh, dropped)
            self._drop(sql, space, dropped)
        kept.kept_as(after)
        self._shelf(space).forget(gone)

    def _insert(
        self, sql: Sql, space: SpaceId, records: Sequence[SignedRecord]
    ) -> list[RecordId]:
        """Write rows for those that have none, and return their ids."""
        new = "INSERT INTO spaces (space, last) VALUES (?, 0) ON CONFLICT DO NOTHING"
        sql.execute(new, [space])
        query = "SELECT last FROM spaces WHERE space = ?"
        last: int = sql.execute(query, [space]).fetchone()[0]
        placed: dict[tuple[AuthorId, str], list[int]] = {}
        fresh: list[RecordId] = []
        for signed in records:
            record = signed.record
            row = (space, last + 1, record.id, record.data, signed.signature)
            sql.execute(
                "INSERT INTO records VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (space, record) DO NOTHING",
                row,
            )
            # nothing changes for one that is there already: its number is used by the next
            if sql.changes():
                last += 1
                fresh.append(record.id)
                placed.setdefault((record.author, record.kind), []).append(last)
        sql.execute("UPDATE spaces SET last = ? WHERE space = ?", (last, space))
        for (author, kind), numbers in placed.items():
            part = self._part(sql, (space, author, kind), len(numbers))
            rows = [(part, number) for number in numbers]
            sql.executemany("INSERT INTO placed VALUES (?, ?)", rows)
        return fresh

    def _drop(self, sql: Sql, space: SpaceId, gone: Sequence[RecordId]) -> None:
        """Delete the rows of records; their numbers are not used again."""
        where = "WHERE space = ? AND record = ?"
        for key in gone:
            query = f"SELECT sequence, data FROM records {where}"  # noqa: S608
            found = sql.execute(query, (space, key)).fetchone()
            if found is None:
                continue
            record = decode_record(found[1])
            part = self._part(sql, (space, record.author, record.kind), -1)
            query = "DELETE FROM placed WHERE part = ? AND sequence = ?"
            sql.execute(query, (part, found[0]))
            sql.execute(f"DELETE FROM records {where}", (space, key))  # noqa: S608

    def _part(self, sql: Sql, named: tuple[bytes, bytes, str], more: int) -> int:
        """Return the part of a space, author and kind, to which `more` records came."""
        query = (
            "INSERT INTO parts (space, author, kind, count) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (space, author, kind) DO UPDATE"
            " SET count = count + excluded.count RETURNING part"
        )
        part: int = sql.execute(query, (*named, more)).fetchone()[0]
        return part

    def log(self, space: SpaceId) -> KeptLog:
        """Return the records of `space` as they are now, read when they are asked for."""
        query = "SELECT last, count FROM spaces WHERE space = ?"
        with self._database.reading() as sql:
            last, count = sql.execute(query, [space]).fetchone() or (0, 0)
        return KeptLog(self._shelf(space), last, count)

    def trie(self, space: SpaceId) -> Trie:
        """Return the trie over the ids of the records of `space`."""
        return self._trie_of(space).trie()

    def trie_fits(self, space: SpaceId) -> bool:
        """Tell whether nothing was read yet that does not fit the trie given last."""
        return self._trie_of(space).fits

    def said(self, author: AuthorId) -> int:
        """Return how many records of `author` are here, in all spaces."""
        query = "SELECT coalesce(sum(count), 0) FROM parts WHERE author = ?"
        with self._database.reading() as sql:
            found: int = sql.execute(query, [author]).fetchone()[0]
        return found

    def _shelf(self, space: SpaceId) -> Shelf:
        return self._shelves.setdefault(space, Shelf(self._database, space))

    def _trie_of(self, space: SpaceId) -> KeptTrie:
        return self._tries.setdefault(space, KeptTrie(self._database, space))

    def load(self, space: SpaceId) -> list[SignedRecord]:
        """Return all records of `space` in the order of their numbers.

        Raises:
            MachineError: the disk refused, or what it holds is damaged.
        """
        return list(self.log(space).since(0))

    def after(
        self, space: SpaceId, sequence: int, limit_bytes: int
    ) -> tuple[list[SignedBytes], int, bool]:
        """Return the records numbered above `sequence` that fit in `limit_bytes`.

        At least one is returned if there is any. The second value is the number up to
        which there is none beside those: never above the last record's. The third tells
        whether there are more.
        """
        last = self.last(space)
        sequence = min(sequence, last)  # a peer may ask beyond 64 bits
        batch: list[SignedBytes] = []
        used = 0
        with self._database.reading() as sql:
            rows = sql.execute(
                "SELECT sequence, data, signature FROM records"
                " WHERE space = ? AND sequence > ? ORDER BY sequence",
                (space, sequence),
            )
            for number, data, signature in rows:
                used += len(data) + len(signature) + RECORD_OVERHEAD_BYTES
                if batch and used > limit_bytes:
                    rows.close()  # or it would hold back checkpoints
                    return batch, sequence, True
                batch.append(SignedBytes(data, signature))
                sequence = number
        # the last records may have been dropped, and their numbers with them
        return batch, max(sequence, last), False

    def last(self, space: SpaceId) -> int:
        """Return the number of the last record of `space`; 0 when there is none."""
        with self._database.reading() as sql:
            query = "SELECT last FROM spaces WHERE space = ?"
            row = sql.execute(query, [space]).fetchone()
        return row[0] if row else 0


class SqliteLocal:
    """The `LocalStore` of a home."""

    def __init__(self, database: Database) -> None:
        """Use the open `database`; its owner closes it."""
        self._database = database

    def set_base(self, space: SpaceId, folder: Path, manifest: BlobId) -> None:
        """Keep where the base of `space` lies; replaces what was known."""
        self._write(
            "INSERT OR REPLACE INTO bases VALUES (?, ?, ?)",
            (space, os.fsencode(folder), manifest),
        )

    def base(self, space: SpaceId) -> BaseFacts | None:
        """Return where the base of `space` lies, if that is known."""
        with self._database.reading() as sql:
            query = "SELECT folder, manifest FROM bases WHERE space = ?"
            row = sql.execute(query, [space]).fetchone()
        return BaseFacts(Path(os.fsdecode(row[0])), BlobId(row[1])) if row else None

    def add_invite(self, space: SpaceId, secret: bytes) -> None:
        """Keep the secret of a ticket, so that its holder may join."""
        self._write("INSERT OR IGNORE INTO invites VALUES (?, ?)", (space, secret))

    def has_invite(self, space: SpaceId, secret: bytes) -> bool:
        """Tell whether the secret opens the door of `space`."""
        return secret in self.invites(space)

    def invites(self, space: SpaceId) -> list[bytes]:
        """Return the secrets that open the door of `space`, sorted."""
        with self._database.reading() as sql:
            query = "SELECT secret FROM invites WHERE space = ? ORDER BY secret"
            rows = sql.execute(query, [space]).fetchall()
        return [secret for (secret,) in rows]

    def revoke_invite(self, space: SpaceId, secret: bytes) -> bool:
        """Forget a secret; tell whether it was there."""
        query = "DELETE FROM invites WHERE space = ? AND secret = ?"
        return self._write(query, (space, secret)) > 0

    def add_peer(self, space: SpaceId, node: bytes, addresses: Sequence[str]) -> None:
        """Keep where a node listens; replaces what was known of this node."""
        self._write(
            "INSERT OR REPLACE INTO peers VALUES (?, ?, ?)",
            (space, node, encode(list(addresses))),
        )

    def peers(self, space: SpaceId) -> list[PeerFacts]:
        """Return the nodes to begin with in `space`, sorted by key."""
        with self._database.reading() as sql:
            query = "SELECT node, addresses FROM peers WHERE space = ? ORDER BY node"
            rows = sql.execute(query, [space]).fetchall()
        return [PeerFacts(node, self._addresses(data)) for node, data in rows]

    def set_addresses(self, node: bytes, addresses: Sequence[str]) -> None:
        """Keep what the user says of where a node listens, in any space; none forgets."""
        if addresses:
            self.add_peer(ANYWHERE, node, addresses)
        else:
            query = "DELETE FROM peers WHERE space = ? AND node = ?"
            self._write(query, (ANYWHERE, node))

    def addresses(self) -> list[PeerFacts]:
        """Return what the user said of where nodes listen, sorted by key."""
        return self.peers(ANYWHERE)

    def tried(self) -> list[TriedFacts]:
        """Return what came of dialling nodes, sorted by node and address."""
        with self._database.reading() as sql:
            query = "SELECT * FROM tried ORDER BY node, address"
            rows = sql.execute(query).fetchall()
        return [
            TriedFacts(node, address, good, bad, worked, tried, bool(local))
            for node, address, good, bad, worked, tried, local in rows
        ]

    def keep_tried(
        self, kept: Sequence[TriedFacts], gone: Sequence[tuple[bytes, str]]
    ) -> None:
        """Keep what came of dialling, and forget it of other nodes and addresses."""
        with self._database.writing() as sql:
            for facts in kept:
                query = "INSERT OR REPLACE INTO tried VALUES (?, ?, ?, ?, ?, ?, ?)"
                sql.execute(query, astuple(facts))
            for place in gone:
                sql.execute("DELETE FROM tried WHERE node = ? AND address = ?", place)

    def set_value(self, key: str, value: bytes) -> None:
        """Keep a small setting of this machine."""
        self._write("INSERT OR REPLACE INTO settings VALUES (?, ?)", (_own(key), value))

    def get_value(self, key: str) -> bytes | None:
        """Return a setting, if it was ever set."""
        return _value(self._database, _own(key))

    def _write(self, statement: str, row: tuple[bytes | str, ...]) -> int:
        """Run one statement durably; return how many rows it touched."""
        with self._database.writing() as sql:
            sql.execute(statement, row)
            return sql.changes()

    def _addresses(self, data: bytes) -> tuple[str, ...]:
        """Return the addresses of a row."""
        try:
            value = decode(data, ADDRESSES_BYTES_MAX)
        except EncodingError as e:
            raise damaged(self._database, f"the addresses of a peer: {e}") from e
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise damaged(self._database, "the addresses of a peer are no texts")


def _own(key: str) -> str:
    """Return the name a caller's setting is kept under, apart from the store's own."""
    return f"local/{key}"


def _value(database: Database, key: str) -> bytes | None:
    with database.reading() as sql:
        query = "SELECT value FROM settings WHERE key = ?"
        row = sql.execute(query, [key]).fetchone()
    return row[0] if row else None
