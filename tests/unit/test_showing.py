"""What growing sets show, where records go meanwhile, and what a record of them costs."""

from pathlib import Path

import pytest

from crdtmerge.bodies import Epoch, RecordId, SpaceId, runs_of
from crdtmerge.log import MemoryLog
from crdtmerge.orset import OpSet
from crdtmerge.policy.dead import link_of
from nodes.sets import Sets
from nodes.store.database import Database
from nodes.store.sqlite import SqliteRecords
from tests.properties.cast import CLEO, CONTENTS, OWNERS, Pen, unknown

X = CONTENTS[0]


def test_who_reads_an_older_set_passes_over_what_was_dropped_meanwhile(
    tmp_path: Path,
) -> None:
    """As a command does beside the node: it knew the contents, and their adds are gone."""
    pen = Pen.start()
    gone = [pen.add(CLEO, X) for _ in range(3)]
    pen.remove(CLEO, *gone)
    space, before = SpaceId(pen.genesis.record.id), list(pen.known.values())
    database = Database.create(tmp_path / "store.sqlite", bytes(16))
    sets = Sets(SqliteRecords(database))
    sets.commit(space, before)
    assert not sets.view(space).visible
    last = pen.add(CLEO, X)
    sets.commit(space, [pen.known[last]])
    older = sets.opset(space)
    runs = runs_of((key, link_of(pen.known[key].record)) for key in gone)
    sets.commit(space, [pen.write(OWNERS[0], Epoch(runs))])
    assert [shown.adds for shown in older.view.visible] == [(last,)]
    assert sets.view(space).visible == older.view.visible
    database.close()


def test_one_more_record_of_an_unknown_kind_reads_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or who says many of them has every node read all of them, again and again."""
    pen = Pen.start()
    for number in range(40):
        pen.write(CLEO, unknown(f"k{number % 3}"), critical=True)
    opset = OpSet(SpaceId(pen.genesis.record.id)).insert(pen.known.values())
    assert opset.view.unknown_critical == ("k0", "k1", "k2")
    one = pen.write(CLEO, unknown("another"), critical=True)
    read: list[RecordId] = []
    get = MemoryLog.__getitem__

    def counted(log: MemoryLog, key: RecordId) -> object:
        read.append(key)
        return get(log, key)

    monkeypatch.setattr(MemoryLog, "__getitem__", counted)
    grown = opset.insert([one])
    read.clear()
    kinds = ("another", "k0", "k1", "k2")
    assert grown.view.unknown_critical == kinds
    assert len(read) < 10
