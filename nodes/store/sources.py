"""The user's own files, read by plain calls: one that is cut meanwhile is an error.

Owns reading ranges of them, and that a file is the same from its header to the end of the
work. Does not own what they hold (`crdtmerge.formats`). They are never mapped here: the
system kills a process that touches a page beyond the end of a mapped file.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from crdtmerge.errors import BadInputError
from crdtmerge.formats.folder import changed
from crdtmerge.formats.header import UNSEEN, FileState, StoredTensor

from .disk import SYSTEM_DISK, Disk, File

Again = Callable[[int, int], bytes]
"""Reads bytes of the tensor at hand once more, `length` of them from a byte on."""


class Sources:
    """Files of the user's; for one thread."""

    def __init__(self, disk: Disk = SYSTEM_DISK) -> None:
        """Read from `disk`; nothing is open yet."""
        self._disk = disk
        self._states: dict[Path, FileState] = {}
        self._path: Path | None = None
        self._file: File | None = None

    def read(self, tensor: StoredTensor, start: int, length: int) -> bytes:
        """Return bytes of a tensor, from byte `start` of it on.

        Raises:
            BadInputError: the file is gone, another one, or shorter than it was.
        """
        try:
            file = self._opened(tensor)
            data = file.read_at(tensor.offset + start, length)
        except FileNotFoundError as e:
            raise changed(tensor) from e
        except OSError as e:
            message = f"cannot read {tensor.path}: {e.strerror}"
            raise BadInputError(message) from e
        if len(data) < length:
            raise changed(tensor)
        return data

    def _opened(self, tensor: StoredTensor) -> File:
        """Return the file of a tensor; one file is open at a time."""
        if self._file is None or self._path != tensor.path:
            self.close()
            self._expect(tensor)
            self._file, self._path = self._disk.open(tensor.path), tensor.path
        return self._file

    def _expect(self, tensor: StoredTensor) -> None:
        """Compare a file with what it was when its header was read."""
        state = FileState.of(tensor.path.stat())
        before = self._states.setdefault(
            tensor.path, state if tensor.state == UNSEEN else tensor.state
        )
        if state != before:
            raise changed(tensor)

    def check_unchanged(self, tensors: Iterable[StoredTensor]) -> None:
        """Refuse files that were written to, or replaced, since their headers were read.

        Raises:
            BadInputError: names the first of them.
        """
        for tensor in {tensor.path: tensor for tensor in tensors}.values():
            try:
                self._expect(tensor)
            except OSError as e:
                raise changed(tensor) from e

    def close(self) -> None:
        """Close what is open."""
        if self._file is not None:
            self._file.close()
        self._file = self._path = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
