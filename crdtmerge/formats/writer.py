"""Writing one safetensors file, its tensors in whatever order they are finished.

Owns the bytes of the file. Does not own the folder around it (`output`), nor the layout
(`header`). Equal entries and equal tensors give equal files.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from crdtmerge.errors import MachineError
from crdtmerge.formats.header import lay_out

WRITE_BYTES_MAX: Final = 1 << 30
"""Some systems refuse a single write of 2 GiB."""


def machine_error(work: str, path: Path, error: OSError) -> MachineError:
    """Return the error that tells the user what the machine refused."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        message = f"the disk is full: cannot {work} {path}"
        return MachineError(message, hint="free some space, then run it again")
    message = f"cannot {work} {path}: {error.strerror or error}"
    return MachineError(message)


class ModelWriter:
    """A safetensors file of known layout; `write` may be called from several threads.

    The file is preallocated, so a full disk shows before hours of work. As a context
    manager it leaves no file behind when its block fails.
    """

    def __init__(
        self,
        path: Path,
        entries: Iterable[tuple[str, str, tuple[int, ...]]],
        *,
        fsync: bool = False,
    ) -> None:
        """Create the file for these (name, dtype, shape) and write its header.

        Raises:
            MachineError: the disk is full or refuses; no file is left behind.
        """
        self._path = path
        self._layout = lay_out(entries)
        self._left = dict(self._layout.sizes)
        self._fsync = fsync
        self._lock = threading.Lock()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as e:
            raise machine_error("create", path, e) from e
        try:
            reserve(self._file, self._layout.size)
            write_all(self._file, self._layout.header, 0)
        except OSError as e:
            self.abandon()
            raise machine_error("write", path, e) from e

    def write(self, name: str, data: bytes | memoryview, offset: int = 0) -> None:
        """Write bytes of one tensor at their place: all, or those from `offset` on.

        Each byte is to be written once.

        Raises:
            MachineError: the disk is full or refuses.
        """
        end = offset + len(data)
        assert 0 <= offset <= end <= self._layout.sizes[name], f"{name} is smaller"
        try:
            write_all(self._file, data, self._layout.offsets[name] + offset)
        except OSError as e:
            raise machine_error("write", self._path, e) from e
        with self._lock:
            self._left[name] -= len(data)

    def close(self) -> None:
        """Finish the file, once every tensor was written.

        Raises:
            MachineError: the disk is full or refuses.
        """
        left = sorted(name for name, size in self._left.items() if size)
        assert not left, f"not written: {left[:3]}"
        try:
            if self._fsync:
                os.fsync(self._file)
            os.close(self._file)
        except OSError as e:
            raise machine_error("finish", self._path, e) from e

    def abandon(self) -> None:
        """Close and remove the file."""
        with contextlib.suppress(OSError):
            os.close(self._file)
        with contextlib.suppress(OSError):
            self._path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()


def reserve(file: int, size: int) -> None:
    """Claim the space of the whole file now, where the system can."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


def write_all(file: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`; a system call may take less than it was given."""
    left = memoryview(data).cast("B") if len(data) else memoryview(b"")
    while left:
        written = os.pwrite(file, left[:WRITE_BYTES_MAX], offset)
        left = left[written:]
        offset += written
