"""A folder of kept sums, one file a tensor.

Owns where the files lie and that each appears whole. Does not own what is in them
(`resolve.kept`), which is verified when it is read: the files are derived data, so nothing
is forced to disk, and what a crash tears is found and made afresh.
"""

import contextlib
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from crdtmerge.digest import blob_id_of
from crdtmerge.errors import NotAllowedError
from crdtmerge.formats.writer import machine_error
from crdtmerge.numerics import Data

SUFFIX: Final = ".sums"
_PARTIAL: Final = ".partial"
_OTHERS_WRITE: Final = 0o022


class SumsFolder:
    """A folder in which the sums of each tensor are kept, for one recipe at a time.

    It is made when it is first needed, for its user alone: whoever could write to it
    could change merged bytes, so one that others may write to is refused.
    """

    def __init__(self, path: Path) -> None:
        """Make the folder if it is not there.

        Raises:
            MachineError: the disk refuses.
            NotAllowedError: other users may write to the folder.
        """
        self._path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = path.stat().st_mode
        except OSError as e:
            raise machine_error("use", path, e) from e
        if os.name == "posix" and mode & _OTHERS_WRITE:
            message = f"other users may write to {path}, and so change what is merged"
            raise NotAllowedError(message, hint=f"chmod go-w {path}")

    def load(self, tensor: str) -> Data | None:
        """Return the file of a tensor, read as its bytes are looked at.

        Raises:
            MachineError: the disk refuses.
        """
        path = self._file(tensor)
        try:
            with path.open("rb") as file:
                if not os.fstat(file.fileno()).st_size:
                    return b""
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise machine_error("read", path, e) from e
        return memoryview(mapped)

    def save(self, tensor: str, pieces: Iterable[Data]) -> None:
        """Put a file in place of the one there was, whole or not at all.

        Raises:
            MachineError: the disk is full or refuses; the old file stays.
        """
        path = self._file(tensor)
        partial = path.with_suffix(_PARTIAL)
        try:
            try:
                with partial.open("wb") as file:
                    for piece in pieces:
                        file.write(piece)
                partial.replace(path)
            except OSError:
                with contextlib.suppress(OSError):
                    partial.unlink(missing_ok=True)
                raise
        except OSError as e:
            raise machine_error("write", path, e) from e

    def _file(self, tensor: str) -> Path:
        name = blob_id_of(tensor.encode()).hex()  # any name fits, on any file system
        return self._path / f"{name}{SUFFIX}"
