"""What `resolve --explain` tells people.

Owns the words. Does not own the numbers (`operations.keeping`).
"""

from collections.abc import Iterator
from typing import cast

from .output import plain
from .render import Facts, counted, recipe, several, size


def explained(facts: Facts) -> list[str]:
    """Return the lines of `resolve --explain`."""
    return list(_lines(facts))


def _lines(facts: Facts) -> Iterator[str]:
    count = counted(len(cast("list[str]", facts["contributions"])), "contribution")
    read, sums = _part(facts, "read"), _part(facts, "sums")
    yield f"resolving {count} to {plain(facts['out'])}"
    yield f"  recipe     {recipe(_part(facts, 'recipe'))}"
    parts = [
        f"{size(read['contributions'])} of contributions",
        f"{size(read['base'])} of the base",
    ]
    if sums["read_bytes"]:
        parts.append(f"{size(sums['read_bytes'])} of kept sums")
    yield f"  read       {size(facts['read_bytes'])}: {', '.join(parts)}"
    computed = _part(facts, "computed")
    tasks = counted(facts["tasks"], "task")
    yield f"  compute    {_tensors(computed)} in {tasks}"
    reused, resumed = _part(facts, "reused"), _part(facts, "resumed")
    if reused["tensors"]:
        folders = [plain(place["folder"]) for place in several(reused["from"])]
        yield f"  reuse      {_tensors(reused)} from {', '.join(folders)}"
    if resumed["tensors"]:
        yield f"  go on with {_tensors(resumed)} of a run that was broken off"
    yield f"  write      {size(facts['written_bytes'])}"
    disk, memory = _part(facts, "disk"), _part(facts, "memory")
    yield (
        f"  disk       {size(disk['needed_bytes'])} needed,"
        f" {size(disk['free_bytes'])} free"
    )
    if memory["tensor"]:
        tensor = plain(memory["tensor"])
        yield f"  memory     {size(memory['bytes'])} for the largest task, {tensor}"
    yield f"  sums       {_sums(sums)}"


def _sums(sums: Facts) -> str:
    """Say whether sums are kept, and from which number of contributions they pay."""
    pays = sums["pays_at"]
    when = f"they pay from {pays} contributions on" if pays else "they never pay"
    if sums["tensors"]:
        most = size(sums["written_bytes_max"])
        return f"for {counted(sums['tensors'], 'tensor')}, {most} at most; {when}"
    reason = f"none: {sums['reason']}" if sums["reason"] else "none"
    return f"{reason}; {when}" if pays or not sums["reason"] else reason


def _tensors(facts: Facts) -> str:
    return f"{counted(facts['tensors'], 'tensor')} ({size(facts['bytes'])})"


def _part(facts: Facts, name: str) -> Facts:
    return cast("Facts", facts[name])
