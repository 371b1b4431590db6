"""The disk as the store sees it: a port of few calls, and the system's disk behind it.

Owns which calls there are, what makes data durable, and the messages for a full or refusing
disk. Does not own which files there are (`blobs`, `nodes.home`). A simulated disk loses,
tears and refuses (`simulations.disks.disk`); whoever writes goes through `Disk`, so that
every one of its steps can be cut.

Crash rule: data is synced before it is renamed to its name, the folder is synced before
anything refers to that name. A failed sync is fatal and never retried: the kernel may have
dropped the pages, so a second sync would succeed without the data.
"""

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Protocol, Self

from crdtmerge.errors import MachineError, NoRoomError

PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700

_FULL_SYNC: Final = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS: fsync alone leaves the data in the drive's cache."""

_BLOCK_BYTES: Final = 512
"""The unit of `st_blocks`, whatever the file system's own."""

_NOTHING_CHANGED: Final = "nothing was changed"
_REASONS: Final = {
    errno.ENOSPC: ("the disk is full", f"free some space; {_NOTHING_CHANGED}"),
    errno.EDQUOT: ("the disk quota is used up", f"free space; {_NOTHING_CHANGED}"),
    errno.EFBIG: (
        "the file would be larger than this system allows",
        f"raise the limit (`ulimit -f`); {_NOTHING_CHANGED}",
    ),
    errno.EIO: (
        "the disk reports an input/output error",
        "check the disk before you go on; do not retry on it",
    ),
    errno.EACCES: ("permission denied", "check the owner and mode of the file"),
    errno.EPERM: ("not permitted", "check the owner and mode of the file"),
    errno.EROFS: ("the file system is read-only", "choose another folder"),
    errno.EMFILE: ("too many open files", "raise the limit (`ulimit -n`)"),
}

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def machine_error(error: OSError, doing: str) -> MachineError:
    """Return the error that names what this machine refused while `doing`."""
    reason, hint = _REASONS.get(error.errno or 0, (error.strerror or str(error), ""))
    kind = NoRoomError if error.errno in _FULL else MachineError
    return kind(f"{doing}: {reason}", hint=hint)


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn what the system refuses inside the block into a MachineError."""
    try:
        yield
    except OSError as e:
        raise machine_error(e, doing) from e


class File(Protocol):
    """An open file; safe for several threads. What is refused is an `OSError`."""

    def size(self) -> int:
        """Return how many bytes it has."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return the bytes there; fewer than `length` only at the end of the file."""

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data`; a gap before it reads as zeros. Durable after `sync`."""

    def truncate(self, size: int) -> None:
        """Cut the file, or lengthen it with zeros. Durable after `sync`."""

    def sync(self) -> None:
        """Bring the data to the disk itself; a failure is fatal, never retried."""

    def map(self) -> memoryview:
        """Return the bytes as read-only memory, which may outlive the open file."""

    def is_named(self, path: Path) -> bool:
        """Tell whether this very file has that name now."""

    def close(self) -> None:
        """Close the file; calling it twice does no harm, and nothing becomes durable."""

    def __enter__(self) -> Self:
        """Return the file."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""


class Disk(Protocol):
    """Files and folders by path. What is refused is an `OSError`."""

    @property
    def vfs(self) -> str:
        """The name of SQLite's file layer on this disk; "" for the system's own."""

    @property
    def shares_memory(self) -> bool:
        """Whether SQLite's readers may stand beside a writer; else it is alone."""

    def create(self, path: Path) -> File:
        """Return a new private file to read and write; the name must be free."""

    def open(self, path: Path, *, write: bool = False) -> File:
        """Return a file that is there."""

    def exists(self, path: Path) -> bool:
        """Tell whether a file or folder has this name."""

    def size(self, path: Path) -> int:
        """Return how many bytes a file has."""

    def taken(self, path: Path) -> int:
        """Return how many bytes of the disk a file takes: fewer, if it has holes."""

    def stamp(self, path: Path) -> str:
        """Return when the system last changed the file, by name, mode or bytes.

        No two files have one stamp, and no tool can give it to a copy.
        """

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, replacing what had it. Durable after `sync_folder`."""

    def remove(self, path: Path) -> None:
        """Remove a file if it is there. Durable after `sync_folder`."""

    def make_folder(self, folder: Path) -> None:
        """Make a private folder if it is not there; durable once its parent is synced."""

    def remove_folder(self, folder: Path) -> None:
        """Remove an empty folder."""

    def list(self, folder: Path) -> list[str]:
        """Return the names in a folder, sorted."""

    def sync_folder(self, folder: Path) -> None:
        """Bring the names in a folder to the disk; a failure is fatal, never retried."""

    def free(self, folder: Path) -> int:
        """Return how many bytes are free where the folder lies."""


# --- what the disks have in common -------------------------------------------------------


def make_folder(disk: Disk, folder: Path) -> None:
    """Make a private folder if it is not there, and bring its name to the disk."""
    disk.make_folder(folder)
    disk.sync_folder(folder.parent)


def open_or_create(disk: Disk, path: Path) -> File:
    """Return a file to read and write, a new one if it is not there."""
    try:
        return disk.open(path, write=True)
    except FileNotFoundError:
        return disk.create(path)


def write_file(disk: Disk, path: Path, data: bytes) -> None:
    """Write a new private file and sync it; the caller syncs the folder."""
    with disk.create(path) as file:
        file.write_at(0, data)
        file.sync()


def require_free(disk: Disk, folder: Path, size: int) -> None:
    """Check that the disk of `folder` has room for `size` more bytes.

    Raises:
        NoRoomError: it has not; the message names both numbers.
    """
    with explained(f"asking for the free space of {folder}"):
        free = disk.free(folder)
    if size > free:
        message = f"{size} bytes are needed but {free} are free on the disk of {folder}"
        raise NoRoomError(message, hint=f"free some space; {_NOTHING_CHANGED}")


# --- the disk of this system -------------------------------------------------------------


class SystemFile:
    """A file of this system."""

    def __init__(self, path: Path, flags: int) -> None:
        """Open it; a new one is private."""
        self._descriptor = os.open(path, flags | os.O_CLOEXEC, PRIVATE_FILE)

    def size(self) -> int:
        """Return how many bytes it has."""
        return os.fstat(self._descriptor).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return the bytes there; fewer than `length` only at the end of the file."""
        data = os.pread(self._descriptor, length, offset)
        while len(data) < length:  # Linux hands out at most 2 GiB a call
            more = os.pread(self._descriptor, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data`; one system call may take only a part of it."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view = view[written:]
            offset += written

    def truncate(self, size: int) -> None:
        """Cut the file, or lengthen it with zeros."""
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        """Bring the data to the disk itself; a failure is fatal, never retried."""
        with _counted():
            if _FULL_SYNC is not None:
                fcntl.fcntl(self._descriptor, _FULL_SYNC)
            else:
                os.fsync(self._descriptor)

    def map(self) -> memoryview:
        """Return the bytes as read-only memory, which may outlive the open file."""
        if self.size() == 0:  # which cannot be mapped
            return memoryview(b"")
        # the view keeps the mapping alive, and its end ends it
        return memoryview(mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ))

    def is_named(self, path: Path) -> bool:
        """Tell whether this very file has that name now."""
        try:
            return os.path.samestat(path.lstat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close the file; calling it twice does no harm."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class SystemDisk:
    """The disks of this machine, by the paths of its file system."""

    failed_syncs: ClassVar[int] = 0
    """How often a disk refused to sync, since the start of the process."""

    vfs: Final = ""
    shares_memory: Final = True

    def create(self, path: Path) -> SystemFile:
        """Return a new private file to read and write; the name must be free."""
        return SystemFile(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def open(self, path: Path, *, write: bool = False) -> SystemFile:
        """Return a file that is there."""
        return SystemFile(path, os.O_RDWR if write else os.O_RDONLY)

    def exists(self, path: Path) -> bool:
        """Tell whether a file or folder has this name."""
        return path.exists()

    def size(self, path: Path) -> int:
        """Return how many bytes a file has."""
        return path.stat().st_size

    def taken(self, path: Path) -> int:
        """Return how many bytes of the disk a file takes: fewer, if it has holes."""
        return path.stat().st_blocks * _BLOCK_BYTES

    def stamp(self, path: Path) -> str:
        """Return when the system last changed the file: the time of its inode."""
        return str(path.stat().st_ctime_ns)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, replacing what had it."""
        old.replace(new)

    def remove(self, path: Path) -> None:
        """Remove a file if it is there."""
        path.unlink(missing_ok=True)

    def make_folder(self, folder: Path) -> None:
        """Make a private folder if it is not there."""
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)

    def remove_folder(self, folder: Path) -> None:
        """Remove an empty folder."""
        folder.rmdir()

    def list(self, folder: Path) -> list[str]:
        """Return the names in a folder, sorted."""
        return sorted(item.name for item in folder.iterdir())

    def sync_folder(self, folder: Path) -> None:
        """Bring the names in a folder to the disk."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        descriptor = os.open(folder, flags)
        try:
            with _counted():
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free(self, folder: Path) -> int:
        """Return how many bytes are free where the folder lies."""
        status = os.statvfs(folder)
        return status.f_bavail * status.f_frsize


@contextmanager
def _counted() -> Iterator[None]:
    """Count a sync that the disk refuses."""
    try:
        yield
    except OSError:
        SystemDisk.failed_syncs += 1
        raise


SYSTEM_DISK: Final = SystemDisk()
