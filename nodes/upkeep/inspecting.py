"""The check of everything: every byte of every blob, and every row against its file.

Owns what counts as damage, and finding it. Does not own what is done about it
(`repairing`), nor who wants to know (`nodes.operations`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from crdtmerge.digest import BlobId
from crdtmerge.errors import ContentMissingError, CorruptBlobError

from ..store.blobs import FileBlobs
from ..store.holdings import Form, Holding
from ..store.ranges import Done
from ..store.removing import BLOB_FORMS

Kind = Literal["bytes", "length", "swapped", "gone", "list", "base"]

LOOKS_MAX: Final = 3
"""How often a blob is looked at that changes its form meanwhile."""

MEANINGS: Final[dict[Kind, str]] = {
    "bytes": "bytes are not those of the blob",
    "length": "the file is longer or shorter than the blob",
    "swapped": "the file holds another blob",
    "gone": "the file is not there",
    "list": "the list of chunk digests is not that of the blob",
    "base": "it is packed against a blob that is not here, or damaged",
}


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with one blob; `chunks` are those that are not right."""

    blob: BlobId
    form: Form
    kind: Kind
    size: int
    chunks: tuple[int, ...] = ()
    other: BlobId | None = None
    """The blob that its file holds in its place, or that it is packed against."""


def inspect(
    blobs: FileBlobs,
    done: Done | None = None,
    *,
    holdings: Iterable[Holding] | None = None,
) -> Iterator[Damage]:
    """Yield what is wrong with each blob that is damaged; `done` hears of bytes.

    A blob that is forgotten meanwhile is passed over.

    Raises:
        MachineError: the store cannot be read; a file that cannot is damage.
    """
    for holding in blobs.holdings() if holdings is None else holdings:
        if holding.form not in BLOB_FORMS:
            continue
        found = inspect_blob(blobs, holding, done)
        if found is not None and blobs.has(holding.blob):
            yield found


def inspect_blob(
    blobs: FileBlobs, holding: Holding, done: Done | None = None
) -> Damage | None:
    """Return what is wrong with one blob, if anything is.

    SUBTLE: one that is packed or unpacked meanwhile has another file: look again.
    """
    found: Damage | None = None
    for _ in range(LOOKS_MAX):
        form = blobs.rows.form(holding.blob)
        if form is None:
            return None
        found = _inspected(blobs, replace(holding, form=form), done)
        if found is None or blobs.rows.form(holding.blob) == form:
            break
    return found


def _inspected(blobs: FileBlobs, holding: Holding, done: Done | None) -> Damage | None:
    blob, form = holding.blob, holding.form
    try:
        size, chunks = blobs.chunk_list(blob)
    except CorruptBlobError:
        return Damage(blob, form, "list", holding.size)
    except ContentMissingError:
        return None
    if holding.against is not None and not blobs.has(holding.against):
        everything = tuple(range(len(chunks)))
        return Damage(blob, form, "base", size, everything, holding.against)
    try:
        bad = tuple(blobs.examination.bad_chunks(blob, done))
    except CorruptBlobError:  # of the base: nothing is known of this one
        return Damage(blob, form, "base", size, (), holding.against)
    except ContentMissingError:
        return Damage(blob, form, "gone", size, tuple(range(len(chunks))))
    return _judged(blobs, Damage(blob, form, "bytes", size, bad), len(chunks))


def _judged(blobs: FileBlobs, found: Damage, count: int) -> Damage | None:
    """Return what wrong chunks come to: with none of them, the length may be wrong."""
    if found.form != "own":
        return found if found.chunks else None
    if not found.chunks:
        whole = blobs.examination.size(found.blob) == found.size
        return None if whole else replace(found, kind="length")
    if len(found.chunks) < count:
        return found
    other = blobs.examination.found_in(found.blob)
    return found if other is None else replace(found, kind="swapped", other=other)
