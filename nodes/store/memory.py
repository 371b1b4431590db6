"""Records and blobs in memory: a store for simulations and for tests of the cores.

Owns the promises of `base` for as long as the object lives: whoever drops everything else
and keeps it has a node that crashed and kept its disk. Does not own files: those are
`sqlite` and `blobs`.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import BlobId, blob_id_of
from crdtmerge.errors import ContentMissingError, CorruptBlobError, WrongSpaceError
from crdtmerge.identity import AuthorId
from crdtmerge.log import MemoryLog
from crdtmerge.record import SignedRecord
from crdtmerge.sync.messages import SignedBytes
from crdtmerge.trie import Trie

from .base import RECORD_OVERHEAD_BYTES


@dataclass(slots=True)
class _Numbered:
    """The records of one space: as a log, with their numbers, and their trie."""

    log: MemoryLog = field(default_factory=MemoryLog)
    numbers: list[int] = field(default_factory=list)
    """Of each record of the log; they ascend, with gaps where records were dropped."""
    last: int = 0
    trie: Trie = field(default_factory=Trie)


@dataclass(slots=True)
class MemoryRecords:
    """The `RecordStore` without a disk."""

    generation: bytes
    _spaces: dict[SpaceId, _Numbered] = field(default_factory=dict)

    def spaces(self) -> list[SpaceId]:
        """Return the spaces that have a record, sorted by id."""
        return sorted(self._spaces)

    def append(
        self,
        space: SpaceId,
        records: Sequence[SignedRecord],
        gone: frozenset[RecordId] = frozenset(),
    ) -> None:
        """Keep `records`, and drop those that are `gone`, all or none.

        Raises:
            WrongSpaceError: one of them belongs to another space.
        """
        if any(signed.record.space_id != space for signed in records):
            raise WrongSpaceError(f"a record of another space than {space.hex()[:12]}")
        if not records and not gone:
            return
        held = self._spaces.setdefault(space, _Numbered())
        fresh = {s.record.id: s for s in records if s.record.id not in held.log}
        held.log = held.log.extended(fresh)
        held.numbers += range(held.last + 1, held.last + len(fresh) + 1)
        held.last += len(fresh)
        gone -= fresh.keys()
        held.trie = held.trie.insert(fresh).delete(gone)
        if gone:
            kept = zip(held.log, held.numbers, strict=True)
            held.numbers = [number for key, number in kept if key not in gone]
            held.log = held.log.without(gone)

    def log(self, space: SpaceId) -> MemoryLog:
        """Return the records of `space` as they are now."""
        return self._spaces.get(space, _Numbered()).log

    def trie(self, space: SpaceId) -> Trie:
        """Return the trie over the ids of the records of `space`."""
        return self._spaces.get(space, _Numbered()).trie

    def trie_fits(self, space: SpaceId) -> bool:  # noqa: ARG002
        """Tell that it does: memory is not damaged."""
        return True

    def said(self, author: AuthorId) -> int:
        """Return how many records of `author` are here, in all spaces."""
        return sum(len(held.log.of_author(author)) for held in self._spaces.values())

    def load(self, space: SpaceId) -> list[SignedRecord]:
        """Return all records of `space` in the order of their numbers."""
        return list(self.log(space).since(0))

    def after(
        self, space: SpaceId, sequence: int, limit_bytes: int
    ) -> tuple[list[SignedBytes], int, bool]:
        """Return the records numbered above `sequence` that fit in `limit_bytes`.

        At least one is returned if there is any; then the number up to which there is none
        beside those, and whether there are more.
        """
        held = self._spaces.get(space, _Numbered())
        sequence = min(sequence, held.last)
        batch: list[SignedBytes] = []
        used = 0
        begin = bisect_right(held.numbers, sequence)
        for number, signed in zip(
            held.numbers[begin:], held.log.since(begin), strict=True
        ):
            used += len(signed.record.data) + len(signed.signature)
            used += RECORD_OVERHEAD_BYTES
            if batch and used > limit_bytes:
                return batch, sequence, True
            batch.append(SignedBytes(signed.record.data, signed.signature))
            sequence = number
        return batch, held.last, False

    def last(self, space: SpaceId) -> int:
        """Return the number of the last record of `space`; 0 when there is none."""
        return self._spaces.get(space, _Numbered()).last


@dataclass(slots=True)
class MemoryBlobs:
    """The `BlobStore` without a disk."""

    _blobs: dict[BlobId, bytes] = field(default_factory=dict)

    def add(self, data: bytes) -> BlobId:
        """Keep `data`, and return the id that its bytes give it."""
        blob = blob_id_of(data)
        self._blobs[blob] = data
        return blob

    def receive(self, blob: BlobId, data: bytes) -> None:
        """Keep what a peer sent as `blob`.

        Raises:
            CorruptBlobError: these bytes have another digest; nothing was kept.
        """
        if blob_id_of(data) != blob:
            raise CorruptBlobError(f"blob {blob.hex()[:12]} came with other bytes")
        self._blobs[blob] = data

    def get(self, blob: BlobId) -> bytes:
        """Return the bytes of a blob that is here, whatever their size."""
        return self._blobs[blob]

    def has(self, blob: BlobId) -> bool:
        """Tell whether the blob is here."""
        return blob in self._blobs

    def missing(self, blobs: Iterable[BlobId]) -> list[BlobId]:
        """Return those of `blobs` that are not here, in the order given."""
        return [blob for blob in blobs if blob not in self._blobs]

    def read(self, blob: BlobId, size: int) -> bytes:
        """Return the bytes of a blob of `size` bytes.

        Raises:
            ContentMissingError: it is not here.
            CorruptBlobError: it has another size than was asked for.
        """
        data = self._blobs.get(blob)
        if data is None:
            raise ContentMissingError(f"blob {blob.hex()[:12]} is not here")
        if len(data) != size:
            raise CorruptBlobError(
                f"blob {blob.hex()[:12]} has {len(data)} bytes, not {size}"
            )
        return data
