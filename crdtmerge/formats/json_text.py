"""JSON objects in files of the user's: headers, shard indices, configurations.

Owns that the text is UTF-8, that it is one object, and that no name in it is given twice:
parsers differ on which of two equal names counts; and how such text is written again. Does
not own what the names mean.
"""

import json

from crdtmerge.errors import BadInputError


def parse_object(text: bytes, what: str, hint: str = "") -> dict[str, object]:
    """Return the JSON object that `text` is; `what` names it in errors.

    Raises:
        BadInputError: it is no JSON, no object, or names something twice.
    """

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        mapping: dict[str, object] = {}
        for name, value in pairs:
            if name in mapping:
                message = f"{what} names {name!r} twice"
                raise BadInputError(message, hint=hint)
            mapping[name] = value
        return mapping

    try:
        value = json.loads(text.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as e:
        raise BadInputError(f"{what} is not JSON", hint=hint) from e
    if not isinstance(value, dict):
        raise BadInputError(f"{what} is not a JSON object", hint=hint)
    return value


def json_bytes(value: object, indent: int = 2) -> bytes:
    """Return a value that was JSON as the bytes of a file, readable where it can be.

    SUBTLE: JSON can name halves of characters by escapes, which have no UTF-8: a text with
    such ones is written in escapes again.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False) + "\n"
    try:
        return text.encode()
    except UnicodeEncodeError:
        return (json.dumps(value, indent=indent) + "\n").encode()
