"""TOML as plain values, numbers kept as they were written.

Owns parsing; sole importer of tomllib. Does not own what any value means. The values are
those of `yaml_text`, so that who reads them need not know which language a file is in.
"""

import tomllib
from pathlib import Path
from typing import Final

from crdtmerge.errors import BadInputError
from crdtmerge.formats.yaml_text import DEPTH_MAX, Number, Plain, text_of

_DIGITS_MAX: Final = 60


def read_toml(path: Path) -> Plain:
    """Return what a TOML file says.

    Raises:
        BadInputError: it cannot be read, is above a limit, or is not plain TOML.
    """
    return parse_toml(text_of(path), path.name)


def parse_toml(text: str, name: str = "the text") -> Plain:
    """Return what TOML text says.

    Raises:
        BadInputError: it breaks the syntax, a limit, or holds what is no plain value.
    """
    try:
        found = tomllib.loads(text, parse_float=Number)
    except tomllib.TOMLDecodeError as e:
        raise BadInputError(f"{name} is not TOML: {e}") from e
    except (RecursionError, ValueError) as e:
        raise BadInputError(f"{name} is not TOML: it nests too deep") from e
    return _plain(found, name, 0)


def _plain(value: object, name: str, depth: int) -> Plain:
    if depth > DEPTH_MAX:
        raise BadInputError(f"{name} nests deeper than {DEPTH_MAX}")
    match value:
        case bool() | str() | Number():
            return value
        case int():
            if abs(value) >= 10**_DIGITS_MAX:
                raise BadInputError(f"{name} holds a number above all limits")
            return Number(str(value))
        case list():
            return [_plain(item, name, depth + 1) for item in value]
        case dict():
            return {key: _plain(item, name, depth + 1) for key, item in value.items()}
        case _:
            message = f"{name}: a value of type {type(value).__name__} is not plain"
            hint = "dates and times mean nothing here; put text in quotes"
            raise BadInputError(message, hint=hint)
