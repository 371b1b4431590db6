"""What one peer says to another on the sync stream, as plain frozen values.

Owns the message types and their limits. Does not own their bytes: `nodes.convert` maps
them to the wire. Every pull is asked for by the side that lacks something; nothing in a
message is trusted before it is checked against its digest or signature.

A question bears a `number`, counted by the asker from 1 on. Its answer bears the same, so
one that comes twice, or late, is known as such and is no lie; and a question is answered
once under one number, so it may be asked again without harm.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from crdtmerge.manifest import TensorEntry
from crdtmerge.trie import Prefix

PROTOCOL_VERSION: Final = 1
"""The newest version that we speak."""
OLDEST_VERSION: Final = 1
"""The oldest one, which a hello begins with: older peers know no range."""
MESSAGE_BYTES_MAX: Final = 1 << 20
"""Largest message on the sync stream, in bytes."""
PREFIXES_MAX: Final = 1024
"""Most trie nodes asked for in one message."""
IDS_MAX: Final = 8192
"""Most record ids asked for in one message."""
GENERATION_BYTES: Final = 16
MARK_BYTES: Final = 16
"""What names attestations between peers: who finds two of one mark misses one of them."""
ATTESTERS_MAX: Final = 1024
"""Nodes of a space whose attestations are kept, and so the most in one message."""

SALT_BYTES: Final = 8
CLUE_BYTES: Final = 4
"""What stands for a hash or an id in a comparison: two that differ have equal clues once
in 2^32, under a salt that nobody knew before. A root then still tells of the difference."""
SECTIONS_MAX: Final = 8192
"""Most sections in one message of a comparison."""
LISTED_MAX: Final = 64
"""Most ids of one section: so few below a prefix are listed, more are gone into."""

PEERS_MAX: Final = 16
"""Nodes of which one message tells where they are."""
PROBED_MAX: Final = 4
"""Addresses that one probe tries."""
SEEN_FROM_MAX: Final = 64
PEER_ADDRESSES_MAX: Final = 4
"""Addresses of one of them."""
AGE_MAX_S: Final = 2**31 - 1

SPEAKS_ATTESTATIONS: Final = 1
SPEAKS_COMPARE: Final = 2
SPEAKS_PEERS: Final = 4
SPEAKS_PROBES: Final = 8
SPEAKS_GOODBYE: Final = 32
SPEAKS_LOANS: Final = 64
FEATURES: Final = (
    SPEAKS_ATTESTATIONS
    | SPEAKS_COMPARE
    | SPEAKS_PEERS
    | SPEAKS_PROBES
    | SPEAKS_GOODBYE
    | SPEAKS_LOANS
)
"""What we speak beside the protocol's first messages, one bit each."""


@dataclass(frozen=True, slots=True)
class SignedBytes:
    """What is signed as it travels: canonical bytes, and the signature beside them."""

    data: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of each side: the protocol it speaks and what it is.

    `heard` tells that the sender has had the receiver's hello; said again without it, a
    hello asks for that one. `features` are what it speaks beside: who does not name one
    is sent no message of it. Unknown ones are ignored. `oldest` and `newest` are the
    versions that the sender speaks; zeros for `version` alone.
    """

    version: int
    agent: str
    heard: bool = False
    features: int = 0
    oldest: int = 0
    newest: int = 0

    @property
    def spoken(self) -> tuple[int, int]:
        """The oldest and the newest version that the sender speaks."""
        return (self.oldest, self.newest) if self.oldest else (self.version,) * 2


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Where a space stands at the sender: equal roots mean nothing to do.

    `generation` and `sequence` are the sender's feed position: the random id of its
    store's life, and the number of its last record. `answered` is the number of the
    receiver's last question about this space that the sender answered. An `echo` answers
    a heartbeat that differed, and is not answered itself. `attested` names the
    attestations that the sender holds; empty for none, or if it knows of no such thing.
    """

    space: bytes
    root: bytes
    count: int
    generation: bytes
    sequence: int
    answered: int = 0
    echo: bool = False
    attested: bytes = b""


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
class Ids:
    """Ids below `prefix`: clues of all in a question, the missing ones in an answer."""

    prefix: Prefix
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Clues:
    """Clues of the hashes of the sixteen children at `prefix`; zeros where none is."""

    prefix: Prefix
    clues: tuple[bytes, ...]


Section = Ids | Clues


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """Shows what the sender has below some prefixes, and asks for what it lacks there.

    Clues are taken under `salt`, which the sender drew for this comparison.
    """

    space: bytes
    salt: bytes
    sections: tuple[Section, ...]
    number: int = 0


@dataclass(frozen=True, slots=True)
class CompareReply:
    """What the sender has and the asker does not, one level below what was shown.

    Of the sections asked, the first `covered` are answered: a child that differs by its
    own sixteen or, where its ids are few, by those; a list by the ids that it lacks, or by
    the sixteen children where they are many. The asker asks again for the rest.
    """

    space: bytes
    sections: tuple[Section, ...]
    covered: int
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


@dataclass(frozen=True, slots=True)
class Held:
    """One attestation that a peer holds: whose, its counter, and a mark of its bytes."""

    node: bytes
    counter: int
    mark: bytes


@dataclass(frozen=True, slots=True)
class AttestationsRequest:
    """Asks for attestations of a space beside those that the sender holds.

    It bears no number: it may be answered or not, and what comes is checked as ever.
    """

    space: bytes
    held: tuple[Held, ...]


@dataclass(frozen=True, slots=True)
class Attestations:
    """Attestations, each with the signature of its node: pushed as news, or asked for."""

    space: bytes
    items: tuple[SignedBytes, ...]


@dataclass(frozen=True, slots=True)
class TensorsRequest:
    """Asks who attests `model` for the tensors that it is made of, from `first` on."""

    space: bytes
    model: bytes
    first: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class TensorsReply:
    """A page of the tensors of `model`, by name; `total` is how many there are.

    None, of a total of 0, if the sender attests that model no more.
    """

    space: bytes
    model: bytes
    total: int
    tensors: tuple[TensorEntry, ...]
    number: int = 0


@dataclass(frozen=True, slots=True)
class PeerSaid:
    """Where a node was found: its key, addresses, and how many seconds ago it was there.

    Without an address it is there, but the sender did not find it at one: it dialled.
    """

    node: bytes
    addresses: tuple[str, ...]
    age_s: int


@dataclass(frozen=True, slots=True)
class PeersRequest:
    """Asks where other members of spaces in common were found; it may go unanswered."""


@dataclass(frozen=True, slots=True)
class PeersReply:
    """A few nodes that the sender reached lately, of spaces in common.

    It carries addresses and signs of life and no membership: that is what the sets say.
    """

    peers: tuple[PeerSaid, ...]


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """Asks the receiver to try the addresses that our node record announces."""


class Outcome(IntEnum):
    """What came of trying one address."""

    REACHED = 1
    REFUSED = 2
    SILENT = 3
    NOWHERE = 4
    STRANGER = 5
    OURS = 6


@dataclass(frozen=True, slots=True)
class Probed:
    """What the sender found at one of the asker's addresses."""

    address: str
    outcome: int


@dataclass(frozen=True, slots=True)
class ProbeReply:
    """What came of the addresses that were tried; none, and a wait, if it was too early.

    `seen_from` is the host that the asker's stream comes from; empty if it was dialled.
    """

    found: tuple[Probed, ...]
    wait_s: int = 0
    seen_from: str = ""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The last message of a side that stops in order: it will be back, or not.

    Who hears it does not dial for a while, and counts no failure.
    """


SetMessage = (
    Hello
    | Heartbeat
    | FeedRequest
    | FeedReply
    | TrieRequest
    | TrieReply
    | CompareRequest
    | CompareReply
    | RecordsRequest
    | RecordsReply
    | Rumour
)
"""What sessions say to bring sets together."""
Comparing = TrieRequest | TrieReply | CompareRequest | CompareReply
"""What a repair says of tries, with whole hashes or with clues."""
Beside = AttestationsRequest | Attestations | TensorsRequest | TensorsReply
"""What stands beside the set: only for who speaks it."""
Peers = PeersRequest | PeersReply
"""What is said of other nodes: about no space, and only for who speaks it."""
Probes = ProbeRequest | ProbeReply
"""What is said of the asker's own addresses: only for who speaks it."""
Message = SetMessage | Beside | Peers | Probes | Goodbye
