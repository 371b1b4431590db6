"""The verbs `recipe set` and `recipe show`: how a space is merged.

Owns what is said of a recipe that is set, and of concurrent ones. Does not own what a
user's words come to (`wording`), nor which of several recipes serves (`policy`).
"""

from collections.abc import Sequence
from typing import Final

from crdtmerge.bodies import RecipeChange, RecordId, SpaceId
from crdtmerge.errors import (
    BadInputError,
    CrdtMergeError,
    EncodingError,
    MalformedRecordError,
    NotFoundError,
)
from crdtmerge.formats.recipe_text import recipe_to_yaml
from crdtmerge.orset import OpSet
from crdtmerge.policy import NEEDED
from crdtmerge.recipe import Recipe
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica
from crdtmerge.resolve.budget import check_budget, floor_of
from crdtmerge.rules import parse_pattern, parse_selector, places_of

from . import arguments as given
from .contents import base_manifest
from .live import Answer, Arguments, Context, Tell
from .publishing import publish, replica
from .selection import choose_space
from .wording import recipe_asked

SET_ALREADY: Final = "the space has this recipe already"
CONFLICT: Final = (
    "concurrent recipes: the one of the lowest id serves until another is set"
)


def recipe_set(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Set how a space is merged, for everybody; replaces all that is there.

    Raises:
        UnknownNameError: no such strategy or parameter; the hint has the nearest name.
        BadInputError: a value, a rule, a dtype or a scope cannot be used.
        NotAllowedError: this author's rank does not suffice.
    """
    from crdtmerge.strategies import check_shared

    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    replica(context, space).authority(NEEDED[RecipeChange])
    recipe = recipe_asked(asked, context.spaces.opset(space))
    check_shared(recipe)
    _check_budget(context, space, recipe)
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
        "recipe": recipe.describe(),
        "replaced": [] if same else [head.hex() for head in view.recipe_heads],
        "merge_id": after.merge_id(recipe).hex(),
        "notes": [SET_ALREADY] if same else _idle(context, space, recipe),
    }


def _check_budget(context: Context, space: SpaceId, recipe: Recipe) -> None:
    """Refuse an I/O budget that the base alone exceeds, where the base is known here."""
    if not recipe.io_budget:
        return
    try:
        base = base_manifest(context, space)
    except NotFoundError:
        return
    check_budget(recipe.io_budget, floor_of(recipe, base))


def _signed(current: Replica, recipe: Recipe) -> SignedRecord:
    """Return the record; what does not fit into one is the user's to change."""
    try:
        return current.set_recipe(recipe)
    except (EncodingError, MalformedRecordError) as e:
        hint = "use fewer rules, or shorter patterns"
        raise BadInputError(f"no record can carry this recipe: {e}", hint=hint) from e


def _idle(context: Context, space: SpaceId, recipe: Recipe) -> list[str]:
    """Return a note for each rule that fits nothing, as far as can be told here."""
    visible = [item.who for item in context.spaces.view(space).visible]
    chosen = dict.fromkeys(rule.models for rule in recipe.rules if rule.models)
    return _idle_rules(context, space, recipe) + [
        f"{models} selects no contribution that is visible now"
        for models in chosen
        if not any(parse_selector(models).fits(who) for who in visible)
    ]


def _idle_rules(context: Context, space: SpaceId, recipe: Recipe) -> list[str]:
    """Return a note for each rule that fits no tensor of the base, if that is here."""
    try:
        tensors = base_manifest(context, space).tensors
    except CrdtMergeError:
        return []
    places = places_of(tensor.name for tensor in tensors).values()
    return [
        f"the rule for {rule.tensors!r} fits no tensor of the base"
        for rule in recipe.rules
        if not any(parse_pattern(rule.tensors).fits(place) for place in places)
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
        "recipe": view.recipe.describe() if view.recipe else None,
        "record": heads[0].hex() if heads else None,
        "conflict": len(heads) > 1,
        "yaml": recipe_to_yaml(view.recipe) if view.recipe else None,
        "heads": _heads(opset, heads),
        "notes": [CONFLICT] if len(heads) > 1 else [],
    }


def _heads(opset: OpSet, heads: Sequence[RecordId]) -> list[Answer]:
    return [
        {
            "record": head.hex(),
            "author": opset.records[head].author.hex(),
            "serves": head == heads[0],
            "recipe": body.recipe.describe(),
        }
        for head in heads
        if isinstance(body := opset.records[head].body, RecipeChange)
    ]
