"""What a power loss leaves of files and folders.

Owns which of the un-synced is kept: of a file what was synced, and any part of what was
written since, by sectors and in any order; of a folder the names that were synced, and any
of the changes since. Does not own which calls there are (`disk`).

A rename within a folder is atomic. One across folders may leave both names, never none.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

SECTOR_BYTES: Final = 512
"""What a disk writes as a whole."""
Losing: TypeAlias = Literal["none", "all", "torn", "some"]


class PowerLossError(BaseException):
    """The machine is off: no call of its disk comes back any more."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What of the un-synced a power loss takes: a seed decides where chance does.

    `none` of it (as when a process is killed), `all` of it, `torn`: a part of the last
    write, or `some`: any writes and names, in any order, or parts of them.
    """

    losing: Losing
    seed: int = 0


@dataclass(slots=True, eq=False)
class Change:
    """A write at an offset, or with no data a cut to it."""

    offset: int
    data: bytes | None

    def apply(self, content: bytearray, rng: random.Random | None = None) -> None:
        """Do it; with a generator only a part of it, sector by sector."""
        if self.data is None:
            _resize(content, self.offset)
            return
        end = self.offset + len(self.data)
        _resize(content, max(len(content), end))
        for start, stop in self._kept(end, rng):
            content[start:stop] = self.data[start - self.offset : stop - self.offset]

    def _kept(self, end: int, rng: random.Random | None) -> Iterator[tuple[int, int]]:
        if rng is None:
            yield self.offset, end
            return
        first = self.offset // SECTOR_BYTES * SECTOR_BYTES
        share = rng.random()
        for start in range(first, end, SECTOR_BYTES):
            if rng.random() < share:
                yield max(start, self.offset), min(start + SECTOR_BYTES, end)


@dataclass(slots=True, eq=False)
class Content:
    """The bytes of a file: those on the disk, those to be read, and how they differ."""

    durable: bytearray = field(default_factory=bytearray)
    data: bytearray = field(default_factory=bytearray)
    serial: int = 0
    pending: list[Change] = field(default_factory=list)
    doubtful: bool = False
    """Whether a sync failed: what was pending is on the disk, or it never will be."""

    def settle(self) -> None:
        """Bring to the disk what has changed since the last sync, failed or not."""
        for change in self.pending:
            change.apply(self.durable)
        self.pending.clear()

    def fail(self) -> None:
        """Give up what has changed: the system believes it to be on the disk."""
        self.doubtful = self.doubtful or bool(self.pending)
        self.pending.clear()


@dataclass(slots=True, eq=False)
class Naming:
    """A change of the names in a folder: one is taken away, one is given, or both."""

    takes: tuple[str, "Node"] | None = None
    gives: tuple[str, "Node"] | None = None
    after: "tuple[Folder, Naming] | None" = None
    """The name in another folder without which this one is not taken away."""

    def apply(self, names: "dict[str, Node]") -> None:
        """Do it."""
        if self.takes is not None and names.get(self.takes[0]) is self.takes[1]:
            del names[self.takes[0]]
        if self.gives is not None:
            names[self.gives[0]] = self.gives[1]


@dataclass(slots=True, eq=False)
class Folder:
    """The names in a folder: those on the disk, those to be seen, how they differ."""

    durable: "dict[str, Node]" = field(default_factory=dict)
    names: "dict[str, Node]" = field(default_factory=dict)
    pending: list[Naming] = field(default_factory=list)
    doubtful: bool = False
    """Whether a sync failed: what was pending is on the disk, or it never will be."""

    def change(self, naming: Naming) -> None:
        """Change a name, which is not on the disk before it is settled."""
        naming.apply(self.names)
        self.pending.append(naming)

    def settle(self) -> None:
        """Bring the names to the disk, and with a name taken away the one it went to."""
        for naming in self.pending:
            naming.apply(self.durable)
            if naming.after is not None:
                folder, needed = naming.after
                if needed in folder.pending:
                    folder.pending.remove(needed)
                    needed.apply(folder.durable)
        self.pending.clear()

    def fail(self) -> None:
        """Give up what has changed: the system believes it to be on the disk."""
        self.doubtful = self.doubtful or bool(self.pending)
        self.pending.clear()


Node: TypeAlias = "Content | Folder"


class Remains:
    """What one power loss leaves: each un-synced change is kept, torn or lost."""

    def __init__(
        self,
        loss: Loss,
        last: tuple[Content, Change] | None,
        under_way: tuple[Content, Change] | None,
    ) -> None:
        self._losing = loss.losing
        self._rng = random.Random(loss.seed)  # noqa: S311  a seed decides it all
        self._under_way = under_way
        torn = under_way or last
        self._torn = torn[1] if torn else None
        self._named: dict[int, bool] = {}
        self._copies: dict[int, Content] = {}

    def folder(self, folder: Folder) -> Folder:
        """Return what is found of a folder and of all below it."""
        if self._reached(folder):
            names = dict(folder.names)
        else:
            names = dict(folder.durable)
            for naming in folder.pending:
                if self._keeps_name(naming):
                    naming.apply(names)
        left = {name: self._node(names[name]) for name in sorted(names)}
        return Folder(left, dict(left))

    def _reached(self, node: Node) -> bool:
        """Tell whether a sync that failed brought all to the disk, after all."""
        if not node.doubtful or self._losing == "all":
            return False
        return self._losing != "some" or self._rng.random() < 0.5

    def _keeps_name(self, naming: Naming) -> bool:
        if id(naming) not in self._named:
            self._named[id(naming)] = self._decide_name(naming)
        return self._named[id(naming)]

    def _decide_name(self, naming: Naming) -> bool:
        if self._losing == "all":
            return False
        if naming.after is not None:
            folder, needed = naming.after
            if needed in folder.pending and not self._keeps_name(needed):
                return False
        return self._losing != "some" or self._rng.random() < 0.5

    def _node(self, node: Node) -> Node:
        if isinstance(node, Folder):
            return self.folder(node)
        if id(node) not in self._copies:  # one file may have two names
            data = self._bytes(node)
            copies = bytearray(data), bytearray(data)
            self._copies[id(node)] = Content(*copies, node.serial)
        return self._copies[id(node)]

    def _bytes(self, content: Content) -> bytes:
        if self._losing == "all":
            return bytes(content.durable)
        if self._reached(content):
            return bytes(content.data)
        pending = list(content.pending)
        if self._under_way and self._under_way[0] is content:
            pending.append(self._under_way[1])
        left = bytearray(content.durable)
        for change in pending:
            self._apply(change, left)
        return bytes(left)

    def _apply(self, change: Change, left: bytearray) -> None:
        under_way = self._under_way is not None and change is self._under_way[1]
        if self._losing == "none" and not under_way:
            change.apply(left)
        elif self._losing == "torn":
            change.apply(left, self._rng if change is self._torn else None)
        elif self._losing == "some":
            fate = self._rng.random()
            if fate < 0.6:
                change.apply(left, self._rng if fate < 0.3 or under_way else None)


def _resize(content: bytearray, size: int) -> None:
    if len(content) > size:
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))
