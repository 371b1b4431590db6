"""A disk whose first failed sync is final: no more is written through it.

Owns that one rule. Does not own what a sync brings to the disk (`disk`).

After a sync that failed the system believes that all is on the disk, so the next one would
succeed without the data, or without the name. Whatever the reason was, even a full disk, it
is none that goes away: who wrote must stop, and start again from what is really there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from crdtmerge.errors import MachineError

from .disk import Disk, File, machine_error

_STOPPED = "stop this process, check the disk, and start again"


class UnforgivingDisk:
    """A `Disk` that refuses to write once a sync of it has failed."""

    def __init__(self, disk: Disk) -> None:
        """Watch over what is written to `disk` from here."""
        self._disk = disk
        self._failed: MachineError | None = None

    @property
    def vfs(self) -> str:
        """The name of SQLite's file layer on this disk."""
        return self._disk.vfs

    @property
    def shares_memory(self) -> bool:
        """Whether SQLite's readers may stand beside a writer."""
        return self._disk.shares_memory

    def require_trust(self) -> None:
        """Refuse to go on after a failed sync.

        Raises:
            MachineError: one has failed.
        """
        if self._failed is not None:
            message = f"{self._failed}; nothing more is tried"
            raise MachineError(message, hint=_STOPPED)

    @contextmanager
    def syncing(self, path: Path) -> Iterator[None]:
        """Run a sync, unless one has failed.

        Raises:
            MachineError: this one failed, or an earlier one; never one to try again.
        """
        self.require_trust()
        try:
            yield
        except OSError as e:
            error = machine_error(e, f"syncing {path}")
            self._failed = MachineError(str(error), hint=_STOPPED)
            raise self._failed from e

    def create(self, path: Path) -> File:
        """Return a new private file to read and write; the name must be free."""
        self.require_trust()
        return _Watched(self, path, self._disk.create(path))

    def open(self, path: Path, *, write: bool = False) -> File:
        """Return a file that is there."""
        if not write:
            return self._disk.open(path)
        self.require_trust()
        return _Watched(self, path, self._disk.open(path, write=True))

    def exists(self, path: Path) -> bool:
        """Tell whether a file or folder has this name."""
        return self._disk.exists(path)

    def size(self, path: Path) -> int:
        """Return how many bytes a file has."""
        return self._disk.size(path)

    def taken(self, path: Path) -> int:
        """Return how many bytes of the disk a file takes."""
        return self._disk.taken(path)

    def stamp(self, path: Path) -> str:
        """Return when the system last changed the file."""
        return self._disk.stamp(path)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, replacing what had it."""
        self.require_trust()
        self._disk.rename(old, new)

    def remove(self, path: Path) -> None:
        """Remove a file if it is there."""
        self._disk.remove(path)

    def make_folder(self, folder: Path) -> None:
        """Make a private folder if it is not there."""
        self.require_trust()
        self._disk.make_folder(folder)

    def remove_folder(self, folder: Path) -> None:
        """Remove an empty folder."""
        self._disk.remove_folder(folder)

    def list(self, folder: Path) -> list[str]:
        """Return the names in a folder, sorted."""
        return self._disk.list(folder)

    def sync_folder(self, folder: Path) -> None:
        """Bring the names in a folder to the disk."""
        with self.syncing(folder):
            self._disk.sync_folder(folder)

    def free(self, folder: Path) -> int:
        """Return how many bytes are free where the folder lies."""
        return self._disk.free(folder)


class _Watched:
    """A file that tells its disk when a sync has failed."""

    def __init__(self, disk: UnforgivingDisk, path: Path, file: File) -> None:
        self._disk = disk
        self._path = path
        self._file = file

    def size(self) -> int:
        return self._file.size()

    def read_at(self, offset: int, length: int) -> bytes:
        return self._file.read_at(offset, length)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        self._file.write_at(offset, data)

    def truncate(self, size: int) -> None:
        self._file.truncate(size)

    def sync(self) -> None:
        with self._disk.syncing(self._path):
            self._file.sync()

    def map(self) -> memoryview:
        return self._file.map()

    def is_named(self, path: Path) -> bool:
        return self._file.is_named(path)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
