"""What a recipe may say beside strategy, parameters, rules and steps.

Owns the names, their defaults, and which texts each may have. Does not own what is done
about one: the module that its declaration names does. A name that a recipe leaves out has
its default, so a new one changes no recipe that there is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from crdtmerge.errors import BadInputError, UpgradeNeededError
from crdtmerge.recipe import MISSING_CHOICES, Parameters, Recipe
from crdtmerge.sizes import size_of
from crdtmerge.strategies.table import suggestion

IO_BUDGET_MAX: Final = 1 << 60
"""The largest I/O budget, in bytes: it fits every integer that a format carries."""


@dataclass(frozen=True, slots=True)
class Extra:
    """One thing more that a recipe may say.

    `default` is its text where a recipe says nothing; `canonical` returns the canonical
    text of what a user typed, and raises `BadInputError` for what it may not be.
    """

    default: str
    canonical: Callable[[str], str]


def _choice(choices: tuple[str, ...], text: str) -> str:
    if text.lower() in choices:
        return text.lower()
    raise BadInputError(f"{text!r} is none of {', '.join(choices)}")


def _budget(text: str) -> str:
    size = size_of(text)
    if 0 < size <= IO_BUDGET_MAX:
        return str(size)
    message = f"{text!r} is not above 0 and at most {IO_BUDGET_MAX} bytes"
    raise BadInputError(message, hint="leave it out to read everything")


EXTRAS: Final[Mapping[str, Extra]] = {
    "io_budget": Extra("", _budget),
    "missing": Extra(MISSING_CHOICES[0], partial(_choice, MISSING_CHOICES)),
}
"""All there are, by name. `io_budget`, in bytes, is minded by `crdtmerge.resolve.budget`,
and `missing` by `crdtmerge.changes`."""


def canonical_extras(given: Mapping[str, str]) -> Parameters:
    """Return what a user typed as sorted canonical pairs, without defaults.

    Raises:
        BadInputError: there is no such name, or a text is not what it may be.
    """
    found = []
    for name, text in sorted(given.items()):
        if name not in EXTRAS:
            message = f"a recipe has no {name!r}"
            raise BadInputError(message, hint=suggestion(name, EXTRAS, EXTRAS))
        try:
            canonical = EXTRAS[name].canonical(text)
        except BadInputError as e:
            raise BadInputError(f"{name}: {e}", hint=e.hint) from e
        if canonical != EXTRAS[name].default:
            found.append((name, canonical))
    return tuple(found)


def check_extras(recipe: Recipe) -> None:
    """Refuse extras of a peer's recipe that this version does not know, or not so.

    Raises:
        UpgradeNeededError: it says something that this version knows nothing of.
        BadInputError: a text is not canonical.
    """
    for name, _ in recipe.extras:
        if name not in EXTRAS:
            message = f"the recipe says {name!r}, which is not known here"
            raise UpgradeNeededError(message, hint="upgrade crdtmerge")
    if canonical_extras(dict(recipe.extras)) != recipe.extras:
        message = "what the recipe says beside its strategy is not canonical"
        raise BadInputError(message)
