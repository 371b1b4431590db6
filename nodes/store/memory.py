"""Records and blobs in memory: a store for simulations and for tests of the cores.

Owns the promises of `base` for as long as the object lives: whoever drops everything else
and keeps it has a node that crashed and kept its disk. Does not own files: those are
`sqlite` and `blobs`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import BlobId, blob_id_of
from crdtmerge.errors import ContentMissingError, CorruptBlobError, WrongSpaceError
from crdtmerge.record import SignedRecord
from crdtmerge.sync.messages import SignedBytes

from .base import RECORD_OVERHEAD_BYTES


@dataclass(slots=True)
class MemoryRecords:
    """The `RecordStore` without a disk; number n is the item n - 1 of its space."""

    generation: bytes
    _records: dict[SpaceId, dict[RecordId, SignedRecord]] = field(default_factory=dict)
    _order: dict[SpaceId, list[SignedRecord]] = field(default_factory=dict)

    def spaces(self) -> list[SpaceId]:
        """Return the spaces that have a record, sorted by id."""
        return sorted(self._order)

    def append(self, space: SpaceId, records: Sequence[SignedRecord]) -> None:
        """Keep `records`, all or none.

        Raises:
            WrongSpaceError: one of them belongs to another space.
        """
        if any(signed.record.space_id != space for signed in records):
            raise WrongSpaceError(f"a record of another space than {space.hex()[:12]}")
        if not records:
            return
        known = self._records.setdefault(space, {})
        order = self._order.setdefault(space, [])
        for signed in records:
            if signed.record.id not in known:
                known[signed.record.id] = signed
                order.append(signed)

    def load(self, space: SpaceId) -> list[SignedRecord]:
        """Return all records of `space` in the order of their numbers."""
        return list(self._order.get(space, ()))

    def after(
        self, space: SpaceId, sequence: int, limit_bytes: int
    ) -> tuple[list[SignedBytes], int, bool]:
        """Return the records numbered above `sequence` that fit in `limit_bytes`.

        At least one is returned if there is any; then the number of the last one, and
        whether there are more.
        """
        order = self._order.get(space, [])
        sequence = min(sequence, len(order))
        batch: list[SignedBytes] = []
        used = 0
        while sequence < len(order):
            signed = order[sequence]
            used += len(signed.record.data) + len(signed.signature)
            used += RECORD_OVERHEAD_BYTES
            if batch and used > limit_bytes:
                return batch, sequence, True
            batch.append(SignedBytes(signed.record.data, signed.signature))
            sequence += 1
        return batch, sequence, False

    def last(self, space: SpaceId) -> int:
        """Return the number of the last record of `space`; 0 when there is none."""
        return len(self._order.get(space, ()))


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
