"""Collection: what nothing needs goes after its grace, and nothing else ever."""

import errno
import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crdtmerge.digest import BlobId, blob_id_of, chunk_digests
from crdtmerge.errors import BadInputError, MachineError, NotFoundError
from nodes.cli.render_store import collected
from nodes.home import open_home
from nodes.readers import READERS_FILE
from nodes.store.disk import SYSTEM_DISK
from nodes.store.holdings import Holding
from nodes.upkeep import collecting
from nodes.upkeep.collecting import GRACE_S, sweep
from tests.homes import Fleet, write_model
from tests.unit.test_store_blobs import files

DAY = 24 * 3600


@dataclass
class Setting:
    """One home with a space, and two fine-tunes of its base."""

    fleet: Fleet
    home: Path
    base: Path
    tunes: list[Path]

    def call(self, verb: str, **arguments: object) -> dict[str, Any]:
        """Run one verb."""
        return self.fleet.call(self.home, verb, **arguments)

    def gc(self, **arguments: object) -> dict[str, Any]:
        """Collect."""
        return self.call("store_gc", **arguments)

    def ids(self) -> set[BlobId]:
        """Return which blobs are there."""
        with open_home(self.home, write=False) as home:
            return set(home.blobs.ids())

    def wait(self, days: float) -> None:
        """Let time pass."""
        self.fleet.clock += days * DAY


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    fleet = Fleet.at(tmp_path)
    home = fleet.init("home")
    base = write_model(tmp_path / "base", 0)
    tunes = [write_model(tmp_path / f"tune{i}", i, near=base) for i in (1, 2)]
    setting = Setting(fleet, home, base, tunes)
    setting.call(
        "space_create", name="digits", base=base, mode="members", strategy="linear"
    )
    return setting


def test_what_was_removed_goes_after_its_grace(setting: Setting) -> None:
    """Its wait begins when collection first sees it; the other one stays whole."""
    first = setting.call("contribute", path=setting.tunes[0])
    kept = setting.ids()
    second = setting.call("contribute", path=setting.tunes[1])
    assert setting.gc(grace=0)["count"] == 0
    setting.call("remove", id=second["content"])
    setting.wait(30)
    found = setting.gc()
    assert found["count"] == 0
    assert {item["why"] for item in found["stays"]} == {"grace"}
    until = {item["until"] for item in found["stays"]}
    assert until == {int(setting.fleet.clock) + GRACE_S}
    setting.wait(6.9)
    assert setting.gc()["count"] == 0
    setting.wait(0.2)
    dry = setting.gc(dry_run=True)
    assert (dry["count"], dry["dry_run"]) == (4, True)
    assert len(setting.ids()) == len(kept) + 4
    found = setting.gc()
    assert found["went"] == dry["went"]
    assert found["bytes"] >= second["new_bytes"]
    assert setting.ids() == kept
    assert first["content"]


def test_a_lift_in_time_keeps_everything(setting: Setting) -> None:
    """And its grace begins anew the next time."""
    content = setting.call("contribute", path=setting.tunes[0])["content"]
    before = setting.ids()
    setting.call("ban", id=content)
    setting.gc()
    setting.wait(6)
    setting.call("ban_lift", id=content)
    setting.wait(6)
    assert setting.gc()["stays"] == []
    setting.call("ban", id=content)
    assert setting.gc()["count"] == 0
    assert setting.ids() == before
    setting.wait(8)
    assert setting.gc()["count"] == 4


def test_a_pin_keeps_what_is_not_visible(setting: Setting) -> None:
    """Until it is taken back; who pins twice has one pin."""
    content = setting.call("contribute", path=setting.tunes[0])["content"]
    before = setting.ids()
    setting.call("remove", id=content)
    for note in ("for later", "for good"):
        setting.call("store_pin", id=content[:8], note=note)
    assert setting.gc(grace=0)["count"] == 0
    [pin] = setting.call("store_show")["pins"]
    assert (pin["content"], pin["note"], pin["blobs"]) == (content, "for good", 4)
    assert setting.ids() == before
    setting.call("store_unpin", id=content[:8])
    with pytest.raises(NotFoundError, match="not pinned"):
        setting.call("store_unpin", id=content[:8])
    assert setting.gc(grace=0)["count"] == 4


def test_a_pin_of_what_went_says_that_its_size_is_not_known(setting: Setting) -> None:
    """For its manifest went too; a number of missing blobs would be wrong."""
    content = setting.call("contribute", path=setting.tunes[0])["content"]
    setting.call("remove", id=content)
    assert setting.gc(grace=0)["count"] == 4
    pinned = setting.call("store_pin", id=content[:8])
    assert pinned["unknown"]
    assert pinned["notes"] == [
        "its manifest is not here: how much of it is missing is not known"
    ]


def test_what_stays_for_the_same_reason_is_one_line(setting: Setting) -> None:
    """A model has hundreds of blobs, and who reads has a few lines."""
    content = setting.call("contribute", path=setting.tunes[0])["content"]
    setting.call("remove", id=content)
    found = setting.gc()
    none, stays, needed = collected(found)
    assert none == "0 blobs went (0 bytes)"
    assert stays.startswith("  4 blobs (")
    assert stays.endswith(" UTC, the grace period")
    assert needed.startswith(f"needed: {found['needed']['count']} blobs")


def test_a_lease_keeps_what_nothing_else_needs(setting: Setting) -> None:
    """By name, and all of it while somebody's blobs have no names yet."""
    with setting.fleet.open(setting.home) as (home, _, verbs):
        blob = home.blobs.put(b"nobody needs this")
        with home.blobs.leases.hold([blob]):
            found: Any = verbs.call("store_gc", {"grace": 0}, lambda _: None)
            assert found["count"] == 0
        with home.blobs.leases.hold_all("a test"):
            found = verbs.call("store_gc", {"grace": 0}, lambda _: None)
            assert found["in_the_way"] == "a test is under way"
            assert home.blobs.has(blob)
        found = verbs.call("store_gc", {"grace": 0}, lambda _: None)
        assert (found["count"], home.blobs.has(blob)) == (1, False)


def test_nothing_goes_under_a_reader_who_is_named(setting: Setting) -> None:
    """A resolve in another process reads the home: all stays as it is."""
    with setting.fleet.open(setting.home) as (home, _, verbs):
        blob = home.blobs.put(b"nobody needs this")
        with open_home(setting.home, write=False):
            found: Any = verbs.call("store_gc", {"grace": 0}, lambda _: None)
            assert found["count"] == 0
            assert str(os.getpid()) in found["in_the_way"]
            assert home.blobs.has(blob)
        assert verbs.call("store_gc", {"grace": 0}, lambda _: None)["count"] == 1


def test_a_reader_waits_for_a_sweep(setting: Setting) -> None:
    """Whoever opens a home while blobs go sees it before or after, not between."""
    with (setting.home / READERS_FILE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        descriptor = os.open(setting.home / READERS_FILE, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.close(descriptor)


def test_referenced_rows_go_and_the_user_s_file_stays(setting: Setting) -> None:
    """Only the row is ours."""
    before = (setting.tunes[0] / "model.safetensors").read_bytes()
    content = setting.call("contribute", path=setting.tunes[0], reference=True)
    setting.call("remove", id=content["content"])
    found = setting.gc(grace=0)
    assert found["count"] == 4
    assert sum(item["form"] == "referenced" for item in found["went"]) == 3
    assert (setting.tunes[0] / "model.safetensors").read_bytes() == before


def test_downloads_that_nothing_needs_any_more_go(setting: Setting) -> None:
    """Rows and files; one that is open stays."""
    data = bytes(5 << 20)
    blob = blob_id_of(data)
    with setting.fleet.open(setting.home) as (home, _, verbs):
        home.blobs.begin(blob, len(data), chunk_digests(data))
        home.blobs.write_chunk(blob, 0, data[: 1 << 20])
        assert verbs.call("store_gc", {"grace": 0}, lambda _: None)["count"] == 0
        home.blobs.pause(blob)
        found: Any = verbs.call("store_gc", {"grace": 0}, lambda _: None)
        assert [item["form"] for item in found["went"]] == ["partial"]
        assert home.blobs.resumable(blob) is None
        assert not list((setting.home / "partial").iterdir())


def test_files_without_a_row_go_at_once(setting: Setting) -> None:
    """What a crash left between the row and the file; a blob that is there stays."""
    with setting.fleet.open(setting.home) as (home, _, verbs):
        kept, left = home.blobs.put(b"kept"), home.blobs.put(b"left")
        home.blobs.rows.delete([left])
        with home.blobs.leases.hold([kept]):
            found: Any = verbs.call("store_gc", {}, lambda _: None)
        assert [(i["blob"], i["form"]) for i in found["went"]] == [
            (left.hex(), "leftover")
        ]
        assert home.blobs.read(kept, 4) == b"kept"
        assert not home.blobs.path_of(left).exists()


def test_what_a_needed_blob_is_encoded_against_stays(setting: Setting) -> None:
    """A stored delta pins its base, through others too, and one that waits does."""
    with setting.fleet.open(setting.home) as (home, _, verbs):
        root, middle, leaf = (home.blobs.put(part) for part in (b"r", b"m", b"l"))
        with home.database.writing() as sql:
            query = "UPDATE blobs SET form = 1, against = ? WHERE blob = ?"
            sql.executemany(query, [(root, middle), (middle, leaf)])
        for blob in (middle, leaf):
            path = home.blobs.path_of(blob)
            path.rename(path.with_name(f"{path.name}.packed"))
        with home.blobs.leases.hold([leaf]):
            assert verbs.call("store_gc", {"grace": 0}, lambda _: None)["count"] == 0
        home.marks.mark({root: 0, middle: 0, leaf: int(setting.fleet.clock)}, [])
        found: Any = verbs.call("store_gc", {}, lambda _: None)
        assert found["count"] == 0
        assert len({item["until"] for item in found["stays"]}) == 1
        setting.wait(8)
        assert verbs.call("store_gc", {}, lambda _: None)["count"] == 3


def test_a_manifest_that_is_not_here_may_need_anything(setting: Setting) -> None:
    """Until it comes, nothing goes before the default grace is over, and then it does."""
    other = setting.fleet.init("other")
    setting.fleet.admit(setting.home, other, setting.base, "contributor")
    setting.fleet.call(other, "contribute", path=setting.tunes[1])
    mine = setting.call("contribute", path=setting.tunes[0])["content"]
    setting.fleet.share(setting.home, other)
    setting.call("remove", id=mine)
    found = setting.gc(grace=0)
    assert (found["count"], {i["why"] for i in found["stays"]}) == (0, {"unknown"})
    assert any("manifest" in note for note in found["notes"])
    setting.wait(7.1)
    assert setting.gc(grace=0)["count"] == 4


def test_a_refusing_disk_leaves_what_counts_as_there_whole(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row goes first: a file that could not be removed is found the next time."""
    content = setting.call("contribute", path=setting.tunes[0])["content"]
    setting.call("remove", id=content)
    count = len(files(setting.home))

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with setting.fleet.open(setting.home) as (_, _, verbs):
        monkeypatch.setattr(type(SYSTEM_DISK), "remove", refuse)
        with pytest.raises(MachineError, match="input/output"):
            verbs.call("store_gc", {"grace": 0}, lambda _: None)
    monkeypatch.undo()
    assert len(files(setting.home)) == count
    found = setting.gc()
    assert {item["form"] for item in found["went"]} == {"leftover"}
    assert len(files(setting.home)) == count - 4


def test_grace_is_a_number_of_seconds(setting: Setting) -> None:
    """Anything else is refused."""
    for wrong in (-1, "7d", 1.5, True):
        with pytest.raises(BadInputError):
            setting.gc(grace=wrong)


def test_a_lift_between_two_batches_saves_the_rest(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came to be needed since collection looked stays: each batch looks again."""
    content = setting.call("contribute", path=setting.tunes[0])["content"]
    setting.call("ban", id=content)
    monkeypatch.setattr(collecting, "BATCH", 1)
    with setting.fleet.open(setting.home) as (home, spaces, verbs):
        before = len(home.blobs.ids())
        went: list[Holding] = []

        def lift(holding: Holding) -> None:
            if not went:
                verbs.call("ban_lift", {"id": content}, lambda _: None)
            went.append(holding)

        swept = sweep(home, spaces, int(setting.fleet.clock), 0, taken=lift)
        assert (len(went), swept.in_the_way) == (1, "")
        assert len(home.blobs.ids()) == before - 1
        [space] = spaces.all()
        assert list(spaces.missing(space)) == [went[0].blob]


def test_a_manifest_that_comes_between_two_batches_saves_its_tensors(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Collection had not known what it needs, and looks again."""
    other = setting.fleet.init("other")
    setting.fleet.admit(setting.home, other, setting.base, "contributor")
    setting.fleet.call(other, "contribute", path=setting.tunes[1])
    with open_home(other, write=False) as theirs:
        blobs = {b: theirs.blobs.chunk_list(b)[0] for b in theirs.blobs.ids()}
        data = {b: bytes(theirs.blobs.read(b, size)) for b, size in blobs.items()}
    setting.fleet.share(setting.home, other)
    monkeypatch.setattr(collecting, "BATCH", 1)
    with setting.fleet.open(setting.home) as (home, spaces, _):
        [space] = spaces.all()
        [(manifest, _)] = spaces.view(space).visible[0].manifests
        tensors = [home.blobs.put(d) for b, d in data.items() if b != manifest]
        home.marks.mark(dict.fromkeys(tensors, 0), [])
        idle = {home.blobs.put(b"idle %d" % n) for n in range(3)}
        home.marks.mark(dict.fromkeys(idle, 0), [])

        def come(_: Holding) -> None:
            home.blobs.put(data[manifest])

        swept = sweep(home, spaces, int(setting.fleet.clock), 0, taken=come)
        assert swept.survey.needs.unknown == set()
        lost = spaces.missing(space)
        assert len(lost) <= 1, "one may have gone before the manifest came"
        assert not any(home.blobs.has(blob) for blob in idle)


def test_downloads_leases_and_collections_at_once_come_to_their_end(
    setting: Setting,
) -> None:
    """No two of them wait for each other, and what came whole and is held is there."""
    with setting.fleet.open(setting.home) as (home, spaces, _):
        blobs, done = home.blobs, threading.Event()

        def collects() -> None:
            while not done.is_set():
                sweep(home, spaces, int(setting.fleet.clock), 0)

        def downloads(number: int) -> int:
            whole = 0
            for turn in range(12):
                data = b"%d of %d" % (turn, number) * 1000
                blob, chunks = blob_id_of(data), chunk_digests(data)
                with blobs.leases.hold([blob]):
                    blobs.begin(blob, len(data), chunks)
                    if turn % 3 == 0:
                        blobs.pause(blob)
                        blobs.begin(blob, len(data), chunks)
                    if turn % 4 == 1:
                        blobs.abandon(blob)
                        continue
                    blobs.write_chunk(blob, 0, data)
                    blobs.finish(blob)
                    whole += bytes(blobs.read(blob, len(data))) == data
            return whole

        def puts(number: int) -> int:
            found = 0
            for turn in range(12):
                data = b"put %d of %d" % (turn, number)
                with blobs.leases.hold([blob_id_of(data)]):
                    found += bytes(blobs.read(blobs.put(data), len(data))) == data
            return found

        thread = threading.Thread(target=collects)
        thread.start()
        with ThreadPoolExecutor(4) as threads:
            came = [threads.submit(downloads, n) for n in range(2)]
            came += [threads.submit(puts, n) for n in range(2)]
            counts = [item.result(timeout=60) for item in came]
        done.set()
        thread.join(timeout=60)
        assert not thread.is_alive()
        assert counts == [9, 9, 12, 12]
        sweep(home, spaces, int(setting.fleet.clock), 0)
        needed = sweep(home, spaces, int(setting.fleet.clock), 0).survey.kept
        assert len(blobs.ids()) == needed
