"""The folders of a mergekit configuration, as far as their headers tell.

Owns which folders are read, the base and members that they are put together to, and the
refusal of what does not fit, before anything is hashed. Does not own naming what they
hold (`merging_models`).
"""

from collections.abc import Iterator, Mapping
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
from crdtmerge.formats.alignment import Scratch
from crdtmerge.formats.chat_template import with_template
from crdtmerge.formats.companions import bytes_of, not_taken
from crdtmerge.formats.folder import ModelFolder, read_folder
from crdtmerge.formats.ingest import headers
from crdtmerge.formats.mergekit import Configuration, Listed, Sliced
from crdtmerge.formats.mergekit_stack import Layout
from crdtmerge.formats.mergekit_tokenizer import TokenizerChoice
from crdtmerge.formats.model_config import CONFIG_FILE as CONFIG_JSON
from crdtmerge.formats.stacking import stacked_config, stacked_folders
from crdtmerge.formats.tying import by_bytes, fit_ties
from crdtmerge.manifest import Manifest
from crdtmerge.resolve.card import HUB_NAME

from .vocabularies import align, check_same, speakers

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


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of a configuration, of which the headers were read.

    `ground` is the base, or what stands for it; `members` go with the models of `asked`,
    None where that is an adapter. Their tensors are those of `models`, by path. `moved` are
    the base's tensors whose rows are not where they were.
    """

    asked: Configuration
    ground: ModelFolder
    members: tuple[ModelFolder | None, ...]
    models: Mapping[Path, ModelFolder]
    adapters: Mapping[Path, Adapter]
    companions: Companions
    not_taken: tuple[str, ...]
    moved: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def read_folders(asked: Configuration | Sliced, scratch: Scratch) -> Folders:
    """Return all folders, once each is known to fit the base as far as headers tell.

    Tables whose rows are to be aligned are noted in `scratch`, and not written yet.

    Raises:
        BadInputError: names the first model that is missing, damaged or does not fit.
    """
    read = _tied(asked, {path: _folder(path, name) for name, path in asked.references})
    home = next(iter(read))
    if isinstance(asked, Sliced):
        asked = asked.laid_out(
            {p: [t.name for t in f.tensors] for p, f in read.items()}
        )
    adapters = {m.path: _adapter(m) for m in asked.models if m.adapter}
    models = {path: read[path] for path in _used(asked)}
    rows = _Rows(models, dict(read[home].files))
    if asked.tokenizer is None:
        _check_rows(asked, models, read[home])
    else:
        rows = _aligned(models, asked, asked.tokenizer, scratch)
    ground, members = _put_together(asked, rows.models)
    unhashed = headers(ground, "base", b"")
    for model, folder in zip(asked.models, members, strict=True):
        if folder is not None and folder is not ground:
            _check_fit(model, folder, unhashed, asked.recipe.missing)
    return Folders(
        asked,
        ground,
        members,
        rows.models,
        adapters,
        _beside(asked, rows.companions, read, home),
        not_taken(home, dict(read[home].files)),
        rows.moved,
        rows.notes,
    )


def _tied(
    asked: Configuration | Sliced, read: Mapping[Path, ModelFolder]
) -> dict[Path, ModelFolder]:
    """Return the models with heads under the names of the base, or of the first."""
    first = asked.first
    theirs = headers(read[first], "base", b"")
    found = dict(read)
    for name, path in asked.references:
        if path != first:
            with naming(name):
                found[path] = fit_ties(read[path], theirs, by_bytes(read[first]))
    return found


def _used(asked: Configuration) -> tuple[Path, ...]:
    """Return the folders whose tensors are merged, that of the base first, each once."""
    if asked.layout is not None:
        spans = [span for cut in asked.layout.cuts for span in cut.spans]
        return tuple(dict.fromkeys(span.path for span in spans))
    listed = [model.path for model in asked.models if not model.adapter]
    first = [] if asked.base is None else [asked.base]
    return tuple(dict.fromkeys([*first, *listed]))


def _put_together(
    asked: Configuration, models: Mapping[Path, ModelFolder]
) -> tuple[ModelFolder, tuple[ModelFolder | None, ...]]:
    """Return the base, or what stands for it, and the models that are merged."""
    if asked.layout is not None:
        return stacked_folders(asked.layout, models)
    members = (None if m.adapter else models[m.path] for m in asked.models)
    return next(iter(models.values())), tuple(members)


def _beside(
    asked: Configuration,
    files: Companions,
    read: Mapping[Path, ModelFolder],
    home: Path,
) -> Companions:
    """Return what stands beside the weights, made to fit them; `files` are the base's."""
    found = dict(files)
    if asked.layout is not None and CONFIG_JSON in found:
        texts = {p: dict(folder.files).get(CONFIG_JSON) for p, folder in read.items()}
        given = {p: bytes_of(CONFIG_JSON, t) for p, t in texts.items() if t is not None}
        given[home] = bytes_of(CONFIG_JSON, found[CONFIG_JSON])
        found[CONFIG_JSON] = stacked_config(asked.layout, given, home)
    if asked.chat_template:
        others = [dict(folder.files) for folder in read.values()]
        found = with_template(found, asked.chat_template, others)
    return found


@dataclass(frozen=True, slots=True)
class _Rows:
    """Models with the rows of one vocabulary, and what stands beside them then."""

    models: Mapping[Path, ModelFolder]
    companions: Companions
    moved: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def _check_rows(
    asked: Configuration, models: Mapping[Path, ModelFolder], home: ModelFolder
) -> None:
    """Refuse a model whose rows mean other tokens than those of `home`.

    That is whose tokenizer goes along. Of a stack, models that give layers alone may have
    other tokens: none of their rows is merged.
    """
    names = {path: name for name, path in asked.references}
    given = set(models)
    if asked.layout is not None:
        given = set[Path]().union(*_speakers(asked.layout, models).values())
    for path in models:
        if path in given and path != home.path:
            with naming(names[path]):
                check_same(models[path], home, SAY_TOKENIZER)


def _speakers(
    layout: Layout, models: Mapping[Path, ModelFolder]
) -> dict[str, set[Path]]:
    """Return the models of whose rows a stack is made, by name of the table."""
    ground, members = stacked_folders(layout, models)
    return speakers(models, (ground, *members))


def _aligned(
    models: Mapping[Path, ModelFolder],
    asked: Configuration,
    choice: TokenizerChoice,
    scratch: Scratch,
) -> _Rows:
    """Return the models with the rows of the vocabulary that is asked for."""
    names = {path: name for name, path in asked.references}
    first, based = next(iter(models)), asked.base is not None
    near = {} if asked.layout is None else _speakers(asked.layout, models)
    made = align(models, names, first, choice, scratch, based=based, near=near)
    return _Rows(made.folders, made.files, made.moved, made.notes)


def _adapter(model: Listed) -> Adapter:
    if not is_adapter(model.path):
        message = f"model {model.name!r}: there is no adapter at {model.path}"
        raise BadInputError(message, hint=f"it has no {CONFIG_FILE}")
    with naming(model.name):
        return read_adapter(model.path)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Say in an error which model of the configuration it is about."""
    try:
        yield
    except CrdtMergeError as e:
        raise BadInputError(f"model {name!r}: {e}", hint=e.hint) from e


def _folder(path: Path, name: str) -> ModelFolder:
    if not path.exists():
        message = f"model {name!r}: there is no folder {path}"
        raise BadInputError(message, hint=_where(name))
    if is_adapter(path):
        message = f"model {name!r} is an adapter, not a model"
        raise BadInputError(message, hint="write MODEL+ADAPTER, with the base_model")
    try:
        return read_folder(path)
    except CrdtMergeError as e:
        raise BadInputError(f"model {name!r}: {e}", hint=e.hint) from e


def _where(name: str) -> str:
    """Return what to do about a folder that is not there."""
    hint = "paths are taken from the configuration's folder"
    if Path(name).is_dir():
        return f"{hint}, not from this one: write {Path(name).resolve()}"
    if HUB_NAME.fullmatch(name):
        fetch = f"hf download {name} --local-dir DIR"
        return f"{hint}; if it is on the Hub, `{fetch}` fetches it: then write DIR"
    return f"{hint}, and nothing is downloaded"


def _check_fit(
    model: Listed, folder: ModelFolder, base: Manifest, missing: str
) -> None:
    """Refuse a model whose tensors are not those of the base, before any is hashed."""
    try:
        changes_of(headers(folder, "full", base.content_id), base, missing)
    except BadInputError as e:
        raise BadInputError(f"model {model.name!r}: {e}", hint=SAME_BASE) from e
