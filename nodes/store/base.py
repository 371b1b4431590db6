"""What a node asks of its storage: the ports, and the small values that they return.

Owns the promises that every store keeps (durable at return, all or nothing). Does not own
how: `sqlite` and `blobs` keep them on a disk, `memory` in a simulation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.identity import AuthorId
from crdtmerge.log import Log
from crdtmerge.record import SignedRecord
from crdtmerge.sync.messages import SignedBytes
from crdtmerge.trie import Trie

RECORD_OVERHEAD_BYTES: Final = 16
"""What a record costs in a message beside its data and signature, at most."""


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """Where this machine has the base of a space: its folder, and its manifest."""

    folder: Path
    manifest: BlobId


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """Where this home was told that a node listens: its transport key, addresses."""

    node: bytes
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TriedFacts:
    """What came of dialling a node at an address; times in unix seconds."""

    node: bytes
    address: str
    successes: int
    failures: int
    """Failures since the last success."""
    worked: int | None
    tried: int
    local: bool
    """Whether it was found on the local network."""


class RecordStore(Protocol):
    """Keeps the signed records of every space, in the order of their arrival."""

    @property
    def generation(self) -> bytes:
        """The random id of this store's life; sequence numbers hold within it."""

    def spaces(self) -> list[SpaceId]:
        """Return the spaces that have a record, sorted by id."""

    def append(
        self,
        space: SpaceId,
        records: Sequence[SignedRecord],
        gone: frozenset[RecordId] = frozenset(),
    ) -> None:
        """Keep `records`, and drop those that are `gone`, all or none, durably.

        New ones are numbered in the order given, from one above the last number that was
        ever used; those that are there already keep their numbers. Numbers of dropped ones
        are not used again. Signatures were verified before.

        Raises:
            WrongSpaceError: one of them belongs to another space.
            MachineError: the disk refused; nothing was kept.
        """

    def log(self, space: SpaceId) -> Log:
        """Return the records of `space` as they are now; those of later do not show."""

    def trie(self, space: SpaceId) -> Trie:
        """Return the trie over the ids of the records of `space` as they are now."""

    def trie_fits(self, space: SpaceId) -> bool:
        """Tell whether nothing was read yet that does not fit the trie given last.

        If it does not, `trie` gives one that was built anew.
        """

    def said(self, author: AuthorId) -> int:
        """Return how many records of `author` are here, in all spaces."""

    def load(self, space: SpaceId) -> list[SignedRecord]:
        """Return all records of `space` in the order of their numbers.

        Raises:
            MachineError: the disk refused, or what it holds is damaged.
        """

    def after(
        self, space: SpaceId, sequence: int, limit_bytes: int
    ) -> tuple[list[SignedBytes], int, bool]:
        """Return the records numbered above `sequence` that fit in `limit_bytes`.

        At least one is returned if there is any. The second value is the number up to
        which there is none beside those: never above the last record's. The third tells
        whether there are more.
        """

    def last(self, space: SpaceId) -> int:
        """Return the number of the last record of `space`; 0 when there is none."""


class LocalStore(Protocol):
    """Keeps what holds on this machine only and is never replicated."""

    def set_base(self, space: SpaceId, folder: Path, manifest: BlobId) -> None:
        """Keep where the base of `space` lies; replaces what was known."""

    def base(self, space: SpaceId) -> BaseFacts | None:
        """Return where the base of `space` lies, if that is known."""

    def add_invite(self, space: SpaceId, secret: bytes) -> None:
        """Keep the secret of a ticket, so that its holder may join."""

    def has_invite(self, space: SpaceId, secret: bytes) -> bool:
        """Tell whether the secret opens the door of `space`."""

    def invites(self, space: SpaceId) -> list[bytes]:
        """Return the secrets that open the door of `space`, sorted."""

    def revoke_invite(self, space: SpaceId, secret: bytes) -> bool:
        """Forget a secret; tell whether it was there."""

    def add_peer(self, space: SpaceId, node: bytes, addresses: Sequence[str]) -> None:
        """Keep where a node listens; replaces what was known of this node."""

    def peers(self, space: SpaceId) -> list[PeerFacts]:
        """Return the nodes to begin with in `space`, sorted by key."""

    def set_addresses(self, node: bytes, addresses: Sequence[str]) -> None:
        """Keep what the user says of where a node listens, in any space; none forgets."""

    def addresses(self) -> list[PeerFacts]:
        """Return what the user said of where nodes listen, sorted by key."""

    def tried(self) -> list[TriedFacts]:
        """Return what came of dialling nodes, sorted by node and address."""

    def keep_tried(
        self, kept: Sequence[TriedFacts], gone: Sequence[tuple[bytes, str]]
    ) -> None:
        """Keep what came of dialling, and forget it of other nodes and addresses."""

    def set_value(self, key: str, value: bytes) -> None:
        """Keep a small setting of this machine."""

    def get_value(self, key: str) -> bytes | None:
        """Return a setting, if it was ever set."""


class BlobStore(Protocol):
    """Keeps immutable bytes by digest; a blob is here whole and verified, or not."""

    def has(self, blob: BlobId) -> bool:
        """Tell whether the blob is here."""

    def missing(self, blobs: Iterable[BlobId]) -> list[BlobId]:
        """Return those of `blobs` that are not here, in the order given."""

    def read(self, blob: BlobId, size: int) -> bytes | memoryview:
        """Return the verified bytes of a blob of `size` bytes.

        Raises:
            ContentMissingError: it is not here.
            CorruptBlobError: the bytes on disk are no longer those of the digest.
        """
