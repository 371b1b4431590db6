"""The lock of a home: only one process writes to it at a time.

Owns the lock file, and the words for who holds it. Does not own the home (`home`).
"""

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from crdtmerge.errors import BusyError, ConflictError

from .store.disk import PRIVATE_FILE, explained

LOCK_FILE: Final = "lock"
LOCK_BYTES_MAX: Final = 64

LockPurpose = Literal["node", "command"]
"""What holds a home: a running node, or one command."""

_HOLDERS: Final = {
    "node": ("a node is already running on this home", "stop it, or use another home"),
    "command": (
        "another command is changing this home",
        "try again once it has finished",
    ),
}
_HOLDER: Final = re.compile(r"([0-9]{1,10}) (node|command)\n")


class HomeLock:
    """Held by the one process that may write to a home; the system frees it at its end."""

    def __init__(self, home: Path, purpose: LockPurpose) -> None:
        """Take the lock of `home`.

        Raises:
            ConflictError: another process, or another part of this one, holds it.
            MachineError: the lock file cannot be opened.
        """
        path = home / LOCK_FILE
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        with explained(f"locking {home}"):
            self._descriptor = os.open(path, flags, PRIVATE_FILE)
        try:
            with explained(f"locking {home}"):
                self._take(f"{os.getpid()} {purpose}\n")
        except BaseException:
            self.release()
            raise

    def _take(self, text: str) -> None:
        """Lock the file, or say who has; the file stays, only its text changes."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise _held_by(os.pread(self._descriptor, LOCK_BYTES_MAX, 0)) from e
        os.ftruncate(self._descriptor, 0)
        with suppress(OSError):  # a full disk must not keep out who would free it
            os.pwrite(self._descriptor, text.encode(), 0)

    def release(self) -> None:
        """Let the next one in; calling it twice does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _held_by(text: bytes) -> ConflictError:
    """Return the error that says who holds the lock."""
    found = _HOLDER.fullmatch(text.decode("ascii", "replace"))
    if found is None:  # it has only just taken it
        message = "another process is using this home"
        return BusyError(message, hint="try again once it has finished")
    message, hint = _HOLDERS[found[2]]
    kind = ConflictError if found[2] == "node" else BusyError
    return kind(f"{message} (pid {found[1]})", hint=hint)
