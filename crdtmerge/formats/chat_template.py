"""The chat template of a merged model: the one asked for, among the files beside it.

Owns where templates stand. Does not own the tokenizer (`tokenizer_output`), nor what a
template means: it is text.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from crdtmerge.errors import BadInputError
from crdtmerge.formats.companions import bytes_of
from crdtmerge.formats.json_text import json_bytes

AUTO: Final = "auto"
TEMPLATE_FILE: Final = "chat_template.jinja"
CONFIG_FILE: Final = "tokenizer_config.json"
KEY: Final = "chat_template"

Files: TypeAlias = "Mapping[str, Path | bytes]"
"""Files by name: one to copy, or its bytes."""


def with_template(
    files: Files, asked: str, others: Iterable[Files]
) -> dict[str, Path | bytes]:
    """Return the files beside a model, with the chat template that is asked for.

    `auto` is the one that most of `others` have, the first of equals. The template stands
    in a file of its own, where loaders look first.

    Raises:
        BadInputError: `auto`, and no model has one; or a file is damaged.
    """
    text = asked
    if asked == AUTO:
        found = [template for f in others if (template := _template(f))]
        if not found:
            message = "chat_template is auto, and no model has a chat template"
            raise BadInputError(
                message, hint="write the template itself, or leave it out"
            )
        text = Counter(found).most_common(1)[0][0]
    try:
        made = dict(files) | {TEMPLATE_FILE: text.encode()}
    except UnicodeEncodeError as e:
        raise BadInputError("the chat template is not Unicode text") from e
    if CONFIG_FILE in files:
        value = _config(files)
        if value.pop(KEY, None) is not None:
            made[CONFIG_FILE] = json_bytes(value)
    return made


def _template(files: Files) -> str:
    """Return the template of a model, empty if it has none, or several by name."""
    if TEMPLATE_FILE in files:
        try:
            return bytes_of(TEMPLATE_FILE, files[TEMPLATE_FILE]).decode()
        except UnicodeDecodeError as e:
            raise BadInputError(f"{TEMPLATE_FILE} is not UTF-8 text") from e
    found = _config(files).get(KEY) if CONFIG_FILE in files else None
    return found if isinstance(found, str) else ""


def _config(files: Files) -> dict[str, object]:
    try:
        value = json.loads(bytes_of(CONFIG_FILE, files[CONFIG_FILE]))
    except (ValueError, RecursionError) as e:
        raise BadInputError(f"{CONFIG_FILE} is not JSON") from e
    if not isinstance(value, dict):
        raise BadInputError(f"{CONFIG_FILE} is no JSON object")
    return value
