"""What joiner and host say to each other on the join port, as plain frozen values.

Owns the message types and their field sizes. Does not own their bytes (`nodes.convert`),
nor what is signed, keyed or granted: that is the runtime's. Order of a good stream:
`JoinHello`, `Challenge`, `Answer`, `Welcome` (one or more), `Announce`, `Done`.
"""

from dataclasses import dataclass
from typing import Final

from crdtmerge.sync.messages import SignedBytes

NONCE_BYTES: Final = 32
MAC_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class JoinHello:
    """The joiner names the space that it wants to join."""

    space: bytes


@dataclass(frozen=True, slots=True)
class Challenge:
    """The host's random bytes, fresh for each stream: no answer can be replayed."""

    nonce: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """The joiner's keys, with a signature of each and a code keyed by the ticket."""

    author: bytes
    node: bytes
    author_signature: bytes
    node_signature: bytes
    mac: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """Records that the joiner needs to begin, those that others hang on first."""

    records: tuple[SignedBytes, ...]


@dataclass(frozen=True, slots=True)
class Announce:
    """The joiner's own first records: its node record."""

    records: tuple[SignedBytes, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """The host has stored what was announced; a `Replica` channel may be opened."""


JoinMessage = JoinHello | Challenge | Answer | Welcome | Announce | Done
