"""Progress of long work, as a value that a caller may show.

Owns the value only. Does not own clocks, rates or printing: those are the caller's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one piece of work is: `done` of `total`, in bytes or in items.

    `tensors` says the same in tensors, (done, all), where they are what is worked on.
    """

    work: str
    done: int
    total: int
    unit: Literal["bytes", "items"] = "bytes"
    tensors: tuple[int, int] | None = None


Report = Callable[[Progress], None]
"""Receives progress; called on the thread that asked for the work."""
