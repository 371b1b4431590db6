"""Keys of a home: read without a passphrase, unlocked with one, changed both or neither."""

import errno
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crdtmerge.errors import (
    BadInputError,
    MachineError,
    NotFoundError,
    PassphraseNeededError,
    WrongPassphraseError,
)
from crdtmerge.identity import AuthorId, Purpose, SigningKey, verify
from nodes import keys as module
from nodes.home import Home, create_home, open_home
from nodes.keys import KeyForm, change_keys, clear, sealed_with
from nodes.passphrase import Passphrase, from_text
from nodes.sealing import Cost
from nodes.store.disk import Disk, SystemDisk

AUTHOR, NODE, GENERATION = b"a" * 32, b"n" * 32, b"g" * 16
CHEAP = Cost(4, 8, 1)
OLD, NEW = "old words", "new words"


def form(text: str) -> KeyForm:
    """Return the form under this passphrase; empty for none."""
    return sealed_with(from_text(text, "test"), os.urandom, CHEAP) if text else clear


class Asked:
    """Answers with one passphrase, and counts how often."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.times = 0

    def __call__(self, home: Path, author: AuthorId) -> Passphrase:
        """Return the passphrase."""
        assert home.name == "home"
        assert author == SigningKey(AUTHOR).public
        self.times += 1
        return from_text(self.text, "test")


def create(path: Path, text: str) -> Path:
    """Make a closed home under a passphrase."""
    create_home(
        path,
        author_seed=AUTHOR,
        node_seed=NODE,
        generation=GENERATION,
        form=form(text),
    ).close()
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a closed home under the old passphrase."""
    return create(tmp_path / "home", OLD)


def opens(path: Path, text: str) -> bool:
    """Tell whether both keys open with one passphrase, and are the right ones."""
    with open_home(path, write=True, ask=Asked(text)) as home:
        try:
            seeds = [key.unlock().seed for key in (home.author, home.node)]
        except WrongPassphraseError:
            return False
    assert seeds == [AUTHOR, NODE]
    return True


def change(path: Path, text: str, now: str = OLD) -> None:
    """Give a home another passphrase, as the command does."""
    with open_home(path, write=True, ask=Asked(now)) as home:
        change_keys(path, (home.author, home.node), form(text))


def files(path: Path) -> dict[str, bytes]:
    """Return the key files, and what lies beside them."""
    return {file.name: file.read_bytes() for file in sorted(path.glob("*.key*"))}


def test_who_a_home_is_needs_no_passphrase(path: Path) -> None:
    """Reading and writing: nothing is asked before a key must sign."""
    for write in (False, True):
        asked = Asked(OLD)
        with open_home(path, write=write, ask=asked) as home:
            assert home.author.public == SigningKey(AUTHOR).public
            assert home.node.public == SigningKey(NODE).public
            assert home.encrypted
        assert asked.times == 0


def test_a_passphrase_is_asked_once_for_both_keys(path: Path) -> None:
    """However often they sign."""
    asked = Asked(OLD)
    with open_home(path, write=True, ask=asked) as home:
        for key in (home.author, home.node, home.author):
            signature = key.sign(Purpose.RECORD, b"message")
            verify(key.public, Purpose.RECORD, b"message", signature)
    assert asked.times == 1


def test_a_clear_home_never_asks(tmp_path: Path) -> None:
    """As every home that older versions made: the form is theirs."""
    path = create(tmp_path / "home", "")
    assert files(path) == {
        "author.key": AUTHOR.hex().encode() + b"\n",
        "node.key": NODE.hex().encode() + b"\n",
    }
    with open_home(path, write=True) as home:
        assert not home.encrypted
        home.author.sign(Purpose.RECORD, b"message")


def test_without_a_passphrase_nothing_signs(path: Path) -> None:
    """What only reads is given none, and says so if it tries."""
    with open_home(path, write=False) as home:
        with pytest.raises(PassphraseNeededError, match=r"keys of .* are encrypted"):
            home.author.sign(Purpose.RECORD, b"message")
        with pytest.raises(PassphraseNeededError):
            home.node.unlock()


def test_a_wrong_passphrase_changes_nothing(path: Path) -> None:
    """The error names its source and the key, and no secret."""
    before = files(path)
    with open_home(path, write=True, ask=Asked("wrong words")) as home:
        with pytest.raises(WrongPassphraseError) as caught:
            home.author.unlock()
        assert str(caught.value) == (
            f"the passphrase from test does not open {path / 'author.key'}"
        )
        with pytest.raises(WrongPassphraseError):
            change_keys(path, (home.author, home.node), form(NEW))
    assert files(path) == before
    assert opens(path, OLD)


@pytest.mark.parametrize(
    ("now", "then"), [(OLD, NEW), (OLD, ""), ("", NEW), (OLD, OLD)]
)
def test_a_passphrase_is_set_changed_and_removed(
    tmp_path: Path, now: str, then: str
) -> None:
    """The keys stay; the old passphrase opens nothing; files stay private."""
    path = create(tmp_path / "home", now)
    change(path, then, now)
    assert opens(path, then or "unused")
    if now and then not in ("", now):
        assert not opens(path, now)
    assert sorted(files(path)) == ["author.key", "node.key"]
    for name in files(path):
        assert (path / name).stat().st_mode & 0o777 == 0o600
    joined = b"".join(files(path).values())
    assert (AUTHOR.hex().encode() in joined) == (then == "")
    assert (NODE.hex().encode() in joined) == (then == "")


# --- crashes ---------------------------------------------------------------------------


class Crash(BaseException):
    """The process ends here."""


def crashing(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[None]:
    """End the process at the `at`-th step that reaches the disk; a write may be half done.

    A process that has ended cleans nothing up: no later step is taken either.
    """
    count = itertools.count()

    def guarded(call: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **options: object) -> object:
            if next(count) >= at:
                raise Crash
            return call(*arguments, **options)

        return step

    def write(disk: Disk, path: Path, data: bytes) -> None:
        for end in (0, len(data) // 2, len(data)):
            if next(count) >= at:
                raise Crash
            path.touch(mode=0o600)
            path.write_bytes(data[:end])

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_file", write)
        patched.setattr(SystemDisk, "sync_folder", guarded(SystemDisk.sync_folder))
        for name in ("rename", "remove"):
            patched.setattr(SystemDisk, name, guarded(getattr(SystemDisk, name)))
        yield


def test_a_crash_at_any_step_leaves_both_keys_changed_or_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every key is valid at every step; the next command finds one passphrase for both."""
    found = []
    for at in range(30):
        path = create(tmp_path / str(at) / "home", OLD)
        crashed = False
        with open_home(path, write=True, ask=Asked(OLD)) as home:
            for key in (home.author, home.node):
                key.unlock()
            for _ in crashing(monkeypatch, at):
                try:
                    change_keys(path, (home.author, home.node), form(NEW))
                except Crash:
                    crashed = True
        with open_home(path, write=False) as home:  # a reader finishes nothing
            assert home.author.public == SigningKey(AUTHOR).public
            assert home.node.public == SigningKey(NODE).public
        changed = opens(path, NEW)
        assert changed != opens(path, OLD)
        assert sorted(files(path)) == ["author.key", "node.key"]
        found.append(changed)
        if not crashed:
            break
    else:
        pytest.fail("it never came to an end")
    assert found == sorted(found)
    assert len(found) > 12
    assert found[-4:] == [True] * 4


def test_a_change_that_the_disk_refuses_leaves_no_trace(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: the old passphrase holds, and nothing lies about."""
    before = files(path)

    def full(_disk: Disk, _path: Path, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "write_file", full)
    with pytest.raises(MachineError, match="the disk is full"):
        change(path, NEW)
    assert files(path) == before
    monkeypatch.undo()
    assert opens(path, OLD)


def test_keys_of_two_passphrases_name_the_one_that_stays_shut(path: Path) -> None:
    """As after restoring one of them from a backup."""
    old = (path / "node.key").read_bytes()
    change(path, NEW)
    (path / "node.key").write_bytes(old)
    with open_home(path, write=True, ask=Asked(NEW)) as home:
        home.author.unlock()
        with pytest.raises(WrongPassphraseError, match=r"does not open .*node\.key"):
            home.node.unlock()


# --- files -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 64, 200, 299])
def test_a_cut_key_file_is_refused_with_its_name(path: Path, size: int) -> None:
    """Also by what only reads, and without a question."""
    data = (path / "author.key").read_bytes()
    (path / "author.key").write_bytes(data[:size])
    with pytest.raises(BadInputError, match=r"author\.key") as caught:
        open_home(path, write=False)
    assert caught.value.hint == "restore it from a backup"
    (path / "author.key").write_bytes(data)
    assert opens(path, OLD)


def test_a_key_file_much_too_long_is_not_read_to_its_end(path: Path) -> None:
    """Whatever it is, it is no key."""
    with (path / "author.key").open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadInputError, match="longer than 1024 bytes"):
        open_home(path, write=False)


def test_a_key_file_that_is_a_link_is_refused(path: Path, tmp_path: Path) -> None:
    """A change would replace the link, and leave the old key where it leads to."""
    real = tmp_path / "elsewhere"
    (path / "node.key").rename(real)
    (path / "node.key").symlink_to(real)
    with pytest.raises(MachineError, match=r"node\.key is a symbolic link"):
        open_home(path, write=False)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_key_file_that_is_no_file_is_refused_at_once(path: Path, kind: str) -> None:
    """A pipe is not waited for."""
    (path / "node.key").unlink()
    if kind == "folder":
        (path / "node.key").mkdir(mode=0o700)
    else:
        os.mkfifo(path / "node.key", 0o600)
    with pytest.raises(MachineError, match=r"node\.key is not a file"):
        open_home(path, write=False)


def test_a_missing_key_is_named(path: Path) -> None:
    """A sealed home is no different."""
    (path / "node.key").unlink()
    with pytest.raises(NotFoundError, match=r"node\.key is missing"):
        open_home(path, write=True)


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o720, 0o777])
def test_a_home_that_others_can_enter_is_refused(path: Path, mode: int) -> None:
    """Who can write into the folder can replace the keys."""
    path.chmod(mode)
    for write in (False, True):
        with pytest.raises(MachineError, match=f"mode {mode:04o}") as caught:
            open_home(path, write=write)
        assert caught.value.hint == f"run `chmod 700 {path}`"
    path.chmod(0o700)
    assert opens(path, OLD)


def test_a_home_reached_through_a_link_is_a_home(path: Path, tmp_path: Path) -> None:
    """The folder it leads to is what is checked."""
    link = tmp_path / "other" / "home"
    link.parent.mkdir()
    link.symlink_to(path)
    assert opens(link, OLD)
    path.chmod(0o755)
    with pytest.raises(MachineError, match="open to others"):
        open_home(link, write=False)


def test_what_python_shows_of_a_home_holds_no_seed(path: Path) -> None:
    """Nor the passphrase: a trace may be sent to others."""
    with open_home(path, write=True, ask=Asked(OLD)) as home:
        home.author.unlock()
        shown = _shown(home)
    for secret in (AUTHOR.hex(), repr(AUTHOR), NODE.hex(), OLD):
        assert secret not in shown


def _shown(home: Home) -> str:
    return "".join(
        map(repr, (home, home.author, home.author.unlock(), vars(home.author)))
    )
