"""Readers of a home in other processes: collection waits until none is there.

Owns the file that they share a lock on, and finding out who they are. Does not own the lock
of the one writer (`lock`).

A reader holds its share for as long as its home is open; the system frees it at its end.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .store.disk import PRIVATE_FILE, explained

READERS_FILE: Final = "readers"
LOCKS: Final = Path("/proc/locks")
"""Where Linux lists who holds which lock."""
_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)


class Reader:
    """One reader's share of the lock."""

    def __init__(self, home: Path) -> None:
        """Take it; a sweep that has just begun is waited for, it is short.

        A home that cannot be written has nobody who collects: there is nothing to share.

        Raises:
            MachineError: the system refused.
        """
        self._descriptor = -1
        path = home / READERS_FILE
        with explained(f"locking {path}"):
            try:
                self._descriptor = _open(path)
            except OSError as e:
                if e.errno not in _READ_ONLY:
                    raise
                return
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def release(self) -> None:
        """Let go; calling it twice does no harm."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


@contextmanager
def alone(home: Path) -> Iterator[bool]:
    """Lend whether no reader is there; if so, none comes while the block runs.

    Raises:
        MachineError: the system refused.
    """
    path = home / READERS_FILE
    with explained(f"locking {path}"):
        descriptor = _open(path)
    try:
        yield _taken(descriptor, path)
    finally:
        os.close(descriptor)


def _taken(descriptor: int, path: Path) -> bool:
    with explained(f"locking {path}"):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def who_reads(home: Path) -> list[int]:
    """Return the processes that read, as far as this system tells."""
    try:
        inode = (home / READERS_FILE).stat().st_ino
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return []
    return sorted({pid for line in lines if (pid := _holder(line, inode)) > 0})


def _holder(line: str, inode: int) -> int:
    """Return the process of a line of that list which is about this file, else 0."""
    words = line.split()
    if words[1:2] + words[3:4] == ["FLOCK", "READ"] and words[5].endswith(f":{inode}"):
        return int(words[4])
    return 0


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
