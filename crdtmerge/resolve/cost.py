"""When kept sums are worth it: the bytes that move with them, and without.

Owns the cost model and the choice that it makes for each tensor. Does not own kept sums
(`incremental`), nor what a plan's tasks read (`reading`, `summing`).

Without sums, one more contribution to n has all n + 1 read, and the base. With them the
planes are read and written again, with their header; the new one is read, and the base
where the end takes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from crdtmerge.resolve.incremental import SumsStore, load_sums, why_not
from crdtmerge.resolve.kept import Kept
from crdtmerge.resolve.plan import Plan
from crdtmerge.resolve.reading import TensorReader, TensorSource, reads_of
from crdtmerge.resolve.summing import TensorSums

ITEM_BYTES: Final = 8
"""Bytes that an item takes in a plane at most."""
MEMBER_BYTES: Final = 128
"""Bytes that a contribution takes in a header, about."""

Way: TypeAlias = Literal["compute", "begin", "go on"]
"""How an output is made: from all inputs; so, with sums to be kept; from kept sums."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """What one tensor, or a whole model, moves, in bytes.

    `planes` are those of its sums at most, `contribution` what one contribution says of
    it, `base` the base's, `end` what of the base is read where sums end.
    """

    planes: int
    contribution: int
    base: int
    end: int

    def __add__(self, other: "Bytes") -> "Bytes":
        """Return both together."""
        return Bytes(
            self.planes + other.planes,
            self.contribution + other.contribution,
            self.base + other.base,
            self.end + other.end,
        )


def pays_at(moved: Bytes, tensors: int = 1) -> int | None:
    """Return from how many contributions on the next one is cheaper with sums.

    None: with no number of them, because what they say is smaller than their headers.
    """
    gained = moved.contribution - 2 * MEMBER_BYTES * tensors
    if gained <= 0:
        return None
    needed = 2 * moved.planes + moved.end - moved.base
    return max(1, needed // gained + 1)


@dataclass(frozen=True, slots=True)
class Choice:
    """How a plan's outputs are made, and what that rests on.

    `ways` are those of merged tensors. `pays_at` holds for the whole model; None where
    sums cannot be kept, as `reason` says, or never pay. `kept` are the sums of tensors
    that are gone on with.
    """

    ways: Mapping[str, Way]
    kept: Mapping[str, Kept]
    pays_at: int | None = None
    planes: int = 0
    reason: str = ""

    def tensors(self, *ways: Way) -> frozenset[str]:
        """Return the tensors that are made in one of these ways."""
        return frozenset(name for name, way in self.ways.items() if way in ways)


NO_SUMS: Final = Choice({}, {})


def choose(
    plan: Plan, source: TensorSource, store: SumsStore | None, *, room: int = 0
) -> Choice:
    """Return how each output is made; nothing but headers of kept sums is read.

    Without a store nothing is begun or gone on with. `room` is how many bytes new sums may
    take: if they may take more, none are begun.
    """
    if reason := why_not(plan):
        return Choice({}, {}, reason=reason)
    reader = TensorReader(plan, source)
    merged = [name for name, frame in plan.frames.items() if frame.is_merged]
    tensors = {name: TensorSums(plan, name, reader) for name in merged}
    moved = {name: _bytes(plan, name, tensors[name]) for name in merged}
    whole, count = Bytes(0, 0, 0, 0), 0
    for one in moved.values():
        if pays_at(one) is not None:
            whole, count = whole + one, count + 1
    pays = pays_at(whole, count)
    if store is None:
        return Choice({}, {}, pays, reason="they are not asked for")
    ways: dict[str, Way] = {}
    kept: dict[str, Kept] = {}
    for name, tensor in tensors.items():
        found = _worth_going_on(plan, name, tensor, store)
        if found is not None:
            ways[name], kept[name] = "go on", found
        elif (least := pays_at(moved[name])) and len(plan.contributions) >= least:
            ways[name] = "begin"
    begun = [name for name, way in ways.items() if way == "begin"]
    planes = sum(moved[name].planes for name in begun)
    reason = ""
    if planes > room:
        reason = f"they could take {planes} bytes, and {room} are free for them"
        ways = {name: way for name, way in ways.items() if way != "begin"}
        planes = 0
    return Choice(ways, kept, pays, planes, reason)


def _bytes(plan: Plan, name: str, tensor: TensorSums) -> Bytes:
    frame, count = plan.frames[name], len(plan.contributions)
    said = sum(found[name].size for found in plan.changes if name in found)
    base = frame.entry.size if frame.ground == "base" else 0
    end = base if tensor.ends_on_base() else 0
    planes = ITEM_BYTES * tensor.rows * frame.entry.items
    return Bytes(planes, said // count, base, end)


def _worth_going_on(
    plan: Plan, name: str, tensor: TensorSums, store: SumsStore
) -> Kept | None:
    """Return the kept sums of a tensor if going on with them moves fewer bytes."""
    found, old, _ = load_sums(store, tensor, name)
    if found is None or old is None:
        return None
    moved = sum(size for _, size in tensor.reads(old))
    moved += 2 * (found.size + MEMBER_BYTES * len(plan.contributions))
    fresh = sum(size for _, size in reads_of(plan, name))
    return found if moved < fresh or tensor.is_idle(old) else None
