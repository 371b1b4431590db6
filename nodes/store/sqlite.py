"""Records and local facts in SQLite: the ports of `base`, on the file of `database`.

Owns the SQL of records, bases, invites, peers and settings. Does not own the connection,
transactions or errors (`database`), nor blobs (`blobs`).
"""

import os
from collections.abc import Sequence
from pathlib import Path

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.codec import decode, encode
from crdtmerge.digest import BlobId
from crdtmerge.errors import (
    EncodingError,
    MachineError,
    MalformedRecordError,
    WrongSpaceError,
)
from crdtmerge.record import SignedRecord, decode_record
from crdtmerge.sync.messages import SignedBytes

from .base import RECORD_OVERHEAD_BYTES, BaseFacts, PeerFacts
from .database import Database

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
            raise _damaged(database, "the generation is missing")
        self._generation = found

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

    def append(self, space: SpaceId, records: Sequence[SignedRecord]) -> None:
        """Keep `records`, all or none; they are durable when this returns.

        Raises:
            WrongSpaceError: one of them belongs to another space.
            MachineError: the disk refused; nothing was kept.
        """
        if any(signed.record.space_id != space for signed in records):
            raise WrongSpaceError(f"a record of another space than {space.hex()[:12]}")
        if not records:
            return
        with self._database.writing() as sql:
            sql.execute(
                "INSERT INTO spaces VALUES (?, 0) ON CONFLICT DO NOTHING", [space]
            )
            query = "SELECT last FROM spaces WHERE space = ?"
            first: int = sql.execute(query, [space]).fetchone()[0]
            last = first
            for signed in records:
                record = signed.record
                row = (space, last + 1, record.id, record.data, signed.signature)
                sql.execute(
                    "INSERT INTO records VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT (space, record) DO NOTHING",
                    row,
                )
                # nothing changes for one that is there already: numbers have no gap
                last += sql.changes()
            if last > first:
                sql.execute("UPDATE spaces SET last = ? WHERE space = ?", (last, space))

    def load(self, space: SpaceId) -> list[SignedRecord]:
        """Return all records of `space` in the order of their numbers.

        Signatures were verified before they were stored and are not verified again; ids
        are digests of the bytes, so comparing them finds damage.

        Raises:
            MachineError: the disk refused, or what it holds is damaged.
        """
        with self._database.reading() as sql:
            rows = sql.execute(
                "SELECT record, data, signature FROM records WHERE space = ?"
                " ORDER BY sequence",
                [space],
            ).fetchall()
        return [self._restored(*row) for row in rows]

    def after(
        self, space: SpaceId, sequence: int, limit_bytes: int
    ) -> tuple[list[SignedBytes], int, bool]:
        """Return the records numbered above `sequence` that fit in `limit_bytes`.

        At least one is returned if there is any. The second value is the number of the
        last one returned; with none, `sequence` itself, but never above the last record.
        The third tells whether there are more.
        """
        sequence = min(sequence, self.last(space))  # a peer may ask beyond 64 bits
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
        return batch, sequence, False

    def last(self, space: SpaceId) -> int:
        """Return the number of the last record of `space`; 0 when there is none."""
        with self._database.reading() as sql:
            query = "SELECT last FROM spaces WHERE space = ?"
            row = sql.execute(query, [space]).fetchone()
        return row[0] if row else 0

    def _restored(self, known: RecordId, data: bytes, signature: bytes) -> SignedRecord:
        """Return the record of a row, unless the disk changed it."""
        try:
            record = decode_record(data)
        except MalformedRecordError as e:
            raise _damaged(self._database, f"record {known.hex()[:12]}: {e}") from e
        if record.id != known:
            reason = f"record {known.hex()[:12]} has other bytes"
            raise _damaged(self._database, reason)
        return SignedRecord(record, signature)


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
            raise _damaged(self._database, f"the addresses of a peer: {e}") from e
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise _damaged(self._database, "the addresses of a peer are no texts")


def _own(key: str) -> str:
    """Return the name a caller's setting is kept under, apart from the store's own."""
    return f"local/{key}"


def _value(database: Database, key: str) -> bytes | None:
    with database.reading() as sql:
        query = "SELECT value FROM settings WHERE key = ?"
        row = sql.execute(query, [key]).fetchone()
    return row[0] if row else None


def _damaged(database: Database, reason: str) -> MachineError:
    return MachineError(
        f"{database.path} is damaged: {reason}",
        hint="check the disk, and restore the home from a backup",
    )
