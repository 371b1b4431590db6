"""An output folder that appears whole or not at all.

Owns the hidden sibling in which it is written, the swap, what a process that died left
of either, and whether there is room. Does not own what is written.

The sibling, `.NAME.partial-*`, holds `new` until it is renamed to the output, and `old`,
what was there before, until that is removed. Its maker locks it as long as it lives.
"""

import contextlib
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from crdtmerge.errors import ConflictError, MachineError
from crdtmerge.formats.folder import RESOLUTION_FILE
from crdtmerge.formats.writer import machine_error

SIBLINGS_MAX: Final = 64
"""Names that are tried for a sibling; another machine on a shared disk may hold some."""
ROOM_SHARE: Final = 64
ROOM_BYTES: Final = 1 << 20
"""What must be free beyond an output's own bytes, one of so many and these: the system
keeps where they lie."""


class OutputFolder:
    """Context manager: files go to a hidden sibling, renamed to `out` when all went well.

    If the block fails, the sibling is removed and `out` is as it was. If the process is
    killed, the next output to the same place removes what it left, and puts back what was
    there if it died between the two renames. A folder in the way is replaced only with
    `overwrite`, and never one that holds folders: no model does, so it is something else
    that the user would miss.
    """

    def __init__(
        self, out: Path, *, size: int = 0, overwrite: bool = False, fsync: bool = False
    ) -> None:
        """Keep what is asked; nothing is touched before the block is entered.

        `size` is how many bytes will be written, as far as that is known.
        """
        self._out = out.resolve()
        self._size = size
        self._overwrite = overwrite
        self._fsync = fsync
        self._sibling: _Sibling | None = None

    def check(self) -> None:
        """Refuse what cannot end well, before work is done for it.

        What dead processes left is removed first: it may be what fills the disk.

        Raises:
            ConflictError: something is in the way.
            MachineError: the disk refuses, or has too little room.
        """
        try:
            if self._out.parent.is_dir():
                _clear_leftovers(self._out)
            self._check_way()
            if self._size:
                _check_room(self._out, self._size)
        except OSError as e:
            raise machine_error("create", self._out, e) from e

    def __enter__(self) -> Path:
        """Return the folder to write to.

        Raises:
            ConflictError: something is in the way.
            MachineError: the disk refuses, or has too little room.
        """
        self.check()
        try:
            self._out.parent.mkdir(parents=True, exist_ok=True)
            self._sibling = _Sibling.make(self._out)
        except OSError as e:
            raise machine_error("create", self._out, e) from e
        return self._sibling.new

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the folder into place, or remove it.

        Raises:
            ConflictError: something came in the way meanwhile.
            MachineError: the disk refuses.
        """
        assert self._sibling is not None, "left before it was entered"
        try:
            if error is None:
                self._check_way()
                self._place(self._sibling)
            elif isinstance(error, OSError):
                raise machine_error("write", self._out, error) from error
        finally:
            self._sibling.remove()

    def _check_way(self) -> None:
        """Refuse to replace what must not be replaced."""
        out = self._out
        if not out.exists():
            return
        if not out.is_dir():
            message = f"{out} is there already, and is not a folder"
            raise ConflictError(message)
        content = list(out.iterdir())
        if content and not self._overwrite:
            message = f"{out} is there already, and is not empty"
            hint = "choose another folder, or overwrite it with --force"
            raise ConflictError(message, hint=hint)
        if content and not (out / RESOLUTION_FILE).is_file():
            message = f"{out} is no merged model: it has no {RESOLUTION_FILE}"
            raise ConflictError(message, hint="choose another folder for the model")
        if folders := [item.name for item in content if item.is_dir()]:
            message = f"{out} holds the folder {folders[0]!r}, which no model does"
            raise ConflictError(message, hint="choose another folder for the model")

    def _place(self, sibling: "_Sibling") -> None:
        """Rename what was written to the output; what was there is removed last."""
        try:
            if self._fsync:
                for path in (*sibling.new.iterdir(), sibling.new):
                    _sync(path)
            if self._out.exists():
                self._out.rename(sibling.old)
            try:
                sibling.new.rename(self._out)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    sibling.old.rename(self._out)
                raise
            if self._fsync:
                _sync(self._out.parent)
        except OSError as e:
            raise machine_error("put into place", self._out, e) from e


@contextlib.contextmanager
def scratch_folder(out: Path) -> Iterator[Path]:
    """Lend a hidden folder beside `out` for what is needed until that is finished.

    It goes when the block ends; if the process is killed, with the next output to `out`.

    Raises:
        MachineError: the disk refuses.
    """
    out = out.resolve()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        sibling = _Sibling.make(out)
    except OSError as e:
        raise machine_error("create", out, e) from e
    try:
        yield sibling.new
    finally:
        sibling.remove()


class _Sibling:
    """The hidden folder of one output under way, locked while its maker lives.

    SUBTLE: the lock, not the process id in the name, says who lives: ids are used again,
    and mean nothing to another machine on a shared disk. Whoever cannot take the lock,
    because it is held or because the file system has none, leaves the folder alone.
    """

    def __init__(self, path: Path, lock: int | None) -> None:
        self.path = path
        self.new = path / "new"
        self.old = path / "old"
        self._lock = lock

    @classmethod
    def make(cls, out: Path) -> "_Sibling":
        """Make one beside `out`, under a name that nobody uses."""
        for number in range(SIBLINGS_MAX):
            path = out.with_name(
                f".{out.name}.partial-{os.getpid()}-{threading.get_native_id()}-{number}"
            )
            try:
                path.mkdir()
            except FileExistsError:
                continue
            # SUBTLE: between its making and its locking, somebody may take it for a
            # leftover and remove it; then the next name is tried.
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                sibling = cls(path, _lock_of(path))
                try:
                    sibling.new.mkdir()
                except BaseException:
                    sibling.remove()
                    raise
                return sibling
        message = f"{SIBLINGS_MAX} outputs to {out} are under way"
        raise ConflictError(message, hint="choose another folder for the model")

    @classmethod
    def left_behind(cls, out: Path) -> Iterator["_Sibling"]:
        """Yield those beside `out` whose makers are dead, locked; the caller releases."""
        name = re.compile(re.escape(f".{out.name}.partial-") + r"[0-9]+(-[0-9]+)*")
        named = (p for p in out.parent.iterdir() if name.fullmatch(p.name))
        for path in sorted(named):
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                if not path.is_symlink() and _is_ours(path):
                    lock = _lock_of(path)
                    if lock is not None:
                        yield cls(path, lock)

    def remove(self) -> None:
        """Remove the folder and all in it, then free the lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Free the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _clear_leftovers(out: Path) -> None:
    """Remove what dead processes left beside `out`, once `out` is there if it ever was."""
    for sibling in _Sibling.left_behind(out):
        try:
            if sibling.old.is_dir() and not out.exists():
                sibling.old.rename(out)
        except OSError:
            sibling.release()
            raise
        sibling.remove()


def _check_room(out: Path, size: int) -> None:
    """Refuse a disk without room for `size` bytes, and some for the system itself.

    A model that is replaced goes last, so its own bytes do not count as free.
    """
    place = next(path for path in out.parents if path.is_dir())
    needed = size + size // ROOM_SHARE + ROOM_BYTES
    disk = shutil.disk_usage(place)
    free = disk.free
    if free < needed and disk.total:  # some systems' disks do not say
        message = (
            f"the disk of {place} is too full: the output needs {needed} bytes, some of"
            f" them to spare, and {free} are free, {needed - free} too few"
        )
        raise MachineError(message, hint="free some space, or choose another disk")


def _is_ours(path: Path) -> bool:
    """Tell whether this holds nothing but what a sibling holds: a user's name may fit."""
    return path.is_dir() and {item.name for item in path.iterdir()} <= {"new", "old"}


def _lock_of(folder: Path) -> int | None:
    """Return a descriptor that holds the lock of `folder`; None if there are no locks.

    The system frees it when the process ends, however it ends.

    Raises:
        BlockingIOError: somebody else holds it.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise
    except OSError:  # this file system has none
        os.close(file)
        return None
    return file


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
