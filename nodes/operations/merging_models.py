"""The models of a mergekit configuration: read, named, and made a base and contributions.

Owns in which order that is done: headers of all models first, so that what does not fit
is refused before anything is hashed; then each model is named once; then base and
contributions are made of what has names. Does not own the configuration
(`crdtmerge.formats.mergekit`), nor what is merged of them (`merging`).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from crdtmerge.changes import changes_of
from crdtmerge.errors import BadInputError, CrdtMergeError
from crdtmerge.formats.adapter import (
    CONFIG_FILE,
    Adapter,
    is_adapter,
    read_adapter,
)
from crdtmerge.formats.alignment import Scratch
from crdtmerge.formats.companions import not_taken
from crdtmerge.formats.folder import ModelFolder, read_folder
from crdtmerge.formats.ingest import Model, describe, describe_adapter, headers
from crdtmerge.formats.licences import licence_of
from crdtmerge.formats.mergekit import Configuration, Listed
from crdtmerge.formats.mergekit_tokenizer import TokenizerChoice
from crdtmerge.formats.source import FolderSource
from crdtmerge.formats.tying import by_bytes, fit_ties
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.resolve.card import Origin, Origins
from crdtmerge.resolve.settings import Contribution

from .live import Tell, telling
from .vocabularies import align, check_same

SAY_TOKENIZER = (
    "say `tokenizer_source: base`, `union` or one of the models in the configuration:"
    " rows are then aligned by token"
)
SAME_BASE = (
    "convert it to the shapes of the base, or leave it out; with --missing base what it"
    " lacks stays as in the base"
)

Companions: TypeAlias = "Mapping[str, Path | bytes]"
"""What stands beside the weights of the output, by name: a file to copy, or its bytes."""

Check: TypeAlias = Callable[[ModelFolder, Companions], None]
"""Refuses a base and what stands beside it, by its headers."""


@dataclass(frozen=True, slots=True)
class Models:
    """What a configuration merges.

    `base` is a manifest of kind `base`: that of the base_model if they are `based` on one,
    else of the first model. `names` are those in the configuration, by content id.
    `not_taken` lies in the base's folder and does not go along; `origins` is what is known
    of all models.
    """

    based: bool
    base: Manifest
    contributions: tuple[Contribution, ...]
    names: Mapping[bytes, str]
    companions: Companions
    not_taken: tuple[str, ...]
    origins: Origins
    source: FolderSource
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Folders:
    """The folders of a configuration by their paths, of which the headers were read.

    `moved` are the base's tensors whose rows are not where they were.
    """

    base: Path
    models: Mapping[Path, ModelFolder]
    adapters: Mapping[Path, Adapter]
    companions: Companions
    moved: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


Named: TypeAlias = "Mapping[Path, tuple[TensorEntry, ...]]"
"""The tensors of each model folder, once their bytes have names."""


def read_models(
    configuration: Configuration, scratch: Scratch, tell: Tell, check: Check
) -> Models:
    """Read the headers of all models, then hash each once.

    `check` may refuse the base (or what stands for it) in between. Tables whose rows are
    aligned are written to `scratch`, and must stay there.

    Raises:
        BadInputError: names the first model that is missing, damaged or does not fit.
        MachineError: the disk refused.
        CrdtMergeError: whatever `check` raises.
    """
    folders = _folders(configuration, scratch)
    check(folders.models[folders.base], folders.companions)
    scratch.write(telling(tell))
    source = FolderSource()
    named = {
        path: _named(folder, source, tell) for path, folder in folders.models.items()
    }
    base = Manifest("base", b"", named[folders.base])
    contributions: list[Contribution] = []
    names: dict[bytes, str] = {}
    origins: dict[bytes, Origin] = {}
    for model in configuration.models:
        if model.adapter:
            adapter = folders.adapters[model.path]
            manifest = _named_adapter(model, adapter, base, source, tell)
            _check_moved(model, manifest, base, folders.moved)
        else:
            manifest = Manifest("full", base.content_id, named[model.path])
        content = manifest.content_id
        names[content] = model.name
        origins[content] = _origin(model, origins.get(content, Origin()))
        contributions.append(
            Contribution(content, model.weight, manifest, (), model.parameters)
        )
    return Models(
        based=configuration.base is not None,
        base=base,
        contributions=tuple(contributions),
        names=names,
        companions=folders.companions,
        not_taken=not_taken(folders.base, folders.companions),
        origins=Origins(
            base=_base_origin(configuration),
            contributions=origins,
            taken_from=configuration.models[0].name,
        ),
        source=source,
        notes=(*_ties(configuration, folders), *folders.notes),
    )


def _ties(configuration: Configuration, folders: _Folders) -> Iterator[str]:
    """Yield which tied tensors of the models are not as they lie in the files."""
    for model in configuration.models:
        if not model.adapter:
            for note in folders.models[model.path].notes:
                yield f"model {model.name!r}: {note}"


def _origin(model: Listed, before: Origin) -> Origin:
    """Return what is known of a model; `before`, of one with the same tensors."""
    licence = before.licence or licence_of(model.path)
    return Origin((*before.names, model.name), (), licence)


def _base_origin(configuration: Configuration) -> Origin | None:
    """Return what is known of the base_model; None if models are merged without one."""
    if configuration.base is None:
        return None
    return Origin((configuration.base_name,), (), licence_of(configuration.base))


def _folders(configuration: Configuration, scratch: Scratch) -> _Folders:
    """Return all folders, once each is known to fit the base as far as headers tell."""
    base = configuration.base or configuration.models[0].path
    models = {base: _folder(base, base.name)}
    listed = [model for model in configuration.models if model.path != base]
    models |= {m.path: _folder(m.path, m.name) for m in listed if not m.adapter}
    named = headers(models[base], "base", b"")
    for model in listed:
        if not model.adapter:
            with _naming(model):
                same = by_bytes(models[base])
                models[model.path] = fit_ties(models[model.path], named, same)
    adapters = {m.path: _adapter(m) for m in listed if m.adapter}
    found = _Folders(base, models, adapters, dict(models[base].files))
    if configuration.tokenizer is not None:
        found = _aligned(found, configuration, configuration.tokenizer, scratch)
    unhashed = headers(found.models[base], "base", b"")
    for model in listed:
        if not model.adapter:
            if configuration.tokenizer is None:
                with _naming(model):
                    check_same(models[model.path], models[base], SAY_TOKENIZER)
            missing = configuration.recipe.missing
            _check_fit(model, found.models[model.path], unhashed, missing)
    return found


def _aligned(
    found: _Folders, asked: Configuration, choice: TokenizerChoice, scratch: Scratch
) -> _Folders:
    """Return the folders with the rows of the vocabulary that is asked for."""
    names = {found.base: asked.base_name or found.base.name}
    names |= {model.path: model.name for model in asked.models}
    based = asked.base is not None
    made = align(found.models, names, found.base, choice, scratch, based=based)
    return replace(
        found,
        models=made.folders,
        companions=made.files,
        moved=made.moved,
        notes=made.notes,
    )


def _check_moved(
    model: Listed, manifest: Manifest, base: Manifest, moved: frozenset[str]
) -> None:
    """Refuse an adapter of a table whose rows are elsewhere now."""
    if lost := sorted(moved & changes_of(manifest, base).keys()):
        message = f"model {model.name!r}: the adapter changes {lost[0]!r}"
        hint = "merge it into its model with PEFT, and list that"
        raise BadInputError(f"{message}, whose rows are aligned", hint=hint)


def _adapter(model: Listed) -> Adapter:
    if not is_adapter(model.path):
        message = f"model {model.name!r}: there is no adapter at {model.path}"
        raise BadInputError(message, hint=f"it has no {CONFIG_FILE}")
    with _naming(model):
        return read_adapter(model.path)


def _named_adapter(
    model: Listed, adapter: Adapter, base: Manifest, source: FolderSource, tell: Tell
) -> Manifest:
    """Return the manifest of an adapter, and have its tensors found by it."""
    with _naming(model):
        source.watch(adapter.tensors)
        named = describe_adapter(adapter, base, telling(tell))
    source.add(named)
    return named.manifest


@contextmanager
def _naming(model: Listed) -> Iterator[None]:
    """Say in an error which model of the configuration it is about."""
    try:
        yield
    except CrdtMergeError as e:
        raise BadInputError(f"model {model.name!r}: {e}", hint=e.hint) from e


def _folder(path: Path, name: str) -> ModelFolder:
    if not path.exists():
        message = f"model {name!r}: there is no folder {path}"
        hint = "paths are taken from the configuration's folder; there is no hub here"
        raise BadInputError(message, hint=hint)
    if is_adapter(path):
        message = f"model {name!r} is an adapter, not a model"
        raise BadInputError(message, hint="write MODEL+ADAPTER, with the base_model")
    try:
        return read_folder(path)
    except CrdtMergeError as e:
        raise BadInputError(f"model {name!r}: {e}", hint=e.hint) from e


def _check_fit(
    model: Listed, folder: ModelFolder, base: Manifest, missing: str
) -> None:
    """Refuse a model whose tensors are not those of the base, before any is hashed."""
    try:
        changes_of(headers(folder, "full", base.content_id), base, missing)
    except BadInputError as e:
        raise BadInputError(f"model {model.name!r}: {e}", hint=SAME_BASE) from e


def _named(
    folder: ModelFolder, source: FolderSource, tell: Tell
) -> tuple[TensorEntry, ...]:
    """Return the tensors of a model, and have them found by their names."""
    source.watch(folder.tensors)
    manifest = describe(folder, "base", report=telling(tell))
    source.add(Model(folder.path, manifest, folder.tensors))
    return manifest.tensors
