"""Bringing a user's model into a home: name it, check it, keep its bytes, all or nothing.

Owns what a command does around the one pass over the files, and the undoing. Does not own
the checks (`crdtmerge.formats`), the pass (`surveying`), nor how bytes are kept (`store`).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import CHUNK_BYTES, BlobId
from crdtmerge.errors import BadInputError, CrdtMergeError, NotFoundError
from crdtmerge.formats.adapter import CONFIG_FILE, is_adapter, read_adapter
from crdtmerge.formats.checking import (
    Ground,
    take_adapter,
    take_base,
    take_model,
)
from crdtmerge.formats.folder import ModelFolder, read_folder
from crdtmerge.formats.ingest import Model
from crdtmerge.formats.tying import by_blobs, fit_ties
from crdtmerge.manifest import FLOAT_DTYPES, Manifest, TensorEntry, decode_manifest
from crdtmerge.numerics import TensorFacts, inspect
from crdtmerge.recipe import MISSING_CHOICES

from ..store.base import BaseFacts
from ..store.blobs import FileBlobs
from ..store.intake import SYNC_THREADS, Intake
from ..store.sources import Sources
from ..store.sqlite import SqliteLocal
from ..upkeep.forgetting import forget_unneeded
from .fitting import ALIGN, REFUSE, SAY_MERGED, aligned, check_tokens, check_vocabulary
from .live import Context, Tell, telling
from .surveying import MEASURING_THREADS, Survey

KINDS: Final = ("full", "delta", "lora")
_EXPONENTS: Final = "base exponents "


def read_base(
    path: Path, bringing: "Bringing"
) -> tuple[Model, Mapping[str, TensorFacts]]:
    """Return a model that may be a base, and the facts of its float tensors.

    Raises:
        BadInputError: it is damaged, or holds NaN or infinity.
    """
    if is_adapter(path):
        message = f"{path} is an adapter, not a model"
        raise BadInputError(message, hint="give the model that it was trained on")
    return take_base(read_folder(path), bringing.survey)


@dataclass(frozen=True, slots=True)
class Offered:
    """What is offered: where it lies, and what the user says of it.

    Without a `kind`, a PEFT adapter is known by its config; all else is a full model.
    `vocabulary` is the policy for one that is not the base's (`fitting`).
    """

    path: Path
    kind: str | None = None
    vocabulary: str = REFUSE


def read_contribution(
    context: Context, space: SpaceId, offered: Offered, bringing: "Bringing"
) -> Model:
    """Return a model, delta or adapter that may be contributed to `space`.

    What it returns can be signed: peers will read its manifest as it is.

    Raises:
        BadInputError: it is damaged, does not fit the base, or has values out of bounds.
        NotFoundError: this home does not know where the base lies.
    """
    base, blobs = base_manifest(context, space), context.home.blobs
    where, path = base_facts(context, space).folder, offered.path
    kind, vocabulary = _kind(path, offered.kind), offered.vocabulary
    if kind != "full" and vocabulary == ALIGN:
        message = f"rows of a contribution of kind {kind} cannot be aligned"
        raise BadInputError(message, hint=SAY_MERGED)

    def part(entry: TensorEntry, start: int, length: int) -> memoryview:
        return _read_part(blobs, entry, start, length)

    recipe = context.spaces.view(space).recipe
    missing = MISSING_CHOICES[0] if recipe is None else recipe.missing
    ground = Ground(base, base_exponents(context, space), part, missing)
    if kind != "full":
        check_tokens(path, where)
    if kind == "lora":
        return take_adapter(read_adapter(path), ground, bringing.survey)
    folder = read_folder(path)
    if vocabulary == ALIGN:
        folder = fit_ties(folder, base, by_blobs(base))
        report, scratch = bringing.survey.report, blobs.temporary()
        with aligned(folder, base, where, scratch, report) as (fitted, notes):
            _refuse_reference(folder, fitted, bringing)
            model = take_model(fitted, kind, ground, bringing.survey)
        return replace(model, notes=(*model.notes, *notes))
    if kind == "full":
        check_vocabulary(folder, where)
    return take_model(folder, kind, ground, bringing.survey)


def _refuse_reference(
    folder: ModelFolder, fitted: ModelFolder, bringing: "Bringing"
) -> None:
    """Refuse to leave bytes where they are that are nowhere."""
    paths = {tensor.path for tensor in folder.tensors}
    if bringing.intake.reference and any(t.path not in paths for t in fitted.tensors):
        message = "rows that are aligned lie in no file of the model's: no reference"
        raise BadInputError(message, hint="leave out --reference: then they are copied")


def _read_part(
    blobs: FileBlobs, entry: TensorEntry, start: int, length: int
) -> memoryview:
    """Return verified bytes of a tensor that is here, by its chunks."""
    first, last = start // CHUNK_BYTES, -(-(start + length) // CHUNK_BYTES)
    data = b"".join(blobs.read_chunk(entry.blob, n) for n in range(first, last))
    begin = start - first * CHUNK_BYTES
    return memoryview(data)[begin : begin + length]


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

    A home of an older version has none: there the base is read, once.
    """
    kept = context.home.local.get_value(f"{_EXPONENTS}{space.hex()}")
    known = None if kept is None else kept_exponents(kept)
    if known is not None:
        return known
    base = base_manifest(context, space)
    facts = _base_facts(context.home.blobs, base)
    floats = [e.name for e in base.tensors if e.dtype in FLOAT_DTYPES]
    found = {name: facts(name) for name in floats}
    if context.home.lock is not None:
        keep_exponents(context.home.local, space, found)
    return {name: facts.exponent for name, facts in found.items()}


def kept_exponents(text: bytes) -> dict[str, int] | None:
    """Return what was kept of a base; None of what was damaged: it is found out again."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(found, dict) and all(type(n) is int for n in found.values())
    return found if whole else None


@dataclass(slots=True)
class Bringing:
    """What one command brings in, and the pass that reads it.

    `signing` is set before the record is signed that makes the blobs needed.
    """

    intake: Intake
    survey: Survey
    signing: bool = False

    def keep(self, model: Model) -> BlobId:
        """Let the bytes of a model be here, together; return its manifest's blob.

        Raises:
            MachineError: the disk refused; none of them is here.
        """
        for source in model.sources:
            if isinstance(source, bytes):
                self.intake.put(source)
        manifest = self.intake.put(model.manifest.encode())
        self.intake.keep(model.manifest.blobs(), beside=[manifest])
        return manifest


@contextmanager
def bringing_in(
    context: Context, tell: Tell, *, reference: bool = False, moved: bool = False
) -> Iterator[Bringing]:
    """Lend the means to bring in a model; its blobs go again if the block fails.

    Those stay that others need by then: a command at the same time may have found that
    they are here. With `reference` the bytes stay where they are; `moved` says that the
    place is a new one for bytes that may be known elsewhere.
    """
    home, blobs = context.home, context.home.blobs
    with (
        # What is stored and not yet signed is needed by nothing that collection sees.
        blobs.leases.hold_all("a model is being brought in"),
        ThreadPoolExecutor(MEASURING_THREADS, "measuring") as measuring,
        ThreadPoolExecutor(SYNC_THREADS, "syncing") as syncing,
        Sources() as sources,
    ):
        intake = Intake(blobs, syncing, reference=reference, moved=moved)
        bringing = Bringing(intake, Survey(sources, intake, measuring, telling(tell)))
        try:
            yield bringing
        except BaseException as e:
            # SUBTLE: Ctrl-C may strike after the commit; then the bytes must stay.
            intake.lease.end()
            if isinstance(e, Exception) or not bringing.signing:
                with suppress(CrdtMergeError):  # the first error is the one to tell
                    forget_unneeded(home, context.spaces, intake.fresh)
            raise
        finally:
            intake.lease.end()
            intake.drop()
