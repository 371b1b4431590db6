"""Naming a model: the manifest of a folder or an adapter, once its bytes have names.

Owns which of a user's tensors are part of a contribution, and under which names. Does not
own reading the bytes (`survey`), the checks of their values (`checking`), nor how an
adapter is read (`adapter`).
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from crdtmerge.changes import SCALE_SUFFIX, Change, changes_of
from crdtmerge.digest import BlobId, blob_id_of
from crdtmerge.errors import BadInputError
from crdtmerge.formats.adapter import Adapter, factor_names, fitted, layers
from crdtmerge.formats.folder import ModelFolder
from crdtmerge.formats.header import StoredTensor
from crdtmerge.formats.progress import Report
from crdtmerge.formats.survey import Visit, plain_pass
from crdtmerge.manifest import Manifest, TensorEntry

EIGHT_BIT_DTYPES: Final = frozenset({"F8_E4M3", "F8_E5M2"})

Source: TypeAlias = StoredTensor | bytes
"""Where the bytes of a manifest's tensor are: in the user's file, or made here."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model or adapter of the user's: what it is called, and where its bytes are.

    `sources` go with the manifest's tensors, one by one; `made_for` is what an adapter
    calls its base; `notes` say what of the tensors is not as it lies in the files.
    """

    path: Path
    manifest: Manifest
    sources: tuple[Source, ...]
    made_for: str = ""
    notes: tuple[str, ...] = ()


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
    seen = plain_pass([Visit(tensor) for tensor in folder.tensors], report)
    return whole_manifest(folder, kind, base, [found.blob for found in seen], notes)


def whole_manifest(
    folder: ModelFolder,
    kind: str,
    base: bytes,
    blobs: Iterable[BlobId],
    notes: str = "",
) -> Manifest:
    """Return the manifest of a model, `blobs` naming the bytes of its tensors in order."""
    entries = tuple(
        TensorEntry(stored.name, stored.dtype, stored.shape, blob)
        for stored, blob in zip(folder.tensors, blobs, strict=True)
    )
    return Manifest(kind, base, entries, notes=notes)


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
    here = fitted(adapter, base)
    header_changes(here, base)  # refuse before anything is hashed
    tensors = list(dict.fromkeys(here.tensors))
    seen = plain_pass([Visit(tensor) for tensor in tensors], report)
    blobs = {t: found.blob for t, found in zip(tensors, seen, strict=True)}
    return named_adapter(here, base, blobs)


def header_changes(adapter: Adapter, base: Manifest) -> dict[str, Change]:
    """Return what a fitted adapter changes, as far as headers tell: with empty blob ids.

    Whole tensors that the base lacks by name are not looked at: bytes decide on them.

    Raises:
        BadInputError: names the first tensor that does not fit.
    """
    names = {entry.name for entry in base.tensors}
    whole = {name: t for name, t in adapter.whole.items() if name in names}
    named = _named(replace(adapter, whole=whole), base)
    entries = [_entry(name, source) for name, source in named]
    return changes_of(_lora(base, entries), base)


def named_adapter(
    adapter: Adapter, base: Manifest, blobs: Mapping[StoredTensor, BlobId]
) -> Model:
    """Return a fitted adapter as a contribution, `blobs` naming the bytes of its tensors.

    Raises:
        BadInputError: its copies of a tensor differ, it changes one in two ways, or has
            trained something that the base lacks.
    """
    here = _without_copies(adapter, base, blobs)
    found: list[tuple[TensorEntry, Source]] = [
        (_entry(name, source, blobs), source) for name, source in _named(here, base)
    ]
    _check_copies(here, blobs)
    _refuse_both(here, base, blobs)
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


def _without_copies(
    adapter: Adapter, base: Manifest, named: Mapping[StoredTensor, BlobId]
) -> Adapter:
    """Leave out whole tensors that the base lacks by name, if it has their bytes.

    PEFT may save a head that is tied to the embedding, which stands in no base's file.

    Raises:
        BadInputError: the adapter has trained something that the base lacks.
    """
    names = {entry.name for entry in base.tensors}
    blobs = {entry.blob for entry in base.tensors}
    whole = dict(adapter.whole)
    for name in sorted(whole.keys() - names):
        if named[whole.pop(name)] not in blobs:
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


def _entry(
    name: str, source: Source, blobs: Mapping[StoredTensor, BlobId] | None = None
) -> TensorEntry:
    """Return how a manifest names a source; with empty blob ids if they are not known."""
    if isinstance(source, bytes):
        return TensorEntry(name, "F64", (), blob_id_of(source))
    blob = blobs[source] if blobs is not None else BlobId(b"")
    return TensorEntry(name, source.dtype, source.shape, blob)


def _check_copies(adapter: Adapter, blobs: Mapping[StoredTensor, BlobId]) -> None:
    for kept, copied in adapter.copies:
        if blobs[kept] != blobs[copied]:
            message = f"{adapter.path} holds {kept.name!r} and another {copied.name!r}"
            raise BadInputError(message, hint="save the adapter again")


def _refuse_both(
    adapter: Adapter, base: Manifest, blobs: Mapping[StoredTensor, BlobId]
) -> None:
    """Refuse a tensor that is given whole as well as by factors.

    PEFT may save an embedding whole beside its factors; as long as it is the base's, that
    says nothing.
    """
    theirs = {entry.name: entry.blob for entry in base.tensors}
    for name in sorted(adapter.pairs.keys() & adapter.whole.keys()):
        if blobs[adapter.whole[name]] != theirs[name]:
            message = f"{adapter.path} changes {name!r} whole and by factors at once"
            hint = "was the vocabulary resized? then the base must be the resized one"
            raise BadInputError(message, hint=hint)
