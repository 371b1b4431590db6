"""Changes of keys as people read them.

Owns the words and the order. Does not own the facts (`cli.key`).
"""

from typing import cast

from .output import plain, short
from .render import Facts, several


def changed(facts: Facts) -> list[str]:
    """Return the lines of `key rotate` and `key recover`."""
    lines = [f"author  {facts['author']}"]
    if facts["was"] != facts["author"]:
        lines.append(f"before  {facts['was']}")
    lines += _spaces(facts, "named", "named the new key")
    for space in several(facts["retired"]):
        keys = " ".join(map(short, cast("list[object]", space["retired"])))
        lines.append(f"space {plain(space['name'])}: ended {keys}")
    return lines


def spare(facts: Facts) -> list[str]:
    """Return the lines of `key spare`."""
    lines = [f"spare   {facts['key']}", f"file    {plain(facts['file'])}"]
    return [*lines, *_spaces(facts, "named", "named it as the one that follows")]


def _spaces(facts: Facts, field: str, what: str) -> list[str]:
    return [f"space {plain(s['name'])}: {what}" for s in several(facts[field])]
