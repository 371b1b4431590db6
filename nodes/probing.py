"""Whether nodes can be reached: what we ask peers to try, and what we try for them.

Owns whom we ask, whom we try how often, and which addresses: those that the asker's own
node record announces, in a space in common. Does not own how one is tried (`reaching`).
"""

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from crdtmerge.bodies import SpaceId
from crdtmerge.policy import View
from crdtmerge.sync.messages import (
    PROBED_MAX,
    SPEAKS_PROBES,
    Probed,
    ProbeReply,
    ProbeRequest,
    Probes,
)
from crdtmerge.sync.session import Session

from .effects import Effect, Probe, Send
from .gossip import pick

ASKED_MAX: Final = 3
"""Peers that are asked at once: what one finds need not hold for all."""
TRY_S: Final = 10.0
"""Least time between two trials for one peer."""
TRIALS_MAX: Final = 4
"""Trials under way for all peers."""


class Spaces(Protocol):
    """What probing asks of the spaces."""

    def view(self, space: SpaceId) -> View:
        """Return what a set means."""
        ...


@dataclass(slots=True)
class Probing:
    """The questions of one node about its reach, and those it answers."""

    spaces: Spaces
    rng: random.Random
    told: dict[bytes, ProbeReply | None] = field(default_factory=dict)
    """Whom we asked last, and what each said; None until it does."""
    _tried: dict[bytes, float] = field(default_factory=dict)
    _under_way: set[bytes] = field(default_factory=set)

    def ask(self, sessions: Mapping[bytes, Session]) -> list[Effect]:
        """Ask a few connected peers to try our addresses; forget what was said before."""
        able = [p for p, s in sessions.items() if s.features & SPEAKS_PROBES]
        chosen = pick(able, ASKED_MAX, self.rng)
        self.told = dict.fromkeys(chosen)
        return [Send(peer, ProbeRequest()) for peer in chosen]

    def handle(
        self, peer: bytes, session: Session, message: Probes, now: float
    ) -> list[Effect]:
        """Take what a peer found, if it was asked; or try its addresses, if it may ask."""
        if isinstance(message, ProbeReply):
            if peer in self.told and self.told[peer] is None:
                self.told[peer] = message
            return []
        if not session.features & SPEAKS_PROBES:
            return []
        self._tried = {p: at for p, at in self._tried.items() if now < at + TRY_S}
        wait = self._tried.get(peer, now - TRY_S) + TRY_S - now
        if wait > 0 or peer in self._under_way or len(self._under_way) >= TRIALS_MAX:
            return [Send(peer, ProbeReply((), max(1, math.ceil(wait))))]
        self._tried[peer] = now
        self._under_way.add(peer)
        return [Probe(peer, self._announced(peer, session.shared))]

    def ended(
        self,
        peer: bytes,
        found: Iterable[Probed],
        seen_from: str,
        session: Session | None,
    ) -> list[Effect]:
        """Return what the peer is told of a trial, if it is there to hear it.

        It may have gone meanwhile, and come again as a version that knows no such frame.
        """
        self._under_way.discard(peer)
        if session is None or not session.features & SPEAKS_PROBES:
            return []
        return [Send(peer, ProbeReply(tuple(found), 0, seen_from))]

    def _announced(self, peer: bytes, shared: frozenset[SpaceId]) -> tuple[str, ...]:
        """Return the first few addresses that the peer's own records name."""
        nodes = [self.spaces.view(space).nodes for space in sorted(shared)]
        addresses = [a for known in nodes for a in known.get(peer, ())]
        return tuple(dict.fromkeys(addresses))[:PROBED_MAX]
