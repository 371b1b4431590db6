"""The verb `resolve`: the merged model of a space, as a folder.

Owns what is gathered for layer 2, and local exploration (another recipe, contributions
left out). Does not own the plan, its execution or the form of a resolution
(`crdtmerge.resolve`). It only reads the home, so it runs beside a node.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.errors import (
    BadInputError,
    ConflictError,
    ContentMissingError,
    NotFoundError,
    NothingToResolveError,
    UpgradeNeededError,
)
from crdtmerge.formats.companions import (
    CARD_FILE,
    Companions,
    companions_of,
    not_taken,
)
from crdtmerge.formats.folder import read_companions
from crdtmerge.formats.shards import ModelLayout, lay_out_model
from crdtmerge.manifest import Manifest
from crdtmerge.policy import Evaluated, View
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.adapter import (
    AdapterPlan,
    on_zeros,
    plan_adapter,
    resolve_adapter,
)
from crdtmerge.resolve.card import Origin, Origins
from crdtmerge.resolve.ground import ON_BASE, Footing
from crdtmerge.resolve.model import About, Resolved, resolve_model
from crdtmerge.resolve.output import Output
from crdtmerge.resolve.plan import Plan, Unread, make_plan
from crdtmerge.resolve.resolution import Resolution
from crdtmerge.resolve.settings import Contribution
from crdtmerge.strategies import check_recipe, check_shared, make_recipe
from crdtmerge.strategies.extras import canonical_extras

from ..store.leases import Lease
from ..store.references import REMEDY
from . import arguments as given
from .attesting import attest
from .budgeting import told_of_budget, unread_in
from .contents import base_exponents, base_facts, base_manifest
from .keeping import Keeping, sums_of
from .live import Answer, Arguments, Context, Tell, telling
from .making import (
    memory_of,
    output_asked,
    shard_bytes_of,
    threads_of,
    work_facts,
    workers,
)
from .packing import note_use
from .selection import SHORT, choose_space, find_visible
from .wording import recipe_asked

NONE: Final = "none"
FORMS: Final = ("model", "adapter")
PLATFORM: Final = "a strategy of class platform: another machine may make another model"


def resolve(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Compute the merged model or adapter of a space into a new folder.

    Raises:
        NothingToResolveError: no contribution is visible.
        ContentMissingError: bytes of a contribution have not arrived.
        FaultyContributionError: a contribution cannot be merged.
        ConflictError: something is in the way of the output.
        BadInputError: an adapter is wanted that cannot be.
    """
    with context.home.blobs.leases.hold() as lease:
        return _resolve(context, asked, tell, lease)


def _resolve(context: Context, asked: Arguments, tell: Tell, lease: Lease) -> Answer:
    """Compute the model; what it reads is leased, and stays even if it is removed."""
    out, form, threads = given.path(asked, "out"), _form(asked), threads_of(asked)
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    view = _without(context.spaces.view(space), given.texts(asked, "without"))
    recipe = _recipe(context, space, asked)
    contributions = context.spaces.contributions(view.visible)
    where = base_facts(context, space).folder
    if out.resolve() == where.resolve():
        message = f"{out} is the base of the space, which stays where it is"
        raise ConflictError(message, hint="choose another folder for the model")
    base = base_manifest(context, space)
    manifests = (base, *(c.manifest for c in contributions))
    for manifest in manifests:
        lease.add(manifest.blobs())
    dry = given.flag(asked, "explain")
    if not dry:
        note_use(context.home, manifests, int(context.clock()))
    merge_id, root = view.merge_id(recipe), view.visible_root
    read = view.read_by(recipe)
    scores = [one.score for one in read]
    origins = _origins(context, space, view)
    job = _Job(context, asked, tell, threads, space, merge_id, root, origins, read)
    output = output_asked(asked, out)
    extra: Answer = {"as": form, "card": str(out / CARD_FILE), "shards": 1}
    notes = _remarks(recipe)
    # What is explored is no step on the way of the space: its sums would go back.
    whole = view.recipe == recipe and not given.texts(asked, "without")
    if form == "model":
        unread = job.unread(recipe, base, contributions, ON_BASE)
        plan = make_plan(recipe, base, contributions, unread=unread, scores=scores)
        companions = _companions(where, plan)
        layout = lay_out_model(plan.outputs, shard_bytes_of(asked))
        _require_bytes(context, contributions, plan)
        output = replace(output, companions=companions)
        keeping = Keeping(context.home.path, space, recipe, whole, sums_of(asked))
        if dry:
            facts = keeping.forecast(plan, context.home.blobs, output, layout)
            return {"space": space.hex(), **facts, "notes": notes}
        made = job.to_model(plan, output, layout, keeping)
        resolution = made.resolution
        extra |= {"shards": len(layout.files), **work_facts(made)}
        notes += [*companions.notes, *made.notes]
    else:
        rank = given.count(asked, "rank", None)
        exponents = base_exponents(context, space)
        unread = job.unread(recipe, base, contributions, on_zeros(exponents))
        adapter = plan_adapter(
            recipe, base, contributions, rank, exponents, unread=unread, scores=scores
        )
        plan = adapter.plan
        _require_bytes(context, contributions, plan)
        resolution, error = job.to_adapter(adapter, output)
        extra |= {"rank": adapter.layout.rank, "relative_error": error}
    shared = context.spaces.view(space)
    return {
        "out": str(out),
        "space": space.hex(),
        "model_digest": resolution.model_digest.hex(),
        "merge_id": resolution.merge_id.hex(),
        "visible_root": resolution.visible_root.hex(),
        "contributions": [source.content.hex() for source in resolution.contributions],
        "tensors": len(resolution.tensors),
        "bytes": sum(entry.size for entry in resolution.tensors),
        "recipe": recipe.describe(),
        "explored": recipe != shared.recipe or view.visible != shared.visible,
        "attested": form == "model" and whole and attest(context, space, resolution),
        "notes": notes,
        **extra,
        **told_of_budget(plan),
    }


def _form(asked: Arguments) -> str:
    """Return what is to be written: a model, or an adapter."""
    form = given.optional_text(asked, "as") or "model"
    if form not in FORMS:
        raise BadInputError(f"{form!r} is none of {', '.join(FORMS)}")
    if form == "model" and asked.get("rank") is not None:
        raise BadInputError("a rank is of an adapter", hint="add --as adapter")
    if form == "adapter" and asked.get("shard_size") is not None:
        raise BadInputError("an adapter is one file", hint="leave out --shard-size")
    if form == "adapter" and given.flag(asked, "explain"):
        raise BadInputError("only a model is explained", hint="leave out --as adapter")
    return form


def _origins(context: Context, space: SpaceId, view: View) -> Origins:
    """Return what the records of a space tell of its contributions."""
    known: dict[bytes, Origin] = {
        visible.content: Origin(notes=visible.notes) for visible in view.visible
    }
    return Origins(context.spaces.name(space), Origin(), known)


@dataclass(frozen=True, slots=True)
class _Job:
    """What the writing of a model and of an adapter share."""

    context: Context
    asked: Arguments
    tell: Tell
    threads: int
    space: SpaceId
    merge_id: bytes
    visible_root: bytes
    origins: Origins
    read: tuple[Evaluated, ...]

    @property
    def evaluations(self) -> tuple[RecordId, ...]:
        """The evaluation records that the strategy reads."""
        return tuple(one.record for one in self.read)

    def unread(
        self,
        recipe: Recipe,
        base: Manifest,
        contributions: Sequence[Contribution],
        footing: Footing,
    ) -> Unread | None:
        """Return what an I/O budget leaves unread; what that takes is measured."""
        if recipe.io_budget:
            _require_bytes(self.context, contributions)
        with workers(self.threads) as executor:
            return unread_in(
                self.context.home,
                recipe,
                base,
                contributions,
                footing=footing,
                executor=executor,
                threads=self.threads,
                memory=memory_of(self.asked),
                report=telling(self.tell),
            )

    def to_model(
        self, plan: Plan, output: Output, layout: ModelLayout, keeping: Keeping
    ) -> Resolved:
        """Write a whole model."""
        root, origins = self.visible_root, self.origins
        said = About(
            plan,
            self.merge_id,
            root,
            self.space,
            origins=origins,
            evaluations=self.evaluations,
        )
        blobs = self.context.home.blobs
        with (
            keeping.sums(plan, blobs, layout.size) as sums,
            workers(self.threads) as executor,
        ):
            return resolve_model(
                plan=plan,
                source=self.context.home.blobs,
                output=output,
                layout=layout,
                about=lambda: said,
                executor=executor,
                threads=self.threads,
                memory=memory_of(self.asked),
                report=telling(self.tell),
                memo=keeping.memo,
                sums=sums,
            )

    def to_adapter(
        self, adapter: AdapterPlan, output: Output
    ) -> tuple[Resolution, float]:
        """Write an adapter; return its relative error too."""
        with workers(self.threads) as executor:
            return resolve_adapter(
                adapter=adapter,
                source=self.context.home.blobs,
                output=output,
                space=self.space,
                merge_id=self.merge_id,
                visible_root=self.visible_root,
                origins=self.origins,
                evaluations=self.evaluations,
                executor=executor,
                threads=self.threads,
                memory=memory_of(self.asked),
                report=telling(self.tell),
            )


def _without(view: View, left_out: Iterable[str]) -> View:
    """Return the view less some contributions: what the set would mean without them.

    Raises:
        UpgradeNeededError: the set holds a critical record that we do not know.
    """
    if view.unknown_critical:
        kinds = ", ".join(view.unknown_critical)
        raise UpgradeNeededError(f"this space has critical records of kind {kinds}")
    gone = {find_visible(view.visible, prefix) for prefix in left_out}
    if not gone:
        return view
    left = view.without(gone)
    if not left.visible:
        raise NothingToResolveError(
            "--without leaves nothing to merge", hint="keep one"
        )
    return left


def _recipe(context: Context, space: SpaceId, asked: Arguments) -> Recipe:
    """Return the recipe of the space, or the one that the user explores.

    An I/O budget that is asked for stands in place of the recipe's; `none` ends it.
    """
    recipe, budget = _asked_recipe(context, space, asked), asked.get("io_budget")
    if budget is None:
        return recipe
    extras = {"io_budget": given.text(asked, "io_budget")} if budget != NONE else {}
    kept = recipe.without("io_budget").extras
    return replace(recipe, extras=canonical_extras(dict(kept) | extras))


def _asked_recipe(context: Context, space: SpaceId, asked: Arguments) -> Recipe:
    """Return the recipe of the space, or the one that the user explores.

    A parameter without a strategy changes that one parameter of the shared recipe; where
    a rule of the recipe changes it too, the rule holds.
    """
    opset = context.spaces.opset(space)
    parameters = given.pairs(asked, "params")
    shared = opset.view.recipe
    if given.optional_text(asked, "strategy") is not None:
        if "extras" not in asked and shared is not None:
            # What becomes of incomplete models and how much may be read is the space's
            # matter, not a strategy's.
            asked = {**asked, "extras": dict(shared.extras)}
        return recipe_asked(asked, opset)
    if shared is None:
        raise NotFoundError(
            "the recipe of the space has not arrived",
            hint="let the node run, or explore with --strategy or --recipe",
        )
    if not parameters:
        check_shared(shared)
        return shared
    return make_recipe(
        shared.strategy,
        dict(shared.parameters) | parameters,
        shared.rules,
        shared.output_dtype,
        shared.seed_scope,
        pre=shared.pre,
        post=shared.post,
        extras=dict(shared.extras),
    )


def _remarks(recipe: Recipe) -> list[str]:
    portable = check_recipe(recipe).classification == "portable"
    return [] if portable else [PLATFORM]


def _require_bytes(
    context: Context, contributions: Iterable[Contribution], plan: Plan | None = None
) -> None:
    """Refuse before any work is done if bytes of a contribution have not arrived.

    Of its evidence, what the plan reads: nobody holds up others by what they do not read.
    """
    reads = set(plan.attached.all_reads(plan.frames)) if plan else set()
    for contribution in contributions:
        manifest = contribution.manifest
        sizes = replace(manifest, evidence=()).blobs()
        attached = (entry.tensor for entry in manifest.evidence)
        sizes |= {e.blob: e.size for e in attached if e.blob in reads}
        missing: list[BlobId] = context.home.blobs.missing(sizes)
        if missing:
            blobs = context.home.blobs
            gone = next((p for b in missing if (p := blobs.references.stray(b))), None)
            where = f"; {gone} is not as it was referenced" if gone else ""
            raise ContentMissingError(
                f"contribution {contribution.content.hex()[:SHORT]}: {len(missing)} blobs"
                f" ({sum(sizes[blob] for blob in missing)} bytes) have not"
                f" arrived{where}",
                hint=REMEDY if gone else "",
            )


def _companions(folder: Path, plan: Plan) -> Companions:
    """Return what goes along from the base; nothing if its folder is gone.

    If it is, the tensors themselves say so, with what to do about it.
    """
    try:
        files = dict(read_companions(folder))
    except BadInputError:
        return Companions()
    dtypes = [entry.dtype for entry in plan.base.tensors]
    dtype = plan.recipe.output_dtype
    return companions_of(files, dtypes, dtype, not_taken(folder, files))
