"""What a node knows of and leaves for later: the port through which sessions ask.

Owns the port, and the answer of a node that leaves nothing. Does not own why a record
waits, nor for how long.
"""

from typing import Protocol

from crdtmerge.bodies import SpaceId


class Waiting(Protocol):
    """What this node knows of and leaves for later; `Spaces.receive` passed it over."""

    def left(self, space: SpaceId, record: bytes) -> bool:
        """Tell whether a record is left for later: it is not to be asked for now."""
        ...

    def releases(self, space: SpaceId) -> int:
        """Return how often something of `space` that waited may be asked for since."""
        ...


class NothingWaits:
    """Of a node that takes all at once."""

    def left(self, _space: SpaceId, _record: bytes) -> bool:
        """Nothing is."""
        return False

    def releases(self, _space: SpaceId) -> int:
        """Nothing ever was."""
        return 0
