"""Compaction as people read of it.

Owns the words. Does not own the facts (`operations.compacting`), nor what all renderers
share (`render`).
"""

from collections.abc import Iterator, Mapping
from typing import Final, cast

from .output import plain, short
from .render import Facts, counted, size

_PARTS: Final = (
    ("removed_adds", "contribution that is out for good"),
    ("removes", "remove"),
    ("replaced_recipes", "replaced recipe"),
    ("old_addresses", "old address"),
)


def compacted(facts: Facts) -> list[str]:
    """Return the lines of `space compact`."""
    name = f"space {plain(facts['name'])} ({short(facts['space'])})"
    count = counted(facts["listed"], "record")
    verb = "would list" if facts["dry_run"] else "listed"
    lists = counted(facts["list_count"], "list")
    lines = [f"{name}: {verb} {count} of {facts['records_before']} as dead, in {lists}"]
    lines += [
        f"  {facts[key]:>8} {words}" + ("" if facts[key] == 1 else "s")
        for key, words in _PARTS
        if facts[key]
    ]
    freed, spent = size(facts["freed_bytes"]), size(facts["list_bytes"])
    lines.append(f"  {freed} of records go, the lists take {spent}")
    kept = cast("Mapping[str, int]", facts["kept"])
    lines += [f"  {n:>8} without effect stay: {why}" for why, n in kept.items()]
    if facts["pending"]:
        lines.append("  nothing goes before enough owners signed the lists")
    return lines


def status(facts: Facts) -> Iterator[str]:
    """Yield the lines of `status` about what was compacted in a space."""
    if not facts["lists"]:
        return
    count = counted(facts["listed"], "record")
    yield f"  compacted     {count} listed as dead"
    if facts["dropped"]:
        held = counted(facts["dropped"], "record")
        yield (
            f"                {held} that this home held are gone, {facts['dropped_own']}"
            " of them yours; the others of yours stay"
        )
    for add in cast("list[str]", facts["lost"]):
        yield f"                an owner listed your live contribution {short(add)}"
