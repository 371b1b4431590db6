"""Recipes as users word them: names, pairs, rules, and the starts of ids.

Owns what the arguments of a verb come to, and which ids a space knows. Does not own the
words of files (`crdtmerge.formats.recipe_file`), nor what may stand in a recipe
(`crdtmerge.strategies`).
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.errors import BadInputError
from crdtmerge.formats.recipe_values import at
from crdtmerge.orset import OpSet
from crdtmerge.recipe import Recipe, Rule
from crdtmerge.strategies import make_recipe
from crdtmerge.strategies.recipes import dtype_named

from . import arguments as given
from .live import Arguments
from .selection import find_author, find_visible

_ID_CHARACTERS: Final = 2 * DIGEST_BYTES

Complete: TypeAlias = Callable[[str], str]
"""Returns a selector with the whole id where a user gave the start of one."""


def recipe_asked(asked: Arguments, opset: OpSet) -> Recipe:
    """Return the recipe that a user asked for in a space.

    Raises:
        UnknownNameError: no such strategy, step or parameter; the hint has the nearest.
        BadInputError: a value, a rule, a dtype or a scope cannot be used, or an id fits
            several.
        NotFoundError: an id fits nothing in the space.
    """
    return recipe_worded(asked, lambda models: _completed(opset, models))


def recipe_worded(asked: Arguments, complete: Complete) -> Recipe:
    """Return the recipe that a user asked for, where ids are told by `complete`.

    Raises:
        UnknownNameError: no such strategy, step or parameter; the hint has the nearest.
        BadInputError: a value, a rule, a dtype or a scope cannot be used.
    """
    return make_recipe(
        given.text(asked, "strategy"),
        given.pairs(asked, "params"),
        _rules(asked.get("rules"), complete),
        dtype_named(given.optional_text(asked, "output_dtype") or ""),
        given.optional_text(asked, "seed_scope") or "set",
        pre=given.texts(asked, "pre"),
        post=given.texts(asked, "post"),
        extras=given.pairs(asked, "extras"),
    )


def padded(models: str) -> str:
    """Return a selector whose id has its full length, where no space tells the rest."""
    kind, _, start = models.partition(":")
    return f"{kind}:{start:0<{_ID_CHARACTERS}}" if _is_of_id(kind) else models


def _is_of_id(kind: str) -> bool:
    return kind in {"content", "author"}


def _rules(value: object, complete: Complete) -> list[Rule]:
    """Return rules given as {tensors, models, parameters}; models may be left out.

    An error says which rule, counted as `recipe show` and `recipe check` count.
    """
    if not isinstance(value, list):
        return []
    found = []
    for number, item in enumerate(value, start=1):
        with at(f"rule {number}"):
            found.append(_rule(item, complete))
    return found


def _rule(item: object, complete: Complete) -> Rule:
    match item:
        case {"tensors": str(tensors), "parameters": dict(), **rest}:
            models = rest.get("models", "")
        case _:
            models = None
    if not isinstance(models, str) or not isinstance(item, dict):
        message = "a rule must be a pattern, parameters and perhaps a selector"
        raise BadInputError(message)
    parameters = tuple(given.pairs(item, "parameters").items())
    return Rule(tensors, parameters, complete(models))


def _completed(opset: OpSet, models: str) -> str:
    """Return a selector with the whole id; one that is whole need not be known."""
    kind, _, start = models.partition(":")
    if not _is_of_id(kind) or len(start) >= _ID_CHARACTERS:
        return models
    if kind == "content":
        return f"content:{find_visible(opset.view.visible, start).hex()}"
    return f"author:{find_author(opset, start).hex()}"
