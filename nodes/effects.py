"""What goes into a node and what comes out of it: plain values, no I/O.

Owns the inputs and effects of `Node.handle`. Does not own how an effect is performed: that
is `runtime`'s, or the simulator's.
"""

from dataclasses import dataclass, field

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.manifest import TensorEntry
from crdtmerge.sync.messages import Message, Probed, SignedBytes

from .quotas import Quotas

# --- inputs ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ticked:
    """The gossip interval has passed."""


@dataclass(frozen=True, slots=True)
class PeerOpened:
    """A sync stream with an authenticated peer is open, whoever dialled.

    `address` is where we found the peer; empty if it dialled us.
    """

    peer: bytes
    address: str = ""


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """The sync stream with a peer ended, or could not be opened.

    `broken` names the error if it ended because the peer sent what is no message; `left`
    says that the peer said goodbye, since its node stops.
    """

    peer: bytes
    broken: str = ""
    left: bool = False


@dataclass(frozen=True, slots=True)
class PeerFound:
    """A member's node was found on the local network; empty addresses: no longer."""

    peer: bytes
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PeerMoved:
    """The user named another address of a peer: it is to be tried at once."""

    peer: bytes


@dataclass(frozen=True, slots=True)
class DialEnded:
    """A dial is over, with or without a stream; one the peer opened may stand.

    `failed` are the addresses where it was not found, or not let in.
    """

    peer: bytes
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A peer sent a message."""

    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class RecordsCommitted:
    """A local command added records (already durable)."""

    space: SpaceId
    records: tuple[RecordId, ...]


@dataclass(frozen=True, slots=True)
class BlobStored:
    """A fetch ended well: the blob is verified and durable."""

    blob: BlobId


@dataclass(frozen=True, slots=True)
class BlobFailed:
    """A fetch ended badly; what came of the blob is kept."""

    blob: BlobId


@dataclass(frozen=True, slots=True)
class SourceFailed:
    """A peer did not bring a blob; `lied` if it sent what the blob is not.

    The fetch goes on with its other sources.
    """

    peer: bytes
    blob: BlobId
    lied: bool


@dataclass(frozen=True, slots=True)
class BlobsNeeded:
    """Somebody waits for these blobs: they come before the others until they are here.

    Replaces what was needed before.
    """

    blobs: tuple[BlobId, ...]


@dataclass(frozen=True, slots=True)
class QuotasChanged:
    """The user set other quotas; they hold from now on."""

    quotas: Quotas


@dataclass(frozen=True, slots=True)
class Resolved:
    """A resolve of this home made the model of a space: the attestation, and of what.

    Replaces what was attested of that space before.
    """

    signed: SignedBytes
    tensors: tuple[TensorEntry, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class TensorsWanted:
    """Somebody waits for the tensors behind what a node attests of a space."""

    space: SpaceId
    node: bytes


@dataclass(frozen=True, slots=True)
class ProbesWanted:
    """Somebody wants to know whether peers reach this node."""


@dataclass(frozen=True, slots=True)
class ProbeEnded:
    """What was found at the addresses of a peer, whose stream comes from `seen_from`."""

    peer: bytes
    found: tuple[Probed, ...]
    seen_from: str


Input = (
    ProbesWanted
    | ProbeEnded
    | Ticked
    | PeerOpened
    | PeerClosed
    | PeerMoved
    | PeerFound
    | DialEnded
    | MessageReceived
    | RecordsCommitted
    | BlobStored
    | BlobFailed
    | SourceFailed
    | BlobsNeeded
    | QuotasChanged
    | Resolved
    | TensorsWanted
)

# --- effects ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message on the stream with a peer."""

    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a sync stream to a peer at one of its addresses."""

    peer: bytes
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """End the stream with a peer; the reason is for the log.

    `broke_rules` if it ends because the peer sent what no honest one sends.
    """

    peer: bytes
    reason: str
    broke_rules: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Read nothing from a peer for a while: it has not paid for what it sent.

    Its messages wait in its own buffers; none is lost.
    """

    peer: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Source:
    """A peer that may have a blob, and a space in which it shows it to us."""

    peer: bytes
    space: SpaceId


@dataclass(frozen=True, slots=True)
class Fetch:
    """Fetch a blob from peers, verified chunk by chunk, resuming what is there.

    `size` is the most that it may have. The first of `sources` is asked first.
    """

    blob: BlobId
    size: int
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class MoreSources:
    """A fetch that is under way may use these peers too."""

    blob: BlobId
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """Try whether a peer answers at these addresses, which it announced."""

    peer: bytes
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trust:
    """From now on these transport keys, and no others, may connect."""

    members: frozenset[bytes]


Effect = Send | Dial | Close | Pause | Fetch | MoreSources | Probe | Trust
