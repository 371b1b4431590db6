"""The verb `recipe check`: what each tensor will get, before anything is merged.

Owns the shape of the answer, and where recipe, base and contributions come from. Does not
own what a recipe comes to (`crdtmerge.resolve.explain`). It changes nothing, and reads no
tensor.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from crdtmerge.codec import format_decimal
from crdtmerge.errors import BadInputError, NotFoundError
from crdtmerge.formats.folder import read_folder
from crdtmerge.formats.ingest import headers
from crdtmerge.resolve.explain import Explained, Explanation, Offered, explain
from crdtmerge.resolve.settings import Party
from crdtmerge.rules import Place, parse_pattern

from . import arguments as given
from .contents import base_manifest
from .live import Answer, Arguments, Context, Tell
from .selection import choose_space
from .wording import padded, recipe_asked, recipe_worded

Key: TypeAlias = tuple[object, ...]


def recipe_check(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Explain a recipe in a space: the one that is worded, else the one that serves.

    Raises:
        NotFoundError: the space has no recipe yet, or its base is not known here.
        BadInputError: the recipe cannot be used.
    """
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    opset = context.spaces.opset(space)
    worded = given.optional_text(asked, "strategy") is not None
    recipe = recipe_asked(asked, opset) if worded else opset.view.recipe
    if recipe is None:
        hint = "let the node run, or give a FILE"
        raise NotFoundError("the recipe of the space has not arrived", hint=hint)
    offered = [
        Offered(v.content, v.weight, v.authors, v.tags) for v in opset.view.visible
    ]
    base = base_manifest(context, space)
    pattern = given.optional_text(asked, "tensor")
    return {"space": space.hex(), **_answer(explain(recipe, base, offered), pattern)}


def check_alone(asked: Arguments) -> Answer:
    """Explain a recipe for a base on disk, where no contribution is known.

    Raises:
        BadInputError: the recipe or the base cannot be used.
    """
    base = headers(read_folder(given.path(asked, "base")), "base", b"")
    recipe = recipe_worded(asked, padded)
    written = asked.get("rules")
    rules = written if isinstance(written, list) else []
    # A gradient among the parameters became a rule of its own, before those written.
    own = len(recipe.rules) - len(rules)
    labels = [""] * own + [str(rule.get("models", "")) for rule in rules]
    found = explain(recipe, base, None, labels)
    return {
        "space": "",
        **_answer(found, given.optional_text(asked, "tensor"), labels),
    }


def _answer(
    found: Explanation, pattern: str | None, labels: Sequence[str] | None = None
) -> Answer:
    recipe, strategy = found.recipe, found.strategy
    said = labels or [rule.models for rule in recipe.rules]
    chosen = _chosen(found.tensors, pattern)
    groups = _groups(chosen)
    of_groups = {key: number for number, key in enumerate(groups, start=1)}
    described = recipe.describe()
    if labels is not None:
        del described["digest"]  # ids may not be whole: it is not that of the recipe
    return {
        "recipe": described
        | {
            "rules": [
                {"number": i, "pattern": rule.tensors, "models": models}
                | {"parameters": dict(rule.parameters)}
                for i, (rule, models) in enumerate(
                    zip(recipe.rules, said, strict=True), start=1
                )
            ]
        },
        "class": strategy.classification,
        "contributions": [_party(item) for item in found.contributions],
        "groups": [
            _group(number, members, found.contributions)
            for number, members in enumerate(groups.values(), start=1)
        ],
        "tensors": [
            {
                "name": item.entry.name,
                "dtype": item.entry.dtype,
                "shape": list(item.entry.shape),
                "layer": item.layer and item.layer[0],
                "layers": item.layer and item.layer[1],
                "group": of_groups[_key(item)],
            }
            for item in chosen
        ],
        "memory": found.memory
        and {
            "tensor": found.memory.tensor,
            "reads": found.memory.reads,
            "strategy": found.memory.strategy,
            "steps": found.memory.steps,
        },
        "notes": list(found.notes),
    }


def _chosen(tensors: Iterable[Explained], pattern: str | None) -> list[Explained]:
    """Return the tensors that a pattern fits; all without one."""
    if pattern is None:
        return list(tensors)
    parsed = parse_pattern(pattern)
    found = [
        item for item in tensors if parsed.fits(Place(item.entry.name, item.layer))
    ]
    if not found:
        message = f"{pattern!r} fits no tensor of the base"
        raise BadInputError(message, hint="`recipe check --json` lists all")
    return found


def _key(item: Explained) -> Key:
    """Return what tensors of one group have alike."""
    if item.setting is None:
        return ()
    return item.rules, item.setting.parameters, item.setting.weights, item.setting.own


def _groups(tensors: Iterable[Explained]) -> dict[Key, list[Explained]]:
    groups: dict[Key, list[Explained]] = {}
    for item in tensors:
        groups.setdefault(_key(item), []).append(item)
    return groups


def _group(
    number: int, members: Sequence[Explained], parties: Sequence[Party]
) -> Answer:
    first = members[0]
    setting = first.setting
    common: Answer = {"group": number, "count": len(members)}
    if setting is None:
        return common | {"merged": False}
    told = zip(parties, setting.weights, setting.own, strict=True)
    return common | {
        "merged": True,
        "rules": [i + 1 for i in first.rules],
        "parameters": dict(setting.parameters),
        "contributions": [
            {"content": item.content.hex(), "weight": format_decimal(weight)}
            | ({"parameters": dict(own)} if own else {})
            for item, weight, own in told
        ],
    }


def _party(item: Party) -> Answer:
    who = item.who
    return {
        "content": who.content.hex(),
        "weight": format_decimal(item.weight),
        "authors": [author.hex() for author in who.authors],
        "tags": list(who.tags),
    }
