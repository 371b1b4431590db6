"""Packing one blob and unpacking it again, so that a crash never loses it.

Owns the order of files and rows. Does not own the packed form (`packed`), nor which blobs
are cold or what they are encoded against (`nodes.upkeep.packing`).

The new file is written, synced, named and its folder synced while the old one is still
there; one transaction switches the row; then the old file goes. A crash before the switch
leaves the old blob and a file that no row speaks of, a crash after it the new blob and the
old file: both are leftovers that the next attempt or collection removes.
"""

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from crdtmerge.digest import BlobId, blob_id, chunk_count, chunk_digest
from crdtmerge.encodings import BASED, Effort, Form, choose, decode, encode, sampled
from crdtmerge.errors import ContentMissingError, CorruptBlobError

from .disk import Disk, explained, make_folder
from .packed import BaseChunk, PackedFile, claimed, index_bytes, write_packed
from .places import Places
from .ranges import Done, Stored, damaged, write_pieces
from .rows import BlobRows

PAYS_PERCENT: Final = 10
"""How much of its bytes a blob must save to be packed."""


class Chunks(Protocol):
    """What reads chunks and knows how much room there is."""

    def read_chunk(self, blob: BlobId, index: int) -> bytes:
        """Return one chunk, verified."""

    def reserve(self, size: int) -> None:
        """Check that `size` more bytes fit."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to pack: a blob of items of `width` bytes, and the base's blob beside it."""

    blob: BlobId
    width: int
    against: BlobId | None


@dataclass(frozen=True, slots=True)
class Packed:
    """What became of an order: bytes before and after; `form` None if it does not pay."""

    order: Order
    before: int
    after: int
    form: Form | None


class Packing:
    """Packs and unpacks blobs of one home. Safe for several threads."""

    def __init__(
        self,
        disk: Disk,
        places: Places,
        rows: BlobRows,
        chunks: Chunks,
        lock: threading.RLock,
    ) -> None:
        """Use the parts of a store; `lock` is held while a blob changes its file."""
        self._disk = disk
        self._places = places
        self._rows = rows
        self._chunks = chunks
        self._lock = lock
        self._numbers = itertools.count()

    def estimate(self, order: Order) -> Packed:
        """Return what packing would give, by a few chunks; nothing is written.

        Raises:
            CrdtMergeError: the blob or its base cannot be read.
        """
        stored, base = self._stored(order)
        if stored is None:
            return Packed(order, 0, 0, None)
        form, share = self._choice(order, stored, base)
        after = index_bytes(stored.size) + int(share * stored.size)
        return Packed(order, stored.size, after, form)

    def pack(self, order: Order, done: Done | None = None) -> Packed:
        """Pack a blob if it pays; it is readable at every moment.

        Nothing is done to a blob that is packed already, lies in the user's folder, or is
        what others are packed against; nor against a base that is packed itself.

        Raises:
            CrdtMergeError: the blob or its base cannot be read; both are as they were.
            MachineError: the disk refused; the blob is as it was.
        """
        stored, base = self._stored(order)
        if stored is None:
            return Packed(order, 0, 0, None)
        form, share = self._choice(order, stored, base)
        if form is None or not _pays(stored.size, int(share * stored.size)):
            return Packed(order, stored.size, stored.size, None)
        self._chunks.reserve(stored.size)
        against = order.against if form in BASED else None
        path = self._places.temporary / f"packing-{next(self._numbers)}"
        try:
            chunks = self._encoded(order, stored, base, form, done)
            after = write_packed(
                self._disk,
                path,
                stored.blob,
                size=stored.size,
                against=against,
                chunks=chunks,
            )
            if not _pays(stored.size, after) or not self._switch(
                path, stored, against, after
            ):
                return Packed(order, stored.size, stored.size, None)
        finally:
            with suppress(OSError):
                self._disk.remove(path)
        return Packed(order, stored.size, after, form)

    def unpack(self, blob: BlobId, done: Done | None = None) -> int:
        """Give a packed blob its raw file back; return its size, 0 if it is not packed.

        Raises:
            CrdtMergeError: it, or its base, cannot be read; it stays packed.
            MachineError: the disk refused; it stays packed.
        """
        stored = self._rows.find(blob)
        if not stored.packed:
            return 0
        self._chunks.reserve(stored.size)
        path = self._places.temporary / f"packing-{next(self._numbers)}"

        def pieces() -> Iterator[bytes]:
            for index in range(len(stored.chunks)):
                piece = self._chunks.read_chunk(blob, index)
                yield piece
                if done:
                    done(len(piece))

        try:
            write_pieces(self._disk, path, pieces())
            with self._lock:
                self._name(path, self._places.own(blob))
                if self._rows.unpack(blob):
                    self._remove(self._places.packed(blob))
        finally:
            with suppress(OSError):
                self._disk.remove(path)
        return stored.size

    def restore(self, blob: BlobId) -> bool:
        """Make a raw blob of a packed file that no row speaks of; tell whether it is right.

        So it is once the table was restored from a backup older than the packing: by the
        row a raw file lies here, and it is gone.

        Raises:
            MachineError: the disk refused.
        """
        if not self._disk.exists(self._places.packed(blob)):
            return False
        path = self._places.temporary / f"packing-{next(self._numbers)}"
        try:
            size, chunks = self._write_raw(blob, path)
            if blob_id(size, chunks) != blob:
                return False
            final = self._places.own(blob)
            with self._lock:
                self._name(path, final)
                self._rows.write(Stored(blob, size, tuple(chunks), final, 0, False))
                self._remove(self._places.packed(blob))
        except (ContentMissingError, CorruptBlobError):
            return False
        finally:
            with suppress(OSError):
                self._disk.remove(path)
        return True

    def _write_raw(self, blob: BlobId, path: Path) -> tuple[int, list[bytes]]:
        """Write what a packed file decodes to; return its size and chunk digests."""
        source = self._places.packed(blob)
        with explained(f"reading {source}"), self._disk.open(source) as file:
            stored = claimed(file, source)
            if stored is None or stored.blob != blob:
                raise CorruptBlobError(f"{source} is not the packed file of its name")
            packed, base = PackedFile(file, stored), self._base(stored)
            self._chunks.reserve(stored.size)
            count = chunk_count(stored.size)
            pieces = (packed.unverified(index, base) for index in range(count))
            return stored.size, write_pieces(self._disk, path, pieces)

    def _base(self, stored: Stored) -> BaseChunk:
        against = stored.against

        def chunk(index: int) -> bytes:
            if against is None:
                raise damaged(stored, f"chunk {index}")
            return self._chunks.read_chunk(against, index)

        return chunk

    # --- inside ------------------------------------------------------------------------

    def _stored(self, order: Order) -> tuple[Stored | None, BlobId | None]:
        """Return the blob if it may be packed, and its base if that serves."""
        stored = self._rows.find(order.blob)
        if stored.packed or stored.referenced or self._rows.is_base(order.blob):
            return None, None
        base = None
        if order.against is not None and self._rows.has(order.against):
            theirs = self._rows.find(order.against)
            if theirs.size == stored.size and not theirs.packed:
                base = order.against
        return stored, base

    def _choice(
        self, order: Order, stored: Stored, base: BlobId | None
    ) -> tuple[Form | None, float]:
        """Return the form for a blob, and which share of its bytes is left, by samples."""
        samples = [
            (
                self._chunks.read_chunk(stored.blob, index),
                None if base is None else self._chunks.read_chunk(base, index),
            )
            for index in sampled(len(stored.chunks))
        ]
        form = choose(samples, width=order.width, effort=Effort.SMALL)
        if form is None:
            return None, 1.0
        return form, _share(samples, order.width, form)

    def _encoded(
        self,
        order: Order,
        stored: Stored,
        base: BlobId | None,
        form: Form,
        done: Done | None,
    ) -> Iterator[bytes]:
        """Yield the chunks in their encoded form, each decoded again and compared.

        SUBTLE: the raw file goes afterwards. A bug in an encoder, or memory that flipped a
        bit, must show while the bytes are still there.
        """
        for index, named in enumerate(stored.chunks):
            raw = self._chunks.read_chunk(stored.blob, index)
            against = None
            if base is not None and form in BASED:
                against = self._chunks.read_chunk(base, index)
            data = encode(
                raw, width=order.width, against=against, form=form, effort=Effort.SMALL
            )
            if data is not None:
                again = decode(data, length=len(raw), against=against)
                if chunk_digest(again) != named:
                    raise damaged(stored, f"what was encoded of chunk {index}")
            yield raw if data is None else data
            if done:
                done(len(raw))

    def _switch(
        self, path: Path, stored: Stored, against: BlobId | None, after: int
    ) -> bool:
        """Make the packed file the blob's; false, and nothing done, if that is too late."""
        final = self._places.packed(stored.blob)
        with self._lock:
            self._name(path, final)
            if not self._rows.pack(stored.blob, against, after):
                self._remove(final)
                return False
            self._remove(self._places.own(stored.blob))
        return True

    def _name(self, path: Path, final: Path) -> None:
        """Give a synced file its name, durably."""
        with explained(f"keeping {final}"):
            make_folder(self._disk, final.parent)
            self._disk.rename(path, final)
            self._disk.sync_folder(final.parent)

    def _remove(self, path: Path) -> None:
        with explained(f"removing {path}"):
            self._disk.remove(path)


def _share(
    samples: Sequence[tuple[bytes, bytes | None]], width: int, form: Form
) -> float:
    """Return which share of these chunks an encoding leaves."""
    raw_bytes = encoded = 0
    for raw, against in samples:
        data = encode(raw, width=width, against=against, form=form, effort=Effort.SMALL)
        raw_bytes += len(raw)
        encoded += len(raw if data is None else data)
    return encoded / raw_bytes


def _pays(before: int, after: int) -> bool:
    return 100 * after <= (100 - PAYS_PERCENT) * before
