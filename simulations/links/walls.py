"""Walls between machines: who reaches whom, in which direction.

Owns the walls that stand. Several may overlap; each goes by itself. Does not own when they
are put up (`weather`), nor what becomes of links across them (`network`).
"""

from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, eq=False)
class Wall:
    """Stops what machines `inside` say to those `outside`; to all others if it is None.

    If it stands `both_ways`, it stops the other direction too.
    """

    inside: frozenset[bytes]
    outside: frozenset[bytes] | None = None
    both_ways: bool = True

    def stops(self, sender: bytes, receiver: bytes) -> bool:
        """Tell whether nothing of `sender` comes to `receiver`."""
        there = self._between(sender, receiver)
        return there or (self.both_ways and self._between(receiver, sender))

    def _between(self, one: bytes, other: bytes) -> bool:
        if one not in self.inside:
            return False
        return (
            other not in self.inside if self.outside is None else other in self.outside
        )


def around(island: Collection[bytes]) -> Wall:
    """Return a wall around some machines; who joins later is outside."""
    return Wall(frozenset(island))


@dataclass(slots=True)
class Walls:
    """The walls that stand now."""

    _standing: list[Wall] = field(default_factory=list)
    _stopped: dict[tuple[bytes, bytes], bool] = field(default_factory=dict)
    """What was asked before, while these walls stand: it is asked for every message."""

    def __contains__(self, wall: Wall) -> bool:
        """Tell whether a wall stands."""
        return wall in self._standing

    def __len__(self) -> int:
        """Return how many stand."""
        return len(self._standing)

    def put_up(self, wall: Wall) -> None:
        """Let one more stand."""
        self._standing.append(wall)
        self._stopped.clear()

    def take_down(self, wall: Wall) -> None:
        """Let one go, if it stands still."""
        if wall in self._standing:
            self._standing.remove(wall)
            self._stopped.clear()

    def clear(self) -> None:
        """Let all go."""
        self._standing.clear()
        self._stopped.clear()

    def stop(self, sender: bytes, receiver: bytes) -> bool:
        """Tell whether nothing of `sender` comes to `receiver`."""
        if not self._standing:
            return False
        way = sender, receiver
        stopped = self._stopped.get(way)
        if stopped is None:
            stopped = any(wall.stops(sender, receiver) for wall in self._standing)
            self._stopped[way] = stopped
        return stopped
