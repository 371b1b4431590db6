"""An output folder that appears whole or not at all.

Owns the temporary sibling, the swap and the cleaning up. Does not own what is written.
"""

import contextlib
import os
import shutil
import threading
from pathlib import Path
from types import TracebackType

from crdtmerge.errors import ConflictError
from crdtmerge.formats.folder import RESOLUTION_FILE
from crdtmerge.formats.writer import machine_error


class OutputFolder:
    """Context manager: files go to a hidden sibling, renamed to `out` when all went well.

    If the block fails, the sibling is removed and `out` is as it was. A folder in the way
    is replaced only with `overwrite`, and never one that holds folders: no model does, so
    it is something else that the user would miss.
    """

    def __init__(
        self, out: Path, *, overwrite: bool = False, fsync: bool = False
    ) -> None:
        """Keep what is asked; nothing is touched before the block is entered."""
        self._out = out.resolve()
        self._overwrite = overwrite
        self._fsync = fsync
        # Process and thread tell apart everything that can write here at one time, and
        # need no entropy; a leftover of the same name is of a process that died.
        suffix = f"{os.getpid()}-{threading.get_native_id()}"
        self._partial = self._out.with_name(f".{self._out.name}.partial-{suffix}")
        self._old = self._out.with_name(f".{self._out.name}.old-{suffix}")

    def __enter__(self) -> Path:
        """Return the folder to write to.

        Raises:
            ConflictError: something is in the way.
            MachineError: the disk refuses.
        """
        self._check_way()
        try:
            self._out.parent.mkdir(parents=True, exist_ok=True)
            if self._partial.exists():
                shutil.rmtree(self._partial)
            self._partial.mkdir()
        except OSError as e:
            raise machine_error("create", self._partial, e) from e
        return self._partial

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the folder into place, or remove it.

        Raises:
            ConflictError: something came in the way meanwhile.
            MachineError: the disk refuses.
        """
        try:
            if error is None:
                self._check_way()
                self._place()
            elif isinstance(error, OSError):
                raise machine_error("write", self._out, error) from error
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    def _check_way(self) -> None:
        """Refuse to replace what must not be replaced."""
        out = self._out
        if not out.exists():
            return
        if not out.is_dir():
            message = f"{out} is there already, and is not a folder"
            raise ConflictError(message)
        content = list(out.iterdir())
        if content and not self._overwrite:
            message = f"{out} is there already, and is not empty"
            hint = "choose another folder, or overwrite it with --force"
            raise ConflictError(message, hint=hint)
        if content and not (out / RESOLUTION_FILE).is_file():
            message = f"{out} is no merged model: it has no {RESOLUTION_FILE}"
            raise ConflictError(message, hint="choose another folder for the model")
        if folders := [item.name for item in content if item.is_dir()]:
            message = f"{out} holds the folder {folders[0]!r}, which no model does"
            raise ConflictError(message, hint="choose another folder for the model")

    def _place(self) -> None:
        """Rename the sibling to the output; what was there is removed last."""
        try:
            if self._fsync:
                for path in (*self._partial.iterdir(), self._partial):
                    _sync(path)
            if self._out.exists():
                self._out.rename(self._old)
            try:
                self._partial.rename(self._out)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    self._old.rename(self._out)
                raise
            if self._fsync:
                _sync(self._out.parent)
        except OSError as e:
            raise machine_error("put into place", self._out, e) from e
        shutil.rmtree(self._old, ignore_errors=True)


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
