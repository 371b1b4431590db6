"""The verb `merge`: a mergekit configuration, resolved with no node, home or space.

Owns what stands in the way of an output, and what is answered. Does not own the
configuration (`crdtmerge.formats.mergekit`), how its folders become a base and
contributions (`merging_models`), nor the plan and its execution (`crdtmerge.resolve`): a
space with the same contributions, weights and recipe makes the same bytes.
"""

from pathlib import Path

from crdtmerge.digest import ContentId
from crdtmerge.errors import BadInputError, ConflictError, FaultyContributionError
from crdtmerge.formats.mergekit import Configuration, read_configuration
from crdtmerge.resolve.ground import Footing
from crdtmerge.resolve.model import resolve_model
from crdtmerge.resolve.plan import Plan, make_plan
from crdtmerge.resolve.resolution import (
    Resolution,
    Source,
    root_without_space,
)

from . import arguments as given
from .live import Answer, Arguments, Tell, telling
from .merging_models import Models, read_models
from .resolving import threads_of, workers


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
    models = read_models(configuration, tell)
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
        "notes": [*configuration.notes, *models.notes],
    }


def _resolve(
    plan: Plan,
    models: Models,
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
            base_files=tuple(models.companions.items()),
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
