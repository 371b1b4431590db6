"""What a file says of a space, once it was checked as if a peer had sent it.

Owns which records and blobs such a file may hold. Does not own its form (`form`,
`reading`), the rules of records (`crdtmerge.policy`), nor what a home keeps of it.

Nothing in the file is believed: every record has its signature and its right, and the blobs
are those that its own visible contributions and its base need, none twice, none larger than
was signed. Only the bytes of tensors are not read yet: who copies them verifies them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import BlobId, Domain, blob_id_of, digest
from crdtmerge.errors import MalformedManifestError
from crdtmerge.manifest import MANIFEST_BYTES_MAX, Manifest, decode_manifest
from crdtmerge.orset import OpSet
from crdtmerge.policy import manifest_sizes
from crdtmerge.record import SignedRecord, well_formed
from crdtmerge.sync.messages import SignedBytes

from .form import BaseFile
from .reading import Archive, Entry
from .unpacking import goes_with_a_model


@dataclass(slots=True)
class CheckedArchive:
    """A file that was checked against `ours`, the set of the same space in this home."""

    archive: Archive
    ours: OpSet
    theirs: OpSet = field(init=False)
    entries: Mapping[BlobId, Entry] = field(init=False)
    manifests: dict[BlobId, Manifest] = field(init=False, default_factory=dict)
    base: Manifest | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Read records, manifests and where blobs lie; check all that can be by now.

        Raises:
            RemoteError: a record breaks a rule.
            MalformedArchiveError: the file holds what it must not, or lacks what it must.
        """
        self._read_records()
        self.entries = self.archive.blobs()
        self._read_manifests()
        if self.archive.header.base is not None:
            self._read_base()
        self._check_blobs()

    @property
    def space(self) -> SpaceId:
        """The space of the file."""
        return self.archive.header.space

    @property
    def base_files(self) -> tuple[BaseFile, ...]:
        """What lies beside the weights of the base in the file."""
        base = self.archive.header.base
        return base.files if base else ()

    def needed(self) -> list[BlobId]:
        """Return the blobs of the file that the union of both sets needs, in its order.

        A contribution that was removed or banned here, by records that the file does not
        have, is not brought back.
        """
        view = self.ours.join(self.theirs).view
        contents = {visible.content for visible in view.visible}
        found = {blob for v in view.visible for blob, _ in v.manifests}
        for manifest in self.manifests.values():
            if manifest.content_id in contents:
                found |= manifest.blobs().keys()
        return [blob for blob in self.entries if blob in found]

    def _read_records(self) -> None:
        """Take the records as a peer's: each is verified unless this home has it."""
        archive, theirs = self.archive, OpSet(self.space)
        for batch in archive.records():
            signed = [self._record(raw) for raw in batch]
            fresh = {s.record.id for s in signed if s.record.id not in theirs}
            if len(fresh) < len(batch) or not batch:
                raise archive.refused("a record is in it twice, or an entry is empty")
            theirs = theirs.insert(signed)
            if len(theirs) > archive.header.records:
                raise archive.refused("it has more records than it says")
        if RecordId(self.space) not in theirs:
            raise archive.refused("it lacks the record that founded the space")
        if theirs.root != archive.header.record_root:
            raise archive.refused("its records are not those that it says")
        self.theirs = theirs

    def _record(self, raw: SignedBytes) -> SignedRecord:
        known = self.ours.signed.get(RecordId(digest(Domain.RECORD, raw.data)))
        return known or well_formed(raw.data, raw.signature)

    def _read_manifests(self) -> None:
        """Read what the adds of the file name; one that is no manifest helps nobody."""
        sizes = manifest_sizes(self.theirs.view.visible)
        for visible in self.theirs.view.visible:
            for blob, _ in visible.manifests:
                manifest = self._manifest(blob, sizes[blob])
                if manifest and manifest.content_id == visible.content:
                    self.manifests[blob] = manifest

    def _manifest(self, blob: BlobId, size: int) -> Manifest | None:
        entry = self.entries.get(blob)
        if entry is None:
            return None
        data = self.archive.read(entry, min(size, MANIFEST_BYTES_MAX))
        if blob_id_of(data) != blob:
            raise self.archive.refused(f"{named(blob)} has other bytes")
        try:
            return decode_manifest(data)
        except MalformedManifestError:
            return None

    def _read_base(self) -> None:
        """Check that the base in the file is that of the space, and is all there."""
        archive, base = self.archive, self.archive.header.base
        assert base is not None, "asked for only where there is one"
        manifest = self._manifest(base.manifest, base.manifest_bytes)
        if manifest is None or manifest.content_id != self.theirs.view.base:
            raise archive.refused("its base is not that of the space")
        sizes = manifest.blobs() | {file.blob: file.size for file in base.files}
        for blob, size in sizes.items():
            if blob not in self.entries or self.entries[blob].size != size:
                raise archive.refused("its base is not whole")
        if not all(map(goes_with_a_model, base.files)):
            raise archive.refused("its base comes with a file that goes with no model")
        self.base = manifest

    def _check_blobs(self) -> None:
        """Refuse a blob that nothing in the file needs, or that is larger than it may."""
        allowed = manifest_sizes(self.theirs.view.visible)
        for manifest in self.manifests.values():
            _allow(allowed, manifest.blobs())
        base = self.archive.header.base
        if base is not None and self.base is not None:
            _allow(allowed, {base.manifest: base.manifest_bytes})
            _allow(allowed, self.base.blobs())
            _allow(allowed, {file.blob: file.size for file in base.files})
        for blob, entry in self.entries.items():
            if blob not in allowed:
                raise self.archive.refused(f"nothing in it needs {named(blob)}")
            if entry.size > allowed[blob]:
                raise self.archive.refused(f"{named(blob)} is larger than was signed")


def named(blob: BlobId) -> str:
    """Return what a blob is called in a message."""
    return f"blob {blob.hex()[:12]}"


def _allow(allowed: dict[BlobId, int], sizes: Mapping[BlobId, int]) -> None:
    for blob, size in sizes.items():
        allowed[blob] = max(size, allowed.get(blob, 0))
