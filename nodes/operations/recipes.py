"""The verbs `recipe set` and `recipe show`: how a space is merged.

Owns what a user's rules and dtypes come to, and what is said of concurrent recipes. Does
not own which parameters a strategy has (`crdtmerge.strategies`), nor which of several
recipes serves (`policy`).
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from crdtmerge.bodies import RecipeChange, RecordId, SpaceId
from crdtmerge.errors import (
    BadInputError,
    CrdtMergeError,
    EncodingError,
    MalformedRecordError,
)
from crdtmerge.orset import OpSet
from crdtmerge.policy import NEEDED
from crdtmerge.recipe import Recipe
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica

from . import arguments as given
from .contents import base_manifest
from .facts import recipe_facts
from .live import Answer, Arguments, Context, Tell
from .publishing import publish, replica
from .selection import choose_space

SET_ALREADY: Final = "the space has this recipe already"
CONFLICT: Final = (
    "concurrent recipes: the one of the lowest id serves until another is set"
)
_DTYPES: Final = {
    "FLOAT64": "F64",
    "FLOAT32": "F32",
    "BFLOAT16": "BF16",
    "FLOAT16": "F16",
    "FLOAT8_E4M3FN": "F8_E4M3",
    "FLOAT8_E5M2": "F8_E5M2",
    "BASE": "",
}
"""Other spellings of output dtypes; BASE leaves the base's own."""


def recipe_set(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Set how a space is merged, for everybody; replaces all that is there.

    Raises:
        UnknownNameError: no such strategy or parameter; the hint has the nearest name.
        BadInputError: a value, a rule, a dtype or a scope cannot be used.
        NotAllowedError: this author's rank does not suffice.
    """
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    replica(context, space).authority(NEEDED[RecipeChange])
    recipe = _recipe(asked)
    with context.spaces.lock:
        view = context.spaces.view(space)
        same = view.recipe == recipe and len(view.recipe_heads) == 1
        record = (
            view.recipe_heads[0]
            if same
            else publish(context, space, lambda r: _signed(r, recipe))
        )
        after = context.spaces.view(space)
    return {
        "space": space.hex(),
        "record": record.hex(),
        "new": not same,
        "recipe": recipe_facts(recipe),
        "replaced": [] if same else [head.hex() for head in view.recipe_heads],
        "merge_id": after.merge_id(recipe).hex(),
        "notes": [SET_ALREADY] if same else _idle_rules(context, space, recipe),
    }


def _signed(current: Replica, recipe: Recipe) -> SignedRecord:
    """Return the record; what does not fit into one is the user's to change."""
    try:
        return current.set_recipe(recipe)
    except (EncodingError, MalformedRecordError) as e:
        hint = "use fewer rules, or shorter patterns"
        raise BadInputError(f"no record can carry this recipe: {e}", hint=hint) from e


def _recipe(asked: Arguments) -> Recipe:
    from crdtmerge.strategies import check_shared, make_recipe

    dtype = (given.optional_text(asked, "output_dtype") or "").upper()
    recipe = make_recipe(
        given.text(asked, "strategy"),
        given.pairs(asked, "params"),
        _rules(asked.get("rules")),
        _DTYPES.get(dtype, dtype),
        given.optional_text(asked, "seed_scope") or "set",
    )
    check_shared(recipe)
    return recipe


def _rules(value: object) -> list[tuple[str, dict[str, str]]]:
    """Return rules given as [pattern, name, text]; equal neighbours become one."""
    if not isinstance(value, list):
        return []
    rules: list[tuple[str, dict[str, str]]] = []
    for item in value:
        pattern, name, text = _rule(item)
        if not rules or rules[-1][0] != pattern:
            rules.append((pattern, {}))
        if name in rules[-1][1]:
            raise BadInputError(f"a rule gives {name!r} for {pattern!r} twice")
        rules[-1][1][name] = text
    return rules


def _rule(item: object) -> tuple[str, str, str]:
    match item:
        case [str(pattern), str(name), str(text)]:
            return pattern, name, text
        case _:
            pass
    raise BadInputError("a rule must be a pattern, a parameter and a value")


def _idle_rules(context: Context, space: SpaceId, recipe: Recipe) -> list[str]:
    """Return a note for each rule that fits no tensor of the base, if that is here."""
    try:
        tensors = base_manifest(context, space).tensors
    except CrdtMergeError:
        return []
    return [
        f"the rule for {pattern!r} fits no tensor of the base"
        for pattern, _ in recipe.rules
        if not any(fnmatchcase(tensor.name, pattern) for tensor in tensors)
    ]


def recipe_show(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Return the recipe that serves, and every head if several are concurrent."""
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    opset = context.spaces.opset(space)
    view = opset.view
    heads = view.recipe_heads
    return {
        "space": space.hex(),
        "name": context.spaces.name(space),
        "recipe": recipe_facts(view.recipe) if view.recipe else None,
        "record": heads[0].hex() if heads else None,
        "conflict": len(heads) > 1,
        "heads": _heads(opset, heads),
        "notes": [CONFLICT] if len(heads) > 1 else [],
    }


def _heads(opset: OpSet, heads: Sequence[RecordId]) -> list[Answer]:
    return [
        {
            "record": head.hex(),
            "author": opset.records[head].author.hex(),
            "serves": head == heads[0],
            "recipe": recipe_facts(body.recipe),
        }
        for head in heads
        if isinstance(body := opset.records[head].body, RecipeChange)
    ]
