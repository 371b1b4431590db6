"""Reading the JSON arguments of a verb.

Owns the types of arguments. Does not own their meaning. The arguments may come over the
control socket from a command of another version, so nothing is taken for granted.
"""

from pathlib import Path
from typing import Final, TypeVar

from crdtmerge.bodies import NOTE_CHARACTERS_MAX
from crdtmerge.errors import BadInputError

from .live import Arguments

D = TypeVar("D")

SECONDS_MAX: Final = 10.0**9


def text(arguments: Arguments, name: str) -> str:
    """Return a text that must be there."""
    value = arguments.get(name)
    if isinstance(value, str):
        return value
    raise _wrong(name, "a text")


def optional_text(arguments: Arguments, name: str) -> str | None:
    """Return a text, None if it was left out."""
    return None if arguments.get(name) is None else text(arguments, name)


def flag(arguments: Arguments, name: str) -> bool:
    """Return a flag; left out means no."""
    value = arguments.get(name, False)
    if isinstance(value, bool):
        return value
    raise _wrong(name, "true or false")


def count(arguments: Arguments, name: str, default: D, *, least: int = 1) -> int | D:
    """Return a whole number of `least` or more."""
    value = arguments.get(name)
    if value is None:
        return default
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise _wrong(name, f"a whole number of {least} or more")


def seconds(arguments: Arguments, name: str) -> float | None:
    """Return a duration above zero, None if it was left out."""
    value = arguments.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, "a number of seconds")
    if 0 < value < SECONDS_MAX:
        return float(value)
    raise _wrong(name, "a number of seconds above 0")


def texts(arguments: Arguments, name: str) -> list[str]:
    """Return a list of texts; left out means none."""
    value = arguments.get(name) or []
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise _wrong(name, "a list of texts")


def pairs(arguments: Arguments, name: str) -> dict[str, str]:
    """Return a mapping from texts to texts; left out means none."""
    value = arguments.get(name) or {}
    if isinstance(value, dict):
        items = [*value.keys(), *value.values()]
        if all(isinstance(item, str) for item in items):
            return value
    raise _wrong(name, "a mapping of texts")


def path(arguments: Arguments, name: str) -> Path:
    """Return a path; it must be absolute, for the node runs in another folder."""
    given = Path(text(arguments, name))
    if not given.is_absolute():
        raise _wrong(name, "an absolute path")
    return given


def _wrong(name: str, expected: str) -> BadInputError:
    return BadInputError(f"the argument {name!r} must be {expected}")


def checked_note(text: str) -> str:
    """Return what a record is to say in words; refuse what no record can carry."""
    if len(text) > NOTE_CHARACTERS_MAX:
        raise BadInputError(
            f"the note has {len(text)} characters; at most {NOTE_CHARACTERS_MAX} are kept"
        )
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise BadInputError("the note is not Unicode text") from e
    return text
