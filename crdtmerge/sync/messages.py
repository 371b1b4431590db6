"""What one peer says to another on the sync stream, as plain frozen values.

Owns the message types and their limits. Does not own their bytes: `nodes.convert` maps
them to the wire. Every pull is asked for by the side that lacks something; nothing in a
message is trusted before it is checked against its digest or signature.

A question bears a `number`, counted by the asker from 1 on. Its answer bears the same, so
one that comes twice, or late, is known as such and is no lie; and a question is answered
once under one number, so it may be asked again without harm.
"""

from dataclasses import dataclass
from typing import Final

from crdtmerge.trie import Prefix

PROTOCOL_VERSION: Final = 1
MESSAGE_BYTES_MAX: Final = 1 << 20
"""Largest message on the sync stream, in bytes."""
PREFIXES_MAX: Final = 1024
"""Most trie nodes asked for in one message."""
IDS_MAX: Final = 8192
"""Most record ids asked for in one message."""
GENERATION_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class SignedBytes:
    """A record as it travels: canonical bytes, and the signature beside them."""

    data: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of each side: the protocol it speaks and what it is.

    `heard` tells that the sender has had the receiver's hello; said again without it, a
    hello asks for that one.
    """

    version: int
    agent: str
    heard: bool = False


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Where a space stands at the sender: equal roots mean nothing to do.

    `generation` and `sequence` are the sender's feed position: the random id of its
    store's life, and the number of its last record. `answered` is the number of the
    receiver's last question about this space that the sender answered. An `echo` answers
    a heartbeat that differed, and is not answered itself.
    """

    space: bytes
    root: bytes
    count: int
    generation: bytes
    sequence: int
    answered: int = 0
    echo: bool = False


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """Asks for the records that the receiver stored after `after` in `generation`."""

    space: bytes
    generation: bytes
    after: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class FeedReply:
    """Records in the sender's order; `through` is the last sequence they cover.

    `more` tells that the sender has further ones. A reply in another generation than was
    asked for holds no records: the asker starts over.
    """

    space: bytes
    generation: bytes
    through: int
    more: bool
    records: tuple[SignedBytes, ...]
    number: int = 0


@dataclass(frozen=True, slots=True)
class TrieRequest:
    """Asks for the trie nodes at these prefixes."""

    space: bytes
    prefixes: tuple[Prefix, ...]
    number: int = 0


@dataclass(frozen=True, slots=True)
class TrieLeaf:
    """All digests below `prefix` (a leaf of the sender, or what lies below one)."""

    prefix: Prefix
    items: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class TrieInner:
    """The hashes of the sixteen children of the node at `prefix`."""

    prefix: Prefix
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class TrieReply:
    """The nodes asked for, in order; at a cut, the asker asks again for the rest."""

    space: bytes
    nodes: tuple[TrieLeaf | TrieInner, ...]
    number: int = 0


@dataclass(frozen=True, slots=True)
class RecordsRequest:
    """Asks for the records with these ids, and for the chains that they hang on."""

    space: bytes
    ids: tuple[bytes, ...]
    number: int = 0


@dataclass(frozen=True, slots=True)
class RecordsReply:
    """Records that were asked for by id, chains first.

    `unsent` are ids that did not fit, or that the sender no longer has: a later round
    asks again.
    """

    space: bytes
    records: tuple[SignedBytes, ...]
    unsent: tuple[bytes, ...]
    number: int = 0


@dataclass(frozen=True, slots=True)
class Rumour:
    """New records, pushed unasked to a few peers so that news spreads fast."""

    space: bytes
    records: tuple[SignedBytes, ...]


Message = (
    Hello
    | Heartbeat
    | FeedRequest
    | FeedReply
    | TrieRequest
    | TrieReply
    | RecordsRequest
    | RecordsReply
    | Rumour
)
