"""Writing the weight files of a model, their tensors in whatever order they are finished.

Owns the bytes of the files: making them, and filling them, which may go on in files that
are there. Does not own the folder around them, nor removing it when something fails
(`output`), nor the layout (`shards`). Equal layouts and equal tensors give equal files.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

from crdtmerge.errors import MachineError
from crdtmerge.formats.header import Layout
from crdtmerge.formats.shards import INDEX_FILE, ModelLayout

WRITE_BYTES_MAX: Final = 1 << 30
"""Some systems refuse a single write of 2 GiB."""

Data: TypeAlias = bytes | memoryview


def machine_error(work: str, path: Path, error: OSError) -> MachineError:
    """Return the error that tells the user what the machine refused."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        message = f"the disk is full: cannot {work} {path}"
        return MachineError(message, hint="free some space, then run it again")
    message = f"cannot {work} {path}: {error.strerror or error}"
    return MachineError(message)


def create_files(folder: Path, layout: ModelLayout) -> None:
    """Make the weight files of a model: their space is claimed, their headers written.

    So a full disk shows before hours of work. One that is there with this header stays as
    it is: somebody goes on with it.

    Raises:
        MachineError: the disk is full or refuses; what was made stays.
    """
    for name, laid in layout.files.items():
        path = folder / name
        with _working("write", path):
            if _is_laid_out(path, laid):
                continue
            path.unlink(missing_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                reserve(file, laid.size)
                write_all(file, laid.header, 0)
            finally:
                os.close(file)
    if layout.index:
        write_file(folder / INDEX_FILE, layout.index)


def write_file(path: Path, data: bytes) -> None:
    """Write a new file, whole.

    Raises:
        MachineError: the disk is full or refuses.
    """
    with _working("write", path):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_all(file, data, 0)
        finally:
            os.close(file)


class ModelWriter:
    """Fills the weight files of a model; `write` may be called from several threads.

    The files are there already, of their full size (`create_files`). One is open from its
    first byte to its last: of many shards only those that are being written.
    """

    def __init__(self, folder: Path, layout: ModelLayout) -> None:
        """Keep where everything goes; nothing is opened yet."""
        self.folder = folder
        self._files = {
            file: _OpenFile(folder / file, laid) for file, laid in layout.files.items()
        }
        self._homes = {
            name: self._files[file]
            for file, laid in layout.files.items()
            for name in laid.sizes
        }

    def write(self, name: str, data: Data, offset: int = 0) -> None:
        """Write bytes of one tensor at their place: all, or those from `offset` on.

        Those of one tensor come in order; who writes the first ones again begins again.

        Raises:
            MachineError: the disk is full or refuses.
        """
        self._homes[name].write(name, data, offset)

    def keep(self, name: str) -> None:
        """Take a tensor for written: its bytes are there from an earlier run."""
        self._homes[name].keep(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close what is open; without an error, every tensor was written."""
        files = self._files.values()
        with (
            contextlib.nullcontext()
            if error is None
            else contextlib.suppress(MachineError)
        ):
            for file in files:
                file.close()
        left = sorted(name for file in files for name in file.unwritten)
        assert error is not None or not left, f"not written: {left[:3]}"


class _OpenFile:
    """One file, open while some of its bytes are written and others are not."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self._path = path
        self._layout = layout
        self._left = dict(layout.sizes)
        self._missing = sum(layout.sizes.values())
        self._file: int | None = None
        self._lock = threading.Lock()

    @property
    def unwritten(self) -> list[str]:
        """Names of the tensors that lack bytes."""
        return [name for name, size in self._left.items() if size]

    def write(self, name: str, data: Data, offset: int) -> None:
        end = offset + len(data)
        assert 0 <= offset <= end <= self._layout.sizes[name], f"{name} is smaller"
        if not data:
            return  # SUBTLE: it may be the last one, after the file was closed
        with _working("write", self._path):
            with self._lock:
                if self._file is None:
                    self._file = os.open(self._path, os.O_WRONLY)
                file = self._file
                if not offset:
                    self._missing += self._layout.sizes[name] - self._left[name]
                    self._left[name] = self._layout.sizes[name]
            write_all(file, data, self._layout.offsets[name] + offset)
            with self._lock:
                self._left[name] -= len(data)
                self._missing -= len(data)
                if not self._missing:
                    self._close()

    def keep(self, name: str) -> None:
        with self._lock:
            self._missing -= self._left[name]
            self._left[name] = 0

    def close(self) -> None:
        """Close it, if it is open; no write is under way any more."""
        with _working("finish", self._path), self._lock:
            self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


@contextlib.contextmanager
def _working(work: str, path: Path) -> Iterator[None]:
    """Tell the user what the system refused."""
    try:
        yield
    except OSError as e:
        raise machine_error(work, path, e) from e


def _is_laid_out(path: Path, layout: Layout) -> bool:
    """Tell whether a file is there with the header and the size that it should have."""
    if not path.is_file() or path.stat().st_size != layout.size:
        return False
    with path.open("rb") as file:
        return file.read(len(layout.header)) == layout.header


def reserve(file: int, size: int) -> None:
    """Claim the space of the whole file now, where the system can."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


def write_all(file: int, data: Data, offset: int) -> None:
    """Write all of `data` at `offset`; a system call may take less than it was given."""
    left = memoryview(data).cast("B") if len(data) else memoryview(b"")
    while left:
        written = os.pwrite(file, left[:WRITE_BYTES_MAX], offset)
        left = left[written:]
        offset += written
