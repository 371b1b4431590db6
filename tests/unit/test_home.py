"""A home is whole or not there, private, and written by one process at a time."""

from pathlib import Path

import platformdirs
import pytest

from crdtmerge.errors import (
    BadInputError,
    ConflictError,
    MachineError,
    NotFoundError,
)
from crdtmerge.identity import SigningKey
from nodes.home import Home, create_home, default_home, open_home
from nodes.lock import HomeLock

AUTHOR, NODE, GENERATION = b"a" * 32, b"n" * 32, b"g" * 16


def create(path: Path) -> Home:
    """Make a home with fixed keys."""
    return create_home(path, author_seed=AUTHOR, node_seed=NODE, generation=GENERATION)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a closed home."""
    path = tmp_path / "data" / "home"
    create(path).close()
    return path


def test_a_created_home_opens_with_its_keys(path: Path) -> None:
    """Keys, generation and blobs are those it was made with."""
    with open_home(path, write=True) as home:
        assert home.author.public == SigningKey(AUTHOR).public
        assert home.node.public == SigningKey(NODE).public
        assert home.records.generation == GENERATION
        assert home.control_socket == path / "control.sock"
        blob = home.blobs.put(b"data")
    with open_home(path, write=False) as home:
        assert home.lock is None
        assert home.blobs.read(blob, 4) == b"data"


def test_a_home_is_private(path: Path) -> None:
    """Folders are 0700, files 0600; keys are one line of hex."""
    assert path.stat().st_mode & 0o777 == 0o700
    for item in path.iterdir():
        expected = 0o700 if item.is_dir() else 0o600
        assert item.stat().st_mode & 0o777 == expected, item
    assert (path / "author.key").read_text() == AUTHOR.hex() + "\n"
    assert (path / "node.key").read_text() == NODE.hex() + "\n"


def test_creating_twice_is_a_conflict_and_changes_nothing(path: Path) -> None:
    """Keys are never overwritten."""
    before = {item: item.stat().st_mtime_ns for item in path.iterdir()}
    with pytest.raises(ConflictError, match=r"a home at .* already"):
        create_home(path, author_seed=NODE, node_seed=NODE, generation=bytes(16))
    after = {item: item.stat().st_mtime_ns for item in path.iterdir()}
    assert {item.name for item in before} == {item.name for item in after}
    assert after[path / "author.key"] == before[path / "author.key"]
    open_home(path, write=True).close()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    """And an empty one is used, and made private."""
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(ConflictError, match=r"not empty: it holds thesis\.txt"):
        create(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
    assert [item.name for item in tmp_path.iterdir()] == ["thesis.txt"]
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o755)
    create(empty).close()
    assert empty.stat().st_mode & 0o777 == 0o700


def test_a_home_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    """A file in the way is named, and no folder is left behind."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(MachineError, match="creating"):
        create(tmp_path / "file" / "home")
    with pytest.raises(ValueError, match="generation"):
        create_home(
            tmp_path / "home", author_seed=AUTHOR, node_seed=NODE, generation=b"short"
        )
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_no_home_says_how_to_make_one(tmp_path: Path) -> None:
    """Opening never creates."""
    with pytest.raises(NotFoundError, match="no home at") as caught:
        open_home(tmp_path / "no", write=True)
    assert caught.value.hint == "run `crdtmerge init`"
    assert list(tmp_path.iterdir()) == []


def test_one_writer_at_a_time_and_readers_beside_it(path: Path) -> None:
    """The second writer is told who holds the home; readers do not care."""
    with open_home(path, write=True, purpose="node") as home:
        with pytest.raises(
            ConflictError, match=r"a node is already running .*\(pid \d+"
        ):
            open_home(path, write=True)
        with open_home(path, write=False) as reader:
            home.local.set_value("k", b"v")
            assert reader.local.get_value("k") == b"v"
    with (
        open_home(path, write=True),
        pytest.raises(ConflictError, match="another command is changing this home"),
    ):
        HomeLock(path, "node")


def test_a_released_lock_can_be_taken_again(path: Path) -> None:
    """Also after an opening that failed half way."""
    lock = HomeLock(path, "node")
    lock.release()
    lock.release()
    key = path / "node.key"
    data = key.read_bytes()
    key.unlink()
    with pytest.raises(NotFoundError, match=r"node.key is missing"):
        open_home(path, write=True)
    key.touch(mode=0o600)
    key.write_bytes(data)
    open_home(path, write=True).close()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_that_others_can_read_is_refused(path: Path, mode: int) -> None:
    """With the command that mends it."""
    (path / "author.key").chmod(mode)
    with pytest.raises(MachineError, match=f"mode {mode:04o}") as caught:
        open_home(path, write=False)
    assert caught.value.hint == f"run `chmod 600 {path / 'author.key'}`"


@pytest.mark.parametrize(
    "data",
    [b"", b"ab" * 31, b"ab" * 33, b"zz" * 32, b"ab" * 32 + b"\n\n", b"\xff" * 64],
)
def test_a_key_file_without_a_key_is_refused(path: Path, data: bytes) -> None:
    """The file is named; its content is not shown."""
    (path / "author.key").write_bytes(data)
    with pytest.raises(BadInputError, match=r"author.key does not hold a key"):
        open_home(path, write=True)


def test_the_default_home_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """CRDTMERGE_HOME wins over the system's place for data."""
    monkeypatch.setenv("CRDTMERGE_HOME", str(tmp_path / "x"))
    assert default_home() == tmp_path / "x"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CRDTMERGE_HOME", "~/y")
    assert default_home() == tmp_path / "y"
    monkeypatch.delenv("CRDTMERGE_HOME")
    expected = platformdirs.user_data_path("crdtmerge", appauthor=False)
    assert default_home() == expected
