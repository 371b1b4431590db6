"""Computing once more what a resolution or an attestation names, for its digests alone.

Owns what that is computed from: the contributions that are named, visible today or not, and
only what their authors offered; and that the real resolve computes it, never the memo. Does
not own what follows from a difference (`verifying`, `auditing`).
"""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from crdtmerge.bodies import Add, Evaluation, RecordId, SpaceId
from crdtmerge.codec import format_decimal
from crdtmerge.digest import BlobId, ContentId
from crdtmerge.errors import NotFoundError, UpgradeNeededError, VerificationError
from crdtmerge.formats.progress import Progress, Report
from crdtmerge.identity import AuthorId
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.numerics import CONTRACT_VERSION
from crdtmerge.orset import OpSet
from crdtmerge.policy import Evaluated, Visible, authority_of
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.adapter import execute_adapter, on_zeros, plan_adapter
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.ground import ON_BASE, Footing
from crdtmerge.resolve.plan import Plan, Task, Unread, make_plan
from crdtmerge.resolve.resolution import Adapted, Resolution, Source, model_tensors
from crdtmerge.resolve.settings import Contribution
from crdtmerge.strategies import Score
from crdtmerge.strategies.scores import scores_of

from ..home import Home
from .budgeting import unread_in
from .contents import base_manifest
from .live import Context
from .making import workers
from .selection import SHORT


class _Nowhere:
    """A sink that keeps nothing: the digests are what is wanted."""

    def write(self, name: str, data: bytes | memoryview, offset: int = 0) -> None:
        """Let the bytes go."""


@dataclass(frozen=True, slots=True)
class _Believed:
    """Outputs that are not computed: their digests are taken as stated.

    A `crdtmerge.resolve.execute.Results` that knows nothing else, so that what the other
    outputs need is computed from the contributions.
    """

    stated: Mapping[str, BlobId]

    def take(self, task: Task) -> BlobId | None:
        """Return the digest of an output that is not to be computed."""
        return self.stated.get(task.tensor)

    def made(self, _task: Task) -> BlobId | None:
        """Make nothing in another way."""
        return None

    def measured(self, _task: Task) -> tuple[float, ...] | None:
        """Know nothing: what was measured before is not to be trusted."""
        return None

    def memory(self, _task: Task) -> int:
        """Take nothing."""
        return 0

    def note(self, task: Task, digest: BlobId) -> None:
        """Remember nothing."""

    def note_measures(self, task: Task, measures: tuple[float, ...]) -> None:
        """Remember nothing."""


@dataclass(frozen=True, slots=True)
class Again:
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
        scores: Sequence[Score] = (),
    ) -> tuple[Plan, list[TensorEntry], Adapted | None]:
        """Return the plan, the tensors that come out, and what makes them an adapter."""
        recipe, stated = resolution.recipe, resolution.adapter
        with workers(self.threads) as executor:
            if stated:
                unread = self.unread(
                    recipe, base, sources, on_zeros(exponents), executor
                )
                adapter = plan_adapter(
                    recipe,
                    base,
                    sources,
                    stated.rank,
                    exponents,
                    unread=unread,
                    scores=scores,
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
            unread = self.unread(recipe, base, sources, ON_BASE, executor)
            plan = make_plan(recipe, base, sources, unread=unread, scores=scores)
            digests = execute(
                plan,
                self.home.blobs,
                _Nowhere(),
                executor=executor,
                threads=self.threads,
                report=self.report,
            )
            return plan, model_tensors(plan, digests), None

    def unread(
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

    def some(self, plan: Plan, names: Collection[str]) -> dict[str, BlobId]:
        """Return the digests of some tensors of a plan's model; no other is made."""
        nothing = BlobId(b"")
        others = {name: nothing for name, _, _ in plan.outputs if name not in names}

        def report(progress: Progress) -> None:
            if progress.work != "reusing":
                self.report(progress)

        with workers(self.threads) as executor:
            found = execute(
                plan,
                self.home.blobs,
                _Nowhere(),
                executor=executor,
                threads=self.threads,
                report=report,
                results=_Believed(others),
            )
        return {name: found[name] for name in names}

    def plan(
        self,
        recipe: Recipe,
        base: Manifest,
        sources: Sequence[Contribution],
        scores: Sequence[Score],
    ) -> Plan:
        """Return the plan of a whole model."""
        with workers(self.threads) as executor:
            unread = self.unread(recipe, base, sources, ON_BASE, executor)
        return make_plan(recipe, base, sources, unread=unread, scores=scores)


def check_merge_id(resolution: Resolution) -> None:
    """Refuse a merge id that is not of the base, recipe, root and evaluations beside it."""
    who = [source.who for source in resolution.contributions]
    found = resolution.recipe.merge_id(
        resolution.base, resolution.visible_root, who, resolution.evaluations
    )
    if found != resolution.merge_id:
        message = "the merge id in resolution.json is not of what stands beside it"
        raise VerificationError(message)


def named_by(
    context: Context, space: SpaceId, resolution: Resolution
) -> tuple[Manifest, list[Contribution]]:
    """Return the base and the contributions that a resolution names.

    Raises:
        VerificationError: it names another base, or what its authors never offered.
        ContentMissingError: a manifest is not here.
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
    return base, sources


def scores_named(
    context: Context, space: SpaceId, resolution: Resolution
) -> tuple[Score, ...]:
    """Return what the evaluations that a resolution names say, counting today or not.

    Raises:
        VerificationError: one says nothing that the recipe's strategy reads of what was
            merged.
        NotFoundError: one is not known here.
    """
    opset, found = context.spaces.opset(space), list[Score]()
    for key in resolution.evaluations:
        record = opset.get(RecordId(key))
        short = key.hex()[:SHORT]
        if record is None:
            raise NotFoundError(f"evaluation {short} is not known here")
        said = record.body
        if not isinstance(said, Evaluation) or said.subject != "content":
            message = f"record {short} is no evaluation of a contribution"
            raise VerificationError(message)
        author = opset.view.identity(record.author)[0]
        found.append(Evaluated(record.id, author, said).score)
    contents = {source.content for source in resolution.contributions}
    read = scores_of(resolution.recipe, contents, found)
    if len(read) != len(found):
        message = "resolution.json names evaluations that its strategy does not read"
        raise VerificationError(message)
    return read


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
    records = context.spaces.opset(space).records
    offered = [records[add].body for add in added.adds]
    digests = {body.evidence for body in offered if isinstance(body, Add)}
    if source.evidence and source.evidence not in digests:
        message = f"no add of contribution {short} has evidence {source.evidence.hex()}"
        raise VerificationError(message)
    return replace(
        context.spaces.contribution(replace(added, evidence=source.evidence)),
        weight=source.weight,
        authors=tuple(AuthorId(author) for author in source.authors),
        tags=source.tags,
    )
