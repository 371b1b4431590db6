"""The log of a run: a digest over all that happened, in its order, and how much that was.

Owns the form of a line, and the list of strikes: no other lines are kept. Does not own what
is worth one (`world`).
"""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from .clock import Clock
from .faults import Strike
from .faults.dice import Subject

if TYPE_CHECKING:
    import hashlib

STRIKES_KEPT_MAX: Final = 100_000
"""How many strikes are listed: those of a long swarm, not of the longest."""


@dataclass(slots=True)
class EventLog:
    """What happened up to now; `events` counts its lines.

    A line is an input that reaches a process, its start, its end, a piece of a blob that
    comes, the end of a stream, or a fault that strikes.
    """

    clock: Clock
    events: int = 0
    strikes: list[Strike] = field(default_factory=list)
    """The faults that happened, in their order."""
    _digest: "hashlib._Hash" = field(default_factory=sha256)

    def write(self, line: str) -> None:
        """Log what happens now."""
        self.events += 1
        self._digest.update(f"{self.clock.now!r} {line}\n".encode())

    def strike(self, name: str, hit: int, subject: Subject) -> None:
        """Log a fault, and list it."""
        self.write(f"{name} {hit} {subject!r}")
        if len(self.strikes) < STRIKES_KEPT_MAX:
            self.strikes.append(Strike(name, hit, self.clock.now, subject))

    @property
    def digest(self) -> str:
        """The digest of all lines, in hex."""
        return self._digest.hexdigest()
