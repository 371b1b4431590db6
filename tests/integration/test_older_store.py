"""A home of an older version, as its user meets it with today's program."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from crdtmerge.digest import CHUNK_BYTES, blob_id_of, chunk_digests
from crdtmerge.errors import RestoredError
from nodes import cli
from nodes.home import Home, open_home
from nodes.store.schema import SCHEMA_VERSION
from tests.archives import Shared
from tests.homes import records_of, write_model
from tests.older_homes import age, from_the_future, version

DATA = bytes(range(256)) * (5 * CHUNK_BYTES // 256) + b"end"
BLOB, CHUNKS = blob_id_of(DATA), chunk_digests(DATA)
HELD = (0, 1, 3)


def facts(home: Home) -> tuple[object, ...]:
    """Return what a home knows that is in no record."""
    (space,) = home.records.spaces()
    local = home.local
    return (
        home.records.generation,
        home.records.last(space),
        local.base(space),
        local.invites(space),
        local.peers(space),
        local.addresses(),
        local.get_value("listen"),
        home.blobs.ids(),
    )


def piece(index: int) -> bytes:
    return DATA[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    """A home with a copy, a reference, a download that was cut, and local facts."""
    made = Shared.at(tmp_path)
    tune = write_model(tmp_path / "tune3", 3, near=made.base)
    made.fleet.call(made.ann, "contribute", path=tune, reference=True)
    with open_home(made.ann, write=True) as home:
        (space,) = home.records.spaces()
        home.local.add_invite(space, b"\x05" * 16)
        home.local.add_peer(space, b"\x06" * 32, ["peer.example:1"])
        home.local.set_addresses(b"\x07" * 32, ["added.example:2"])
        home.local.set_value("listen", b"127.0.0.1:7420")
        home.blobs.begin(BLOB, len(DATA), CHUNKS)
        for index in HELD:
            home.blobs.write_chunk(BLOB, index, piece(index))
        home.blobs.pause(BLOB)
    return made


def run(home: Path, capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """Run one command; return what it printed, or its error."""
    capsys.readouterr()
    code = cli.run(["--home", str(home), *map(str, words), "--json"])
    found = capsys.readouterr()
    return json.loads(found.out) if code == 0 else json.loads(found.err)["error"]


def test_all_is_there_and_makes_the_same_bytes(
    shared: Shared, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first command brings the store up to date, even one that only reads."""
    before, records = shared.resolved(shared.ann), records_of(shared.ann)
    with open_home(shared.ann, write=False) as home:
        known = facts(home)
    age(shared.ann)
    assert version(shared.ann) == 1
    (space,) = run(shared.ann, capsys, "status")["spaces"]
    assert version(shared.ann) == SCHEMA_VERSION
    assert [c["complete"] for c in space["contributions"]] == [True, True, True]
    assert records_of(shared.ann) == records
    with open_home(shared.ann, write=False) as home:
        assert facts(home) == known
    assert shared.resolved(shared.ann) == before
    checked = run(shared.ann, capsys, "store", "fsck")
    assert (checked["sound"], checked["damaged"]) == (True, [])


def test_a_download_of_the_older_version_goes_on(shared: Shared) -> None:
    """What it had brought is found by hashing it, and is not asked for again."""
    age(shared.ann)
    with open_home(shared.ann, write=True) as home:
        home.blobs.begin(BLOB, len(DATA), CHUNKS)
        missing = home.blobs.missing_chunks(BLOB)
        assert missing == [i for i in range(len(CHUNKS)) if i not in HELD]
        for index in missing:
            home.blobs.write_chunk(BLOB, index, piece(index))
        home.blobs.finish(BLOB)
        assert bytes(home.blobs.read(BLOB, len(DATA))) == DATA


def test_it_signs_on_and_from_then_notices_copies(shared: Shared) -> None:
    """The older version had no anchor; that it has none is no reason to doubt it."""
    age(shared.ann)
    shared.contribute(4)
    shutil.copytree(shared.ann, copy := shared.folder / "copy")
    key = shared.fleet.entropy(32).hex()
    with pytest.raises(RestoredError):
        shared.fleet.call(copy, "space_grant", author=key, rank="reader")
    shared.fleet.call(shared.ann, "space_grant", author=key, rank="reader")
    with open_home(shared.ann, write=False) as home:
        (space,) = home.records.spaces()
        numbers = [signed.record.author_seq for signed in home.records.load(space)]
    assert sorted(numbers) == list(range(len(numbers)))


def test_a_later_version_is_refused_by_name(
    shared: Shared, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the older version refuses today's: nothing is touched, and it says upgrade."""
    from_the_future(shared.ann)
    before = (shared.ann / "store.sqlite").read_bytes()
    for words in (("status",), ("contribute", shared.folder / "tune1"), ("whoami",)):
        error = run(shared.ann, capsys, *words)
        assert (error["type"], error["exit_code"]) == ("UpgradeNeededError", 9)
        assert "upgrade crdtmerge" in error["hint"]
    assert (shared.ann / "store.sqlite").read_bytes() == before
