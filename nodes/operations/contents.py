"""Bringing a user's model into a home: name it, check it, keep its bytes, all or nothing.

Owns the order of the checks and the undoing. Does not own the checks (`crdtmerge.formats`,
`crdtmerge.manifest`) nor how a blob is kept (`store`).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.changes import changes_of
from crdtmerge.digest import BlobId, blob_id_of
from crdtmerge.errors import BadInputError, CrdtMergeError, NotFoundError
from crdtmerge.formats.adapter import CONFIG_FILE, is_adapter, read_adapter
from crdtmerge.formats.folder import read_folder
from crdtmerge.formats.ingest import (
    Model,
    Source,
    check_changes,
    check_content,
    describe,
    describe_adapter,
    headers,
)
from crdtmerge.formats.progress import Progress
from crdtmerge.manifest import (
    FLOAT_DTYPES,
    Manifest,
    TensorEntry,
    decode_manifest,
)
from crdtmerge.numerics import TensorFacts, inspect

from ..store.base import BaseFacts
from ..store.blobs import FileBlobs
from ..store.sqlite import SqliteLocal
from .live import Context, Tell, telling

KINDS: Final = ("full", "delta", "lora")
_EXPONENTS: Final = "base exponents "


def read_base(path: Path, tell: Tell) -> tuple[Model, Mapping[str, TensorFacts]]:
    """Return a model that may be a base, and the facts of its float tensors.

    Raises:
        BadInputError: it is damaged, or holds NaN or infinity.
    """
    if is_adapter(path):
        message = f"{path} is an adapter, not a model"
        raise BadInputError(message, hint="give the model that it was trained on")
    folder = read_folder(path)
    manifest = describe(folder, "base", report=telling(tell))
    facts = check_content(folder, None, telling(tell))
    return Model(folder.path, manifest, folder.tensors), facts


def read_contribution(
    context: Context, space: SpaceId, path: Path, kind: str | None, tell: Tell
) -> Model:
    """Return a model, delta or adapter that may be contributed to `space`.

    What it returns can be signed: peers will read its manifest as it is. Without a
    `kind`, a PEFT adapter is known by its config; all else is a full model.

    Raises:
        BadInputError: it is damaged, does not fit the base, or has values out of bounds.
        NotFoundError: this home does not know where the base lies.
    """
    base, blobs = base_manifest(context, space), context.home.blobs
    if _kind(path, kind) == "lora":
        model = describe_adapter(read_adapter(path), base, telling(tell))
        check_changes(model, base, partial(_read, blobs), telling(tell))
        return model
    folder, kind = read_folder(path), kind or "full"
    # Names and shapes are known from headers: refuse before gigabytes are hashed.
    changes_of(headers(folder, kind, base.content_id), base)
    manifest = describe(folder, kind, base.content_id, report=telling(tell))
    model = Model(folder.path, manifest, folder.tensors)
    if kind == "full":
        check_content(folder, _base_facts(blobs, base), telling(tell))
    else:
        check_changes(model, base, partial(_read, blobs), telling(tell))
    return model


def _read(blobs: FileBlobs, entry: TensorEntry) -> memoryview:
    return memoryview(blobs.read(entry.blob, entry.size))


def _kind(path: Path, asked: str | None) -> str:
    """Return the kind asked for, which must be what lies at `path`; else what does."""
    if asked is not None and asked not in KINDS:
        raise BadInputError(f"kind {asked!r} is none of {', '.join(KINDS)}")
    found = is_adapter(path)
    if asked == "lora" and not found:
        message = f"{path} is no adapter: it has no {CONFIG_FILE}"
        raise BadInputError(message, hint="give the folder that PEFT saved")
    if found and asked not in {None, "lora"}:
        message = f"{path} is an adapter, not a model of kind {asked}"
        raise BadInputError(message, hint="leave --kind out")
    return "lora" if found else asked or "full"


def _base_facts(blobs: FileBlobs, base: Manifest) -> Callable[[str], TensorFacts]:
    entries = {entry.name: entry for entry in base.tensors}

    def facts(name: str) -> TensorFacts:
        entry = entries[name]
        return inspect(_read(blobs, entry), entry.dtype)

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


def keep_exponents(
    local: SqliteLocal, space: SpaceId, facts: Mapping[str, TensorFacts]
) -> None:
    """Keep what an adapter must know of the base, so that it need not be read again."""
    text = json.dumps({name: found.exponent for name, found in facts.items()})
    local.set_value(f"{_EXPONENTS}{space.hex()}", text.encode())


def base_exponents(context: Context, space: SpaceId) -> dict[str, int]:
    """Return the exponents of the base's float tensors, as they were found on entry.

    A home of an older version has none: there the base is read.
    """
    kept = context.home.local.get_value(f"{_EXPONENTS}{space.hex()}")
    if kept is not None:
        return dict(json.loads(kept))
    base = base_manifest(context, space)
    facts = _base_facts(context.home.blobs, base)
    floats = [e.name for e in base.tensors if e.dtype in FLOAT_DTYPES]
    return {name: facts(name).exponent for name in floats}


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
        report, done, entries = telling(tell), 0, model.manifest.tensors
        total = sum(entry.size for entry in entries)
        if not reference:
            sizes = {e.blob: e.size for e in entries}
            self.blobs.reserve(sum(sizes[b] for b in self.blobs.missing(sizes)))
        for source, entry in zip(model.sources, entries, strict=True):
            new = not self.blobs.has(entry.blob)
            kept = self._keep(source, entry, reference=reference)
            if new:
                self.fresh.append(kept)
                self.new_bytes += entry.size
            if kept != entry.blob:
                message = f"{model.path} changed while it was being read"
                raise BadInputError(message, hint="do not write to a model in use")
            done += entry.size
            report(Progress("keeping", done, total))

    def _keep(self, source: Source, entry: TensorEntry, *, reference: bool) -> BlobId:
        if isinstance(source, bytes):
            return self.blobs.put(source)
        place = (source.path, source.offset, source.size)
        if reference:
            return self.blobs.reference_range(*place)
        return self.blobs.import_range(*place, expected=entry.blob)

    def put(self, data: bytes) -> BlobId:
        """Keep a small blob such as a manifest."""
        blob = blob_id_of(data)
        if not self.blobs.has(blob):
            self.fresh.append(blob)
        return self.blobs.put(data)


@contextmanager
def all_or_none(blobs: FileBlobs) -> Iterator[Intake]:
    """Lend an intake whose new blobs go again if the block fails.

    Nothing is collected meanwhile: what a record will need is not needed before it is said.
    """
    intake = Intake(blobs)
    try:
        with blobs.leases.hold_all("bringing in a model"):
            yield intake
    except BaseException as e:
        # SUBTLE: Ctrl-C may strike after the commit; then the bytes must stay.
        unwanted = isinstance(e, Exception) or not intake.signing
        for blob in intake.fresh if unwanted else ():
            with suppress(CrdtMergeError):  # the first error is the one to tell
                blobs.forget(blob)
        raise
