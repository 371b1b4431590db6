"""What one download knows of its sources, and of the streams that are open with them.

Owns how quick a source is taken to be. Does not own what is asked of it (`swarm`).
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from .transfer import Incoming

_MEMORY: Final = 0.8
"""What the speed of a source keeps of what it was, chunk by chunk."""


class Fate(Enum):
    """What became of a source, or of one stream with it."""

    WELL = "brought what it was asked for"
    LACKS = "does not have the blob"
    GONE = "does not answer, or stands still"
    BUSY = "has no room for one more fetch"
    LIED = "sent what the blob is not"


@dataclass(slots=True)
class Source:
    """One source: how quick it is, and what it did."""

    name: bytes
    rate: float = 0.0
    """Chunks a second, lately; 0 while it is not known."""
    failures: int = 0
    not_before: float = 0.0
    banned: bool = False
    fate: Fate = Fate.WELL

    def took(self, seconds: float) -> None:
        """Learn from the time that one chunk took."""
        now = 1.0 / max(seconds, 1e-4)
        self.rate = (
            now if not self.rate else 1 / (_MEMORY / self.rate + (1 - _MEMORY) / now)
        )


@dataclass(slots=True)
class Stream:
    """One request to a source, and what came of it."""

    number: int
    source: Source
    incoming: Incoming
    heard: float
    """When it was asked for, or last brought something."""
    opened: bool = False
    cut: bool = False
    """Whether others were given a part of what it was asked for."""
    over: bool = False
    """Whether it ended well, and only its last chunks are being checked."""
    storing: set[int] = field(default_factory=set)
    """The chunks that came and are being checked."""

    @property
    def left(self) -> int:
        """How many chunks it has yet to bring."""
        return self.incoming.due.left

    @property
    def owes(self) -> bool:
        """Whether anything has yet to come."""
        return bool(self.left) or not self.incoming.announced

    def owed(self) -> set[int]:
        """Return the chunks that it has yet to bring, or that are being checked."""
        due = (i for run in self.incoming.due for i in range(run.first, run.end))
        return self.storing.union(due)
