"""Where this machine has the right bytes of a chunk that is damaged elsewhere on it.

Owns the search: in other blobs, in the folders of bases, in the user's file itself. Does
not own what is done with what is found (`repairing`).

A place is believed only after its bytes were read and had the digest; they are read again,
and verified again, when they are used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crdtmerge.digest import CHUNK_BYTES, BlobId, chunk_digest
from crdtmerge.errors import BadInputError, CrdtMergeError
from crdtmerge.formats.folder import read_folder
from crdtmerge.manifest import decode_manifest

from ..home import Home
from ..spaces import Spaces


@dataclass(frozen=True, slots=True)
class InBlob:
    """A chunk of another blob of this home."""

    blob: BlobId
    index: int


@dataclass(frozen=True, slots=True)
class InFile:
    """A range of a file of the user."""

    path: Path
    offset: int
    length: int


Place = InBlob | InFile


@dataclass(slots=True)
class Sources:
    """What of one home's machine may hold right bytes."""

    home: Home
    spaces: Spaces
    _bases: dict[BlobId, InFile] | None = field(default=None)

    def find(
        self, blob: BlobId, lengths: Mapping[int, int], digests: Iterable[bytes]
    ) -> dict[int, Place]:
        """Return where chunks of `blob` can be had: those with these indices and lengths.

        Raises:
            MachineError: the store cannot be read.
        """
        wanted = dict(zip(lengths, digests, strict=True))
        elsewhere = self.home.blobs.rows.with_chunks(set(wanted.values()))
        found: dict[int, Place] = {}
        for index, digest in wanted.items():
            places: list[Place] = [
                InBlob(other, number)
                for other, number in elsewhere.get(digest, ())
                if (other, number) != (blob, index)
            ]
            places += self._ranges(blob, index, lengths[index])
            right = (p for p in places if self.read(p, digest) is not None)
            place = next(right, None)
            if place is not None:
                found[index] = place
        return found

    def read(self, place: Place, digest: bytes) -> bytes | None:
        """Return the bytes of a place, if they have the digest."""
        data = self._read(place)
        return data if data is not None and chunk_digest(data) == digest else None

    def _read(self, place: Place) -> bytes | None:
        try:
            if isinstance(place, InBlob):
                return self.home.blobs.read_chunk(place.blob, place.index)
            with place.path.open("rb") as file:
                file.seek(place.offset)
                return file.read(place.length)
        except (CrdtMergeError, OSError):
            return None

    def _ranges(self, blob: BlobId, index: int, length: int) -> list[Place]:
        """Return where the bytes of a chunk should lie in files of the user."""
        files = [self._of_bases().get(blob), self._referenced(blob)]
        start = index * CHUNK_BYTES
        return [InFile(f.path, f.offset + start, length) for f in files if f]

    def _referenced(self, blob: BlobId) -> InFile | None:
        try:
            stored = self.home.blobs.rows.find(blob)
        except CrdtMergeError:
            return None
        return InFile(stored.path, stored.offset, 0) if stored.referenced else None

    def _of_bases(self) -> Mapping[BlobId, InFile]:
        """Return where the tensors of our bases lie, by the headers of their files."""
        if self._bases is None:
            self._bases = {}
            for space in self.spaces.all():
                facts = self.home.local.base(space)
                if facts is not None:
                    self._bases |= self._of_base(facts.folder, facts.manifest)
        return self._bases

    def _of_base(self, folder: Path, manifest: BlobId) -> dict[BlobId, InFile]:
        blobs = self.home.blobs
        try:
            size, _ = blobs.chunk_list(manifest)
            entries = decode_manifest(bytes(blobs.read(manifest, size))).tensors
            stored = {tensor.name: tensor for tensor in read_folder(folder).tensors}
        except (CrdtMergeError, BadInputError):
            return {}
        return {
            entry.blob: InFile(found.path, found.offset, found.size)
            for entry in entries
            if (found := stored.get(entry.name)) is not None
            and found.size == entry.size
        }
