"""A disk in memory that forgets what was not synced, and fails when it is told to.

Owns the operations, their numbers, and at which of them the power goes or the disk refuses.
Does not own what is left of the un-synced (`power_loss`), nor SQLite's way to the files
(`sqlite_files`).
"""

import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import TracebackType
from typing import Final, Self

from .disk_faults import POWER, DiskFaults, Files
from .power_loss import (
    Change,
    Content,
    Folder,
    Loss,
    Naming,
    Node,
    PowerLossError,
    Remains,
)

CAPACITY_BYTES: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class Fault:
    """The operation that fails, and how; with `lasting` every one from there on."""

    at: int
    error: int
    lasting: bool = False

    def strikes(self, number: int, kind: str) -> bool:
        """Tell whether this operation fails: removing takes no room, so never for that."""
        if kind == "remove" and self.error == errno.ENOSPC:
            return False
        return number == self.at or (self.lasting and number > self.at)


@dataclass(frozen=True, slots=True)
class Operation:
    """One call that changes the disk, or makes a change durable."""

    kind: str
    path: str
    offset: int = 0
    length: int = 0

    def __str__(self) -> str:
        """Return it for a message."""
        where = f" {self.length} at {self.offset}" if self.kind == "write" else ""
        return f"{self.kind} {self.path}{where}"


class SimulatedFile:
    """An open file of a simulated disk."""

    def __init__(
        self, disk: "SimulatedDisk", path: Path, content: Content, *, write: bool
    ) -> None:
        """Open it."""
        self._disk = disk
        self._write = write
        self._path = path
        self._content = content

    def size(self) -> int:
        """Return how many bytes it has."""
        with self._disk.living():
            return len(self._content.data)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return the bytes there; fewer than `length` only at the end of the file."""
        with self._disk.living():
            if self._disk.faults.armed:
                self._disk.suffer("read", self._path)
            return bytes(memoryview(self._content.data)[offset : offset + length])

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data`; a full disk, or one that fails, takes a part of it."""
        with self._disk.living():
            self._require_write()
            self._disk.write(self._path, self._content, Change(offset, bytes(data)))

    def truncate(self, size: int) -> None:
        """Cut the file, or lengthen it with zeros."""
        with self._disk.living():
            self._require_write()
            self._disk.step("truncate", self._path)
            change = Change(size, None)
            change.apply(self._content.data)
            self._content.pending.append(change)

    def sync(self) -> None:
        """Bring the data to the disk; what a failed sync did not bring there is lost."""
        with self._disk.living():
            try:
                self._disk.step("sync", self._path)
            except OSError:
                self._content.fail()
                raise
            self._content.settle()

    def map(self) -> memoryview:
        """Return the bytes as read-only memory."""
        return memoryview(self.read_at(0, self.size()))

    def is_named(self, path: Path) -> bool:
        """Tell whether this very file has that name now."""
        return self._disk.holds(path, self._content)

    def close(self) -> None:
        """Close the file; nothing becomes durable."""

    def _require_write(self) -> None:
        if not self._write:
            raise _refusal(errno.EBADF, self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class SimulatedDisk:
    """A `Disk` whose operations are numbered from 0; at number `cut` the power goes."""

    shares_memory: Final = False

    def __init__(
        self,
        *,
        cut: int | None = None,
        fault: Fault | None = None,
        capacity: int = CAPACITY_BYTES,
        faults: DiskFaults | None = None,
    ) -> None:
        """Begin empty."""
        self.faults = faults or DiskFaults()
        self.lost_by = ""
        """What took the power; empty if that was at the operation `cut`."""
        self.cut = cut
        self.fault = fault
        self.capacity = capacity
        self.dead = False
        self.operations: list[Operation] = []
        self._root = Folder()
        self._lock = threading.RLock()
        self._last: tuple[Content, Change] | None = None
        self._under_way: tuple[Content, Change] | None = None
        self._vfs: object = None
        self._serials = 0

    @property
    def vfs(self) -> str:
        """The name of SQLite's file layer on this disk."""
        from .sqlite_files import SimulatedVfs

        if not isinstance(self._vfs, SimulatedVfs):
            self._vfs = SimulatedVfs(self)
        return self._vfs.name

    # --- what the port asks for ----------------------------------------------------------

    def create(self, path: Path) -> SimulatedFile:
        """Return a new file to read and write; the name must be free."""
        with self.living():
            folder = self._folder(path.parent)
            if path.name in folder.names:
                raise _refusal(errno.EEXIST, path)
            self.step("create", path)
            content = Content(serial=self._serials + len(self.operations))
            folder.change(Naming(gives=(path.name, content)))
            return SimulatedFile(self, path, content, write=True)

    def open(self, path: Path, *, write: bool = False) -> SimulatedFile:
        """Return a file that is there."""
        with self.living():
            return SimulatedFile(self, path, self._content(path), write=write)

    def exists(self, path: Path) -> bool:
        """Tell whether a file or folder has this name."""
        with self.living():
            return self._find(path) is not None

    def holds(self, path: Path, content: Content) -> bool:
        """Tell whether a name is that of this file."""
        with self.living():
            return self._find(path) is content

    def size(self, path: Path) -> int:
        """Return how many bytes a file has."""
        with self.living():
            return len(self._content(path).data)

    def taken(self, path: Path) -> int:
        """Return how many bytes of the disk a file takes; holes count here."""
        return self.size(path)

    def stamp(self, path: Path) -> str:
        """Return what no other file of this disk has."""
        with self.living():
            return str(self._content(path).serial)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, replacing what had it."""
        with self.living():
            source, target = self._folder(old.parent), self._folder(new.parent)
            node = source.names.get(old.name)
            if node is None:
                raise _refusal(errno.ENOENT, old)
            self.step("rename", new)
            takes, gives = (old.name, node), (new.name, node)
            if source is target:
                source.change(Naming(takes, gives))
                return
            given = Naming(gives=gives)
            target.change(given)
            source.change(Naming(takes=takes, after=(target, given)))

    def remove(self, path: Path) -> None:
        """Remove a file if it is there."""
        with self.living():
            node = self._find(path)
            if node is not None:
                self.step("remove", path)
                folder = self._folder(path.parent)
                folder.change(Naming(takes=(path.name, node)))

    def make_folder(self, folder: Path) -> None:
        """Make a folder if it is not there."""
        with self.living():
            parent = self._folder(folder.parent)
            if folder.name not in parent.names:
                self.step("make", folder)
                parent.change(Naming(gives=(folder.name, Folder())))

    def remove_folder(self, folder: Path) -> None:
        """Remove an empty folder."""
        if self.list(folder):
            raise _refusal(errno.ENOTEMPTY, folder)
        self.remove(folder)

    def list(self, folder: Path) -> list[str]:
        """Return the names in a folder, sorted."""
        with self.living():
            return sorted(self._folder(folder).names)

    def sync_folder(self, folder: Path) -> None:
        """Bring the names in a folder to the disk; those of a failed sync are lost."""
        with self.living():
            found = self._folder(folder)
            try:
                self.step("sync", folder)
            except OSError:
                found.fail()
                raise
            found.settle()

    def free(self, folder: Path) -> int:
        """Return how many bytes are free."""
        with self.living():
            self._folder(folder)
            return self.capacity - self._used(self._root)

    # --- what happens to it --------------------------------------------------------------

    def living(self) -> threading.RLock:
        """Return what is held during a call.

        Raises:
            PowerLossError: the power is gone.
        """
        if self.dead:
            raise PowerLossError
        return self._lock

    def step(self, kind: str, path: PurePath, change: Change | None = None) -> None:
        """Count an operation that is about to happen.

        Raises:
            PowerLossError: the power goes before it does.
            OSError: it fails.
        """
        if self.dead:
            raise PowerLossError
        number = len(self.operations)
        length = len(change.data or b"") if change else 0
        offset = change.offset if change else 0
        self.operations.append(Operation(kind, str(path), offset, length))
        if number == self.cut:
            self.dead = True
            raise PowerLossError
        if self.fault is not None and self.fault.strikes(number, kind):
            raise _refusal(self.fault.error, path)
        if self.faults.armed:
            self.suffer(kind, path)

    def suffer(self, kind: str, path: PurePath) -> None:
        """Let happen what is armed for an operation of this kind.

        Raises:
            PowerLossError: the power goes.
            OSError: it fails.
        """
        if not (name := self.faults.due(kind)):
            return
        if name in POWER:
            self.dead, self.lost_by = True, name
            raise PowerLossError
        raise _refusal(errno.EIO, path)

    def write(self, path: Path, content: Content, change: Change) -> None:
        """Write to a file; what was written before the disk failed is there."""
        assert change.data is not None
        growth = change.offset + len(change.data) - len(content.data)
        try:
            self.step("write", path, change)
            if self.capacity < CAPACITY_BYTES and growth > max(0, self.free(Path("/"))):
                self.faults.found_full()
                raise _refusal(errno.ENOSPC, path)
        except PowerLossError:
            self._under_way = content, change
            raise
        except OSError:
            change.data = change.data[: len(change.data) // 2]
            self._write(content, change)
            raise
        self._write(content, change)

    def _write(self, content: Content, change: Change) -> None:
        if self.faults.armed:
            content, change = self.faults.astray(content, change, self.files)
        change.apply(content.data)
        content.pending.append(change)
        self._last = content, change

    def after(self, loss: Loss) -> "SimulatedDisk":
        """Return the disk as it is found when the power comes back; this one is gone."""
        self.dead = True
        disk = SimulatedDisk(capacity=self.capacity, faults=self.faults)
        disk._serials = self._serials + len(self.operations)
        disk._root = Remains(loss, self._last, self._under_way).folder(self._root)
        return disk

    def copy(self, *, anew: bool = False) -> "SimulatedDisk":
        """Return a disk of the same files; with `anew` each was written there anew.

        Then their stamps differ, as those of files that a backup brought back do.
        """
        disk = SimulatedDisk()
        disk._serials = self._serials + len(self.operations)
        disk._root = Remains(Loss("none"), None, None).folder(self._root)
        if anew:
            for _, content in disk.files():
                disk._serials += 1
                content.serial = disk._serials
        return disk

    def forget(self) -> None:
        """Let whoever still holds this disk do what they will: its time is over."""
        self.dead, self.cut, self.fault = False, None, None
        self.faults, self.capacity = DiskFaults(), CAPACITY_BYTES

    def files(self) -> Files:
        """Return all files by their names, sorted."""
        return sorted(_files(Path("/"), self._root), key=lambda found: found[0])

    def used(self) -> int:
        """Return how many bytes all files have."""
        return self._used(self._root)

    def damage(self, path: Path, content: bytes) -> None:
        """Let a file hold other bytes from now on, on the disk itself."""
        found = self._content(path)
        found.durable, found.data = bytearray(content), bytearray(content)
        found.pending.clear()

    # --- finding -------------------------------------------------------------------------

    def _find(self, path: Path) -> "Node | None":
        node: Node | None = self._root
        for name in path.parts[1:]:
            if not isinstance(node, Folder):
                return None
            node = node.names.get(name)
        return node

    def _folder(self, path: Path) -> Folder:
        found = self._find(path)
        if isinstance(found, Folder):
            return found
        raise _refusal(errno.ENOENT if found is None else errno.ENOTDIR, path)

    def _content(self, path: Path) -> Content:
        found = self._find(path)
        if isinstance(found, Content):
            return found
        raise _refusal(errno.ENOENT if found is None else errno.EISDIR, path)

    def _used(self, folder: Folder) -> int:
        return sum(
            self._used(node) if isinstance(node, Folder) else len(node.data)
            for node in folder.names.values()
        )


def _files(folder: Path, node: Folder) -> Iterator[tuple[Path, Content]]:
    for name, found in node.names.items():
        if isinstance(found, Folder):
            yield from _files(folder / name, found)
        else:
            yield folder / name, found


def _refusal(number: int, path: PurePath) -> OSError:
    return OSError(number, os.strerror(number), str(path))
