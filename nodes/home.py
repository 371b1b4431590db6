"""The home of a node: a private folder with its keys, its store and its lock.

Owns the layout of the folder, and that a home is whole or not there. Does not own the keys
(`keys`), the lock (`lock`), what the store keeps (`store`), where entropy comes from
(`runtime`), nor who listens on the control socket.

Layout: `author.key` and `node.key` (mode 0600), `store.sqlite`, `blobs/`, `partial/`,
`temporary/`, `lock`, `readers`, and `control.sock` while a node runs; `memo.sqlite` and
`attested/`, which may be deleted, once a resolve found something out. The store is put in
place last, so a folder that has it is a whole home.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import platformdirs

from crdtmerge.bodies import SpaceId
from crdtmerge.errors import ConflictError, NotFoundError, UpgradeNeededError

from .agent import AgentKey
from .anchor import ANCHOR_FILE, NEW_ANCHOR_FILE, Anchor, SpaceSigner
from .keys import (
    AUTHOR_KEY_FILE,
    NODE_KEY_FILE,
    HomeKey,
    KeyForm,
    clear,
    finish_change,
    read_keys,
    write_keys,
)
from .lock import LOCK_FILE, HomeLock, LockPurpose
from .passphrase import AskPassphrase, no_passphrase
from .private import check_folder
from .readers import Reader
from .store.blobs import FileBlobs
from .store.database import Database, OlderStoreError
from .store.disk import PRIVATE_FOLDER, SYSTEM_DISK, Disk, explained
from .store.marks import Marks
from .store.places import BLOB_FOLDER, PARTIAL_FOLDER, TEMPORARY_FOLDER
from .store.sqlite import SqliteLocal, SqliteRecords

HOME_VARIABLE: Final = "CRDTMERGE_HOME"
STORE_FILE: Final = "store.sqlite"
NEW_STORE_FILE: Final = "store.sqlite.new"
CONTROL_SOCKET: Final = "control.sock"

_STORES: Final = (STORE_FILE, NEW_STORE_FILE)


def default_home() -> Path:
    """Return the home that CRDTMERGE_HOME names, else this system's place for data."""
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(named).expanduser()
    return platformdirs.user_data_path("crdtmerge", appauthor=False)


@dataclass(frozen=True, slots=True)
class Home:
    """An open home: with a `lock` to write, or as a `reader` that nobody collects under."""

    path: Path
    author: HomeKey
    node: HomeKey
    database: Database
    records: SqliteRecords
    local: SqliteLocal
    blobs: FileBlobs
    marks: Marks
    anchor: Anchor
    lock: HomeLock | None
    reader: Reader | None

    @property
    def control_socket(self) -> Path:
        """Where a running node listens for commands."""
        return self.path / CONTROL_SOCKET

    @property
    def encrypted(self) -> bool:
        """Whether no key lies in the clear."""
        return not (self.author.in_the_clear or self.node.in_the_clear)

    def signer(self, space: SpaceId) -> SpaceSigner:
        """Return the author as it signs records of `space`: never in a doubted state."""
        return SpaceSigner(self.author, self.anchor, space)

    def close(self) -> None:
        """Close everything, the locks last; calling it twice does no harm."""
        try:
            self.blobs.close()
        finally:
            self.database.close()
            for held in (self.reader, self.lock):
                if held:
                    held.release()

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
    path: Path,
    *,
    author_seed: bytes | AgentKey,
    node_seed: bytes,
    generation: bytes,
    form: KeyForm = clear,
    ask: AskPassphrase = no_passphrase,
    disk: Disk = SYSTEM_DISK,
) -> Home:
    """Make a home at `path`, with keys from the caller's entropy, and open it to write.

    The key files are given the `form`; an agent may hold the author's key.

    Raises:
        ConflictError: there is a home already, or the folder is not empty.
        MachineError: the disk refused; nothing is left behind.
    """
    path = path.absolute()
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    require_empty(path)  # before the lock file is put there
    with explained(f"creating {path}"):
        path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        for folder in missing:
            disk.sync_folder(folder.parent)
    try:
        lock = HomeLock(path, "command")
    except BaseException:
        if missing:
            with suppress(OSError):
                path.rmdir()  # only an empty one goes
        raise
    try:
        require_empty(path)
        try:
            with explained(f"creating {path}"):
                path.chmod(PRIVATE_FOLDER)
            furnish(path, (author_seed, node_seed), generation, form, disk)
            return _open(path, lock, ask, disk)
        except BaseException:
            _undo(path, made=bool(missing))
            raise
    except BaseException:
        lock.release()
        raise


def open_home(
    path: Path,
    *,
    write: bool,
    purpose: LockPurpose = "command",
    ask: AskPassphrase = no_passphrase,
    disk: Disk = SYSTEM_DISK,
) -> Home:
    """Open the home at `path`; with `write`, as the only process that may.

    The store of an older version is brought up to date first, either way.

    Keys that are encrypted stay so until one must sign: then `ask` is called, once.

    Raises:
        NotFoundError: there is no home, or a key file is missing.
        ConflictError: `write`, and another process holds the lock.
        UpgradeNeededError: a newer version wrote the store, or an older one still runs.
        BadInputError: a key file has no key.
        MachineError: the store is damaged, the disk refused, or others can read the home.
    """
    path = path.absolute()
    if not (path / STORE_FILE).is_file():
        raise NotFoundError(f"no home at {path}", hint="run `crdtmerge init`")
    check_folder(path)
    if not write:
        try:
            return _open(path, None, ask, disk)
        except OlderStoreError:
            _bring_up_to_date(path, disk)
            return _open(path, None, ask, disk)
    lock = HomeLock(path, purpose)
    try:
        finish_change(path, disk)
        return _open(path, lock, ask, disk)
    except BaseException:
        lock.release()
        raise


def _bring_up_to_date(path: Path, disk: Disk) -> None:
    """Give the store of an older version today's tables."""
    try:
        lock = HomeLock(path, "command")
    except ConflictError as e:
        message = f"an older version of crdtmerge wrote {path}, and still runs: {e}"
        hint = "stop it; the next command brings the home up to date"
        raise UpgradeNeededError(message, hint=hint) from e
    try:
        Database(path / STORE_FILE, write=True, disk=disk).close()
    finally:
        lock.release()


def _open(path: Path, lock: HomeLock | None, ask: AskPassphrase, disk: Disk) -> Home:
    """Return the home with its parts open; the caller releases the lock on an error."""
    write = lock is not None
    author, node = read_keys(path, ask)
    reader = None if write else Reader(path)
    try:
        database = Database(path / STORE_FILE, write=write, disk=disk)
        try:
            records, local = SqliteRecords(database), SqliteLocal(database)
            return Home(
                path=path,
                author=author,
                node=node,
                database=database,
                records=records,
                local=local,
                blobs=FileBlobs(path, database, disk, write=write),
                marks=Marks(database),
                anchor=Anchor(path, local, records, disk, write=write),
                lock=lock,
                reader=reader,
            )
        except BaseException:
            database.close()
            raise
    except BaseException:
        if reader:
            reader.release()
        raise


def require_empty(path: Path) -> None:
    """Refuse a folder that is a home already, or holds anything else.

    Raises:
        ConflictError: it is, or does.
    """
    if not path.is_dir():
        return
    if (path / STORE_FILE).exists():
        message = f"there is a home at {path} already"
        raise ConflictError(message, hint="give another folder with --home")
    with explained(f"listing {path}"):
        found = sorted(item.name for item in path.iterdir() if item.name != LOCK_FILE)
    if found:
        message = f"{path} is not empty: it holds {found[0]}"
        raise ConflictError(message, hint="give a new or an empty folder with --home")


def furnish(
    path: Path,
    seeds: tuple[bytes | AgentKey, bytes],
    generation: bytes,
    form: KeyForm,
    disk: Disk,
) -> None:
    """Put keys and store into an empty folder, the store as the last of its files."""
    write_keys(path, seeds, form, disk)
    Database.create(path / NEW_STORE_FILE, generation, disk=disk).close()
    with explained(f"creating {path}"):
        disk.rename(path / NEW_STORE_FILE, path / STORE_FILE)
        disk.sync_folder(path)


def _undo(path: Path, *, made: bool) -> None:
    """Remove what creating a home left, and the folder too if it was `made` for it."""
    stores = [f"{name}{end}" for name in _STORES for end in ("", "-wal", "-shm")]
    anchors = (ANCHOR_FILE, NEW_ANCHOR_FILE)
    for name in (AUTHOR_KEY_FILE, NODE_KEY_FILE, *anchors, *stores):
        with suppress(OSError):
            (path / name).unlink(missing_ok=True)
    for name in (BLOB_FOLDER, PARTIAL_FOLDER, TEMPORARY_FOLDER):
        with suppress(OSError):
            (path / name).rmdir()
    if made:
        with suppress(OSError):
            (path / LOCK_FILE).unlink(missing_ok=True)
            path.rmdir()
