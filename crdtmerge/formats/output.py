"""An output folder that appears whole or not at all.

Owns the hidden sibling in which it is written, the swap, what a process that died left
of either, and whether there is room. Does not own what is written.

The sibling, `.NAME.partial-*`, holds `new` until it is renamed to the output, and `old`,
what was there before, until that is removed; and the journal of what is finished, so that
an output that was broken off can be gone on with. Its maker locks it as long as it lives.
"""

import contextlib
import errno
import os
import re
import shutil
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from crdtmerge.errors import ConflictError, CrdtMergeError, MachineError
from crdtmerge.formats import journal
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

    With a `stamp`, which names the layout, an output that was killed, interrupted or
    refused by the machine is gone on with: its sibling stays if its journal notes
    something finished, and the next output with this stamp is lent it. A full disk is the
    exception: there the sibling goes, for it is what fills the disk, and claimed before
    the first tensor was made.
    """

    def __init__(
        self,
        out: Path,
        *,
        size: int = 0,
        stamp: bytes = b"",
        overwrite: bool = False,
        fsync: bool = False,
    ) -> None:
        """Keep what is asked; nothing is touched before the block is entered.

        `size` is how many bytes will be written, as far as that is known.
        """
        self._out = out.resolve()
        self._size = size
        self._stamp = stamp
        self._overwrite = overwrite
        self._fsync = fsync
        self._sibling: _Sibling | None = None

    def check(self) -> None:
        """Refuse what cannot end well, before work is done for it.

        What dead processes left is removed first, unless it can be gone on with: it may
        be what fills the disk. Of which layout that is does not matter here, for whoever
        asks may not know all of it yet.

        Raises:
            ConflictError: something is in the way.
            MachineError: the disk refuses, or has too little room.
        """
        sibling = self._checked(None if self._stamp else b"")
        if sibling is not None:
            sibling.release()

    def begun(self) -> Path | None:
        """Return the journal of an output that can be gone on with; nothing is touched."""
        if not self._stamp or not self._out.parent.is_dir():
            return None
        fit = []
        for sibling in _Sibling.left_behind(self._out):
            sibling.release()
            if sibling.goes_on(self._stamp):
                fit.append(sibling)
        return max(fit, key=_progress).journal if fit else None

    def room(self) -> tuple[int, int]:
        """Return how many bytes must be free for it, and how many are; nothing is touched.

        What a run that can be gone on with has claimed already is not asked for again.
        """
        begun = self.begun()
        taken = sum(map(_allocated, (begun.parent / "new").iterdir())) if begun else 0
        place = next(path for path in self._out.parents if path.is_dir())
        return _needed(max(0, self._size - taken)), shutil.disk_usage(place).free

    def _checked(self, stamp: bytes | None) -> "_Sibling | None":
        """Check, and return a locked sibling to go on with, if there is one."""
        sibling = None
        try:
            if self._out.parent.is_dir():
                sibling = _clear_leftovers(self._out, stamp)
            self._check_way()
            if self._size:
                taken = sibling.taken() if sibling else 0
                _check_room(self._out, max(0, self._size - taken))
        except BaseException as e:
            if sibling:
                sibling.release()
            if isinstance(e, OSError):
                raise machine_error("create", self._out, e) from e
            raise
        return sibling

    def __enter__(self) -> Path:
        """Return the folder to write to.

        Raises:
            ConflictError: something is in the way.
            MachineError: the disk refuses, or has too little room.
        """
        self._sibling = self._checked(self._stamp)
        try:
            if self._sibling is None:
                self._out.parent.mkdir(parents=True, exist_ok=True)
                self._sibling = _Sibling.make(self._out)
        except OSError as e:
            raise machine_error("create", self._out, e) from e
        return self._sibling.new

    @property
    def journal(self) -> Path:
        """Where what is finished is to be noted, inside of the block."""
        assert self._sibling is not None, "asked before it was entered"
        return self._sibling.journal

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the folder into place, keep it to go on with, or remove it.

        Raises:
            ConflictError: something came in the way meanwhile.
            MachineError: the disk refuses.
        """
        sibling = self._sibling
        assert sibling is not None, "left before it was entered"
        if error is not None:
            if not self._waits(error):
                sibling.remove()
                if isinstance(error, OSError):
                    raise machine_error("write", self._out, error) from error
            return
        try:
            self._check_way()
            self._place(sibling)
        except BaseException as e:
            if not self._waits(e):
                sibling.remove()
            raise
        sibling.remove()

    def _waits(self, error: BaseException) -> bool:
        """Leave what is finished to the next run, if that may end well; tell whether."""
        sibling = self._sibling
        if sibling is None or not _can_wait(error) or not sibling.goes_on(self._stamp):
            return False
        sibling.release()
        _tell(error, sibling.path)
        return True

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
        self.journal = path / "journal"
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
                sibling = cls(path, lock_of(path))
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
                    lock = lock_of(path)
                    if lock is not None:
                        yield cls(path, lock)

    def goes_on(self, stamp: bytes | None) -> bool:
        """Tell whether it holds something finished, of this layout; None is any.

        SUBTLE: only what this user made, plain files: else somebody who may write to the
        folder around it could have us write through a link.
        """
        if stamp == b"" or not journal.is_of(self.journal, stamp):
            return False
        try:
            files = list(self.new.iterdir())
            return all(map(_is_mine, (self.path, self.new))) and all(
                _is_mine(file) and file.is_file() and file.stat().st_nlink == 1
                for file in (self.journal, *files)
            )
        except OSError:
            return False

    def taken(self) -> int:
        """Return how many bytes of the disk its files take."""
        return sum(_allocated(path) for path in self.new.iterdir())

    def remove(self) -> None:
        """Remove the folder and all in it, then free the lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Free the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _clear_leftovers(out: Path, stamp: bytes | None) -> _Sibling | None:
    """Remove what dead processes left beside `out`, once `out` is there if it ever was.

    What has got furthest of this layout is returned instead, locked.
    """
    best: _Sibling | None = None
    for sibling in _Sibling.left_behind(out):
        try:
            if sibling.old.is_dir() and not out.exists():
                sibling.old.rename(out)
        except OSError:
            for held in (sibling, best):
                if held:
                    held.release()
            raise
        if not sibling.goes_on(stamp):
            sibling.remove()
        elif best is None:
            best = sibling
        else:
            less, best = sorted((sibling, best), key=_progress)
            less.remove()
    return best


def _progress(sibling: _Sibling) -> int:
    """Return how long the journal is: it grows with what is finished."""
    return sibling.journal.stat().st_size


def _can_wait(error: BaseException) -> bool:
    """Tell whether running the same again may end well: the input is not at fault."""
    reasons = (
        KeyboardInterrupt,
        SystemExit,
        MachineError,
        ConflictError,  # of something that came in the way meanwhile
        OSError,
        MemoryError,
    )
    if not isinstance(error, reasons):
        return False
    causes = (error, error.__cause__, error.__context__)
    numbers = {cause.errno for cause in causes if isinstance(cause, OSError)}
    return not numbers & {errno.ENOSPC, errno.EDQUOT}


def _tell(error: BaseException, path: Path) -> None:
    """Add to an error that its work is not lost."""
    text = f"run it again to go on: what is finished lies in {path} until then"
    if isinstance(error, CrdtMergeError):
        error.hint = f"{error.hint}; {text}" if error.hint else text
    else:
        error.add_note(text)


def _is_mine(path: Path) -> bool:
    """Tell whether this user made it; no link is followed."""
    found = path.lstat()
    link = stat.S_ISLNK(found.st_mode)
    return not link and (os.name != "posix" or found.st_uid == os.geteuid())


def _allocated(path: Path) -> int:
    """Return how many bytes of the disk a file takes, where the system says."""
    found = path.lstat()
    return int(getattr(found, "st_blocks", 0)) * 512


def _needed(size: int) -> int:
    return size + size // ROOM_SHARE + ROOM_BYTES


def _check_room(out: Path, size: int) -> None:
    """Refuse a disk without room for `size` bytes, and some for the system itself.

    A model that is replaced goes last, so its own bytes do not count as free.
    """
    place = next(path for path in out.parents if path.is_dir())
    needed = _needed(size)
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
    ours = {"new", "old", "journal"}
    return path.is_dir() and {item.name for item in path.iterdir()} <= ours


def lock_of(folder: Path) -> int | None:
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
