"""The manifests that were read: decoded once, kept while there is room.

Owns the bound of what stays in memory. Does not own which contributions count (`spaces`),
nor the form of a manifest (`crdtmerge.manifest`).
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from crdtmerge.digest import BlobId, ContentId
from crdtmerge.errors import CorruptBlobError, MalformedManifestError
from crdtmerge.manifest import Manifest, decode_manifest

from .store.base import BlobStore

ENTRIES_MAX: Final = 1 << 20
"""Tensors, files and evidence of all manifests kept, but for the one read last. Models
have hundreds to some ten thousands; who signs a manifest makes it as long as it likes."""

Place = tuple[BlobId, int]


@dataclass(frozen=True, slots=True)
class Known:
    """A manifest with what is dear to compute of it."""

    content: ContentId
    manifest: Manifest
    blobs: dict[BlobId, int]
    evidence: bytes


@dataclass(slots=True)
class Manifests:
    """The manifests of one home's blobs; safe for several threads."""

    blobs: BlobStore
    _lock: Lock = field(default_factory=Lock)
    _kept: OrderedDict[Place, Known | None] = field(default_factory=OrderedDict)
    _entries: int = 0

    def read(self, blob: BlobId, size: int) -> Known | None:
        """Return the manifest that lies in a blob; None if that is none.

        Raises:
            ContentMissingError: the blob is not here.
        """
        place = blob, size
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
                return self._kept[place]
        try:
            data = bytes(self.blobs.read(blob, size))
        except CorruptBlobError:
            return None  # not kept: what is damaged may be repaired
        known = _decoded(data)
        self._keep(place, known)
        return known

    def _keep(self, place: Place, known: Known | None) -> None:
        """Keep a manifest; who was not asked for longest makes room."""
        with self._lock:
            if place not in self._kept:
                self._kept[place] = known
                self._entries += _weight(known)
            while self._entries > ENTRIES_MAX and len(self._kept) > 1:
                _, gone = self._kept.popitem(last=False)
                self._entries -= _weight(gone)


def _decoded(data: bytes) -> Known | None:
    try:
        manifest = decode_manifest(data)
    except MalformedManifestError:
        return None
    evidence = manifest.evidence_digest
    return Known(manifest.content_id, manifest, manifest.blobs(), evidence)


def _weight(known: Known | None) -> int:
    if known is None:
        return 1
    manifest = known.manifest
    parts = (manifest.tensors, manifest.files, manifest.evidence)
    return 1 + sum(map(len, parts))  # many names may share one blob
