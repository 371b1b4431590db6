"""File system calls in the order that makes data durable, and what their failures mean.

Owns fsync of files and folders, whole writes, the check of free space, and the messages
for a full or refusing disk. Does not own which files there are (`blobs`, `nodes.home`).

Crash rule: data is synced before it is renamed to its name, the folder is synced before
anything refers to that name. A failed sync is fatal and never retried: the kernel may have
dropped the pages, so a second sync would succeed without the data.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from crdtmerge.errors import MachineError, NoRoomError

PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700

_FULL_SYNC: Final = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS: fsync alone leaves the data in the drive's cache."""

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


def sync_file(descriptor: int) -> None:
    """Bring a file's data to the disk itself; a failure is fatal, never retried."""
    if _FULL_SYNC is not None:
        fcntl.fcntl(descriptor, _FULL_SYNC)
    else:
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a private folder if it is not there, and bring its name to the disk."""
    folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    sync_folder(folder.parent)


def create_file(path: Path) -> int:
    """Return a descriptor of a new private file; the name must be free."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.open(path, flags, PRIVATE_FILE)


def write_file(path: Path, data: bytes) -> None:
    """Write a new private file and sync it; the caller syncs the folder."""
    descriptor = create_file(path)
    try:
        write_all(descriptor, data, 0)
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`; one system call may take only a part of it."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def require_free(folder: Path, size: int) -> None:
    """Check that the disk of `folder` has room for `size` more bytes.

    Raises:
        NoRoomError: it has not; the message names both numbers.
    """
    with explained(f"asking for the free space of {folder}"):
        status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if size > free:
        message = f"{size} bytes are needed but {free} are free on the disk of {folder}"
        raise NoRoomError(message, hint=f"free some space; {_NOTHING_CHANGED}")
