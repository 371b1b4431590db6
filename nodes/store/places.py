"""Where the blob store keeps its files, and how they are called.

Owns the folders of a home that hold blobs, and the names in them. Does not own what lies
there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmerge.digest import DIGEST_BYTES, BlobId

BLOB_FOLDER: Final = "blobs"
PARTIAL_FOLDER: Final = "partial"
TEMPORARY_FOLDER: Final = "temporary"
PACKED_END: Final = ".packed"

_DIGITS: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of one home."""

    home: Path

    @property
    def blobs(self) -> Path:
        """Where whole blobs lie, in folders by their first two digits."""
        return self.home / BLOB_FOLDER

    @property
    def partials(self) -> Path:
        """Where those lie that are arriving."""
        return self.home / PARTIAL_FOLDER

    @property
    def temporary(self) -> Path:
        """Where those lie that are written before their id is known."""
        return self.home / TEMPORARY_FOLDER

    def own(self, blob: BlobId) -> Path:
        """Return the name of a blob that lies in the home."""
        name = blob.hex()
        return self.blobs / name[:2] / name[2:]

    def packed(self, blob: BlobId) -> Path:
        """Return the name of a blob that is kept in encoded chunks."""
        own = self.own(blob)
        return own.with_name(own.name + PACKED_END)

    def partial(self, blob: BlobId) -> Path:
        """Return the name of a blob that is arriving."""
        return self.partials / blob.hex()


def is_blob_name(name: str) -> bool:
    """Tell whether a file is called like a blob."""
    return len(name) == 2 * DIGEST_BYTES and set(name) <= _DIGITS


def blob_named(name: str) -> BlobId:
    """Return the blob that a file is called like."""
    return BlobId(bytes.fromhex(name))
