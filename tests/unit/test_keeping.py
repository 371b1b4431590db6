"""What a running node does for its store by itself, with time that the test gives."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crdtmerge.digest import CHUNK_BYTES, BlobId
from crdtmerge.errors import NoRoomError
from nodes.home import Home
from nodes.spaces import Spaces
from nodes.store.marks import Marks
from nodes.store.sqlite import SqliteLocal
from nodes.upkeep import keeping, scrubbing
from nodes.upkeep.collecting import GRACE_S
from nodes.upkeep.keeping import EVERY_S, FIRST_S, Keeper, Upkeep
from nodes.upkeep.scrubbing import COST_MIN, PASS_S, Scrubber
from tests.homes import wanted
from tests.unit import test_examining
from tests.unit.test_collecting import Setting
from tests.unit.test_examining import BIG, flip, path_of

setting = test_examining.setting
RATE = float(CHUNK_BYTES)
WALL = 2e9


@contextmanager
def opened(setting: Setting) -> Iterator[tuple[Home, Spaces]]:
    with setting.fleet.open(setting.home) as (home, spaces, _):
        yield home, spaces


def scrub(scrubber: Scrubber, seconds: int, start: float = 0.0) -> float:
    """Give a scrubber so many seconds, one by one; return when it ended."""
    for second in range(seconds + 1):
        scrubber.turn(start + second, WALL + start + second)
    return start + seconds


def test_the_rate_is_kept_and_a_pass_comes_to_its_end(setting: Setting) -> None:
    """No more is read than time allows; all is read in the end, and then it rests."""
    with opened(setting) as (home, spaces):
        scrubber = Scrubber(home, spaces, RATE)
        scrub(scrubber, 3)
        assert 2 * CHUNK_BYTES <= scrubber.bytes <= 4 * CHUNK_BYTES
        scrub(scrubber, 60, 4.0)
        total = sum(h.size for h in home.blobs.holdings())
        assert (scrubber.passes, scrubber.bytes) == (1, total)
        assert scrubber.blobs == len(home.blobs.ids())
        scrub(scrubber, 60, 100.0)
        assert (scrubber.passes, scrubber.bytes) == (1, total)
        scrub(scrubber, 60, PASS_S + 100.0)
        assert (scrubber.passes, scrubber.bytes) == (2, 2 * total)
        assert scrubber.damaged == {}


def test_a_long_pause_is_not_caught_up(setting: Setting) -> None:
    """A laptop that slept does not read for hours at once."""
    with opened(setting) as (home, spaces):
        scrubber = Scrubber(home, spaces, RATE)
        scrubber.turn(0.0, WALL)
        scrubber.turn(1e6, WALL + 1e6)
        assert scrubber.bytes <= (scrubbing.BURST_S + 1) * CHUNK_BYTES


def test_the_coldest_comes_first(setting: Setting) -> None:
    """What a resolve used last is read last."""
    with opened(setting) as (home, spaces):
        ids = home.blobs.ids()
        with home.database.writing() as sql:
            rows = [(len(ids) - n, blob) for n, blob in enumerate(ids)]
            sql.executemany("UPDATE blobs SET used = ? WHERE blob = ?", rows)
        scrubber, seen = Scrubber(home, spaces, 1.0), list[bytes]()
        for second in range(100_000):
            scrubber.turn(float(second), WALL + second)
            place = scrubber._place
            if place.behind and place.blob not in seen:
                seen.append(place.blob)
            scrubber._left = max(scrubber._left, 1.0)
            if scrubber.passes:
                break
        assert seen == [bytes(b) for b in reversed(ids)]


def test_it_goes_on_where_it_was(setting: Setting) -> None:
    """After a stop in the middle of a blob, no chunk of that pass is read twice."""
    with opened(setting) as (home, spaces):
        total = sum(h.size for h in home.blobs.holdings())
        first = Scrubber(home, spaces, RATE)
        scrub(first, 4)
        first.save()
        assert 0 < first.bytes < total
        second = Scrubber(home, spaces, RATE)
        scrub(second, 60, 10.0)
        assert (second.passes, first.bytes + second.bytes) == (1, total)
        third = Scrubber(home, spaces, RATE)
        scrub(third, 60, 100.0)
        assert third.bytes == 0


def test_a_place_that_is_damaged_begins_anew(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    """And is said in the log."""
    with opened(setting) as (home, spaces):
        for value in (b"\xc1", b"\x01"):
            home.local.set_value("scrub", value)
            scrubber = Scrubber(home, spaces, RATE)
            scrub(scrubber, 60)
            assert scrubber.passes == 1
    assert "where the last check ended" in caplog.text


def test_small_blobs_cost_something(setting: Setting) -> None:
    """Thousands of them are not read in one turn."""
    with opened(setting) as (home, spaces):
        for number in range(40):
            home.blobs.put(b"small %d" % number)
        scrubber = Scrubber(home, spaces, COST_MIN)
        scrub(scrubber, 10)
        assert scrubber.blobs <= 14


def test_damage_is_set_aside_said_and_counted(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    """And wanted again at once, though it was known to be whole; the rest is read."""
    blob, path = path_of(setting)
    flip(path, CHUNK_BYTES + 3)
    with opened(setting) as (home, spaces):
        [space] = spaces.all()
        assert wanted(spaces, space) == {}
        scrubber = Scrubber(home, spaces, RATE)
        with caplog.at_level(logging.WARNING):
            scrub(scrubber, 60)
        assert scrubber.damaged == {"wanted": 1}
        assert blob.hex() in caplog.text
        assert wanted(spaces, space) == {blob: BIG}
        assert scrubber.passes == 1
        begun = home.blobs.resumable(blob)
        assert begun is not None
        home.blobs.begin(blob, *begun)
        assert home.blobs.missing_chunks(blob) == [1]


def test_what_is_set_aside_while_the_node_looks_is_wanted(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node had just seen the blob, and must not take it for granted ever after."""
    blob, _ = path_of(setting)
    with opened(setting) as (home, spaces):
        [space] = spaces.all()
        has, seen = home.blobs.has, list[BlobId]()

        def vanish(asked: BlobId) -> bool:
            found = has(asked)
            if asked == blob and not seen:
                seen.append(asked)
                home.blobs.removal.set_aside(blob)
                spaces.look_again()
            return found

        with monkeypatch.context() as patch:
            patch.setattr(home.blobs, "has", vanish)
            wanted(spaces, space)
        assert seen == [blob]
        assert wanted(spaces, space) == {blob: BIG}


def test_damage_to_an_edited_base_stops_nothing(setting: Setting) -> None:
    """It is counted in each pass, and the row stays."""
    model = setting.base / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"\x99")
    with opened(setting) as (home, spaces):
        before = home.blobs.ids()
        scrubber = Scrubber(home, spaces, RATE)
        scrub(scrubber, 60)
        assert scrubber.damaged == {"beyond": 1}
        assert home.blobs.ids() == before


def removed(setting: Setting) -> list[BlobId]:
    """Remove the contribution; return what nothing needs then."""
    with opened(setting) as (home, spaces):
        [space] = spaces.all()
        [visible] = spaces.view(space).visible
        manifests = [blob for blob, _ in visible.manifests]
        blobs = set(spaces.manifest(visible).blobs())
        base = home.local.base(space)
        assert base is not None
    setting.call("remove", id=visible.content.hex())
    return [*manifests, *sorted(blobs)]


def test_a_running_node_collects_now_and_then(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at once, not all at once, not before the grace is over; it counts what went."""
    idle = removed(setting)
    monkeypatch.setattr(keeping, "MOST", 3)
    with opened(setting) as (home, spaces):
        keeper = Keeper(home, spaces, Upkeep(0.0))
        keeper.turn(0.0, WALL)
        assert home.marks.unneeded() == {}
        keeper.turn(FIRST_S, WALL + FIRST_S)
        assert set(home.marks.unneeded()) == set(idle)
        later = WALL + FIRST_S + GRACE_S
        keeper.turn(FIRST_S + 1, later)
        assert home.blobs.missing(idle) == []
        keeper.turn(FIRST_S + EVERY_S, later)
        assert len(home.blobs.missing(idle)) == 3
        keeper.turn(FIRST_S + EVERY_S + 1, later)
        assert home.blobs.missing(idle) == idle
        facts = keeper.facts()
        assert facts["collected_blobs"] == len(idle)
        assert facts["scrubbed_bytes"] == 0


def test_what_is_switched_off_is_not_done(setting: Setting) -> None:
    """Neither is anything read, nor does anything go."""
    idle = removed(setting)
    with opened(setting) as (home, spaces):
        home.marks.mark(dict.fromkeys(idle, 0), [])
        keeper = Keeper(home, spaces, Upkeep(0.0, collects=False))
        for second in range(0, 4000, 10):
            keeper.turn(float(second), WALL)
        keeper.end()
        assert home.blobs.missing(idle) == []
        assert home.local.get_value("scrub") is None


def test_a_node_that_stops_ends_a_turn(setting: Setting) -> None:
    """In the middle of a large blob, and goes on there at the next start."""
    with opened(setting) as (home, spaces):
        keeper = Keeper(home, spaces, Upkeep(1e12))
        keeper.turn(0.0, WALL)
        keeper.stop()
        keeper.turn(1.0, WALL)
        keeper.end()
        assert keeper.scrubber.blobs == 0
        again = Keeper(home, spaces, Upkeep(1e12))
        again.turn(0.0, WALL)
        again.turn(1.0, WALL)
        assert again.scrubber.blobs == len(home.blobs.ids())


def test_the_folder_is_as_it_was(setting: Setting, tmp_path: Path) -> None:
    """Reading changes nothing."""
    before = sorted(p.name for p in (setting.home / "blobs").rglob("*"))
    with opened(setting) as (home, spaces):
        scrub(Scrubber(home, spaces, 1e9), 10)
    assert sorted(p.name for p in (setting.home / "blobs").rglob("*")) == before


def test_a_full_disk_stops_no_node(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither part keeps the other from its turn; once there is room both go on."""
    idle = removed(setting)

    def full(*_: object) -> None:
        raise NoRoomError("the disk is full")

    with opened(setting) as (home, spaces):
        keeper = Keeper(home, spaces, Upkeep(RATE))
        keeper.turn(0.0, WALL)
        with monkeypatch.context() as patch:
            patch.setattr(Marks, "mark", full)
            patch.setattr(SqliteLocal, "set_value", full)
            for second in range(30):
                keeper.turn(FIRST_S + second, WALL + second)
        assert len([r for r in caplog.records if "waits for room" in r.message]) == 2
        assert home.blobs.missing(idle) == []
        keeper.turn(2 * FIRST_S, WALL + FIRST_S)
        assert set(home.marks.unneeded()) == set(idle)
        assert keeper.scrubber.passes >= 1
