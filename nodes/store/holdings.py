"""What lies in the blob store, thing by thing: blobs, downloads, leftovers of a crash.

Owns this list. Does not own whether a thing is needed (`nodes.upkeep`), nor its bytes.
"""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from crdtmerge.digest import BlobId

from .disk import Disk, explained
from .places import PACKED_END, Places, blob_named, is_blob_name

Form = Literal["own", "referenced", "packed", "partial", "stale", "leftover"]


@dataclass(frozen=True, slots=True)
class Holding:
    """One thing in the store: what it is of, and how many bytes of our disk it takes.

    A `leftover` is a file that no row speaks of, `stale` a part of what is here whole.
    """

    blob: BlobId
    form: Form
    size: int
    stored: int
    used: int = 0
    against: BlobId | None = None


class Rows(Protocol):
    """What the table of blobs says (`rows.BlobRows`)."""

    def holdings(self) -> Iterator[Holding]:
        """Return the blobs that are there."""

    def downloads(self) -> dict[BlobId, int]:
        """Return the downloads that have begun, with the sizes of their blobs."""


def list_holdings(rows: Rows, disk: Disk, places: Places) -> list[Holding]:
    """Return all that lies in the store, blobs first.

    Raises:
        MachineError: the disk refused.
    """
    blobs = list(rows.holdings())
    here = {holding.blob: holding for holding in blobs}
    own = {blob for blob, holding in here.items() if holding.form == "own"}
    packed = {blob for blob, holding in here.items() if holding.form == "packed"}
    with explained(f"listing {places.home}"):
        return [
            *blobs,
            *_partials(disk, places, here, rows.downloads()),
            *_leftovers(disk, places, own, packed),
        ]


def _partials(
    disk: Disk, places: Places, here: Iterable[BlobId], downloads: dict[BlobId, int]
) -> Iterator[Holding]:
    there = [n for n in disk.list(places.partials) if is_blob_name(n)]
    for blob in sorted({*map(blob_named, there), *downloads}):
        path = places.partial(blob)
        stored = _taken(disk, path) or 0
        form: Form = "stale" if blob in here else "partial"
        yield Holding(blob, form, downloads.get(blob, stored), stored)


def _leftovers(
    disk: Disk,
    places: Places,
    own: AbstractSet[BlobId],
    packed: AbstractSet[BlobId],
) -> Iterator[Holding]:
    """Yield the files that their row does not speak of: one has a raw or a packed file."""
    for name in disk.list(places.blobs):
        folder = places.blobs / name
        for rest in disk.list(folder) if len(name) == 2 else ():
            digits = name + rest.removesuffix(PACKED_END)
            if not is_blob_name(digits):
                continue
            blob = blob_named(digits)
            if blob not in (packed if rest.endswith(PACKED_END) else own):
                stored = _taken(disk, folder / rest)
                if stored is not None:
                    yield Holding(blob, "leftover", stored, stored)


def _taken(disk: Disk, path: Path) -> int | None:
    """Return what a file takes; None if it went since the folder was listed.

    SUBTLE: downloads end and blobs are packed while a running node lists what lies here.
    """
    try:
        return disk.taken(path)
    except FileNotFoundError:
        return None
