"""The plain values of a recipe file: texts, lists, mappings, and where they stand.

Owns what is said of a value of another kind. Does not own which words there are
(`recipe_file`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from crdtmerge.errors import BadInputError, CrdtMergeError, UnknownNameError
from crdtmerge.formats.yaml_text import Number, Plain
from crdtmerge.strategies.table import suggestion

Parsed = TypeVar("Parsed")


@contextmanager
def at(place: str) -> Iterator[None]:
    """Say in an error where in the file it is."""
    try:
        yield
    except CrdtMergeError as e:
        raise type(e)(f"{place}: {e}", hint=e.hint) from e


def check_keys(entry: Mapping[str, Plain], known: Iterable[str]) -> None:
    """Refuse a word that is none of `known`; the hint has the nearest.

    Raises:
        UnknownNameError: there is one.
    """
    words = list(known)
    for key in entry:
        if key not in words:
            message = f"{key!r} is not known"
            raise UnknownNameError(message, hint=suggestion(key, words, words))


def items_of(value: Plain, key: str) -> list[tuple[str, Plain]]:
    """Return the items of a list with their places; none if it was left out.

    Raises:
        BadInputError: it is no list.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadInputError(f"{key}: it is not a list", hint="write `- ` before each")
    return [(f"{key}, number {i}", item) for i, item in enumerate(value, start=1)]


def count_of(value: Plain) -> int:
    """Return how many items a list has; none if it was left out."""
    return len(value) if isinstance(value, list) else 0


def listed(
    value: Plain, key: str, parse: Callable[[Mapping[str, Plain]], Parsed]
) -> list[Parsed]:
    """Return what `parse` makes of each mapping in a list; errors say in which.

    Raises:
        BadInputError: it is no list of mappings, or whatever `parse` raises.
    """
    found = []
    for place, item in items_of(value, key):
        with at(place):
            found.append(parse(mapping(item, "it")))
    return found


def mapping(value: Plain, what: str) -> dict[str, Plain]:
    """Return a mapping.

    Raises:
        BadInputError: it is none; the message calls it `what`.
    """
    if isinstance(value, dict):
        return value
    message = f"{what or 'a recipe'} is not a mapping of names to values"
    raise BadInputError(message, hint="" if what else "begin with `strategy: NAME`")


def text_of(value: Plain, key: str) -> str:
    """Return a text.

    Raises:
        BadInputError: it is none.
    """
    if isinstance(value, str):
        return value
    raise BadInputError(f"{key} is not a text", hint="put it in quotes")


def optional(entry: Mapping[str, Plain], key: str) -> str:
    """Return a text that may be left out; empty then."""
    return "" if entry.get(key) is None else text_of(entry[key], key)


def values_of(value: Plain) -> dict[str, str]:
    """Return parameters as texts; none if they were left out.

    Raises:
        BadInputError: they are no mapping, or one has no value.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadInputError("parameters are not names with values")
    return {name: value_of(item, name) for name, item in value.items()}


def value_of(value: Plain, name: str) -> str:
    """Return a value as text; a list is a gradient over layers.

    Raises:
        BadInputError: it is no value, or a list of too few.
    """
    if isinstance(value, list):
        if len(value) < 2:
            hint = "write [FIRST, LAST], with more between if you like"
            raise BadInputError(f"{name}: a gradient has two values or more", hint=hint)
        if any(isinstance(item, list) for item in value):
            raise BadInputError(f"{name}: a list in a list means nothing")
        return ",".join(value_of(item, name) for item in value)
    match value:
        case bool():
            return "true" if value else "false"
        case Number(text) | str(text):
            return text
        case _:
            message = f"{name} has no value"
            raise BadInputError(message, hint="write a number, true, false or a word")
