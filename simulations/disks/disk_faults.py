"""What is about to happen to a simulated disk, and what happens to the bytes on it.

Owns which of its next operations suffers what, and the words by which that is told. Does
not own the operations (`disk`), what a power loss takes (`power_loss`), nor when anything
is armed (`weather.disks`).

What is armed waits for the first operation of its kind after so many others: a sync that
never comes never fails. What struck is told at that moment, and not before.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .power_loss import SECTOR_BYTES, Change, Content

POWER: Final = frozenset({"power_loss", "torn_write"})
"""What ends with the machine off."""
STRUCK_BY: Final = {
    "torn_write": frozenset({"write"}),
    "misdirected": frozenset({"write"}),
    "failed_sync": frozenset({"sync"}),
}
"""The operations that suffer each; what is not named here strikes any."""
Files = Sequence[tuple[Path, Content]]


def unheard(_name: str) -> None:
    """Tell nobody."""


@dataclass(slots=True)
class DiskFaults:
    """What is armed on one disk: a machine takes it along to what is left of it."""

    struck: Callable[[str], object] = unheard
    """Hears of each fault when it happens."""
    armed: dict[str, int] = field(default_factory=dict)
    """How many operations, which it could strike, each kind lets pass."""
    seeds: dict[str, int] = field(default_factory=dict)
    """How each turns out."""
    fills: bool = False
    """Whether the next write that finds no room tells of it."""

    def arm(self, name: str, within: int, rng: random.Random) -> None:
        """Let a kind strike one of the next `within` operations that it can strike."""
        self.armed[name] = rng.randrange(within)
        self.seeds[name] = rng.getrandbits(32)

    def clear(self) -> None:
        """Let the disk work."""
        self.armed.clear()

    def found_full(self) -> None:
        """Hear that a write found no room: it is told once for each time of that."""
        if self.fills:
            self.fills = False
            self.struck("no_space")

    def due(self, kind: str) -> str:
        """Return what strikes this operation instead of its being done; else nothing.

        What is returned is armed no more. A write that goes astray is not among it: it is
        done (`astray`).
        """
        for name in tuple(self.armed):
            if name != "misdirected" and self._comes(name, kind):
                self.struck(name)
                return name
        return ""

    def _comes(self, name: str, kind: str) -> bool:
        by = STRUCK_BY.get(name)
        if (kind not in by) if by else (name in POWER and kind == "read"):
            return False
        left = self.armed[name]
        self.armed[name] = left - 1
        if left > 0:
            return False
        del self.armed[name]
        return True

    def astray(
        self, content: Content, change: Change, files: Callable[[], Files]
    ) -> tuple[Content, Change]:
        """Return where a write lands: elsewhere in its file or in another, if it is due."""
        if "misdirected" not in self.armed or not self._comes("misdirected", "write"):
            return content, change
        rng = random.Random(self.seeds["misdirected"])  # noqa: S311  a seed decides it
        others = [found for _, found in files() if found is not content and found.data]
        target = rng.choice(others) if others and rng.random() < 0.25 else content
        places = range(0, max(1, len(target.data)), SECTOR_BYTES)
        offset = rng.choice(places)
        if target is content and offset == change.offset:
            self.armed["misdirected"] = 0  # it would land where it should: the next one
            return content, change
        self.struck("misdirected")
        return target, Change(offset, change.data)


def flip(files: Files, rng: random.Random) -> Path | None:
    """Flip one bit of what lies on the disk; return the file, or None if all are empty.

    Every other time it is one of SQLite's: those are few, and hold all that is said.
    """
    full = [(path, content) for path, content in files if content.durable]
    kept = [(path, content) for path, content in full if ".sqlite" in path.name]
    chosen = kept if kept and rng.random() < 0.5 else full
    if not chosen:
        return None
    path, content = rng.choice(chosen)
    place, bit = rng.randrange(len(content.durable)), 1 << rng.randrange(8)
    was = content.durable[place]
    content.durable[place] ^= bit
    if place < len(content.data) and content.data[place] == was:
        content.data[place] ^= bit
    return path
