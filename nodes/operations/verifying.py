"""The verb `verify`: is a merged model what its resolution says?

Owns how far one can tell here: the digests always, the model itself where the home has
the contributions. Does not own the comparison of digests (`crdtmerge.resolve.verify`).
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from crdtmerge.bodies import Add, SpaceId
from crdtmerge.codec import format_decimal
from crdtmerge.digest import BlobId, ContentId
from crdtmerge.errors import (
    ContentMissingError,
    CorruptBlobError,
    NotFoundError,
    UpgradeNeededError,
    VerificationError,
)
from crdtmerge.formats.progress import Report
from crdtmerge.identity import AuthorId
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.numerics import CONTRACT_VERSION
from crdtmerge.orset import OpSet
from crdtmerge.policy import Visible, authority_of
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.adapter import execute_adapter, on_zeros, plan_adapter
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.ground import ON_BASE, Footing
from crdtmerge.resolve.plan import Plan, Unread, make_plan
from crdtmerge.resolve.resolution import (
    Adapted,
    Resolution,
    Source,
    make_resolution,
    model_tensors,
)
from crdtmerge.resolve.settings import Contribution
from crdtmerge.resolve.verify import verify_folder

from ..home import Home
from . import arguments as given
from .budgeting import unread_in
from .contents import base_exponents, base_manifest
from .live import Answer, Arguments, Context, Tell, telling
from .making import threads_of, workers
from .selection import SHORT

NO_HOME = "there is no home here, so the digests alone were checked"
NOT_A_MEMBER = "this home does not take part in the space"
NO_SPACE = "it was merged from a configuration, so the digests alone were checked"


class _Nowhere:
    """A sink that keeps nothing: the digests are what is wanted."""

    def write(self, name: str, data: bytes | memoryview, offset: int = 0) -> None:
        """Let the bytes go."""


def verify(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Recompute the digests of a merged model; with its contributions here, the model.

    Raises:
        NotFoundError: the folder has no resolution.
        VerificationError: the model is not what its resolution says.
    """
    folder = given.path(asked, "dir")
    resolution = verify_folder(folder, telling(tell))
    space = SpaceId(resolution.space)
    if space not in context.spaces.all():
        return _answer(folder, resolution, NOT_A_MEMBER if space else NO_SPACE)
    try:
        _recompute(context, space, resolution, asked, tell)
    except (
        ContentMissingError,
        CorruptBlobError,
        NotFoundError,
        UpgradeNeededError,
    ) as e:
        return _answer(folder, resolution, str(e))
    view = context.spaces.view(space)
    now = view.recipe is not None and view.merge_id(view.recipe) == resolution.merge_id
    return {**_answer(folder, resolution, ""), "recomputed": True, "current": now}


def verify_alone(asked: Arguments, tell: Tell) -> Answer:
    """Recompute the digests of a merged model where there is no home.

    Raises:
        NotFoundError: the folder has no resolution.
        VerificationError: the model is not what its resolution says.
    """
    folder = given.path(asked, "dir")
    resolution = verify_folder(folder, telling(tell))
    return _answer(folder, resolution, NO_HOME if resolution.space else NO_SPACE)


def _answer(folder: Path, resolution: Resolution, reason: str) -> Answer:
    """Return what was found; `reason` says why the model was not recomputed."""
    _check_merge_id(resolution)
    return {
        "dir": str(folder),
        "space": resolution.space.hex(),
        "model_digest": resolution.model_digest.hex(),
        "merge_id": resolution.merge_id.hex(),
        "tensors": len(resolution.tensors),
        "digests": True,
        "recomputed": False,
        "reason": reason,
        "current": None,
    }


def _check_merge_id(resolution: Resolution) -> None:
    """Refuse a merge id that is not of the base, recipe and root it stands beside."""
    who = [source.who for source in resolution.contributions]
    found = resolution.recipe.merge_id(resolution.base, resolution.visible_root, who)
    if found != resolution.merge_id:
        message = "the merge id in resolution.json is not of its base, recipe and root"
        raise VerificationError(message)


def _recompute(
    context: Context,
    space: SpaceId,
    resolution: Resolution,
    asked: Arguments,
    tell: Tell,
) -> None:
    """Compute the model again and compare it.

    The contributions are those that the resolution names, visible today or not.

    Raises:
        VerificationError: other bytes, other seeds, or authors who never offered it.
        ContentMissingError: bytes of a contribution are not here.
        NotFoundError: a contribution, or the base, is not known here.
        UpgradeNeededError: this version cannot compute what was computed.
    """
    if resolution.contract != CONTRACT_VERSION:
        raise UpgradeNeededError(f"it was made under contract {resolution.contract}")
    base = base_manifest(context, space)
    if base.content_id != resolution.base:
        raise VerificationError("resolution.json names another base than the space has")
    adds = _adds(context, space)
    sources = [_contribution(context, space, adds, s) for s in resolution.contributions]
    again = _Again(context.home, threads_of(asked), telling(tell))
    exponents = base_exponents(context, space) if resolution.adapter else {}
    plan, tensors, adapted = again.compute(resolution, base, sources, exponents)
    found = make_resolution(
        plan,
        tensors,
        space=space,
        merge_id=resolution.merge_id,
        visible_root=resolution.visible_root,
        adapter=adapted,
    )
    _compare(resolution, found)


@dataclass(frozen=True, slots=True)
class _Again:
    """Computes what a resolution names once more, and keeps digests alone."""

    home: Home
    threads: int
    report: Report

    def compute(
        self,
        resolution: Resolution,
        base: Manifest,
        sources: list[Contribution],
        exponents: Mapping[str, int],
    ) -> tuple[Plan, list[TensorEntry], Adapted | None]:
        """Return the plan, the tensors that come out, and what makes them an adapter."""
        recipe, stated = resolution.recipe, resolution.adapter
        with workers(self.threads) as executor:
            if stated:
                unread = self._unread(
                    recipe, base, sources, on_zeros(exponents), executor
                )
                adapter = plan_adapter(
                    recipe, base, sources, stated.rank, exponents, unread=unread
                )
                tensors, _ = execute_adapter(
                    adapter,
                    self.home.blobs,
                    _Nowhere(),
                    executor=executor,
                    threads=self.threads,
                    report=self.report,
                )
                return adapter.plan, tensors, adapter.adapted
            unread = self._unread(recipe, base, sources, ON_BASE, executor)
            plan = make_plan(recipe, base, sources, unread=unread)
            digests = execute(
                plan,
                self.home.blobs,
                _Nowhere(),
                executor=executor,
                threads=self.threads,
                report=self.report,
            )
            return plan, model_tensors(plan, digests), None

    def _unread(
        self,
        recipe: Recipe,
        base: Manifest,
        sources: Sequence[Contribution],
        footing: Footing,
        executor: Executor,
    ) -> Unread | None:
        """Return what is unread by this home's own norms, not by what is stated."""
        return unread_in(
            self.home,
            recipe,
            base,
            sources,
            footing=footing,
            executor=executor,
            threads=self.threads,
            report=self.report,
        )


def _compare(stated: Resolution, again: Resolution) -> None:
    for source, other in zip(stated.contributions, again.contributions, strict=True):
        if source.unread != other.unread:
            short = source.content.hex()[:SHORT]
            message = f"of contribution {short} its budget leaves other tensors unread"
            raise VerificationError(message)
    for ours, theirs in zip(stated.tensors, again.tensors, strict=False):
        if ours != theirs:
            message = f"computed again, tensor {ours.name!r} has other bytes"
            hint = "this is not the model that these contributions and this recipe make"
            raise VerificationError(message, hint=hint)
    if stated.model_digest != again.model_digest:
        raise VerificationError("computed again, the model has other tensors")
    if stated.adapter != again.adapter:
        raise VerificationError("computed again, the adapter has another config")
    if stated.seeds != again.seeds:
        raise VerificationError("computed again, the seeds are others")


def _adds(context: Context, space: SpaceId) -> dict[ContentId, Visible]:
    """Return every content that was ever added, with all its authors and manifests."""
    found: dict[ContentId, Visible] = {}
    for key, record in sorted(context.spaces.opset(space).records.items()):
        if not isinstance(record.body, Add):
            continue
        body = record.body
        seen = found.get(body.content)
        found[body.content] = Visible(
            content=body.content,
            weight=body.weight,
            evidence=b"",
            adds=(*(seen.adds if seen else ()), key),
            authors=(*(seen.authors if seen else ()), record.author),
            manifests=_joined(seen, body.manifest, body.manifest_bytes),
            notes=(),
            tags=(*(seen.tags if seen else ()), *body.tags),
        )
    return found


def _joined(
    seen: Visible | None, manifest: BlobId, size: int
) -> tuple[tuple[BlobId, int], ...]:
    known = seen.manifests if seen else ()
    return tuple(dict.fromkeys((*known, (manifest, size))))


def _weights(opset: OpSet, added: Visible) -> set[int]:
    """Return what the adds of a content weigh, each under its author's cap."""
    records = [opset.records[add] for add in added.adds]
    return {
        min(record.body.weight, authority_of(record, opset.get).weight_cap)
        for record in records
        if isinstance(record.body, Add)
    }


def _contribution(
    context: Context,
    space: SpaceId,
    adds: Mapping[ContentId, Visible],
    source: Source,
) -> Contribution:
    """Return what the resolution names, with the weight that it states."""
    short = source.content.hex()[:SHORT]
    added = adds.get(source.content)
    if added is None:
        raise NotFoundError(f"contribution {short} is not known here")
    if strangers := set(source.authors) - set(added.authors):
        author = min(strangers).hex()[:SHORT]
        raise VerificationError(f"{author} never offered contribution {short}")
    if untold := set(source.tags) - set(added.tags):
        message = f"no add of contribution {short} has the tag {min(untold)!r}"
        raise VerificationError(message)
    if source.weight not in _weights(context.spaces.opset(space), added):
        weight = format_decimal(source.weight)
        message = f"no add of contribution {short} gives it the weight {weight}"
        raise VerificationError(message)
    manifest = context.spaces.manifest(added)
    authors = tuple(AuthorId(author) for author in source.authors)
    return Contribution(
        source.content, source.weight, manifest, authors, tags=source.tags
    )
