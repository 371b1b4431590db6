"""What is stored, collected and damaged, as people read it.

Owns the words and the order. Does not own the facts (`operations`), nor what all
renderers share (`render`).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, cast

from .output import plain, short, table
from .render import Facts, counted, several, size

_FORMS: Final = (
    ("own", "in the home"),
    ("packed", "packed"),
    ("referenced", "in files of yours"),
    ("partial", "arriving"),
    ("stale", "arrived already"),
    ("leftover", "left over"),
)
_OUTCOMES: Final = {
    "found": "`crdtmerge store fsck --repair` has it anew",
    "repaired": "repaired",
    "removed": "removed: nothing needs it",
    "wanted": "not repaired: no peer has sent it yet; the running node goes on asking",
    "beyond": "not repaired",
    "unknown": "left as it is: a manifest that cannot be read may need it",
}
_WHY: Final = {
    "grace": "the grace period",
    "unknown": "a manifest that is not here may need it",
}


def stored(facts: Facts) -> list[str]:
    """Return the lines of `store show`."""
    rows = [
        (words, part["count"], size(part["bytes"]), size(part["stored_bytes"]))
        for form, words in _FORMS
        if (part := _part(facts, form))["count"] or form == "own"
    ]
    idle = _part(facts, "unneeded")
    lines = table(("BLOBS", "COUNT", "SIZE", "ON DISK"), rows)
    lines.append(
        f"nothing needs {counted(idle['count'], 'blob')} ({size(idle['stored_bytes'])})"
    )
    if (sums := _part(facts, "sums"))["count"]:
        amount = f"{counted(sums['count'], 'tensor')} ({size(sums['bytes'])})"
        lines.append(f"kept sums of {amount}: the next resolve reads less")
    lines.append(f"free: {size(facts['free_bytes'])}")
    if facts["quota_bytes"] is not None:
        lines.append(f"quota: {size(facts['quota_bytes'])}")
    for found in several(facts["pins"]):
        note = f": {plain(found['note'])}" if found["note"] else ""
        lines.append(f"pinned {short(found['content'])}{note}")
    return lines


def quota(facts: Facts) -> list[str]:
    """Return the lines of `store quota`."""
    here = f"here: {size(facts['stored_bytes'])}"
    limit = facts["quota_bytes"]
    return [f"quota: {'none' if limit is None else size(limit)}", here]


def collected(facts: Facts) -> list[str]:
    """Return the lines of `store gc`."""
    verb = "would go" if facts["dry_run"] else "went"
    count = counted(facts["count"], "blob")
    lines = [f"{count} {verb} ({size(facts['bytes'])})"]
    for sums in several(_part(facts, "sums")["spaces"]):
        amount = f"{counted(sums['count'], 'tensor')} ({size(sums['bytes'])})"
        lines.append(f"kept sums of {amount} {verb}: {plain(sums['why'])}")
    lines += _staying(several(facts["stays"]))
    more = cast("int", facts["stays_count"]) - len(several(facts["stays"]))
    if more > 0:
        lines.append(f"  {counted(more, 'more blob')} that nothing needs: for a while")
    needed = _part(facts, "needed")
    lines.append(
        f"needed: {counted(needed['count'], 'blob')} ({size(needed['bytes'])})"
    )
    return lines


def _staying(stays: Sequence[Facts]) -> list[str]:
    """Return one line for all that stay until the same minute for the same reason."""
    alike: dict[tuple[str, str], list[int]] = {}
    for found in sorted(stays, key=lambda found: cast("int", found["until"])):
        until = datetime.fromtimestamp(cast("int", found["until"]), UTC)
        group = until.strftime("%Y-%m-%d %H:%M UTC"), _WHY[str(found["why"])]
        alike.setdefault(group, []).append(cast("int", found["bytes"]))
    return [
        f"  {counted(len(sizes), 'blob')} ({size(sum(sizes))}) that nothing needs:"
        f" until {when}, {why}"
        for (when, why), sizes in alike.items()
    ]


def pin(facts: Facts) -> list[str]:
    """Return the line of `store pin` and `store unpin`."""
    verb = "is pinned" if facts["pinned"] else "is pinned no more"
    return [f"contribution {short(facts['content'])} {verb}"]


def packed(facts: Facts) -> list[str]:
    """Return the lines of `store pack`."""
    found, cold = _part(facts, "packed"), _part(facts, "cold")
    verb = "would be packed" if facts["dry_run"] else "packed"
    if not cold["count"]:
        return ["0 of 0 cold blobs: all are packed, in use, or in files of yours"]
    of = f"of {counted(cold['count'], 'cold blob')} ({size(cold['bytes'])})"
    sizes = f"{size(found['bytes'])} in {size(found['stored_bytes'])}"
    return [f"{found['count']} {of} {verb}: {sizes}"]


def unpacked(facts: Facts) -> list[str]:
    """Return the line of `store unpack`."""
    found = _part(facts, "unpacked")
    return [f"{counted(found['count'], 'blob')} unpacked ({size(found['bytes'])})"]


def _part(facts: Facts, name: str) -> Mapping[str, object]:
    return cast("Mapping[str, object]", facts[name])


def examined(facts: Facts) -> list[str]:
    """Return the lines of `store fsck`: one a damaged blob, and who needs it."""
    damaged, tables = several(facts["damaged"]), cast("list[str]", facts["tables"])
    checked = f"{counted(facts['blobs'], 'blob')} checked ({size(facts['bytes'])})"
    if not (damaged or tables):
        return [f"{checked}, and the records: all right"]
    lines = [f"{checked}: {len(damaged)} damaged"]
    lines += [f"  the records: {plain(said)}" for said in tables]
    for found in damaged:
        chunks = counted(found["bad_chunks"], "chunk")
        lines.append(f"  {short(found['blob'])}: {found['meaning']} ({chunks})")
        lines += [f"    {line}" for line in _about(found)]
    if "fetched_bytes" in facts:
        lines.append(f"{size(facts['fetched_bytes'])} came from peers")
    return lines


def _about(found: Facts) -> list[str]:
    """Return who needs a damaged blob, and what became of it."""
    needed = [
        f"{need['kind']} {short(need['content'] or need['space'] or '')}".rstrip()
        for need in several(found["needed_by"])
    ]
    lines = [f"needed by {', '.join(needed)}" if needed else "nothing needs it"]
    if found["holds"]:
        lines.append(f"its file holds blob {short(found['holds'])}")
    lines.append(_OUTCOMES[str(found["outcome"])])
    if "hint" in found:
        lines.append(plain(found["hint"]))
    return lines
