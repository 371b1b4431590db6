"""Records by the hundred for stores, and what their tables have to say by the rules alone.

The rows of tries are worked out by the oracle of the shape rule, which knows no trie.
"""

from collections.abc import Iterable, Sequence

from crdtmerge.bodies import RecordId, SpaceId, Unknown
from crdtmerge.digest import ContentId
from crdtmerge.identity import SigningKey
from crdtmerge.record import SignedRecord, make_record, sign_record
from crdtmerge.replica import found_space
from nodes.store.database import Database
from tests.properties.oracle import trie_root

KEYS = tuple(SigningKey(bytes([n]) * 32) for n in (1, 2, 3))
KINDS = ("odd", "even", "third")
MOST_WITHOUT_ROW = 64


def found_records(count: int, name: str = "many") -> list[SignedRecord]:
    """Return a genesis and what hangs on it: `count` records of three authors."""
    base = ContentId(bytes(32))
    made = [found_space(KEYS[0], name=name, mode="open", base=base, nonce=bytes(16))]
    space = made[0].record.id
    for number in range(1, count):
        key = KEYS[number % 3]
        record = make_record(
            space=space,
            author=key.public,
            author_seq=number,
            prev=space,
            auth=space,
            body=Unknown(KINDS[number * number % 7 % 3], number),
        )
        made.append(sign_record(record, key))
    return made


def ids_of(signed: Iterable[SignedRecord]) -> list[RecordId]:
    """Return the ids of records, in their order."""
    return [one.record.id for one in signed]


def due_rows(ids: Sequence[bytes], prefix: str = "") -> dict[bytes, bytes]:
    """Return by prefix, a byte for each nibble, the row that each large node has."""
    if len(ids) <= MOST_WITHOUT_ROW:
        return {}
    row = b""
    rows: dict[bytes, bytes] = {}
    for step in "0123456789abcdef":
        below = [i for i in ids if i.hex().startswith(prefix + step)]
        root = trie_root(list(below), len(prefix) + 1)
        row += len(below).to_bytes(8, "little") + root
        rows |= due_rows(below, prefix + step)
    return rows | {bytes(int(step, 16) for step in prefix): row}


def rows_of(database: Database, space: SpaceId) -> dict[bytes, bytes]:
    """Return the rows of a trie that are on the disk."""
    with database.reading() as sql:
        query = "SELECT prefix, children FROM tries WHERE space = ?"
        return dict(sql.execute(query, [space]).fetchall())


def check_tables(
    database: Database, space: SpaceId, due: Sequence[SignedRecord]
) -> None:
    """Hold all that a store keeps of a space against the records that it should have."""
    ids = ids_of(due)
    with database.reading() as sql:
        query = "SELECT count, root FROM spaces WHERE space = ?"
        found = sql.execute(query, [space]).fetchone()
        query = (
            "SELECT author, kind, count, group_concat(hex(record)) FROM parts"
            " LEFT JOIN placed USING (part)"
            " LEFT JOIN records ON records.space = parts.space"
            " AND records.sequence = placed.sequence"
            " WHERE parts.space = ? GROUP BY author, kind"
        )
        parts = sql.execute(query, [space]).fetchall()
    assert found == (len(ids), trie_root(list(ids)))
    assert rows_of(database, space) == due_rows(ids)
    placed = {
        (author, kind): (count, sorted((shown or "").lower().split(",")))
        for author, kind, count, shown in parts
        if count or shown
    }
    expected: dict[tuple[bytes, str], list[str]] = {}
    for one in due:
        place = one.record.author, one.record.kind
        expected.setdefault(place, []).append(one.record.id.hex())
    assert placed == {k: (len(v), sorted(v)) for k, v in expected.items()}
