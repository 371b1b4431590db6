"""Whether a chunk should be encoded before it is sent: measured, not guessed.

Owns the choice. Does not own encodings (`crdtmerge.encodings`), nor clocks: it is told how
long things took.

Chunks are encoded while others are sent, so a chunk takes as long as the slower of the two:
to encode it, or to send what is left of it. That pays on links slower than the encoder, and
costs time on others; what a tensor gives is known once one of its chunks was encoded.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

PROBE_BYTES: Final = 8 << 20
"""Bytes that go before a link's speed is believed: buffers swallow the first ones."""
ENCODE_RATE: Final = 300e6
"""Bytes a second that an encoder is taken to do until it did some (ADR 22)."""
MARGIN: Final = 1.5
"""How much quicker than the link the encoder must be."""
SAVES_LEAST: Final = 0.1
"""Share of its bytes that an encoding must save."""
AGAIN: Final = 64
"""Chunks that go as they are before what did not pay is tried once more."""
LINKS_MAX: Final = 1024
_MEMORY: Final = 0.9
"""What an average keeps of what it was, MiB by MiB."""


@dataclass(slots=True)
class Link:
    """What is known of the way to one peer, and of our encoder on it."""

    sent: int = 0
    drain: float = 0.0
    """Bytes a second that it takes; 0 while it is not known."""
    encode: float = ENCODE_RATE

    def drained(self, amount: int, seconds: float) -> None:
        """Note that sending `amount` bytes took so long."""
        self.sent += amount
        rate = amount / max(seconds, 1e-6)
        known = self.drain or rate
        # Averaged by time, not by rate: one swallowed by a buffer says little.
        self.drain = 1 / (_MEMORY / known + (1 - _MEMORY) / rate)

    def encoded(self, amount: int, seconds: float) -> None:
        """Note that encoding `amount` raw bytes took so long."""
        rate = amount / max(seconds, 1e-6)
        self.encode = 1 / (_MEMORY / self.encode + (1 - _MEMORY) / rate)

    @property
    def slow(self) -> bool:
        """Whether the encoder is quicker than the link by enough."""
        return self.sent >= PROBE_BYTES and self.encode > MARGIN * self.drain


@dataclass(slots=True)
class Gain:
    """What encoding gives for the chunks of one reply."""

    ratio: float = 0.0
    """Encoded bytes for each raw one; 0 while none was encoded."""
    _skipped: int = 0

    def encoded(self, raw: int, sent: int) -> None:
        """Note what became of a chunk."""
        ratio = sent / raw
        self.ratio = (self.ratio + ratio) / 2 if self.ratio else ratio

    def pays(self, link: Link) -> bool:
        """Tell whether to encode the next chunk; one that does not pay is tried again."""
        if not link.slow:
            return False
        if self.ratio <= 1 - SAVES_LEAST:
            return True
        self._skipped += 1
        if self._skipped < AGAIN:
            return False
        self._skipped = 0
        return True


@dataclass(slots=True)
class Links:
    """The ways to all peers; who was not sent to for longest is forgotten."""

    _links: OrderedDict[bytes, Link] = field(default_factory=OrderedDict)

    def to(self, peer: bytes) -> Link:
        """Return what is known of the way to `peer`."""
        link = self._links.setdefault(peer, Link())
        self._links.move_to_end(peer)
        if len(self._links) > LINKS_MAX:
            self._links.popitem(last=False)
        return link
