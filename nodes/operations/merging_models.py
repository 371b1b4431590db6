"""The models of a mergekit configuration: read, named, and made a base and contributions.

Owns in which order that is done: headers of all models first, so that what does not fit
is refused before anything is hashed; then each model is named once; then base and
contributions are made of what has names. Does not own the configuration
(`crdtmerge.formats.mergekit`), nor what is merged of them (`merging`).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
from crdtmerge.formats.companions import not_taken
from crdtmerge.formats.folder import ModelFolder, read_folder
from crdtmerge.formats.ingest import Model, describe, describe_adapter, headers
from crdtmerge.formats.licences import licence_of
from crdtmerge.formats.mergekit import Configuration, Listed
from crdtmerge.formats.source import FolderSource
from crdtmerge.formats.tying import by_bytes, fit_ties
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.resolve.card import Origin, Origins
from crdtmerge.resolve.settings import Contribution

from .live import Tell, telling

SAME_BASE = "convert it to the shapes and dtypes of the base, or leave it out"

Companions: TypeAlias = "Mapping[str, Path | bytes]"
"""What stands beside the weights of the output, by name: a file to copy, or its bytes."""


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
    """The folders of a configuration by their paths, of which the headers were read."""

    base: Path
    models: Mapping[Path, ModelFolder]
    adapters: Mapping[Path, Adapter]


Named: TypeAlias = "Mapping[Path, tuple[TensorEntry, ...]]"
"""The tensors of each model folder, once their bytes have names."""


def read_models(
    configuration: Configuration, tell: Tell, check: Callable[[ModelFolder], None]
) -> Models:
    """Read the headers of all models, then hash each once.

    `check` may refuse the base (or what stands for it) in between.

    Raises:
        BadInputError: names the first model that is missing, damaged or does not fit.
        CrdtMergeError: whatever `check` raises.
    """
    folders = _folders(configuration)
    check(folders.models[folders.base])
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
        else:
            manifest = Manifest("full", base.content_id, named[model.path])
        content = manifest.content_id
        names[content] = model.name
        origins[content] = _origin(model, origins.get(content, Origin()))
        contributions.append(
            Contribution(content, model.weight, manifest, (), model.parameters)
        )
    companions = dict(folders.models[folders.base].files)
    return Models(
        based=configuration.base is not None,
        base=base,
        contributions=tuple(contributions),
        names=names,
        companions=companions,
        not_taken=not_taken(folders.base, companions),
        origins=Origins(
            base=_base_origin(configuration),
            contributions=origins,
            taken_from=configuration.models[0].name,
        ),
        source=source,
        notes=tuple(_notes(configuration, folders)),
    )


def _notes(configuration: Configuration, folders: _Folders) -> Iterator[str]:
    """Yield what of the models is not as it lies in their files."""
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


def _folders(configuration: Configuration) -> _Folders:
    """Return all folders, once each is known to fit the base as far as headers tell."""
    base = configuration.base or configuration.models[0].path
    models = {base: _folder(base, base.name)}
    listed = [model for model in configuration.models if model.path != base]
    models |= {m.path: _folder(m.path, m.name) for m in listed if not m.adapter}
    adapters = {m.path: _adapter(m) for m in listed if m.adapter}
    unhashed = headers(models[base], "base", b"")
    for model in listed:
        if not model.adapter:
            models[model.path] = _fitted(model, models, base, unhashed)
    return _Folders(base, models, adapters)


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


def _fitted(
    model: Listed, folders: Mapping[Path, ModelFolder], base: Path, unhashed: Manifest
) -> ModelFolder:
    """Return a model under the names of the base, before anything is hashed.

    Raises:
        BadInputError: its tensors are not those of the base.
    """
    with _naming(model):
        folder = fit_ties(folders[model.path], unhashed, by_bytes(folders[base]))
    try:
        changes_of(headers(folder, "full", unhashed.content_id), unhashed)
    except BadInputError as e:
        raise BadInputError(f"model {model.name!r}: {e}", hint=SAME_BASE) from e
    return folder


def _named(
    folder: ModelFolder, source: FolderSource, tell: Tell
) -> tuple[TensorEntry, ...]:
    """Return the tensors of a model, and have them found by their names."""
    source.watch(folder.tensors)
    manifest = describe(folder, "base", report=telling(tell))
    source.add(Model(folder.path, manifest, folder.tensors))
    return manifest.tensors
