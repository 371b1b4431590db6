"""The verb `merge`: a mergekit configuration, resolved with no node, home or space.

Owns what stands in the way of an output, and what is answered. Does not own the
configuration (`crdtmerge.formats.mergekit`), how its folders become a base and
contributions (`merging_models`), nor the plan and its execution (`crdtmerge.resolve`): a
space with the same contributions, weights and recipe makes the same bytes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from crdtmerge.digest import ContentId
from crdtmerge.errors import BadInputError, ConflictError, FaultyContributionError
from crdtmerge.formats.alignment import Scratch
from crdtmerge.formats.companions import CARD_FILE, companions_of
from crdtmerge.formats.folder import ModelFolder
from crdtmerge.formats.header import StoredTensor
from crdtmerge.formats.mergekit import Configuration, Sliced, read_configuration
from crdtmerge.formats.output import scratch_folder
from crdtmerge.formats.progress import Report
from crdtmerge.formats.shards import ModelLayout, lay_out_model
from crdtmerge.manifest import FLOAT_DTYPES, TensorEntry
from crdtmerge.resolve.model import About, Resolved, resolve_model
from crdtmerge.resolve.output import Output
from crdtmerge.resolve.plan import Plan
from crdtmerge.resolve.resolution import (
    Source,
    root_without_space,
)
from crdtmerge.strategies.extras import canonical_extras

from . import arguments as given
from .live import Answer, Arguments, Tell, telling
from .making import (
    memory_of,
    output_asked,
    shard_bytes_of,
    threads_of,
    work_facts,
    workers,
)
from .merging_folders import Companions
from .merging_models import Models, plan_of, read_models


def merge(asked: Arguments, tell: Tell) -> Answer:
    """Merge the models that a configuration names into a new folder.

    Raises:
        BadInputError: the configuration cannot be used, or a model of it.
        UnknownNameError: it holds a word that is not known.
        ContractError: weights or values leave the numeric contract.
        ConflictError: something is in the way of the output.
        MachineError: the disk has no room for it, or refuses.
    """
    path, out = given.path(asked, "config"), given.path(asked, "out")
    missing = given.optional_text(asked, "missing")
    extras = canonical_extras({} if missing is None else {"missing": missing})
    configuration = read_configuration(path).with_extras(extras)
    _check_way(out, path, configuration)
    if configuration.tokenizer is None:
        return _merge(configuration, Scratch(), asked, out, tell)
    with scratch_folder(out) as scratch:
        return _merge(configuration, Scratch(scratch / "aligned"), asked, out, tell)


def _merge(
    configuration: Configuration | Sliced,
    scratch: Scratch,
    asked: Arguments,
    out: Path,
    tell: Tell,
) -> Answer:
    wanted = _Wanted(
        configuration,
        output_asked(asked, out),
        shard_bytes_of(asked),
        threads_of(asked),
        memory_of(asked),
        telling(tell),
    )
    models = read_models(configuration, scratch, tell, wanted.check, wanted.threads)
    plan = plan_of(models.asked, models.base, models.contributions)
    output = wanted.of(models, _dtype_of(plan, models))
    layout = lay_out_model(plan.outputs, wanted.shard_bytes)
    try:
        made = wanted.resolve(plan, models, output, layout)
    except FaultyContributionError as e:
        name = models.names[e.content]
        raise BadInputError(f"model {name!r}: {e.reason}") from e
    resolution = made.resolution
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
        "recipe": resolution.recipe.describe(),
        "own_values": sum(bool(c.parameters) for c in plan.contributions),
        "shards": len(layout.files),
        "card": str(out / CARD_FILE),
        **work_facts(made),
        "notes": [*models.asked.notes, *models.notes, *output.companions.notes],
    }


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is wanted of the output of a configuration."""

    configuration: Configuration | Sliced
    output: Output
    shard_bytes: int
    threads: int
    memory: int
    report: Report

    def check(self, base: ModelFolder, files: Companions) -> None:
        """Refuse what headers alone show, before anything is hashed.

        Raises:
            BadInputError: the base is quantised.
            ConflictError: something is in the way of the output.
            MachineError: there is no room for it.
        """
        dtype = self.configuration.output_dtype
        output = self._beside(files, base.tensors)
        tensors = [
            (t.name, dtype if dtype and t.dtype in FLOAT_DTYPES else t.dtype, t.shape)
            for t in base.tensors
        ]
        output.folder(lay_out_model(tensors, self.shard_bytes)).check()

    def of(self, models: Models, dtype: str) -> Output:
        """Return what is asked of the output, once all models were read.

        A `dtype` other than empty is that of all its float tensors.
        """
        tensors, left_out = models.base.tensors, models.not_taken
        return self._beside(models.companions, tensors, left_out, dtype)

    def resolve(
        self, plan: Plan, models: Models, output: Output, layout: ModelLayout
    ) -> Resolved:
        """Write the merged model."""
        with workers(self.threads) as executor:
            return resolve_model(
                plan=plan,
                source=models.source,
                output=output,
                layout=layout,
                about=lambda: _about(models.named()),
                executor=executor,
                threads=self.threads,
                memory=self.memory,
                report=self.report,
            )

    def _beside(
        self,
        files: Companions,
        tensors: Iterable[StoredTensor | TensorEntry],
        left_out: tuple[str, ...] = (),
        dtype: str = "",
    ) -> Output:
        dtypes = [tensor.dtype for tensor in tensors]
        dtype = dtype or self.configuration.output_dtype
        beside = companions_of(files, dtypes, dtype, left_out)
        return replace(self.output, companions=beside)


def _about(models: Models) -> About:
    """Return what the record of a merge says."""
    plan = plan_of(models.asked, models.base, models.contributions)
    base = ContentId(plan.base.content_id if models.based else b"")
    root = root_without_space(
        Source(c.content, c.weight, (), c.parameters) for c in plan.contributions
    )
    who = [c.who for c in plan.contributions]
    return About(
        plan=plan,
        merge_id=plan.recipe.merge_id(base, root, who),
        visible_root=root,
        base=base,
        made_from=models.made_from,
        origins=models.origins,
    )


def _dtype_of(plan: Plan, models: Models) -> str:
    """Return the one dtype of a merge without a base, whose config may name another."""
    found = {dtype for _, dtype, _ in plan.outputs if dtype in FLOAT_DTYPES}
    return "" if models.based or len(found) != 1 else found.pop()


def _check_way(out: Path, path: Path, configuration: Configuration | Sliced) -> None:
    """Refuse an output that would replace what it is made of, even when forced."""
    if out.resolve() in configuration.places:
        message = f"{out} is one of the models, which stay where they are"
        raise ConflictError(message, hint="choose another folder for the model")
    if out.resolve() == path.resolve().parent:
        message = f"{out} holds the configuration, which stays where it is"
        raise ConflictError(message, hint="choose another folder for the model")
