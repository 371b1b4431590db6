"""The disk of this machine, counting its calls and refusing one of them on request."""

import errno
import os
from pathlib import Path

from nodes.store.disk import SystemDisk, SystemFile


class CountedFile(SystemFile):
    """A file whose reads and writes are counted where its disk keeps count."""

    def __init__(self, disk: "CountedDisk", path: Path, flags: int) -> None:
        super().__init__(path, flags)
        self._disk, self._path = disk, path

    def read_at(self, offset: int, length: int) -> bytes:
        """Read, and count."""
        data = super().read_at(offset, length)
        self._disk.step("read", self._path, len(data))
        return data

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Count, then write."""
        self._disk.step("write", self._path, len(data))
        super().write_at(offset, data)

    def sync(self) -> None:
        """Count, then sync."""
        self._disk.step("sync", self._path, 0)
        super().sync()


class CountedDisk(SystemDisk):
    """Counts bytes by (call, path); `refuse` is the number of the step that fails."""

    def __init__(self, refuse: int | None = None, error: int = errno.ENOSPC) -> None:
        self.bytes: dict[tuple[str, Path], int] = {}
        self.log: list[tuple[str, Path]] = []
        self.refuse, self._error = refuse, error

    def step(self, call: str, path: Path, size: int) -> None:
        """Count one call; refuse it if it is its turn."""
        if call != "read":
            if len(self.log) == self.refuse:
                raise OSError(self._error, "refused by the test")
            self.log.append((call, path))
        self.bytes[call, path] = self.bytes.get((call, path), 0) + size

    def count(self, call: str, below: Path) -> int:
        """Return how many bytes a call has moved, in a file or below a folder."""
        return sum(
            size
            for (name, path), size in self.bytes.items()
            if name == call and path.is_relative_to(below)
        )

    def create(self, path: Path) -> CountedFile:
        """Count, then create."""
        self.step("create", path, 0)
        return CountedFile(self, path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def open(self, path: Path, *, write: bool = False) -> CountedFile:
        """Open a file that counts."""
        return CountedFile(self, path, os.O_RDWR if write else os.O_RDONLY)

    def rename(self, old: Path, new: Path) -> None:
        """Count, then rename."""
        self.step("rename", new, 0)
        super().rename(old, new)

    def make_folder(self, folder: Path) -> None:
        """Count, then make it."""
        self.step("make_folder", folder, 0)
        super().make_folder(folder)

    def sync_folder(self, folder: Path) -> None:
        """Count, then sync."""
        self.step("sync_folder", folder, 0)
        super().sync_folder(folder)
