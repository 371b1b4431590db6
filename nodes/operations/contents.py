"""Bringing a user's model into a home: name it, check it, keep its bytes, all or nothing.

Owns the order of the checks and the undoing. Does not own the checks (`crdtmerge.formats`,
`crdtmerge.manifest`) nor how a blob is kept (`store`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from crdtmerge.bodies import SpaceId
from crdtmerge.changes import changes_of
from crdtmerge.digest import BlobId, blob_id_of
from crdtmerge.errors import BadInputError, CrdtMergeError, NotFoundError
from crdtmerge.formats.folder import ModelFolder, read_folder
from crdtmerge.formats.ingest import check_content, describe
from crdtmerge.formats.progress import Progress
from crdtmerge.manifest import (
    Manifest,
    TensorEntry,
    decode_manifest,
)
from crdtmerge.numerics import TensorFacts, inspect

from ..store.base import BaseFacts
from ..store.blobs import FileBlobs
from .live import Context, Tell, telling


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the user's that passed the checks: its files, and what it is called."""

    folder: ModelFolder
    manifest: Manifest


def read_base(path: Path, tell: Tell) -> Model:
    """Return a model that may be a base.

    Raises:
        BadInputError: it is damaged, or holds NaN or infinity.
    """
    folder = read_folder(path)
    manifest = describe(folder, "base", report=telling(tell))
    check_content(folder, None, telling(tell))
    return Model(folder, manifest)


def read_contribution(
    context: Context, space: SpaceId, path: Path, tell: Tell
) -> Model:
    """Return a model that may be contributed to `space`.

    Raises:
        BadInputError: it is damaged, does not fit the base, or has values out of bounds.
        NotFoundError: this home does not know where the base lies.
    """
    base = base_manifest(context, space)
    folder = read_folder(path)
    # Names and shapes are known from headers: refuse before gigabytes are hashed.
    changes_of(_unhashed(folder, base.content_id), base)
    manifest = describe(folder, "full", base.content_id, report=telling(tell))
    check_content(folder, _base_facts(context.home.blobs, base), telling(tell))
    return Model(folder, manifest)


def _unhashed(folder: ModelFolder, base: bytes) -> Manifest:
    """Return the manifest as far as headers tell: with empty blob ids."""
    none = BlobId(b"")
    entries = [TensorEntry(t.name, t.dtype, t.shape, none) for t in folder.tensors]
    return Manifest("full", base, tuple(entries))


def _base_facts(blobs: FileBlobs, base: Manifest) -> Callable[[str], TensorFacts]:
    entries = {entry.name: entry for entry in base.tensors}

    def facts(name: str) -> TensorFacts:
        entry = entries[name]
        return inspect(blobs.read(entry.blob, entry.size), entry.dtype)

    return facts


def base_facts(context: Context, space: SpaceId) -> BaseFacts:
    """Return where the base of `space` lies on this machine.

    Raises:
        NotFoundError: that is not known here.
    """
    found = context.home.local.base(space)
    if found is None:
        raise NotFoundError(
            f"this home does not know where the base of space {space.hex()[:12]} lies",
            hint="`crdtmerge space join TICKET --base DIR` says it",
        )
    return found


def base_manifest(context: Context, space: SpaceId) -> Manifest:
    """Return the manifest of the base of `space`.

    Raises:
        NotFoundError: this home does not know the base.
    """
    blobs, blob = context.home.blobs, base_facts(context, space).manifest
    size, _ = blobs.chunk_list(blob)
    return decode_manifest(bytes(blobs.read(blob, size)))


@dataclass(slots=True)
class Intake:
    """What one command brings in; `new_bytes` counts what was not there before.

    `signing` is set before the record is signed that makes the blobs needed.
    """

    blobs: FileBlobs
    new_bytes: int = 0
    fresh: list[BlobId] = field(default_factory=list)
    signing: bool = False

    def take(self, model: Model, *, reference: bool, tell: Tell) -> None:
        """Keep the tensors of `model`: a copy, or with `reference` only where they lie.

        Raises:
            BadInputError: a file changed since it was checked.
            MachineError: the disk refused.
        """
        report, done = telling(tell), 0
        if not reference:
            sizes = {e.blob: e.size for e in model.manifest.tensors}
            self.blobs.reserve(sum(sizes[b] for b in self.blobs.missing(sizes)))
        entries = zip(model.folder.tensors, model.manifest.tensors, strict=True)
        for stored, entry in entries:
            place = (stored.path, stored.offset, stored.size)
            new = not self.blobs.has(entry.blob)
            if reference:
                kept = self.blobs.reference_range(*place)
            else:
                kept = self.blobs.import_range(*place, expected=entry.blob)
            if new:
                self.fresh.append(kept)
                self.new_bytes += stored.size
            if kept != entry.blob:
                message = f"{stored.path} changed while it was being read"
                raise BadInputError(message, hint="do not write to a model in use")
            done += stored.size
            report(Progress("keeping", done, model.folder.size))

    def put(self, data: bytes) -> BlobId:
        """Keep a small blob such as a manifest."""
        blob = blob_id_of(data)
        if not self.blobs.has(blob):
            self.fresh.append(blob)
        return self.blobs.put(data)


@contextmanager
def all_or_none(blobs: FileBlobs) -> Iterator[Intake]:
    """Lend an intake whose new blobs go again if the block fails."""
    intake = Intake(blobs)
    try:
        yield intake
    except BaseException as e:
        # SUBTLE: Ctrl-C may strike after the commit; then the bytes must stay.
        unwanted = isinstance(e, Exception) or not intake.signing
        for blob in intake.fresh if unwanted else ():
            with suppress(CrdtMergeError):  # the first error is the one to tell
                blobs.forget(blob)
        raise
