"""The record store keeps what it acknowledged, in order, and says what went wrong."""

import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from crdtmerge.bodies import SpaceId, Unknown
from crdtmerge.digest import ContentId
from crdtmerge.errors import (
    ConflictError,
    MachineError,
    NotFoundError,
    UpgradeNeededError,
    WrongSpaceError,
)
from crdtmerge.identity import SigningKey
from crdtmerge.record import SignedRecord, make_record, sign_record
from crdtmerge.replica import found_space
from crdtmerge.sync.messages import SignedBytes
from nodes.store import database as database_module
from nodes.store.base import RECORD_OVERHEAD_BYTES, LocalStore, RecordStore
from nodes.store.database import Database
from nodes.store.schema import STORE
from nodes.store.sqlite import SqliteLocal, SqliteRecords

GENERATION = bytes(range(16))
KEY = SigningKey(bytes(32))


def history(length: int, name: str = "s") -> list[SignedRecord]:
    """Return a genesis and `length - 1` records that hang on it."""
    base = ContentId(bytes(32))
    genesis = found_space(KEY, name=name, mode="open", base=base, nonce=bytes(16))
    space = genesis.record.id
    records = [genesis]
    for number in range(1, length):
        record = make_record(
            space=space,
            author=KEY.public,
            author_seq=number,
            prev=records[-1].record.id,
            auth=space,
            body=Unknown("remark", "x" * (number % 7)),
        )
        records.append(sign_record(record, KEY))
    return records


def space_of(records: list[SignedRecord]) -> SpaceId:
    """Return the space that these records belong to."""
    return records[0].record.space_id


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


@pytest.fixture
def records(database: Database) -> SqliteRecords:
    """Return its records."""
    return SqliteRecords(database)


def test_the_sqlite_stores_are_the_ports(database: Database) -> None:
    """The type checker holds both classes against what the node is written for."""
    records: RecordStore = SqliteRecords(database)
    local: LocalStore = SqliteLocal(database)
    assert records.spaces() == []
    assert local.get_value("x") is None


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)],
)
def test_commits_are_durable_and_readers_do_not_wait(
    database: Database, pragma: str, value: object
) -> None:
    """Power loss cannot be tested here, so the settings that answer for it are."""
    with database.reading() as sql:
        assert sql.execute(f"PRAGMA {pragma}").fetchone() == (value,)


def test_what_was_appended_is_there_after_reopening(
    path: Path, database: Database, records: SqliteRecords
) -> None:
    """Records, their order, their numbers and the generation outlive the process."""
    batch = history(5)
    space = space_of(batch)
    records.append(space, batch)
    database.close()
    again = Database(path, write=True)
    reopened = SqliteRecords(again)
    assert reopened.load(space) == batch
    assert reopened.last(space) == 5
    assert reopened.spaces() == [space]
    assert reopened.generation == GENERATION
    again.close()


def test_duplicates_leave_no_gap_in_the_numbers(records: SqliteRecords) -> None:
    """A record that is there, or twice in a batch, keeps its first number."""
    batch = history(6)
    space = space_of(batch)
    records.append(space, batch[:3])
    records.append(space, [batch[1], batch[3], batch[3], batch[0], batch[4], batch[5]])
    assert records.load(space) == batch
    assert records.last(space) == 6
    assert records.after(space, 3, 1 << 20)[1] == 6
    records.append(space, batch)
    records.append(space, [])
    assert records.last(space) == 6


def test_numbers_of_two_spaces_are_apart(records: SqliteRecords) -> None:
    """Each space counts from 1 and gives back only its own."""
    one, two = history(3, "one"), history(2, "two")
    records.append(space_of(one), one)
    records.append(space_of(two), two)
    assert records.last(space_of(one)) == 3
    assert records.last(space_of(two)) == 2
    assert records.load(space_of(two)) == two
    assert records.spaces() == sorted([space_of(one), space_of(two)])


def test_a_record_of_another_space_is_refused_and_nothing_kept(
    records: SqliteRecords,
) -> None:
    """A batch is kept as a whole or not at all."""
    one, two = history(3, "one"), history(2, "two")
    with pytest.raises(WrongSpaceError):
        records.append(space_of(one), [*one, two[1]])
    assert records.spaces() == []


def test_feed_pages_hold_every_record_once_within_the_limit(
    records: SqliteRecords,
) -> None:
    """Following `after` page by page gives all records in order, none above the limit."""
    batch = history(40)
    space = space_of(batch)
    records.append(space, batch)
    limit = 1500
    got: list[SignedBytes] = []
    through, more = 0, True
    while more:
        page, through, more = records.after(space, through, limit)
        sizes = [len(r.data) + len(r.signature) + RECORD_OVERHEAD_BYTES for r in page]
        assert 0 < sum(sizes) <= limit
        got += page
        assert through == len(got)
    assert got == [SignedBytes(s.record.data, s.signature) for s in batch]


def test_a_record_above_the_limit_still_travels_alone(records: SqliteRecords) -> None:
    """A limit smaller than a record cannot stop the feed."""
    batch = history(3)
    space = space_of(batch)
    records.append(space, batch)
    page, through, more = records.after(space, 1, 1)
    assert [r.data for r in page] == [batch[1].record.data]
    assert (through, more) == (2, True)


@pytest.mark.parametrize("asked", [3, 4, 2**63, 2**64 - 1])
def test_asking_at_or_beyond_the_end_gives_the_end(
    records: SqliteRecords, asked: int
) -> None:
    """A peer that claims to have seen more than there is learns where we stand."""
    batch = history(3)
    records.append(space_of(batch), batch)
    assert records.after(space_of(batch), asked, 1 << 20) == ([], 3, False)


def test_an_unknown_space_is_empty(records: SqliteRecords) -> None:
    """Asking for a space that is not here is no error."""
    space = SpaceId(bytes(32))
    assert records.load(space) == []
    assert records.last(space) == 0
    assert records.after(space, 0, 1000) == ([], 0, False)


def test_a_reader_sees_what_the_writer_commits_meanwhile(
    path: Path, records: SqliteRecords
) -> None:
    """Commands read while a node writes, and cannot write themselves."""
    batch = history(4)
    space = space_of(batch)
    records.append(space, batch[:2])
    reader = Database(path, write=False)
    seen = SqliteRecords(reader)
    assert seen.load(space) == batch[:2]
    records.append(space, batch[2:])
    assert seen.load(space) == batch
    with pytest.raises(MachineError, match="readonly"):
        seen.append(space, batch)
    reader.close()


def test_threads_append_without_losing_or_doubling_a_number(
    records: SqliteRecords,
) -> None:
    """One connection serves several threads; numbers stay gapless."""
    batch = history(60)
    space = space_of(batch)

    def work(start: int) -> None:
        for signed in batch[start:] + batch[:start]:
            records.append(space, [signed])

    threads = [threading.Thread(target=work, args=(n * 15,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = records.load(space)
    assert {s.record.id for s in kept} == {s.record.id for s in batch}
    assert records.last(space) == len(kept) == 60
    assert records.after(space, 59, 1 << 20)[1:] == (60, False)


def test_a_failed_transaction_leaves_nothing(
    database: Database, records: SqliteRecords
) -> None:
    """Whatever ends a transaction early undoes all of it, and the next one works."""
    row = "INSERT INTO spaces (space, last) VALUES (?, 9)"
    with pytest.raises(apsw.ConstraintError), database.writing() as sql:
        sql.executemany(row, [[bytes(32)], [bytes(32)]])
    assert records.spaces() == []
    batch = history(2)
    records.append(space_of(batch), batch)
    assert records.last(space_of(batch)) == 2


def test_a_full_store_is_named_and_as_it_was(
    database: Database, records: SqliteRecords
) -> None:
    """SQLite's own page limit fills the store for real; it works again with room."""
    batch = history(3000)
    space = space_of(batch)
    records.append(space, batch[:10])
    with database.reading() as sql:
        sql.execute("PRAGMA max_page_count = 40")
    with pytest.raises(MachineError, match="database or disk is full") as caught:
        records.append(space, batch)
    assert "nothing was changed" in caught.value.hint
    assert records.load(space) == batch[:10]
    with database.reading() as sql:
        sql.execute("PRAGMA max_page_count = 100000")
    records.append(space, batch)
    assert records.last(space) == 3000


def test_a_changed_byte_of_a_record_is_found(
    database: Database, records: SqliteRecords
) -> None:
    """Damage below SQLite is our machine's fault and named, not handed on."""
    batch = history(3)
    space = space_of(batch)
    records.append(space, batch)
    data = batch[2].record.data
    with database.writing() as sql:
        flipped = data[:-1] + bytes([data[-1] ^ 1])
        sql.execute("UPDATE records SET data = ? WHERE sequence = 3", [flipped])
    with pytest.raises(MachineError, match="damaged"):
        records.load(space)


@pytest.mark.parametrize("content", [b"", b"no database " * 1000])
def test_a_file_that_is_no_store_is_refused(tmp_path: Path, content: bytes) -> None:
    """The message says what to do, and the file is not touched."""
    path = tmp_path / "store.sqlite"
    path.write_bytes(content)
    with pytest.raises(MachineError) as caught:
        Database(path, write=True)
    assert "backup" in caught.value.hint
    assert path.read_bytes() == content


def test_a_damaged_page_is_named_and_stops_the_store(
    path: Path, database: Database, records: SqliteRecords
) -> None:
    """After damage was met, nothing more is tried on the file."""
    batch = history(400)
    space = space_of(batch)
    records.append(space, batch)
    database.close()
    whole = path.read_bytes()
    half = len(whole) // 2
    path.write_bytes(whole[:half] + b"\xff" * (len(whole) - half))
    damaged = Database(path, write=True)
    broken = SqliteRecords(damaged)
    with pytest.raises(MachineError, match="malformed"):
        broken.load(space)
    with pytest.raises(MachineError, match="nothing more is tried"):
        broken.last(space)
    damaged.close()


def test_a_newer_schema_asks_for_an_upgrade(path: Path, database: Database) -> None:
    """A store of a later version is left alone."""
    database.close()
    sql = apsw.Connection(str(path))
    sql.execute(f"PRAGMA user_version = {STORE.version + 1}")
    sql.close()
    with pytest.raises(
        UpgradeNeededError, match=f"schema {STORE.version + 1}"
    ) as caught:
        Database(path, write=True)
    assert "upgrade" in caught.value.hint


def test_a_missing_or_taken_name_is_an_error(path: Path, database: Database) -> None:
    """Opening never creates a store, creating never opens one."""
    with pytest.raises(NotFoundError):
        Database(path.with_name("other"), write=True)
    with pytest.raises(MachineError, match="File exists"):
        Database.create(path, GENERATION)
    assert database.path == path


def test_a_store_that_another_process_keeps_busy_is_a_conflict(
    path: Path, records: SqliteRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for another writer ends with a message, not with a traceback."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_MS", 10)
    second = Database(path, write=True)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    batch = history(2)
    with pytest.raises(ConflictError, match="in use"):
        SqliteRecords(second).append(space_of(batch), batch)
    other.close()
    second.close()
    records.append(space_of(batch), batch)


def test_files_of_the_store_are_private(path: Path, records: SqliteRecords) -> None:
    """Nobody else reads the invites in the store, nor in its journal."""
    batch = history(2)
    records.append(space_of(batch), batch)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert set(modes) >= {"store.sqlite", "store.sqlite-wal"}
    assert set(modes.values()) == {0o600}
