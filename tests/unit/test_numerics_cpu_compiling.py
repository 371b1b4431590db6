"""Where machine code is kept: where nobody else can put what this user would run."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest

from crdtmerge.numerics.cpu import compiling


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the user named for machine code, in one that is safe."""
    found = tmp_path / "cache"
    found.mkdir(mode=0o700)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(found))
    # The parents above are the machine's, and not what is tested.
    closed: Callable[[Path], bool] = compiling._is_safe
    monkeypatch.setattr(
        compiling, "_is_safe", lambda p: p not in (found, tmp_path) or closed(p)
    )
    return found


def test_the_folder_is_the_users_alone(cache: Path) -> None:
    """It is made where it was asked for, and closed."""
    folder = compiling._folder()
    assert folder is not None
    assert folder.parent == cache.resolve()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_can_write_is_not_used(cache: Path) -> None:
    """Sticky or not: others could put a file there before numba does."""
    folder = compiling._folder()
    assert folder is not None
    for mode in (0o777, 0o1777):
        folder.chmod(mode)
        assert compiling._folder() is None


def test_a_folder_that_others_can_replace_is_not_used(cache: Path) -> None:
    """Whoever can write the parent can put a folder of his own in its place."""
    cache.chmod(0o777)
    assert compiling._folder() is None
    cache.parent.chmod(0o777)
    cache.chmod(0o700)
    assert compiling._folder() is None


def test_a_sticky_parent_will_do(cache: Path) -> None:
    """In a folder for temporary files entries stay their owner's."""
    cache.chmod(0o1777)
    assert compiling._folder() is not None


def test_a_link_in_the_folders_place_is_not_followed(
    cache: Path, tmp_path: Path
) -> None:
    """Its owner could make it lead elsewhere once it was looked at."""
    folder = compiling._folder()
    assert folder is not None
    elsewhere = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(elsewhere)
    assert compiling._folder() is None


def test_nothing_is_kept_where_the_disk_refuses(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numba would then keep code beside the sources, and find it stale after an upgrade."""

    def refuses(**_: Any) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuses)
    assert compiling._folder() is None


def test_who_has_no_home_compiles_in_every_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a container that runs under a number that no account has."""

    def nowhere(_: str) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(compiling, "user_cache_path", nowhere)
    assert compiling._folder() is None


def test_a_foreign_folder_is_not_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner can write it whenever he likes."""
    folder = compiling._folder()
    assert folder is not None
    if os.getuid() == 0:
        os.chown(folder, 12345, 12345)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert compiling._folder() is None
