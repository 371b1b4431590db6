"""What an exchange cost: its messages, their bytes, and the work of both sides.

Owns the sums, and the time that they make over a link. Messages of an exchange follow each
other, so its time is the sum of the work, of the bytes over the rate, and of half a round
trip a message.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

LINKS: Final = ((10, 20), (10, 100), (100, 20), (100, 100))
"""Megabits a second, and milliseconds of a round trip."""
RECORD_BYTES: Final = 300
"""A record with its signature, as adds of a manifest's digest are."""
VERIFY_S: Final = 0.14e-3
"""What checking one signature takes (docs/figures.md)."""


@dataclass(slots=True)
class Cost:
    """What one exchange took so far."""

    sizes: list[int] = field(default_factory=list)
    cpu_s: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    """The same by what it was, where that is told apart."""
    parallel_s: float = 0.0
    """Of the work, what both sides did at the same time: it counts once for the time."""

    @property
    def messages(self) -> int:
        """How many there were."""
        return len(self.sizes)

    @property
    def bytes(self) -> int:
        """How many bytes they had."""
        return sum(self.sizes)

    @contextmanager
    def working(self, part: str = "") -> Iterator[None]:
        """Count the work of either side."""
        start = time.process_time()
        yield
        took = time.process_time() - start
        self.cpu_s += took
        if part:
            self.parts[part] = self.parts.get(part, 0.0) + took

    def seconds(self, mbit: int, rtt_ms: int) -> float:
        """Return how long it takes over a link."""
        wire = self.bytes * 8 / (mbit * 1e6)
        return self.cpu_s - self.parallel_s + wire + self.messages * rtt_ms / 2e3

    def row(self, lacking: int) -> dict[str, Any]:
        """Return the figures; those `end_to_end` are with the records that are lacking."""
        row: dict[str, Any] = {
            "bytes": self.bytes,
            "messages": self.messages,
            "cpu_s": round(self.cpu_s, 4),
            "largest_message": max(self.sizes),
        }
        row |= {f"cpu_{part}_s": round(s, 4) for part, s in self.parts.items()}
        for mbit, rtt in LINKS:
            found = self.seconds(mbit, rtt)
            records = lacking * (RECORD_BYTES * 8 / (mbit * 1e6) + VERIFY_S)
            link = f"{mbit}mbit_{rtt}ms"
            row[f"seconds_{link}"] = round(found, 4)
            row[f"end_to_end_s_{link}"] = round(found + records + rtt / 1e3, 4)
        return row


def together(one: Cost, other: Cost) -> Cost:
    """Return the cost of two exchanges at once, one of each side: time is the longer's."""
    if one.messages < other.messages:
        one, other = other, one
    cost = Cost([*one.sizes], one.cpu_s + other.cpu_s, parallel_s=other.cpu_s)
    for place, size in enumerate(other.sizes):
        cost.sizes[place] += size
    return cost
