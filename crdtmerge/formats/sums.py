"""A folder of kept sums, two files a tensor: a header, and planes.

Owns where the files lie, that each appears whole, and that one process at a time uses
them. Does not own what is in them (`resolve.kept`), which is verified when it is read: the
files are derived data, so nothing is forced to disk, and what a crash tears is found and
made afresh. So is a header that a crash left beside planes of another.
"""

import contextlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from crdtmerge.digest import blob_id_of
from crdtmerge.errors import NotAllowedError
from crdtmerge.formats.output import lock_of
from crdtmerge.formats.writer import machine_error
from crdtmerge.numerics import Data

SUFFIX: Final = ".sums"
PLANES_SUFFIX: Final = ".planes"
_PARTIAL: Final = ".partial"
_OTHERS_WRITE: Final = 0o022


class SumsFolder:
    """A folder in which the sums of each tensor are kept, for one recipe at a time.

    It is made when it is first needed, for its user alone: whoever could write to it
    could change merged bytes, so one that others may write to is refused.
    """

    def __init__(self, path: Path, *, write: bool = True) -> None:
        """Make the folder if it is not there, and lock it; without `write` only look.

        Raises:
            MachineError: the disk refuses.
            NotAllowedError: other users may write to the folder.
            BlockingIOError: another process uses it.
        """
        self._path = path
        self._lock: int | None = None
        if not write:
            return
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = path.stat().st_mode
        except OSError as e:
            raise machine_error("use", path, e) from e
        if os.name == "posix" and mode & _OTHERS_WRITE:
            message = f"other users may write to {path}, and so change what is merged"
            raise NotAllowedError(message, hint=f"chmod go-w {path}")
        self._lock = lock_of(path)
        for left in path.glob(f"*{_PARTIAL}"):
            with contextlib.suppress(OSError):
                left.unlink()

    def load(self, tensor: str) -> tuple[Data, Data] | None:
        """Return header and planes of a tensor, the planes read as they are looked at.

        Raises:
            MachineError: the disk refuses.
        """
        path = self._file(tensor)
        try:
            return path.read_bytes(), _mapped(path.with_suffix(PLANES_SUFFIX))
        except FileNotFoundError:
            return None
        except OSError as e:
            raise machine_error("read", path, e) from e

    def keep(self, tensor: str, header: bytes) -> None:
        """Put a header in place of the one there was, whole or not at all.

        Raises:
            MachineError: the disk is full or refuses; the old one stays.
        """
        path = self._file(tensor)
        partial = path.with_suffix(f"{SUFFIX}{_PARTIAL}")
        try:
            partial.write_bytes(header)
            partial.chmod(0o600)
            partial.replace(path)
        except OSError as e:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise machine_error("write", path, e) from e

    @contextlib.contextmanager
    def replacing(self, tensor: str) -> Iterator["PlanesFile"]:
        """Lend a file for new planes; unless it is finished, the old ones stay."""
        path = self._file(tensor).with_suffix(PLANES_SUFFIX)
        file = PlanesFile(self, tensor, path)
        try:
            yield file
        finally:
            file.close()

    def _file(self, tensor: str) -> Path:
        name = blob_id_of(tensor.encode()).hex()  # any name fits, on any file system
        return self._path / f"{name}{SUFFIX}"

    def close(self) -> None:
        """Let others use the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class PlanesFile:
    """New planes of one tensor; the file is made when the first bytes come."""

    def __init__(self, folder: SumsFolder, tensor: str, path: Path) -> None:
        self._folder = folder
        self._tensor = tensor
        self._path = path
        self._partial = path.with_suffix(f"{PLANES_SUFFIX}{_PARTIAL}")
        self._file: int | None = None

    def write(self, data: Data) -> None:
        """Append bytes.

        Raises:
            MachineError: the disk is full or refuses.
        """
        try:
            if self._file is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                self._file = os.open(self._partial, flags, 0o600)
            left = memoryview(data).cast("B") if len(data) else memoryview(b"")
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as e:
            raise machine_error("write", self._partial, e) from e

    def finish(self, header: bytes) -> None:
        """Put planes and header into place.

        Raises:
            MachineError: the disk is full or refuses.
        """
        try:
            self._partial.replace(self._path)
        except OSError as e:
            raise machine_error("write", self._path, e) from e
        self._folder.keep(self._tensor, header)

    def close(self) -> None:
        """Let go of the file; what was not finished is removed."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            with contextlib.suppress(OSError):
                self._partial.unlink(missing_ok=True)


def _mapped(path: Path) -> Data:
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return b""
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
