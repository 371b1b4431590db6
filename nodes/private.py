"""What only its owner may touch: secret files and the folder they lie in.

Owns the checks of kind, owner and mode, and the reading of a secret up to a limit. Does not
own what a secret means (`keys`, `passphrase`).

A file is checked through its open descriptor, so what was checked is what is read.
"""

import errno
import os
import stat
from pathlib import Path

from crdtmerge.errors import BadInputError, MachineError

from .store.disk import PRIVATE_FILE, PRIVATE_FOLDER, explained

_OTHERS = 0o077
_ROOT = 0


def read_private(path: Path, bytes_max: int, *, follow: bool) -> bytes:
    """Return what a secret file holds.

    With `follow` the name may be a link, and the file a pipe: the shell's `<(...)`.

    Raises:
        FileNotFoundError: there is no such file; the caller knows what to say.
        MachineError: it is no file, others may read it, or it is another user's.
        BadInputError: it is longer than such a secret can be.
    """
    # SUBTLE: without O_NONBLOCK a pipe in the place of a key would be waited for.
    strict = 0 if follow else os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | strict)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise _cannot_open(path, e) from e
    try:
        with explained(f"reading {path}"):
            status = os.fstat(descriptor)
            kind = stat.S_IFMT(status.st_mode)
            if kind != stat.S_IFREG and not (follow and kind == stat.S_IFIFO):
                raise MachineError(f"{path} is not a file")
            _check(path, status, PRIVATE_FILE)
            data = _read_up_to(descriptor, bytes_max + 1)
    finally:
        os.close(descriptor)
    if len(data) > bytes_max:
        raise BadInputError(f"{path} is longer than {bytes_max} bytes")
    return data


def _read_up_to(descriptor: int, count: int) -> bytes:
    """Return at most `count` bytes; a pipe may hand them out in pieces."""
    data = b""
    while len(data) < count and (piece := os.read(descriptor, count - len(data))):
        data += piece
    return data


def check_folder(path: Path) -> None:
    """Check that nobody else can look into a folder, or replace what lies in it.

    Raises:
        MachineError: others can, or it belongs to another user.
    """
    with explained(f"reading {path}"):
        status = path.stat()
    _check(path, status, PRIVATE_FOLDER)


def _check(path: Path, status: os.stat_result, due: int) -> None:
    """Refuse another user's file, and a mode that lets others in."""
    if status.st_uid not in {os.geteuid(), _ROOT}:
        raise MachineError(
            f"{path} belongs to another user (uid {status.st_uid})",
            hint="run the command as that user, or use another home",
        )
    if status.st_mode & _OTHERS:
        mode = stat.S_IMODE(status.st_mode)
        message = f"{path} is open to others (mode {mode:04o})"
        raise MachineError(message, hint=f"run `chmod {due:o} {path}`")


def _cannot_open(path: Path, error: OSError) -> MachineError:
    if error.errno == errno.ELOOP:
        message = f"{path} is a symbolic link"
        return MachineError(message, hint="put the file itself in its place")
    return MachineError(f"cannot read {path}: {os.strerror(error.errno or errno.EIO)}")
