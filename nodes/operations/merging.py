"""The verb `merge`: a mergekit configuration, resolved with no node, home or space.

Owns how the folders of a configuration become a base and contributions, and what is said
when one does not fit. Does not own the configuration (`crdtmerge.formats.mergekit`), nor
the plan and its execution (`crdtmerge.resolve`): a space with the same contributions,
weights and recipe makes the same bytes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crdtmerge.changes import changes_of
from crdtmerge.digest import ContentId
from crdtmerge.errors import (
    BadInputError,
    ConflictError,
    CrdtMergeError,
    FaultyContributionError,
)
from crdtmerge.formats.adapter import (
    CONFIG_FILE,
    Adapter,
    is_adapter,
    read_adapter,
)
from crdtmerge.formats.folder import ModelFolder, read_folder
from crdtmerge.formats.ingest import Model, describe, describe_adapter, headers
from crdtmerge.formats.mergekit import Configuration, Listed, read_configuration
from crdtmerge.formats.source import FolderSource
from crdtmerge.manifest import Manifest
from crdtmerge.resolve.ground import Footing
from crdtmerge.resolve.model import resolve_model
from crdtmerge.resolve.plan import Plan, make_plan
from crdtmerge.resolve.resolution import (
    Resolution,
    Source,
    root_without_space,
)
from crdtmerge.resolve.settings import Contribution

from . import arguments as given
from .live import Answer, Arguments, Tell, telling
from .resolving import threads_of, workers

SAME_BASE = "convert it to the shapes and dtypes of the base, or leave it out"


@dataclass(frozen=True, slots=True)
class _Models:
    """The models of a configuration, read and named.

    `base` is a manifest of kind `base`: that of the base_model if they are `based` on one,
    else of the first model.
    """

    based: bool
    base: Manifest
    base_folder: ModelFolder
    contributions: tuple[Contribution, ...]
    names: Mapping[bytes, str]
    source: FolderSource


def merge(asked: Arguments, tell: Tell) -> Answer:
    """Merge the models that a configuration names into a new folder.

    Raises:
        BadInputError: the configuration cannot be used, or a model of it.
        UnknownNameError: it holds a word that is not known.
        ContractError: weights or values leave the numeric contract.
        ConflictError: something is in the way of the output.
    """
    path, out = given.path(asked, "config"), given.path(asked, "out")
    configuration = read_configuration(path)
    _check_way(out, path, configuration)
    models = _read(configuration, tell)
    recipe = configuration.recipe_for(
        [c.content for c in models.contributions],
        [entry.name for entry in models.base.tensors],
    )
    plan = make_plan(
        recipe,
        models.base,
        models.contributions,
        footing=Footing("base" if models.based else "none"),
    )
    try:
        resolution = _resolve(plan, models, asked, out, tell)
    except FaultyContributionError as e:
        name = models.names[e.content]
        raise BadInputError(f"model {name!r}: {e.reason}") from e
    return {
        "out": str(out),
        "space": "",
        "model_digest": resolution.model_digest.hex(),
        "merge_id": resolution.merge_id.hex(),
        "visible_root": resolution.visible_root.hex(),
        "base": resolution.base.hex(),
        "contributions": [source.content.hex() for source in resolution.contributions],
        "tensors": len(resolution.tensors),
        "bytes": sum(entry.size for entry in resolution.tensors),
        "recipe": recipe.describe(),
        "own_values": sum(bool(c.parameters) for c in plan.contributions),
        "notes": list(configuration.notes),
    }


def _resolve(
    plan: Plan,
    models: _Models,
    asked: Arguments,
    out: Path,
    tell: Tell,
) -> Resolution:
    base = ContentId(plan.base.content_id if models.based else b"")
    root = root_without_space(
        Source(c.content, c.weight, (), c.parameters) for c in plan.contributions
    )
    who = [c.who for c in plan.contributions]
    threads = threads_of(asked)
    with workers(threads) as executor:
        return resolve_model(
            plan=plan,
            source=models.source,
            out=out,
            base_files=models.base_folder.files,
            space=b"",
            merge_id=plan.recipe.merge_id(base, root, who),
            visible_root=root,
            base=base,
            executor=executor,
            threads=threads,
            report=telling(tell),
            overwrite=given.flag(asked, "force"),
            fsync=given.flag(asked, "fsync"),
            check=models.source.check_unchanged,
        )


def _check_way(out: Path, path: Path, configuration: Configuration) -> None:
    """Refuse an output that would replace what it is made of, even when forced."""
    places = [configuration.base, *(model.path for model in configuration.models)]
    if any(place is not None and out.resolve() == place for place in places):
        message = f"{out} is one of the models, which stay where they are"
        raise ConflictError(message, hint="choose another folder for the model")
    if out.resolve() == path.resolve().parent:
        message = f"{out} holds the configuration, which stays where it is"
        raise ConflictError(message, hint="choose another folder for the model")


def _read(configuration: Configuration, tell: Tell) -> _Models:
    """Read the headers of all models, then hash each once.

    Raises:
        BadInputError: names the first model that is missing, damaged or does not fit.
    """
    base_path = configuration.base or configuration.models[0].path
    base_folder = _folder(base_path, base_path.name)
    listed = [m for m in configuration.models if m.path != base_path]
    folders = {m.path: _folder(m.path, m.name) for m in listed if not m.adapter}
    adapters = {m.path: _adapter(m) for m in listed if m.adapter}
    unhashed = headers(base_folder, "base", b"")
    for model in listed:
        if not model.adapter:
            _check_fit(model, folders[model.path], unhashed)
    source = FolderSource()
    base = _named(base_folder, "base", b"", source, tell)
    contributions: list[Contribution] = []
    names: dict[bytes, str] = {}
    for model in configuration.models:
        if model.path == base_path:
            manifest = Manifest("full", base.content_id, base.tensors)
        elif model.adapter:
            manifest = _named_adapter(model, adapters[model.path], base, source, tell)
        else:
            folder = folders[model.path]
            manifest = _named(folder, "full", base.content_id, source, tell)
        names[manifest.content_id] = model.name
        contributions.append(
            Contribution(
                manifest.content_id, model.weight, manifest, (), model.parameters
            )
        )
    based = configuration.base is not None
    return _Models(based, base, base_folder, tuple(contributions), names, source)


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


def _check_fit(model: Listed, folder: ModelFolder, base: Manifest) -> None:
    """Refuse a model whose tensors are not those of the base, before any is hashed."""
    try:
        changes_of(headers(folder, "full", base.content_id), base)
    except BadInputError as e:
        raise BadInputError(f"model {model.name!r}: {e}", hint=SAME_BASE) from e


def _named(
    folder: ModelFolder, kind: str, base: bytes, source: FolderSource, tell: Tell
) -> Manifest:
    """Return the manifest of a model, and have its tensors found by it."""
    source.watch(folder.tensors)
    manifest = describe(folder, kind, base, report=telling(tell))
    source.add(Model(folder.path, manifest, folder.tensors))
    return manifest
