"""What is done with a model before it is offered to others: naming it and checking it.

Owns the manifest of a folder or an adapter, and the checks of its values. Does not own
their limits (`numerics`), how an adapter is read (`adapter`), nor storing the bytes.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from crdtmerge.changes import (
    SCALE_SUFFIX,
    Change,
    LowRank,
    Whole,
    changes_of,
    task_vector_of,
)
from crdtmerge.digest import BlobId, blob_id, blob_id_of, chunk_digest
from crdtmerge.errors import BadInputError, ContractError
from crdtmerge.formats.adapter import Adapter, factor_names, fitted, layers
from crdtmerge.formats.folder import ModelFolder, open_tensor, read_chunks
from crdtmerge.formats.header import StoredTensor
from crdtmerge.formats.progress import Progress, Report
from crdtmerge.manifest import FLOAT_DTYPES, Manifest, TensorEntry
from crdtmerge.numerics import (
    TensorFacts,
    check_base,
    check_headroom,
    check_reach,
    inspect,
)

EIGHT_BIT_DTYPES: Final = frozenset({"F8_E4M3", "F8_E5M2"})

Source: TypeAlias = StoredTensor | bytes
"""Where the bytes of a manifest's tensor are: in the user's file, or made here."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model or adapter of the user's: what it is called, and where its bytes are.

    `sources` go with the manifest's tensors, one by one; `made_for` is what an adapter
    calls its base.
    """

    path: Path
    manifest: Manifest
    sources: tuple[Source, ...]
    made_for: str = ""

    def reader(self) -> Callable[[TensorEntry], memoryview]:
        """Return what gives the bytes of the manifest's tensors."""
        found = dict(zip(self.manifest.tensors, self.sources, strict=True))

        def read(entry: TensorEntry) -> memoryview:
            source = found[entry]
            if isinstance(source, bytes):
                return memoryview(source)
            return open_tensor(source)

        return read


def hash_tensor(stored: StoredTensor) -> tuple[BlobId, list[bytes]]:
    """Return the blob id of a tensor and its chunk digests, reading it once.

    Raises:
        BadInputError: the file changed since its header was read.
    """
    chunks = [chunk_digest(chunk) for chunk in read_chunks(stored)]
    return blob_id(stored.size, chunks), chunks


def describe(
    folder: ModelFolder,
    kind: str,
    base: bytes = b"",
    notes: str = "",
    report: Report | None = None,
) -> Manifest:
    """Return the manifest of a model, hashing every tensor.

    `base` is the content id of the base, empty where `kind` is `base`.

    Raises:
        BadInputError: a file changed since its header was read, or the model is quantised
            with scales beside it.
    """
    _refuse_scaled(folder)
    entries = []
    for stored in _each(folder, "hashing", report):
        blob, _ = hash_tensor(stored)
        entries.append(TensorEntry(stored.name, stored.dtype, stored.shape, blob))
    return Manifest(kind, base, tuple(entries), notes=notes)


def headers(folder: ModelFolder, kind: str, base: bytes) -> Manifest:
    """Return the manifest as far as headers tell: with empty blob ids.

    Raises:
        BadInputError: the model is quantised with scales beside it.
    """
    _refuse_scaled(folder)
    none = BlobId(b"")
    entries = [TensorEntry(t.name, t.dtype, t.shape, none) for t in folder.tensors]
    return Manifest(kind, base, tuple(entries))


def _refuse_scaled(folder: ModelFolder) -> None:
    """Refuse 8-bit floats whose values mean nothing without a scale that stands beside.

    A model that was cast to 8 bits as it is has none, and can be merged. A scale is a
    tensor of the same module (or below the tensor itself) whose own name speaks of one,
    such as `weight_scale`, `weight_scale_inv`, `scale_weight`, `input_scale` or `scale`.
    """
    scales: dict[str, str] = {}
    for stored in reversed(folder.tensors):
        module, _, own = stored.name.rpartition(".")
        if "scale" in own.lower():
            scales[module] = stored.name
    for stored in folder.tensors:
        module = stored.name.rpartition(".")[0]
        found = scales.get(stored.name) or scales.get(module)
        if stored.dtype in EIGHT_BIT_DTYPES and found not in {None, stored.name}:
            message = (
                f"tensor {stored.name!r} is {stored.dtype} with a scale beside it,"
                f" {found!r}: quantised values cannot be merged apart from their scales"
            )
            hint = "dequantise the model first (to BF16, say), and take that"
            raise BadInputError(message, hint=hint)


def describe_adapter(
    adapter: Adapter, base: Manifest, report: Report | None = None
) -> Model:
    """Return an adapter as a contribution of kind `lora`, under the base's names.

    What it holds whole but unchanged is left out: that says nothing.

    Raises:
        BadInputError: it is of another base, or its two copies of a tensor differ.
    """
    here = _without_copies(fitted(adapter, base), base)
    named = _named(here, base)
    # Names and shapes are known from headers: refuse before anything is hashed.
    changes_of(_lora(base, [_entry(name, source) for name, source in named]), base)
    found: list[tuple[TensorEntry, Source]] = []
    size = sum(source.size for _, source in named if isinstance(source, StoredTensor))
    done = 0
    for name, source in named:
        entry = _hashed(name, source)
        done += entry.size if isinstance(source, StoredTensor) else 0
        if report:
            report(Progress("hashing", done, size))
        found.append((entry, source))
    _check_copies(here)
    _refuse_both(here, base)
    said = _said(found, base)
    entries = [entry for entry, _ in said]
    sources = tuple(source for _, source in said)
    return Model(here.path, _lora(base, entries), sources, here.config.base_name)


def _said(
    found: list[tuple[TensorEntry, Source]], base: Manifest
) -> list[tuple[TensorEntry, Source]]:
    """Leave out the modules that are held whole but are the base's own."""
    theirs = {entry.name: entry.blob for entry in base.tensors}
    changed = {
        entry.name.rpartition(".")[0]
        for entry, _ in found
        if theirs.get(entry.name) not in {None, entry.blob}
    }
    return [
        (entry, source)
        for entry, source in found
        if entry.name not in theirs or entry.name.rpartition(".")[0] in changed
    ]


def _without_copies(adapter: Adapter, base: Manifest) -> Adapter:
    """Leave out whole tensors that the base lacks by name, if it has their bytes.

    PEFT may save a head that is tied to the embedding, which stands in no base's file.

    Raises:
        BadInputError: the adapter has trained something that the base lacks.
    """
    names = {entry.name for entry in base.tensors}
    blobs = {entry.blob for entry in base.tensors}
    whole = dict(adapter.whole)
    for name in sorted(whole.keys() - names):
        if hash_tensor(whole.pop(name))[0] not in blobs:
            message = (
                f"the adapter has a trained {name!r} (modules_to_save or bias), which"
                " the base lacks"
            )
            hint = "found the space on a base that has it: save the model with its head"
            raise BadInputError(message, hint=hint)
    return replace(adapter, whole=whole)


def _named(adapter: Adapter, base: Manifest) -> list[tuple[str, Source]]:
    """Return all that a fitted adapter holds under the names of a manifest, sorted."""
    kept = layers(adapter, base)
    named: dict[str, Source] = {
        name: source
        for name, source in adapter.whole.items()
        if name not in adapter.pairs
    }
    for target, pair in adapter.pairs.items():
        name_a, name_b = factor_names(target, kept[target])
        named |= {name_a: pair.a, name_b: pair.b}
        named[target + SCALE_SUFFIX] = struct.pack("<d", pair.scale)
    return sorted(named.items())


def _lora(base: Manifest, entries: list[TensorEntry]) -> Manifest:
    return Manifest("lora", base.content_id, tuple(entries))


def _entry(name: str, source: Source) -> TensorEntry:
    if isinstance(source, bytes):
        return TensorEntry(name, "F64", (), BlobId(b""))
    return TensorEntry(name, source.dtype, source.shape, BlobId(b""))


def _hashed(name: str, source: Source) -> TensorEntry:
    if isinstance(source, bytes):
        return replace(_entry(name, source), blob=blob_id_of(source))
    return replace(_entry(name, source), blob=hash_tensor(source)[0])


def _check_copies(adapter: Adapter) -> None:
    for kept, copied in adapter.copies:
        if hash_tensor(kept)[0] != hash_tensor(copied)[0]:
            message = f"{adapter.path} holds {kept.name!r} and another {copied.name!r}"
            raise BadInputError(message, hint="save the adapter again")


def _refuse_both(adapter: Adapter, base: Manifest) -> None:
    """Refuse a tensor that is given whole as well as by factors.

    PEFT may save an embedding whole beside its factors; as long as it is the base's, that
    says nothing.
    """
    theirs = {entry.name: entry.blob for entry in base.tensors}
    for name in sorted(adapter.pairs.keys() & adapter.whole.keys()):
        if hash_tensor(adapter.whole[name])[0] != theirs[name]:
            message = f"{adapter.path} changes {name!r} whole and by factors at once"
            hint = "was the vocabulary resized? then the base must be the resized one"
            raise BadInputError(message, hint=hint)


def tensor_facts(stored: StoredTensor) -> TensorFacts:
    """Return what the numeric contract needs to know of a float tensor.

    Raises:
        BadInputError: the file changed since its header was read.
    """
    return inspect(open_tensor(stored), stored.dtype)


def check_content(
    folder: ModelFolder,
    base: Callable[[str], TensorFacts] | None = None,
    report: Report | None = None,
) -> dict[str, TensorFacts]:
    """Refuse values that no resolve could use; return the facts of each float tensor.

    `base` gives the facts of the base's tensor of a name, and is None for a base itself.
    Names and shapes must have been compared with the base's before.

    Raises:
        BadInputError: names the first tensor that holds NaN or infinity, or leaves the
            headroom over the base, with the limit.
    """
    facts: dict[str, TensorFacts] = {}
    for stored in _each(folder, "checking", report):
        if stored.dtype not in FLOAT_DTYPES:
            continue
        facts[stored.name] = found = tensor_facts(stored)
        label = f"tensor {stored.name!r}"
        with _as_bad_input():
            if base is None:
                check_base(found, label)
            else:
                check_headroom(found, base(stored.name), label)
    return facts


def check_changes(
    model: Model,
    base: Manifest,
    read_base: Callable[[TensorEntry], memoryview],
    report: Report | None = None,
) -> None:
    """Refuse a delta or an adapter whose task vectors no resolve could use.

    Products of factors are computed for it, one tensor at a time.

    Raises:
        BadInputError: names the first tensor that holds NaN or infinity, or leaves the
            headroom over the base, with the limit.
    """
    changes, read = changes_of(model.manifest, base), model.reader()
    theirs = {entry.name: entry for entry in base.tensors}
    for done, (name, change) in enumerate(changes.items(), start=1):
        if theirs[name].dtype in FLOAT_DTYPES:
            with _as_bad_input():
                _check_change(change, read, theirs[name], read_base(theirs[name]))
        if report:
            report(Progress("checking", done, len(changes)))


def _check_change(
    change: Change,
    read: Callable[[TensorEntry], memoryview],
    entry: TensorEntry,
    base: memoryview,
) -> None:
    """Check one tensor of a contribution against the base's, `entry` with its bytes."""
    label, facts = f"tensor {entry.name!r}", inspect(base, entry.dtype)
    if isinstance(change, Whole):
        check_headroom(inspect(read(change.entry), entry.dtype), facts, label)
        return
    if isinstance(change, LowRank):
        label += " (the product of its factors)"
    tau = task_vector_of(change, read, label)
    check_headroom(inspect(tau.data, "F32"), facts, label)
    check_reach(base, tau, entry.dtype, label)


@contextmanager
def _as_bad_input() -> Iterator[None]:
    """Turn a broken limit of the contract into the fault of the file at hand."""
    try:
        yield
    except ContractError as e:
        raise BadInputError(str(e), hint=e.hint) from e


def _each(
    folder: ModelFolder, work: str, report: Report | None
) -> Iterator[StoredTensor]:
    """Yield the tensors, and report how many bytes were worked on after each."""
    done = 0
    for stored in folder.tensors:
        yield stored
        done += stored.size
        if report:
            report(Progress(work, done, folder.size))
