"""SQLite's files on a simulated disk.

Owns how SQLite's calls become those of the disk, in the way of its own layer for Unix: a
new journal's first sync brings its name to the disk too. Does not own what the disk loses
or refuses (`disk`). There is no shared memory: one connection at a time, in exclusive mode.
"""

import errno
import itertools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import apsw

from .disk import SimulatedDisk, SimulatedFile

SECTOR_BYTES: Final = 4096
"""What SQLite's own layer says of every disk."""

_NUMBERS: Final = itertools.count()
_JOURNALS: Final = (
    apsw.SQLITE_OPEN_MAIN_JOURNAL
    | apsw.SQLITE_OPEN_SUPER_JOURNAL
    | apsw.SQLITE_OPEN_WAL
)


_TEXTS: Final = {
    apsw.SQLITE_CANTOPEN: "unable to open database file",
    apsw.SQLITE_FULL: "database or disk is full",
    apsw.SQLITE_IOERR: "disk I/O error",
}


class SimulatedVfs(apsw.VFS):
    """The file layer of one disk; it is known to SQLite for as long as that lives."""

    def __init__(self, disk: SimulatedDisk) -> None:
        """Register it under a name of its own."""
        self.name = f"simulated-{next(_NUMBERS)}"
        self._disk = weakref.proxy(disk)
        super().__init__(self.name, base="")

    def xOpen(  # type: ignore[override]  # noqa: N802  any object with these names will do
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> "SimulatedSqliteFile":
        """Open a file, or make it."""
        if isinstance(name, apsw.URIFilename):
            name = name.filename()
        path = Path(name or f"/temporary-{next(_NUMBERS)}")
        with _told(apsw.SQLITE_CANTOPEN, full=apsw.SQLITE_CANTOPEN):
            if self._disk.exists(path):
                file = self._disk.open(path, write=True)
                return SimulatedSqliteFile(self._disk, file, path, syncs_name=False)
            if not flags[0] & apsw.SQLITE_OPEN_CREATE:
                raise _error(apsw.SQLITE_CANTOPEN)
            file = self._disk.create(path)
        syncs_name = bool(flags[0] & _JOURNALS)
        return SimulatedSqliteFile(self._disk, file, path, syncs_name=syncs_name)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        """Remove a file."""
        path = Path(filename)
        with _told(apsw.SQLITE_IOERR_DELETE):
            if not self._disk.exists(path):
                raise _error(apsw.SQLITE_IOERR_DELETE_NOENT)
            self._disk.remove(path)
        if syncdir:
            with _told(apsw.SQLITE_IOERR_DIR_FSYNC):
                self._disk.sync_folder(path.parent)

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: ARG002, N802
        """Tell whether a file is there."""
        return bool(self._disk.exists(Path(pathname)))

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        """Return the name: all are absolute."""
        return name


class SimulatedSqliteFile:
    """An open file of SQLite's."""

    def __init__(
        self, disk: SimulatedDisk, file: SimulatedFile, path: Path, *, syncs_name: bool
    ) -> None:
        self._disk = disk
        self._file = file
        self._path = path
        self._syncs_name = syncs_name

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        """Return bytes; SQLite fills up what lies beyond the end."""
        try:  # not `_told`: this is called more often than all else together
            return self._file.read_at(offset, amount)
        except OSError as e:
            raise _error(apsw.SQLITE_IOERR_READ) from e

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        """Write all of `data`."""
        with _told(apsw.SQLITE_IOERR_WRITE):
            self._file.write_at(offset, data)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        """Cut the file."""
        with _told(apsw.SQLITE_IOERR_TRUNCATE):
            self._file.truncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: ARG002, N802
        """Bring the data to the disk, and of a new journal the name."""
        with _told(apsw.SQLITE_IOERR_FSYNC, full=apsw.SQLITE_IOERR_FSYNC):
            self._file.sync()
        if self._syncs_name:
            self._syncs_name = False
            # As SQLite does: a journal whose name did not get there is noticed by nobody.
            with suppress(OSError):
                self._disk.sync_folder(self._path.parent)

    def xFileSize(self) -> int:  # noqa: N802
        """Return how many bytes it has."""
        return self._file.size()

    def xLock(self, level: int) -> None:  # noqa: N802
        """Lock nothing: there is one connection."""

    def xUnlock(self, level: int) -> None:  # noqa: N802
        """Unlock nothing."""

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        """Tell that nobody else holds a lock."""
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:  # noqa: ARG002, N802
        """Know no control."""
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        """Return what SQLite pads its journal to."""
        return SECTOR_BYTES

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        """Say what SQLite assumes of every disk: a torn write harms no other bytes."""
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xClose(self) -> None:  # noqa: N802
        """Close the file."""
        with suppress(BaseException):  # the power may be gone
            self._file.close()


@contextmanager
def _told(code: int, *, full: int = apsw.SQLITE_FULL) -> Iterator[None]:
    """Turn what the disk refuses into SQLite's own result codes."""
    try:
        yield
    except OSError as e:
        raise _error(full if e.errno == errno.ENOSPC else code) from e


def _error(code: int) -> Exception:
    """Return the exception of a result code, with SQLite's own words for it."""
    error = apsw.exception_for(code)
    error.args = (_TEXTS[code & 0xFF],)
    return error
