"""The home of a node: a private folder with its keys, its store and its lock.

Owns the layout of the folder, the form of key files, and that only one process writes at a
time. Does not own what the store keeps (`store`), where entropy comes from (`runtime`),
nor who listens on the control socket.

Layout: `author.key` and `node.key` (hex, mode 0600), `store.sqlite`, `blobs/`, `partial/`,
`temporary/`, `lock`, and `control.sock` while a node runs. The store is put in place last,
so a folder that has it is a whole home.
"""

import errno
import fcntl
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import platformdirs

from crdtmerge.errors import (
    BadInputError,
    BusyError,
    ConflictError,
    MachineError,
    NotFoundError,
)
from crdtmerge.identity import KEY_BYTES, SigningKey

from .store.blobs import BLOB_FOLDER, PARTIAL_FOLDER, TEMPORARY_FOLDER, FileBlobs
from .store.database import Database
from .store.disk import (
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    explained,
    sync_folder,
    write_file,
)
from .store.sqlite import SqliteLocal, SqliteRecords

HOME_VARIABLE: Final = "CRDTMERGE_HOME"
AUTHOR_KEY_FILE: Final = "author.key"
NODE_KEY_FILE: Final = "node.key"
STORE_FILE: Final = "store.sqlite"
NEW_STORE_FILE: Final = "store.sqlite.new"
LOCK_FILE: Final = "lock"
CONTROL_SOCKET: Final = "control.sock"
LOCK_BYTES_MAX: Final = 64
KEY_FILE_BYTES_MAX: Final = 128

LockPurpose = Literal["node", "command"]
"""What holds a home: a running node, or one command."""

_HOLDERS: Final = {
    "node": ("a node is already running on this home", "stop it, or use another home"),
    "command": (
        "another command is changing this home",
        "try again once it has finished",
    ),
}
_STORES: Final = (STORE_FILE, NEW_STORE_FILE)
_HOLDER: Final = re.compile(r"([0-9]{1,10}) (node|command)\n")


def default_home() -> Path:
    """Return the home that CRDTMERGE_HOME names, else this system's place for data."""
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(named).expanduser()
    return platformdirs.user_data_path("crdtmerge", appauthor=False)


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


@dataclass(frozen=True, slots=True)
class Home:
    """An open home; `lock` is None when it was opened for reading only."""

    path: Path
    author: SigningKey
    node: SigningKey
    database: Database
    records: SqliteRecords
    local: SqliteLocal
    blobs: FileBlobs
    lock: HomeLock | None

    @property
    def control_socket(self) -> Path:
        """Where a running node listens for commands."""
        return self.path / CONTROL_SOCKET

    def close(self) -> None:
        """Close everything, the lock last; calling it twice does no harm."""
        self.blobs.close()
        self.database.close()
        if self.lock:
            self.lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def create_home(
    path: Path, *, author_seed: bytes, node_seed: bytes, generation: bytes
) -> Home:
    """Make a home at `path`, with keys from the caller's entropy, and open it to write.

    Raises:
        ConflictError: there is a home already, or the folder is not empty.
        MachineError: the disk refused; nothing is left behind.
    """
    path = path.absolute()
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    if path.is_dir():
        _require_empty(path)  # before the lock file is put there
    with explained(f"creating {path}"):
        path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent)
    try:
        lock = HomeLock(path, "command")
    except BaseException:
        if missing:
            with suppress(OSError):
                path.rmdir()  # only an empty one goes
        raise
    try:
        _require_empty(path)
        try:
            _fill(path, author_seed, node_seed, generation)
            return _open(path, lock)
        except BaseException:
            _undo(path, made=bool(missing))
            raise
    except BaseException:
        lock.release()
        raise


def open_home(path: Path, *, write: bool, purpose: LockPurpose = "command") -> Home:
    """Open the home at `path`; with `write`, as the only process that may.

    Raises:
        NotFoundError: there is no home, or a key file is missing.
        ConflictError: `write`, and another process holds the lock.
        BadInputError: a key file has no key.
        MachineError: the store is damaged, the disk refused, or others can read a key.
    """
    path = path.absolute()
    if not (path / STORE_FILE).is_file():
        raise NotFoundError(f"no home at {path}", hint="run `crdtmerge init`")
    if not write:
        return _open(path, None)
    lock = HomeLock(path, purpose)
    try:
        return _open(path, lock)
    except BaseException:
        lock.release()
        raise


def _open(path: Path, lock: HomeLock | None) -> Home:
    """Return the home with its parts open; the caller releases the lock on an error."""
    write = lock is not None
    author = _read_key(path / AUTHOR_KEY_FILE)
    node = _read_key(path / NODE_KEY_FILE)
    database = Database(path / STORE_FILE, write=write)
    try:
        return Home(
            path=path,
            author=author,
            node=node,
            database=database,
            records=SqliteRecords(database),
            local=SqliteLocal(database),
            blobs=FileBlobs(path, database, write=write),
            lock=lock,
        )
    except BaseException:
        database.close()
        raise


def _require_empty(path: Path) -> None:
    """Refuse a folder that is a home already, or holds anything else."""
    if (path / STORE_FILE).exists():
        message = f"there is a home at {path} already"
        raise ConflictError(message, hint="give another folder with --home")
    with explained(f"listing {path}"):
        found = sorted(item.name for item in path.iterdir() if item.name != LOCK_FILE)
    if found:
        message = f"{path} is not empty: it holds {found[0]}"
        raise ConflictError(message, hint="give a new or an empty folder with --home")


def _fill(path: Path, author_seed: bytes, node_seed: bytes, generation: bytes) -> None:
    """Write the files of a new home, the store last; the caller holds the lock."""
    with explained(f"creating {path}"):
        path.chmod(PRIVATE_FOLDER)
        write_file(path / AUTHOR_KEY_FILE, f"{author_seed.hex()}\n".encode())
        write_file(path / NODE_KEY_FILE, f"{node_seed.hex()}\n".encode())
    Database.create(path / NEW_STORE_FILE, generation).close()
    with explained(f"creating {path}"):
        (path / NEW_STORE_FILE).replace(path / STORE_FILE)
        sync_folder(path)


def _undo(path: Path, *, made: bool) -> None:
    """Remove what creating a home left, and the folder too if it was `made` for it."""
    stores = [f"{name}{end}" for name in _STORES for end in ("", "-wal", "-shm")]
    for name in (AUTHOR_KEY_FILE, NODE_KEY_FILE, *stores):
        with suppress(OSError):
            (path / name).unlink(missing_ok=True)
    for name in (BLOB_FOLDER, PARTIAL_FOLDER, TEMPORARY_FOLDER):
        with suppress(OSError):
            (path / name).rmdir()
    if made:
        with suppress(OSError):
            (path / LOCK_FILE).unlink(missing_ok=True)
            path.rmdir()


def _read_key(path: Path) -> SigningKey:
    """Return the key in a file that only its owner may read.

    Raises:
        NotFoundError: there is no such file.
        MachineError: others may read it.
        BadInputError: it holds no key.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(KEY_FILE_BYTES_MAX)
    except FileNotFoundError as e:
        hint = "restore it from a backup; without it this home cannot sign"
        raise NotFoundError(f"the key {path} is missing", hint=hint) from e
    except OSError as e:
        reason = os.strerror(e.errno or errno.EIO)
        raise MachineError(f"cannot read {path}: {reason}") from e
    if mode & 0o077:
        message = f"{path} is open to others (mode {mode & 0o777:04o})"
        raise MachineError(message, hint=f"run `chmod 600 {path}`")
    if not re.fullmatch(rb"[0-9a-f]{%d}\n?" % (2 * KEY_BYTES), data):
        message = f"{path} does not hold a key of {2 * KEY_BYTES} hex digits"
        raise BadInputError(message, hint="restore it from a backup")
    return SigningKey(bytes.fromhex(data.decode().strip()))
