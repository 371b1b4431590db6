"""The models of a mergekit configuration: named, and made a base and contributions.

Owns in which order that is done: headers of all models first, so that what does not fit
is refused before anything is hashed; then each model is named once; then base and
contributions are made of what has names. Does not own the configuration
(`crdtmerge.formats.mergekit`), its folders (`merging_folders`), nor what is merged of
them (`merging`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from crdtmerge.changes import changes_of
from crdtmerge.digest import DIGEST_BYTES, BlobId, ContentId
from crdtmerge.errors import BadInputError, FaultyContributionError
from crdtmerge.formats.adapter import Adapter
from crdtmerge.formats.alignment import Scratch
from crdtmerge.formats.folder import ModelFolder
from crdtmerge.formats.header import StoredTensor
from crdtmerge.formats.ingest import (
    Model,
    describe_adapter,
    whole_manifest,
)
from crdtmerge.formats.licences import licence_of
from crdtmerge.formats.mergekit import Configuration, Listed, Sliced
from crdtmerge.formats.mergekit_stack import Layout
from crdtmerge.formats.source import FolderSource
from crdtmerge.formats.survey import Visit, plain_pass
from crdtmerge.manifest import Manifest
from crdtmerge.resolve.card import Origin, Origins
from crdtmerge.resolve.ground import Footing
from crdtmerge.resolve.plan import Plan, make_plan
from crdtmerge.resolve.resolution import MadeFrom, Piece
from crdtmerge.resolve.settings import Contribution
from crdtmerge.strategies import check_recipe

from .live import Tell, telling
from .merging_folders import Companions, Folders, naming, read_folders

Check: TypeAlias = Callable[[ModelFolder, Companions], None]
"""Refuses a base and what stands beside it, by its headers."""


@dataclass(frozen=True, slots=True)
class Models:
    """What a configuration merges.

    `asked` is complete. `base` is a manifest of kind `base`: that of the base_model if they
    are `based` on one, else of the first model. `names` are those in the configuration, by
    content id. `not_taken` lies in the base's folder and does not go along; `origins` is
    what is known of all models, `made_from` of which layers the contents are stacks.
    """

    asked: Configuration
    based: bool
    base: Manifest
    contributions: tuple[Contribution, ...]
    names: Mapping[bytes, str]
    companions: Companions
    not_taken: tuple[str, ...]
    origins: Origins
    source: FolderSource
    made_from: MadeFrom = ()
    notes: tuple[str, ...] = ()
    late: "Callable[[], Models] | None" = None

    def named(self) -> "Models":
        """Return the same models by the names of their bytes, once these were read.

        Raises:
            BadInputError: a file changed meanwhile, or cannot be read any more.
        """
        found = self if self.late is None else self.late()
        self.source.check_unchanged()
        return found


def read_models(
    asked: Configuration | Sliced,
    scratch: Scratch,
    tell: Tell,
    check: Check,
    threads: int = 1,
) -> Models:
    """Read the headers of all models, then hash each once, so many tensors at a time.

    Where the names of contents change no bit, they are hashed as they are merged instead:
    the models have stand-ins until then (`Models.named`).

    `check` may refuse the base (or what stands for it) in between. Tables whose rows are
    aligned are written to `scratch`, and must stay there.

    Raises:
        BadInputError: names the first model that is missing, damaged or does not fit.
        ContractError: the strategy cannot use the weights or parameters.
        MachineError: the disk refused.
        CrdtMergeError: whatever `check` raises.
    """
    folders = read_folders(asked, scratch)
    _rehearse(folders)
    check(folders.ground, folders.companions)
    scratch.write(telling(tell))
    source = FolderSource()
    if not _is_late(folders):
        blobs = _named(folders.models.values(), source, tell, threads)
        return _models(folders, blobs, source, tell)
    standing = _standing(folders.models.values(), source)

    def late() -> Models:
        names = source.names(threads)
        blobs = {stored: names[blob] for stored, blob in standing.items()}
        return _models(folders, blobs, source, tell)

    return replace(_models(folders, standing, source, tell), late=late)


def _is_late(folders: Folders) -> bool:
    """Tell whether names may come as bytes are read for the merge itself.

    They may where no bit hangs on them; adapters are compared with the base by name.
    """
    recipe = folders.asked.recipe
    plain = not (recipe.pre or recipe.post or folders.adapters)
    return plain and check_recipe(recipe).nameless


def _models(
    folders: Folders,
    blobs: Mapping[StoredTensor, BlobId],
    source: FolderSource,
    tell: Tell,
) -> Models:
    """Return base and contributions of models whose tensors are called by `blobs`."""
    configuration = folders.asked
    base = _whole(folders.ground, "base", b"", blobs)
    contributions: list[Contribution] = []
    for model, folder in zip(configuration.models, folders.members, strict=True):
        if folder is None:
            adapter = folders.adapters[model.path]
            manifest = _named_adapter(model, adapter, base, source, tell)
            _check_moved(model, manifest, base, folders.moved)
        else:
            manifest = _whole(folder, "full", base.content_id, blobs)
        contributions.append(_contribution(model, manifest))
    contents = [c.content for c in contributions]
    return Models(
        asked=configuration,
        based=configuration.base is not None,
        base=base,
        contributions=tuple(contributions),
        names=_names(configuration, contents),
        companions=folders.companions,
        not_taken=folders.not_taken,
        origins=_origins(configuration, contents),
        source=source,
        made_from=_made_from(folders, base, contents, blobs),
        notes=(*_ties(folders), *folders.notes),
    )


def plan_of(
    asked: Configuration, base: Manifest, contributions: Sequence[Contribution]
) -> Plan:
    """Return the plan of a merge.

    Raises:
        BadInputError: names the model that cannot be merged, or what has no value.
        ContractError: the weights leave the numeric contract.
    """
    contents = [c.content for c in contributions]
    recipe = asked.recipe_for(contents, [entry.name for entry in base.tensors])
    footing = Footing("none" if asked.base is None else "base")
    try:
        return make_plan(recipe, base, contributions, footing=footing)
    except FaultyContributionError as e:
        name = _names(asked, contents)[e.content]
        raise BadInputError(f"model {name!r}: {e.reason}") from e


def _rehearse(folders: Folders) -> None:
    """Refuse what no byte is needed to refuse, before any is hashed.

    Tensors are called by where they lie; an adapter stands for a model that changes
    nothing.
    """
    kept = [t for folder in folders.models.values() for t in folder.tensors]
    places = dict.fromkeys(replace(stored, name="") for stored in kept)
    blobs = {
        stored: BlobId(number.to_bytes(DIGEST_BYTES, "big"))
        for number, stored in enumerate(places)
    }
    base = _whole(folders.ground, "base", b"", blobs)
    contributions = [
        _contribution(
            model, _whole(folder or folders.ground, "full", base.content_id, blobs)
        )
        for model, folder in zip(folders.asked.models, folders.members, strict=True)
    ]
    plan_of(folders.asked, base, contributions)


def _contribution(model: Listed, manifest: Manifest) -> Contribution:
    return Contribution(
        manifest.content_id, model.weight, manifest, (), model.parameters
    )


def _ties(folders: Folders) -> Iterator[str]:
    """Yield which tied tensors of the models are not as they lie in the files."""
    names = {path: name for name, path in folders.asked.references}
    for path, folder in folders.models.items():
        for note in folder.notes:
            yield f"model {names[path]!r}: {note}"


def _whole(
    folder: ModelFolder, kind: str, base: bytes, blobs: Mapping[StoredTensor, BlobId]
) -> Manifest:
    """Return the manifest of a model whose tensors have names."""
    found = (blobs[replace(stored, name="")] for stored in folder.tensors)
    return whole_manifest(folder, kind, base, found)


def _names(asked: Configuration, contents: Iterable[bytes]) -> dict[bytes, str]:
    pairs = zip(contents, asked.models, strict=True)
    return {content: model.name for content, model in pairs}


def _made_from(
    folders: Folders,
    base: Manifest,
    contents: Iterable[ContentId],
    blobs: Mapping[StoredTensor, BlobId],
) -> MadeFrom:
    """Return which layers of which models base and contributions are made of."""
    asked = folders.asked
    if asked.layout is None:
        return ()
    models = folders.models.items()
    ids = {path: _whole(m, "base", b"", blobs).content_id for path, m in models}
    found = {c: _pieces(asked.layout, i, ids) for i, c in enumerate(contents)}
    if asked.base is not None:
        found[base.content_id] = _pieces(asked.layout, None, ids)
    return tuple(sorted(found.items()))


def _pieces(
    layout: Layout, slot: int | None, ids: Mapping[Path, ContentId]
) -> tuple[Piece, ...]:
    """Return the layers of one contribution of a stack, or of its base."""
    found: list[Piece] = []
    at = 0
    for cut in layout.cuts:
        span = cut.ground if slot is None else cut.sources[slot] or cut.ground
        piece = Piece(ids[span.path], span.first, cut.count, at)
        last = found[-1] if found else None
        if last and (last.model, last.first + last.count) == (piece.model, piece.first):
            found[-1] = replace(last, count=last.count + piece.count)
        else:
            found.append(piece)
        at += cut.count
    return tuple(found)


def _origins(asked: Configuration, contents: Iterable[bytes]) -> Origins:
    """Return what is known of all models beyond their digests."""
    found: dict[bytes, Origin] = {}
    for content, model in zip(contents, asked.models, strict=True):
        found[content] = _origin(model, found.get(content, Origin()))
    models: tuple[Origin, ...] = ()
    if asked.layout is not None:
        models = tuple(
            Origin((name,), (), licence_of(path)) for name, path in asked.references
        )
    return Origins(
        base=_base_origin(asked),
        contributions=found,
        taken_from=asked.references[0][0],
        models=models,
    )


def _origin(model: Listed, before: Origin) -> Origin:
    """Return what is known of a model; `before`, of one with the same tensors."""
    licence = before.licence or licence_of(model.path)
    return Origin((*before.names, model.name), (), licence)


def _base_origin(configuration: Configuration) -> Origin | None:
    """Return what is known of the base_model; None if models are merged without one."""
    if configuration.base is None:
        return None
    return Origin((configuration.base_name,), (), licence_of(configuration.base))


def _check_moved(
    model: Listed, manifest: Manifest, base: Manifest, moved: frozenset[str]
) -> None:
    """Refuse an adapter of a table whose rows are elsewhere now."""
    if lost := sorted(moved & changes_of(manifest, base).keys()):
        message = f"model {model.name!r}: the adapter changes {lost[0]!r}"
        hint = "merge it into its model with PEFT, and list that"
        raise BadInputError(f"{message}, whose rows are aligned", hint=hint)


def _named_adapter(
    model: Listed, adapter: Adapter, base: Manifest, source: FolderSource, tell: Tell
) -> Manifest:
    """Return the manifest of an adapter, and have its tensors found by it."""
    with naming(model.name):
        source.watch(adapter.tensors)
        named = describe_adapter(adapter, base, telling(tell))
    source.add(named)
    return named.manifest


def _named(
    folders: Iterable[ModelFolder], source: FolderSource, tell: Tell, threads: int
) -> dict[StoredTensor, BlobId]:
    """Return what the tensors of all models are called; have them found by that.

    Those that lie in one place are called the same, whatever their names there.
    """
    listed = list(folders)
    for folder in listed:
        source.watch(folder.tensors)
    visits = [Visit(t) for folder in listed for t in folder.tensors]
    seen = plain_pass(visits, telling(tell), threads=threads)
    found = {v.tensor: s.blob for v, s in zip(visits, seen, strict=True)}
    for folder in listed:
        blobs = [found[stored] for stored in folder.tensors]
        manifest = whole_manifest(folder, "base", b"", blobs)
        source.add(Model(folder.path, manifest, folder.tensors))
    return {replace(stored, name=""): blob for stored, blob in found.items()}


def _standing(
    folders: Iterable[ModelFolder], source: FolderSource
) -> dict[StoredTensor, BlobId]:
    """Return what stands in for the names of the tensors of all models."""
    return {
        replace(stored, name=""): source.stand_in(stored)
        for folder in folders
        for stored in folder.tensors
    }
