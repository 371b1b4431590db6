"""Whom to talk to, and when: pure choices over known peers.

Owns fan-outs, limits and back-off. Does not own connections or the clock: `now` and the
random generator are arguments.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

RUMOUR_FANOUT: Final = 3
"""Peers that a new record is pushed to at once (DESIGN section 7)."""
BEATS_MAX: Final = 64
"""Spaces of one exchange: about 100 bytes each; more take turns, drawn each time."""
CONNECTIONS_MAX: Final = 64
"""Streams that we dial at most; above, the partial view of a later version decides."""
DIALS_PER_TICK: Final = 8
DIAL_ADDRESSES_MAX: Final = 8
"""Addresses of one peer that one dial tries, drawn anew each time."""
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_LAST_S: Final = 30.0
LEFT_S: Final = 10.0
"""How long a peer that said goodbye is not dialled, at most and with jitter: a restart
takes seconds, and all that it talked to would dial it at once."""
APART_S: Final = 60.0
"""How long a peer that speaks no version of ours is not dialled, at most."""
TICK_JITTER: Final = 0.1
"""By which part a gossip interval is longer or shorter: nodes do not march in step."""
KEEPALIVE_S: Final = 20
"""After so much silence a ping asks whether the other side is there: routers forget
connections after some minutes of silence, the strictest known after 30 s."""
KEEPALIVE_ANSWER_S: Final = 20
"""How long an answer may take: who is gone is missed within the sum of both. On a thin
line an answer stands behind what is being sent, so this is not shorter."""
BANISHED_S: Final = 60.0
"""How long a peer that broke the protocol is neither dialled nor listened to."""


def pick(candidates: Iterable[bytes], count: int, rng: random.Random) -> list[bytes]:
    """Return up to `count` of `candidates`, drawn without replacement."""
    ordered = sorted(candidates)
    return rng.sample(ordered, min(count, len(ordered)))


def interval(seconds: float, rng: random.Random) -> float:
    """Return how long to wait for the next tick, about `seconds`."""
    return seconds * rng.uniform(1 - TICK_JITTER, 1 + TICK_JITTER)


@dataclass(slots=True)
class Backoff:
    """When each peer may be dialled again; doubles with every failure in a row."""

    _failures: dict[bytes, int] = field(default_factory=dict)
    _not_before: dict[bytes, float] = field(default_factory=dict)
    _banished_until: dict[bytes, float] = field(default_factory=dict)

    def ready(self, peer: bytes, now: float) -> bool:
        """Tell whether `peer` may be dialled at `now` (seconds)."""
        waited = now >= self._not_before.get(peer, now)
        return waited and not self.banished(peer, now)

    def banished(self, peer: bytes, now: float) -> bool:
        """Tell whether `peer` broke the rules a short while ago."""
        return now < self._banished_until.get(peer, now)

    def failed(self, peer: bytes, now: float, rng: random.Random) -> None:
        """Note a failure: wait longer, with jitter so that peers do not march in step."""
        failures = self._failures.get(peer, 0)
        self._failures[peer] = failures + 1
        delay = min(BACKOFF_LAST_S, BACKOFF_FIRST_S * 2 ** min(failures, 16))
        self._not_before[peer] = now + delay * rng.uniform(0.5, 1.0)

    def apart(self, peer: bytes, now: float, rng: random.Random) -> None:
        """Note a peer of other versions: no failure, but one of us must be upgraded."""
        self._not_before[peer] = now + APART_S * rng.uniform(0.5, 1.0)

    def left(self, peer: bytes, now: float, rng: random.Random) -> None:
        """Note that a peer said goodbye: no failure, but it is not there for a while."""
        self._not_before[peer] = now + LEFT_S * rng.uniform(0.25, 1.0)

    def banish(self, peer: bytes, now: float) -> None:
        """Note a peer that broke the rules."""
        self._banished_until[peer] = now + BANISHED_S

    def forgive(self, peer: bytes) -> None:
        """Forget all that was held against `peer`: it has its rights back."""
        self._banished_until.pop(peer, None)
        self.succeeded(peer)

    def succeeded(self, peer: bytes) -> None:
        """Forget the failures of `peer`."""
        self._failures.pop(peer, None)
        self._not_before.pop(peer, None)
