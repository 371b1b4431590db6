"""The passive view: what peers say of other members, tried and never trusted.

Owns what is kept of it, and its bounds. Does not own who is a member: that is what the sets
say, and what is said of anybody else is thrown away. Nor our own evidence, which is `book`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from crdtmerge.sync.messages import PEERS_MAX, PeersReply

HEARD_MAX: Final = 128
"""Nodes of which something is kept; older news goes first."""
HEARD_ADDRESSES_MAX: Final = 2
"""Addresses kept of what one peer says of one node."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What one peer said of one node."""

    by: bytes
    at: float
    addresses: tuple[str, ...]


class Hearsay:
    """Members that peers say they reached, and where."""

    def __init__(self) -> None:
        """Begin knowing nothing."""
        self._heard: dict[bytes, Heard] = {}

    def nodes(self) -> list[bytes]:
        """Return the nodes that are said to be there, sorted."""
        return sorted(self._heard)

    def of(self, node: bytes) -> tuple[str, ...]:
        """Return where `node` is said to listen."""
        heard = self._heard.get(node)
        return heard.addresses if heard else ()

    def take(
        self,
        by: bytes,
        reply: PeersReply,
        now: float,
        concerns_both: Callable[[bytes], bool],
    ) -> None:
        """Keep what `by` says of nodes that concern both sides.

        What it said before goes: no peer ever fills more than one reply of the view. What
        another said of a node stays until it was tried.
        """
        self._heard = {n: h for n, h in self._heard.items() if h.by != by}
        for said in reply.peers[:PEERS_MAX]:
            if said.node not in self._heard and concerns_both(said.node):
                addresses = said.addresses[:HEARD_ADDRESSES_MAX]
                self._heard[said.node] = Heard(by, now, addresses)
        ordered = sorted(self._heard, key=lambda node: (self._heard[node].at, node))
        for node in ordered[: max(0, len(ordered) - HEARD_MAX)]:
            del self._heard[node]

    def tried(self, node: bytes) -> None:
        """Forget what was said of `node`: our own evidence counts from now on."""
        self._heard.pop(node, None)

    def keep_only(self, members: frozenset[bytes]) -> None:
        """Forget who is no member any more."""
        if any(node not in members for node in self._heard):
            self._heard = {n: h for n, h in self._heard.items() if n in members}
