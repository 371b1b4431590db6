"""An I/O budget: which task vectors are too small to be read.

Owns what a resolve reads, in bytes, and the choice of what is left out. Does not own norms
(`norms`), nor what a plan makes of the choice (`plan`): a tensor of a contribution that
is not read counts as one that it leaves as it is in the base.

What is counted: each tensor of the base, and what contributions say of it, once for all
that say it alike; all twice if the strategy has a step over the whole model. The count is
part of a recipe's meaning: replicas that counted otherwise would make other models.

What is chosen: every tensor of the model shall keep an equal share of its squared norm. The
largest task vectors by norm alone lie in a few tensors, and a model that moves in these
and nowhere else is worse than one of a random choice (docs/adr/0033-io-budget.md).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from crdtmerge.changes import Change, LowRank, Whole, key_of
from crdtmerge.codec import Value, encode
from crdtmerge.digest import ContentId, Domain, digest_value
from crdtmerge.errors import BadInputError
from crdtmerge.manifest import FLOAT_DTYPES, Manifest, TensorEntry
from crdtmerge.numerics import CONTRACT_VERSION
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.ground import Frame
from crdtmerge.resolve.plan import Plan, Unread
from crdtmerge.strategies import Strategy, check_recipe, has_reduce

Rank: TypeAlias = tuple[Fraction, Fraction, str, tuple[ContentId, ...]]
"""The share of its squared norm that a tensor keeps before a reading, less what the
reading brings per byte, the tensor's name and whose it is: the least goes first."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What some contributions say alike of one tensor: read for all of them or for none.

    `contents` are theirs, sorted; `weight` is the sum of their weights, in units of
    10**-9. `cost` is in bytes.
    """

    entry: TensorEntry
    change: Change
    contents: tuple[ContentId, ...]
    weight: int
    cost: int

    @property
    def key(self) -> bytes:
        """Names the norm of the task vector: all that can change a bit of it."""
        whole = isinstance(self.change, Whole)
        base: list[Value] = [self.entry.dtype, self.entry.blob] if whole else []
        key = key_of(self.change, self.entry)
        value: list[Value] = [CONTRACT_VERSION, base, key]
        return digest_value(Domain.NORM, value)


@dataclass(frozen=True, slots=True)
class Account:
    """The bytes that a resolve reads: `floor` in any case, and what could be left out."""

    floor: int
    readings: tuple[Reading, ...]

    @property
    def total(self) -> int:
        """The bytes of a resolve that reads everything."""
        return self.floor + sum(reading.cost for reading in self.readings)


def check_budget(budget: int, floor: int) -> None:
    """Refuse a budget below what is read in any case; both in bytes.

    Raises:
        BadInputError: it is; the message names both.
    """
    if budget < floor:
        message = (
            f"an I/O budget of {budget} bytes is below the {floor} bytes that are read"
            " before any task vector"
        )
        raise BadInputError(message, hint=f"give --io-budget {floor} or more")


def floor_of(recipe: Recipe, base: Manifest) -> int:
    """Return the bytes of the base that a resolve of a whole model reads.

    Raises:
        CrdtMergeError: the recipe is not acceptable (`check_recipe`).
    """
    passes = _passes(check_recipe(recipe), recipe)
    return sum(
        entry.size * (passes if entry.dtype in FLOAT_DTYPES else 1)
        for entry in base.tensors
    )


def _passes(strategy: Strategy, recipe: Recipe) -> int:
    """Return how often float tensors are read: for the whole model too, if need be."""
    return 2 if strategy.map is not None and has_reduce(strategy, recipe) else 1


def account_of(plan: Plan) -> Account:
    """Return what a plan reads.

    An adapter's plan stands on zeros, for which nothing is read; what all contributions
    give whole is read in any case then, as its task vector cannot be told. Evidence is too:
    it says nothing of how far a task vector is.
    """
    passes = _passes(plan.strategy, plan.recipe)
    floor = sum(size for _, size in plan.attached.scalar_reads())
    found: list[Reading] = []
    for frame in plan.frames.values():
        if not frame.is_merged:
            floor += frame.entry.size
            continue
        floor += frame.entry.size * passes if frame.ground == "base" else 0
        evidence = plan.attached.reads(frame.entry.name)
        floor += passes * sum(size for _, size in evidence)
        readings = list(_readings(plan, frame, passes))
        if frame.ground == "none":
            floor += sum(reading.cost for reading in readings)
        else:
            found += readings
    return Account(floor, tuple(found))


def _readings(plan: Plan, frame: Frame, passes: int) -> Iterator[Reading]:
    """Yield what contributions say of one tensor; what the base says costs nothing."""
    entry = frame.entry
    weights = plan.settings.of_tensor(entry.name).weights
    told: dict[bytes, list[tuple[ContentId, int]]] = {}
    said: dict[bytes, Change] = {}
    for content, changes, weight in zip(
        plan.contents, plan.changes, weights, strict=True
    ):
        change = changes.get(entry.name)
        if change is None or key_of(change, entry) == entry.blob or not entry.size:
            continue
        # A pair is read apart from its like in a layer of another kind.
        layer = change.layer if isinstance(change, LowRank) else ""
        held = encode([key_of(change, entry), layer])
        told.setdefault(held, []).append((content, weight))
        said.setdefault(held, change)
    for alike, change in said.items():
        contents = tuple(sorted({content for content, _ in told[alike]}))
        weight = sum(weight for _, weight in told[alike])
        yield Reading(entry, change, contents, weight, passes * change.size)


def choose(account: Account, norms: Mapping[bytes, float], budget: int) -> Unread:
    """Return what is not read within `budget` bytes; `norms` are squared, by key.

    A reading counts weight squared times norm squared. The tensor that has kept the least
    share of its sum comes next, with its largest reading; of tensors alike the one whose
    reading brings most per byte. What does not fit is passed over, what still does is
    taken. Ties go by tensor name and content id, and all is exact: it depends on nothing
    but the bytes of base and contributions, the recipe and the weights.
    """
    left = budget - account.floor
    unread: dict[ContentId, set[str]] = {}
    for reading in _in_order(account.readings, norms):
        if reading.cost <= left:
            left -= reading.cost
            continue
        for content in reading.contents:
            unread.setdefault(content, set()).add(reading.entry.name)
    return {content: frozenset(names) for content, names in sorted(unread.items())}


def _in_order(
    readings: Iterable[Reading], norms: Mapping[bytes, float]
) -> list[Reading]:
    """Return the readings as they come next if all before are taken."""
    by_tensor: dict[str, list[tuple[Fraction, Reading]]] = {}
    for reading in readings:
        brings = reading.weight**2 * Fraction(norms[reading.key])
        by_tensor.setdefault(reading.entry.name, []).append((brings, reading))
    ranked = [item for found in by_tensor.values() for item in _ranked(found)]
    return [reading for _, reading in sorted(ranked, key=lambda item: item[0])]


def _ranked(
    found: Iterable[tuple[Fraction, Reading]],
) -> Iterator[tuple[Rank, Reading]]:
    """Yield the readings of one tensor with their ranks, the largest first.

    A tensor whose readings all bring nothing waits until every other has kept all.
    """
    largest_first = sorted(found, key=lambda item: (-item[0], item[1].contents))
    whole = sum((brings for brings, _ in largest_first), start=Fraction(0))
    kept = Fraction(0)
    for brings, reading in largest_first:
        share = kept / whole if whole else Fraction(1)
        density = brings / reading.cost
        yield (share, -density, reading.entry.name, reading.contents), reading
        kept += brings
