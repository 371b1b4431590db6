"""Writing a space as one file: beside its place, whole, and only then by its name.

Owns the order of writes that makes it all or nothing. Does not own what is written
(`operations.exporting`), nor the form (`form`).
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from crdtmerge.errors import ConflictError, NotFoundError

from ..store.disk import Disk, File, explained
from .form import END, entry_head, padding

PARTIAL_SUFFIX: Final = ".partial"


class ArchiveWriter:
    """Context manager: the file has its name once all went well, else it is gone.

    Until then it is `NAME.partial`; a process that is killed leaves that behind.
    """

    def __init__(self, path: Path, disk: Disk, *, overwrite: bool) -> None:
        """Keep where it goes; nothing is touched before the block is entered."""
        self._path = path
        self._disk = disk
        self._overwrite = overwrite
        self._beside = path.with_name(f"{path.name}{PARTIAL_SUFFIX}")
        self._file: File | None = None
        self.written = 0
        """Bytes so far."""

    def __enter__(self) -> Self:
        """Create the file beside its place.

        Raises:
            ConflictError: something has the name already, and is not to be replaced.
            NotFoundError: there is no such folder.
            MachineError: the disk refuses.
        """
        if not self._disk.exists(self._path.parent):
            raise NotFoundError(f"there is no folder {self._path.parent}")
        self._check_way()
        with explained(f"creating {self._beside}"):
            self._file = self._create()
        return self

    def _create(self) -> File:
        if self._overwrite:
            self._disk.remove(self._beside)
        try:
            return self._disk.create(self._beside)
        except FileExistsError as e:
            message = f"{self._beside} is there: another export runs, or one was killed"
            hint = "wait for it; or remove that file, or add --force"
            raise ConflictError(message, hint=hint) from e

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Sync, rename, sync the folder; or remove what was written.

        Raises:
            ConflictError: something took the name meanwhile.
            MachineError: the disk refuses; nothing has the name then.
        """
        assert self._file is not None, "left before it was entered"
        try:
            if error is None:
                self._finish(self._file)
        finally:
            with suppress(OSError):
                if self._file.is_named(self._beside):
                    self._disk.remove(self._beside)
            self._file.close()

    def _finish(self, file: File) -> None:
        with explained(f"writing {self._path}"):
            file.write_at(self.written, END)
            file.sync()
            self._check_way()
            # SUBTLE: with --force another export takes ours for what a killed one left
            if not file.is_named(self._beside):
                message = (
                    f"another export with --force took the place of {self._beside}"
                )
                raise ConflictError(message, hint="wait for it, then export again")
            self._disk.rename(self._beside, self._path)
            self._disk.sync_folder(self._path.parent)

    def _check_way(self) -> None:
        if not self._overwrite and self._disk.exists(self._path):
            message = f"{self._path} is there already"
            raise ConflictError(message, hint="name another file, or add --force")
        if self._path.is_dir():
            raise ConflictError(f"{self._path} is a folder", hint="name a file")

    def add(self, name: str, size: int, pieces: Iterable[bytes | memoryview]) -> None:
        """Write one entry of `size` bytes, which come in `pieces`.

        Raises:
            MachineError: the disk refuses.
        """
        assert self._file is not None, "outside of the block"
        end = self.written + len(entry_head(name, size)) + size
        self._write(entry_head(name, size))
        for piece in pieces:
            self._write(piece)
        assert self.written == end, "the pieces of an entry have its size"
        self._write(bytes(padding(size)))

    def _write(self, data: bytes | memoryview) -> None:
        assert self._file is not None, "outside of the block"
        with explained(f"writing {self._path}"):
            self._file.write_at(self.written, data)
        self.written += len(data)
