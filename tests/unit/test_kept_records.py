"""Logs and tries on the disk: what is read when asked for is what was written."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw
import pytest

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.errors import MachineError
from crdtmerge.log import ChangedLog, Log, MemoryLog
from crdtmerge.record import SignedRecord
from crdtmerge.sync.messages import SignedBytes
from crdtmerge.trie import Trie
from nodes.sets import Sets
from nodes.store import kept_log
from nodes.store.base import RecordStore
from nodes.store.database import Database, lay_out
from nodes.store.memory import MemoryRecords
from nodes.store.schema import APPLICATION_ID, STEPS, Schema
from nodes.store.sqlite import SqliteRecords
from tests.kept_records import (
    KEYS,
    KINDS,
    check_tables,
    due_rows,
    found_records,
    ids_of,
    rows_of,
)
from tests.properties.oracle import trie_root

GENERATION = bytes(range(16))
MOST = found_records(1300)
MANY = MOST[:700]
SPACE = MANY[0].record.space_id


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the store lies."""
    return tmp_path / "store.sqlite"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    """Return a new store."""
    database = Database.create(path, GENERATION)
    yield database
    database.close()


def change(path: Path, statement: str, *values: object) -> None:
    """Change a closed store behind its back."""
    sql = apsw.Connection(str(path))
    sql.execute(statement, values)
    sql.close()


def hold(log: Log, due: Sequence[SignedRecord]) -> None:
    """Hold a log against a plain list."""
    assert len(log) == len(due)
    assert list(log) == ids_of(due)
    assert list(log.since(0)) == list(due)
    for count in (1, len(due) // 2, len(due) - 1, len(due), len(due) + 3):
        assert list(log.since(count)) == list(due[count:])
    for key in KEYS:
        own = [one for one in due if one.record.author == key.public]
        assert log.of_author(key.public) == own
    for kinds in ({"odd"}, {"even", "third"}, {"none"}, {*KINDS, "genesis"}):
        of = [one for one in due if one.record.kind in kinds]
        assert log.of_kinds(frozenset(kinds)) == of
    for one in MANY:
        assert (one.record.id in log) == (one in due)
        assert log.get(one.record.id) == (one if one in due else None)


def stores(database: Database) -> tuple[RecordStore, RecordStore]:
    """Return both kinds of store."""
    return SqliteRecords(database), MemoryRecords(GENERATION)


def test_a_log_on_the_disk_is_the_list_of_its_records(database: Database) -> None:
    """By all questions, while the store grows and forgets; values of then stay."""
    for store in stores(database):
        due: list[SignedRecord] = []
        seen: list[tuple[Log, list[SignedRecord]]] = []
        for start in range(0, 210, 70):
            store.append(SPACE, MANY[start : start + 70])
            due = [*due, *MANY[start : start + 70]]
            seen.append((store.log(SPACE), due))
        for log, then in seen:
            hold(log, then)
        gone = frozenset(ids_of(MANY[60:90]) + ids_of(MANY[200:210]))
        store.append(SPACE, MANY[210:220], gone)
        due = [one for one in MANY[:220] if one.record.id not in gone]
        hold(store.log(SPACE), due)
        assert store.trie(SPACE).root == trie_root(list(ids_of(due)))
        numbers = len(store.load(SPACE)), store.last(SPACE)
        assert numbers == (180, 220)


def test_the_feed_passes_over_gaps(database: Database) -> None:
    """Numbers of what was dropped are not used again, and nobody waits for them."""
    for store in stores(database):
        store.append(SPACE, MANY[:10])
        store.append(SPACE, [], frozenset(ids_of(MANY[4:6] + MANY[8:10])))
        found, through, more = store.after(SPACE, 3, 1 << 20)
        assert [raw.data for raw in found] == [
            one.record.data for one in (MANY[3], MANY[6], MANY[7])
        ]
        assert (through, more) == (10, False)
        assert store.after(SPACE, 8, 1 << 20) == ([], 10, False)
        first, through, more = store.after(SPACE, 3, 1)
        assert (len(first), through, more) == (1, 4, True)
        store.append(SPACE, MANY[9:12])
        assert store.last(SPACE) == 13
        assert ids_of(store.load(SPACE)) == ids_of(MANY[:4] + MANY[6:8] + MANY[9:12])


def test_what_was_changed_but_not_kept_shows_in_a_log_of_its_own(
    database: Database,
) -> None:
    """A set that was extended, and one that lost records, before the store has them."""
    store = SqliteRecords(database)
    store.append(SPACE, MANY[:100])
    log = store.log(SPACE)
    more = {one.record.id: one for one in MANY[100:150]}
    longer = log.extended(more)
    gone = frozenset(ids_of(MANY[20:30] + MANY[110:120]))
    shorter = longer.without(gone)
    again = shorter.extended({one.record.id: one for one in MANY[150:160]})
    store.append(SPACE, MANY[100:160])
    hold(log, MANY[:100])
    hold(longer, MANY[:150])
    hold(shorter, [one for one in MANY[:150] if one.record.id not in gone])
    hold(again, [one for one in MANY[:160] if one.record.id not in gone])
    assert isinstance(again, ChangedLog)


def test_a_store_that_goes_the_way_of_a_set_shares_with_it() -> None:
    """In memory both extend one log: the second gets what the first made."""
    store = MemoryRecords(GENERATION)
    store.append(SPACE, MANY[:50])
    way = store.log(SPACE).extended({one.record.id: one for one in MANY[50:60]})
    store.append(SPACE, MANY[50:60])
    kept = store.log(SPACE)
    assert isinstance(kept, MemoryLog)
    assert kept._shared is way._shared


def test_rows_are_those_of_the_shape_rule_after_each_change(database: Database) -> None:
    """Batches, single records, and what is dropped down to nothing again."""
    store, rng = SqliteRecords(database), random.Random(5)
    due: list[SignedRecord] = []
    for size in (1, 63, 1, 200, 1, 1000):
        batch = MOST[len(due) : len(due) + size]
        store.append(SPACE, batch)
        due += batch
        check_tables(database, SPACE, due)
    assert len(due_rows(ids_of(due))) > 1
    while len(due) > 1:
        leaving = rng.sample(due[1:], min(len(due) - 1, 300))
        store.append(SPACE, [], frozenset(ids_of(leaving)))
        due = [one for one in due if one not in leaving]
        check_tables(database, SPACE, due)


def test_opening_builds_nothing_and_an_insert_touches_one_path(
    path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root is known from a row, and what an insert changes are the rows above it."""
    SqliteRecords(database).append(SPACE, MOST[:-1])
    before = rows_of(database, SPACE)
    database.close()

    def build(*_: object) -> Trie:
        raise AssertionError("the trie was built")

    monkeypatch.setattr(Trie, "build", build)
    again = Database(path, write=True)
    store = SqliteRecords(again)
    assert store.trie(SPACE).root == trie_root(list(ids_of(MOST[:-1])))
    store.append(SPACE, MOST[-1:])
    check_tables(again, SPACE, MOST)
    after = rows_of(again, SPACE)
    touched = [prefix for prefix in after if after[prefix] != before.get(prefix)]
    digits = MOST[-1].record.id.hex()
    path_of_it = [bytes(int(d, 16) for d in digits[:n]) for n in range(64)]
    assert sorted(touched, key=len) == path_of_it[: len(touched)]
    assert len(after) > 2 * len(touched)
    again.close()


def test_reading_the_whole_trie_gives_what_was_kept(
    path: Path, database: Database
) -> None:
    """Each node, by its digests and by its hash; and membership of single ids."""
    SqliteRecords(database).append(SPACE, MANY[:650])
    database.close()
    again = Database(path, write=False)
    trie = SqliteRecords(again).trie(SPACE)
    inside, outside = ids_of(MANY[:650]), ids_of(MANY[650:])
    assert all(key in trie for key in inside[::9])
    assert not any(key in trie for key in outside)
    assert list(trie) == sorted(inside)
    assert trie == Trie.build(inside)
    assert trie.below((3,)) == sorted(i for i in inside if i.hex()[0] == "3")
    again.close()


def test_a_reader_keeps_its_root_while_a_writer_goes_on(
    path: Path, database: Database
) -> None:
    """Rows that were written since do not fit it; the ids of then do."""
    writer = SqliteRecords(database)
    writer.append(SPACE, MANY[:300])
    beside = Database(path, write=False)
    reader = SqliteRecords(beside)
    log, trie = reader.log(SPACE), reader.trie(SPACE)
    for start in range(300, 700, 100):
        writer.append(SPACE, MANY[start : start + 100])
    assert trie.root == trie_root(list(ids_of(MANY[:300])))
    assert list(trie) == sorted(ids_of(MANY[:300]))
    assert reader.trie_fits(SPACE)
    assert list(log) == ids_of(MANY[:300])
    assert reader.trie(SPACE).root == trie_root(list(ids_of(MANY)))
    beside.close()


DAMAGE = {
    "the root": ("UPDATE spaces SET root = zeroblob(32)",),
    "no root": ("UPDATE spaces SET root = NULL",),
    "the top row": ("UPDATE tries SET children = zeroblob(640) WHERE prefix = x''",),
    "a short row": ("UPDATE tries SET children = x'00' WHERE prefix = x''",),
    "no rows": ("DELETE FROM tries",),
    "older rows": ("UPDATE tries SET children = (SELECT children FROM old)",),
    "a count": ("UPDATE spaces SET count = 3",),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_rows_that_do_not_fit_never_make_a_wrong_root(
    path: Path, database: Database, what: str
) -> None:
    """The ids alone decide; a writer puts the rows right again."""
    store = SqliteRecords(database)
    store.append(SPACE, MANY[:400])
    with database.writing() as sql:
        sql.execute("CREATE TABLE old AS SELECT * FROM tries WHERE prefix = x''")
    store.append(SPACE, MANY[400:690])
    database.close()
    change(path, *DAMAGE[what])
    for write in (False, True):
        again = Database(path, write=write)
        trie = SqliteRecords(again).trie(SPACE)
        assert trie.root == trie_root(list(ids_of(MANY[:690])))
        assert list(trie) == sorted(ids_of(MANY[:690]))
        again.close()
    again = Database(path, write=True)
    SqliteRecords(again).append(SPACE, MANY[690:])
    with again.reading() as sql:
        found = sql.execute("SELECT count, root FROM spaces").fetchone()
    assert found == (700, trie_root(list(ids_of(MANY))))
    again.close()
    again = Database(path, write=True)
    assert list(SqliteRecords(again).trie(SPACE)) == sorted(ids_of(MANY))
    again.close()


def test_an_id_that_is_lost_is_noticed_when_it_is_looked_for(
    path: Path, database: Database
) -> None:
    """The root was wrong, as the disk was; once that is seen it is right."""
    SqliteRecords(database).append(SPACE, MANY)
    database.close()
    lost, left = MANY[333].record.id, ids_of(MANY[:333] + MANY[334:])
    change(path, "DELETE FROM records WHERE record = ?", lost)
    again = Database(path, write=True)
    store = SqliteRecords(again)
    assert store.trie_fits(SPACE)
    assert lost not in store.trie(SPACE)
    assert not store.trie_fits(SPACE)
    assert store.trie(SPACE).root == trie_root(list(left))
    assert store.trie_fits(SPACE)
    assert len(store.log(SPACE)) == len(left)
    assert rows_of(again, SPACE) == due_rows(left)
    again.close()


def test_an_id_that_is_lost_is_noticed_by_an_insert(
    path: Path, database: Database
) -> None:
    """The transaction that meets the damage writes all rows anew."""
    SqliteRecords(database).append(SPACE, MANY[:600])
    database.close()
    new = MANY[600].record.id
    near = max(ids_of(MANY[:600]), key=lambda i: _shared_nibbles(i.hex(), new.hex()))
    change(path, "DELETE FROM records WHERE record = ?", near)
    again = Database(path, write=True)
    store = SqliteRecords(again)
    store.append(SPACE, MANY[600:601])
    left = [key for key in ids_of(MANY[:601]) if key != near]
    assert store.trie(SPACE).root == trie_root(list(left))
    assert rows_of(again, SPACE) == due_rows(left)
    again.close()


def test_sets_that_met_damage_tell_the_root_of_what_is_left(
    path: Path, database: Database
) -> None:
    """Peers then send what was lost, as they would to who never had it."""
    SqliteRecords(database).append(SPACE, MANY)
    database.close()
    change(path, "DELETE FROM records WHERE record = ?", MANY[333].record.id)
    again = Database(path, write=True)
    sets = Sets(SqliteRecords(again))
    before = sets.heartbeat(SPACE)
    assert (before.root, before.count) == (trie_root(ids_of(MANY)), 700)
    list(sets.trie(SPACE))
    left = [*MANY[:333], *MANY[334:]]
    after = sets.heartbeat(SPACE)
    assert (after.root, after.count) == (trie_root(ids_of(left)), 699)
    raw = SignedBytes(MANY[333].record.data, MANY[333].signature)
    assert sets.receive(SPACE, [raw]) == (MANY[333].record.id,)
    assert sets.heartbeat(SPACE).root == trie_root(ids_of(MANY))
    assert rows_of(again, SPACE) == due_rows(ids_of(MANY))
    assert list(sets.opset(SPACE).signed) == ids_of([*left, MANY[333]])
    again.close()


def _shared_nibbles(one: str, other: str) -> int:
    return next(n for n in range(64) if one[n] != other[n])


def test_an_append_that_fails_leaves_rows_and_memory_as_they_were(
    database: Database,
) -> None:
    """Nothing of it is on the disk, and the next one starts from what is."""
    store = SqliteRecords(database)
    store.append(SPACE, MANY[:300])
    with database.writing() as sql:
        sql.execute(
            "CREATE TRIGGER full BEFORE INSERT ON tries"
            " BEGIN SELECT RAISE(ABORT, 'no more'); END"
        )
    with pytest.raises(apsw.ConstraintError, match="no more"):
        store.append(SPACE, MANY[300:500])
    check_tables(database, SPACE, MANY[:300])
    hold(store.log(SPACE), MANY[:300])
    with database.writing() as sql:
        sql.execute("DROP TRIGGER full")
    store.append(SPACE, MANY[300:310])
    check_tables(database, SPACE, MANY[:310])


def test_records_of_a_part_are_looked_up_by_number(database: Database) -> None:
    """However few they are among how many: no table is read from end to end."""
    SqliteRecords(database).append(SPACE, MANY[:100])
    with database.reading() as sql:
        plan = sql.execute(f"EXPLAIN QUERY PLAN {kept_log.OF_PART}", (SPACE, 1, 100))
        steps = [str(row[3]) for row in plan]
    assert [step.split()[:2] for step in steps] == [
        ["SEARCH", "placed"],
        ["SEARCH", "records"],
    ]
    assert "space=? AND sequence=?" in steps[1]


def test_what_is_remembered_of_records_has_a_bound(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The latest stay; each is right, whether it is remembered or read."""
    monkeypatch.setattr(kept_log, "REMEMBERED_BYTES_MAX", 20 * 2300)
    store = SqliteRecords(database)
    store.append(SPACE, MANY[:200])
    log = store.log(SPACE)
    for one in (*MANY[:200], *MANY[:200]):
        assert log[one.record.id] == one
    shelf = log._shelf
    assert 10 < len(shelf._read) <= 20
    assert log[MANY[199].record.id] is log[MANY[199].record.id]
    store.append(SPACE, [], frozenset(ids_of(MANY[:200])))
    assert (len(shelf._read), shelf._bytes) == (0, 0)


def test_a_damaged_record_is_an_error_when_it_is_read(
    path: Path, database: Database
) -> None:
    """By name, and by who reads all; the others are not touched by it."""
    SqliteRecords(database).append(SPACE, MANY[:50])
    database.close()
    bad = MANY[7].record
    change(
        path,
        "UPDATE records SET data = ? WHERE record = ?",
        MANY[8].record.data,
        bad.id,
    )
    again = Database(path, write=False)
    log = SqliteRecords(again).log(SPACE)
    with pytest.raises(MachineError, match="has other bytes"):
        _ = log[bad.id]
    with pytest.raises(MachineError, match="has other bytes"):
        list(log.since(0))
    assert log[MANY[8].record.id] == MANY[8]
    again.close()


def test_a_home_of_the_version_before_gets_its_columns(
    path: Path, database: Database
) -> None:
    """Authors, kinds, counts and the trie, of all its spaces."""
    other = found_records(80, "other")
    store = SqliteRecords(database)
    store.append(SPACE, MANY[:300])
    store.append(other[0].record.space_id, other)
    database.close()
    age(path)
    again = Database(path, write=True)
    store = SqliteRecords(again)
    spaces: list[tuple[SpaceId, list[SignedRecord]]] = [
        (SPACE, MANY[:300]),
        (other[0].record.space_id, other),
    ]
    for space, due in spaces:
        hold_kept(store.log(space), due)
        assert store.trie(space).root == trie_root(list(ids_of(due)))
        check_tables(again, space, due)
    own = sum(one.record.author == KEYS[1].public for one in (*MANY[:300], *other))
    assert store.said(KEYS[1].public) == own
    again.close()


def hold_kept(log: Log, due: Sequence[SignedRecord]) -> None:
    """Hold what the columns of records say against a plain list."""
    assert dict(log) == {RecordId(one.record.id): one for one in due}
    for key in KEYS:
        own = [one for one in due if one.record.author == key.public]
        assert log.of_author(key.public) == own
    of = [one for one in due if one.record.kind == "odd"]
    assert log.of_kinds(frozenset({"odd"})) == of


def age(path: Path) -> None:
    """Give a closed store the tables of version 2, with the rows that it knew."""
    old = path.with_name("old.sqlite")
    lay_out(old, Schema(APPLICATION_ID, STEPS[:2]))
    sql = apsw.Connection(str(old))
    sql.execute("ATTACH ? AS today", [str(path)])
    sql.execute("INSERT INTO settings SELECT key, value FROM today.settings")
    sql.execute("INSERT INTO spaces SELECT space, last FROM today.spaces")
    columns = "space, sequence, record, data, signature"
    sql.execute(f"INSERT INTO records SELECT {columns} FROM today.records")
    sql.close()
    old.replace(path)
