"""A home that was restored or copied, by every way there is, signs nothing unasked."""

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.errors import RestoredError
from crdtmerge.sync.messages import SignedBytes
from nodes.anchor import ANCHOR_FILE, Doubt
from nodes.home import open_home
from nodes.spaces import Spaces
from nodes.store.disk import SYSTEM_DISK, SystemDisk, SystemFile
from tests.homes import Fleet, snapshot, write_model


class Setting:
    """A home with a space, and a backup of it from before the last records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet = Fleet.at(folder)
        self.home = self.fleet.init("home")
        self.members = 0
        base = write_model(folder / "base", 0)
        self.call("space_create", name="s", base=base, strategy="linear")
        self.sign()
        self.backup = folder / "backup"
        shutil.copytree(self.home, self.backup)

    def call(self, verb: str, home: Path | None = None, **arguments: object) -> Any:
        """Run one verb."""
        return self.fleet.call(home or self.home, verb, **arguments)

    def sign(self, home: Path | None = None) -> Any:
        """Sign a record that costs nothing: a grant to somebody new."""
        self.members += 1
        author = self.fleet.entropy(32).hex()
        return self.call("space_grant", home, author=author, rank="reader")

    def doubt(self, home: Path | None = None) -> object:
        """Return why the home may not sign."""
        (space,) = self.call("status", home)["spaces"]
        return space["doubt"]

    def refused(self, home: Path | None = None) -> RestoredError:
        """Check that nothing is signed, and nothing changes."""
        path = home or self.home
        with open_home(path, write=True):
            pass  # the first to open it notices, and begins another life of the store
        before = snapshot(path)
        with pytest.raises(RestoredError) as found:
            self.sign(path)
        assert snapshot(path) == before
        return found.value

    def numbers(self, home: Path | None = None) -> list[int]:
        """Return the numbers of the records."""
        with open_home(home or self.home, write=False) as opened:
            (space,) = opened.records.spaces()
            return sorted(s.record.author_seq for s in opened.records.load(space))


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def generation(path: Path) -> bytes:
    with open_home(path, write=False) as home:
        return home.records.generation


# --- what is noticed ---------------------------------------------------------------------


def restored_to_a_new_place(s: Setting) -> None:
    shutil.rmtree(s.home)
    shutil.copytree(s.backup, s.home)


def restored_in_place(s: Setting) -> None:
    """As `cp -a backup/. home/` does: every file keeps its inode."""
    shutil.copytree(s.backup, s.home, dirs_exist_ok=True)


def restored_by_rename(s: Setting) -> None:
    """As rsync does: files that differ are replaced."""
    for file in s.backup.iterdir():
        ours = s.home / file.name
        if file.is_file() and file.read_bytes() != ours.read_bytes():
            shutil.copy2(file, s.home / "new")
            (s.home / "new").rename(ours)


def store_alone(s: Setting) -> None:
    shutil.copy2(s.backup / "store.sqlite", s.home / "store.sqlite")


def store_alone_with_old_times(s: Setting) -> None:
    status = (s.home / "store.sqlite").stat()
    store_alone(s)
    os.utime(s.home / "store.sqlite", ns=(status.st_atime_ns, status.st_mtime_ns))


def anchor_alone(s: Setting) -> None:
    shutil.copy2(s.backup / ANCHOR_FILE, s.home / ANCHOR_FILE)


def anchor_lost(s: Setting) -> None:
    (s.home / ANCHOR_FILE).unlink()


def anchor_forged(s: Setting) -> None:
    (s.home / ANCHOR_FILE).write_text("many\n")


def moved_to_another_disk(s: Setting) -> None:
    """Which copies, then deletes."""
    shutil.copytree(s.home, s.folder / "moving")
    shutil.rmtree(s.home)
    (s.folder / "moving").rename(s.home)


@pytest.mark.parametrize(
    "way",
    [
        restored_to_a_new_place,
        restored_in_place,
        restored_by_rename,
        store_alone,
        store_alone_with_old_times,
        anchor_alone,
        anchor_lost,
        anchor_forged,
        moved_to_another_disk,
    ],
)
def test_a_restored_home_signs_nothing(
    setting: Setting, way: Callable[[Setting], None]
) -> None:
    """It says why and what to do, keeps saying it, and lives another life for peers."""
    setting.sign()
    way(setting)
    before = generation(setting.home)
    assert setting.doubt() == "restored"
    for _ in range(2):
        error = setting.refused()
        assert "restored" in str(error)
        assert "store adopt" in error.hint
    assert setting.doubt() == "restored"
    assert generation(setting.home) != before


def test_the_copy_and_not_the_original_is_doubted(setting: Setting) -> None:
    """And two copies live two lives."""
    copies = [setting.folder / "one", setting.folder / "two"]
    for copy in copies:
        shutil.copytree(setting.home, copy)
        setting.refused(copy)
    setting.sign()
    assert setting.doubt() is None
    assert len({generation(path) for path in (setting.home, *copies)}) == 3


def test_reading_notices_and_changes_nothing(setting: Setting) -> None:
    """Status tells it at once; a home that is only read stays as it was."""
    shutil.copytree(setting.home, copy := setting.folder / "copy")
    before = (copy / ANCHOR_FILE).read_bytes(), generation(copy)
    for _ in range(2):
        with open_home(copy, write=False) as home:
            (space,) = home.records.spaces()
            assert home.anchor.doubt(space) is Doubt.RESTORED
            assert home.local.get_value("doubts") is None
    assert ((copy / ANCHOR_FILE).read_bytes(), generation(copy)) == before


# --- what is not noticed, for nothing is wrong -------------------------------------------


def test_a_home_that_is_renamed_goes_on(setting: Setting) -> None:
    moved = setting.home.rename(setting.folder / "renamed")
    setting.sign(moved)
    assert setting.doubt(moved) is None


def test_a_home_from_before_anchors_goes_on(setting: Setting) -> None:
    """It takes root at the first opening; from then on a copy is noticed."""
    (setting.home / ANCHOR_FILE).unlink()
    with open_home(setting.home, write=True) as home, home.database.writing() as sql:
        sql.execute(
            "DELETE FROM settings WHERE key IN ('local/anchor', 'local/doubts')"
        )
    (setting.home / ANCHOR_FILE).unlink()
    setting.sign()
    assert setting.doubt() is None
    shutil.copytree(setting.home, copy := setting.folder / "copy")
    setting.refused(copy)


class DyingFile(SystemFile):
    """A file on such a disk."""

    def __init__(self, disk: "Dying", path: Path) -> None:
        super().__init__(path, os.O_RDWR)
        self._disk = disk

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Before the bytes may be the call."""
        self._disk._call()
        super().write_at(offset, data)

    def sync(self) -> None:
        """After all that is durable may be the call."""
        super().sync()
        self._disk._call()


class Dying(SystemDisk):
    """A disk on which the process dies at one call that changes something."""

    def __init__(self, at: int) -> None:
        self.left = at

    def _call(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def create(self, path: Path) -> Any:
        """A new file may be the call."""
        self._call()
        return super().create(path)

    def rename(self, old: Path, new: Path) -> None:
        """A new name may be the call."""
        self._call()
        super().rename(old, new)

    def sync_folder(self, folder: Path) -> None:
        """Names on the disk may be the call."""
        self._call()
        super().sync_folder(folder)

    def open(self, path: Path, *, write: bool = False) -> Any:
        """Opening to write may be the call."""
        if not write:
            return super().open(path)
        self._call()
        return DyingFile(self, path)

    def stamp(self, path: Path) -> str:
        """Looking for the stamp may be the call."""
        self._call()
        return super().stamp(path)


def test_a_crash_between_any_two_steps_is_no_restoring(setting: Setting) -> None:
    """Whether the number was raised or not: this home goes on."""
    for at in itertools.count(1):
        with open_home(setting.home, write=True) as home:
            (space,) = home.records.spaces()
            home.anchor._disk = Dying(at)
            try:
                home.anchor.raise_for(space)
            except KeyboardInterrupt:
                died = True
                # a power loss may keep the time of a change, and lose the change
                (setting.home / ANCHOR_FILE).chmod(0o600)
            else:
                died = False
        assert setting.doubt() is None, at
        setting.sign()
        if not died:
            break
    assert at == 5
    assert setting.numbers() == list(range(3 + at))


def test_a_crash_while_a_copy_is_noticed_forgets_nothing(setting: Setting) -> None:
    """Whatever was done by then, the next opening doubts."""
    for at in itertools.count(1):
        shutil.copytree(setting.home, copy := setting.folder / f"copy{at}")
        try:
            open_home(copy, write=True, disk=Dying(at)).close()
        except KeyboardInterrupt:
            setting.refused(copy)
        else:
            break
    assert at > 6  # the steps of opening it, and those of taking root


# --- what ends a doubt -------------------------------------------------------------------


def test_the_user_may_adopt_a_home(setting: Setting) -> None:
    """When no peer is left. The warning says what that risks."""
    setting.sign()
    restored_in_place(setting)
    setting.refused()
    ended = setting.call("store_adopt")
    assert [space["name"] for space in ended["spaces"]] == ["s"]
    assert "no other copy" in ended["notes"][0]
    setting.sign()
    assert setting.doubt() is None
    assert setting.call("store_adopt")["spaces"] == []


def test_new_spaces_are_not_doubted(setting: Setting) -> None:
    """What this author founds now, no other state of it can have signed in."""
    restored_to_a_new_place(setting)
    base = setting.folder / "base"
    setting.call("space_create", name="new", base=base, strategy="linear")
    key = setting.fleet.entropy(32).hex()
    setting.call("space_grant", author=key, rank="reader", space="new")
    with pytest.raises(RestoredError):
        setting.call("space_grant", author=key, rank="reader", space="s")


def unseen(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy that no stamp betrays, as of a snapshot of the machine."""
    monkeypatch.setattr(SystemDisk, "stamp", lambda *_: "the same")
    setting.call("store_adopt")  # from here on the stamp is the one that all share
    setting.sign()
    shutil.copytree(setting.home, copy := setting.folder / "machine")
    return copy


def hand_over(source: Path, target: Path, setting: Setting) -> None:
    """Give `target` the records of `source`, as a peer in between does."""
    with open_home(source, write=False) as home:
        (space,) = home.records.spaces()
        records = [
            SignedBytes(s.record.data, s.signature) for s in home.records.load(space)
        ]
    with setting.fleet.open(target) as (_, spaces, _):
        spaces.receive(SpaceId(space), records)


def compare(path: Path) -> bool:
    """Let a peer say that its set equals that of the home."""
    with open_home(path, write=True) as home:
        (space,) = home.records.spaces()
        return home.anchor.compared(space)


def test_a_peer_tells_what_no_stamp_does(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record of ours above our last number: its number is never used again."""
    old = unseen(setting, monkeypatch)
    setting.sign()
    lived = generation(old)
    hand_over(setting.home, old, setting)
    assert setting.doubt(old) == "returned"
    assert generation(old) != lived
    assert "did not sign" in str(setting.refused(old))
    assert compare(old)
    setting.sign(old)
    numbers = setting.numbers(old)
    assert len(set(numbers)) == len(numbers)


def test_two_copies_that_run_are_told_apart_from_one_restored(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a comparison no record of ours can come back, unless somebody signs it."""
    copy = unseen(setting, monkeypatch)
    setting.sign()
    hand_over(setting.home, copy, setting)
    assert compare(copy)
    setting.sign()
    hand_over(setting.home, copy, setting)
    assert setting.doubt(copy) == "copied"
    assert not compare(copy)
    error = setting.refused(copy)
    assert "another home signs" in str(error)
    assert "stop the other" in error.hint
    setting.call("store_adopt", copy)
    setting.sign(copy)


def test_a_fork_is_named(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """If both signed before they heard of each other, nothing mends it: it is said."""
    copy = unseen(setting, monkeypatch)
    setting.sign()
    setting.sign(copy)
    number = setting.numbers()[-1]
    assert setting.numbers(copy)[-1] == number
    hand_over(setting.home, copy, setting)
    (space,) = setting.call("status", copy)["spaces"]
    assert (space["doubt"], space["forked"]) == ("returned", [number])
    assert setting.doubt(setting.home) is None
    hand_over(copy, setting.home, setting)
    assert setting.doubt(setting.home) == "returned"


def test_older_records_of_ours_are_no_alarm(setting: Setting) -> None:
    """Who joins again with the keys of a lost home gets back what it signed before."""
    with open_home(setting.home, write=False) as home:
        (space,) = home.records.spaces()
        signed = home.records.load(space)
    lost = setting.fleet.init("lost")
    for name in ("author.key", "node.key"):
        shutil.copy2(setting.home / name, lost / name)
    genesis, *rest = sorted(signed, key=lambda s: s.record.author_seq)
    with setting.fleet.open(lost) as (home, spaces, _):
        spaces.commit(space, [genesis, rest[-1]])
        spaces.receive(
            space, [SignedBytes(s.record.data, s.signature) for s in rest[:-1]]
        )
        assert home.anchor.doubt(space) is None
        assert isinstance(spaces, Spaces)


def test_a_file_can_tell_it_too(setting: Setting) -> None:
    """An imported space in which this author has records that it did not sign here."""
    setting.call("space_export", space="s", file=setting.folder / "s.tar")
    lost = setting.fleet.init("lost")
    for name in ("author.key", "node.key"):
        shutil.copy2(setting.home / name, lost / name)
    setting.call("space_import", lost, file=setting.folder / "s.tar")
    assert setting.doubt(lost) == "returned"


def test_a_stamp_is_of_the_file_and_not_of_its_bytes(tmp_path: Path) -> None:
    """No copy has it, whatever times it is given; reading and renaming a folder keep it."""
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "file"
    file.write_bytes(b"1\n")
    stamp = SYSTEM_DISK.stamp(file)
    copy = Path(shutil.copy2(file, tmp_path / "copy"))
    assert SYSTEM_DISK.stamp(copy) != stamp
    file.read_bytes()
    moved = (tmp_path / "folder").rename(tmp_path / "other") / "file"
    assert SYSTEM_DISK.stamp(moved) == stamp
    shutil.copy2(copy, moved)
    assert SYSTEM_DISK.stamp(moved) != stamp
