"""The sums of one tensor, kept: contributions go in and out at the cost of each alone.

Owns which contributions kept sums hold, and that their planes are those of a fresh sum of
these. Does not own formulas (`strategies.sums`), their file form (`kept`), nor which
contributions a tensor should have (`incremental`).

Members are a multiset: two contributions that say the same of a tensor, with one weight,
are one member twice, as they are two terms of the sum. What is added or removed is the
difference of two multisets, so nothing can be added that is held already.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from crdtmerge.codec import Value, decode, encode
from crdtmerge.errors import ContractError, DamagedStateError, EncodingError
from crdtmerge.numerics import Grid, Planes
from crdtmerge.recipe import Parameters
from crdtmerge.strategies import Inputs
from crdtmerge.strategies.sums import Portion, Share, Sums

MEMBERS_MAX: Final = 1 << 16
"""Contributions that one tensor's sums may hold: no sum has more terms."""

KEY_BYTES_MAX: Final = 1 << 16
"""The longest key of a member: 64 parameters of 256 characters each fit."""

PART_ITEMS: Final = 1 << 19
"""Items whose planes are in memory at once; of their outputs, whole chunks in any dtype."""


@dataclass(frozen=True, slots=True)
class Member:
    """What a contribution says of a tensor, and with which weight and parameters.

    `said` is the key of its change, the base's blob if it leaves the tensor alone.
    `content` is empty unless masks are keyed by it. Nothing else of a contribution can
    change a bit of the sums, so equal members are alike; and nothing more is needed to
    read it again when it is taken out.
    """

    said: Value
    weight: int
    own: Parameters = ()
    content: bytes = b""

    @property
    def key(self) -> bytes:
        """The member as canonical bytes."""
        own: list[Value] = [list(pair) for pair in self.own]
        return encode([self.said, self.weight, own, self.content])


def member_of_key(key: bytes) -> Member:
    """Return the member that has this key.

    Raises:
        DamagedStateError: it is none.
    """
    try:
        value = decode(key, KEY_BYTES_MAX)
    except EncodingError as e:
        raise DamagedStateError(f"kept sums hold what is no member: {e}") from e
    match value:
        case [said, int(weight), [*own], bytes(content)]:
            return Member(said, weight, tuple(_pairs(own)), content)
        case _:
            raise DamagedStateError("kept sums hold what is no member")


def _pairs(own: Sequence[object]) -> Iterator[tuple[str, str]]:
    for pair in own:
        match pair:
            case [str(name), str(text)]:
                yield name, text
            case _:
                raise DamagedStateError("kept sums hold what is no parameter")


@dataclass(frozen=True, slots=True)
class Entry:
    """A member on its way into the sums or out; without a portion it changes no plane."""

    key: bytes
    share: Share
    portion: Portion | None = None


PlanesOf: TypeAlias = Callable[[range], Planes]
"""Returns the planes of one of the `parts` of a tensor."""


def parts_of(items: int) -> Iterator[range]:
    """Yield the parts that planes are computed and kept in; one, if empty, at least."""
    for start in range(0, max(items, 1), PART_ITEMS):
        yield range(start, min(start + PART_ITEMS, items))


@dataclass(frozen=True, slots=True)
class Accumulator:
    """The sums of one tensor over its members.

    `made_for` is the digest of what all members have in common: strategy, parameters,
    base, form of the tensor. `exponent` is that of the base's tensor. `shape` are rows and
    items. `members` are sorted by key; each has its share and how often it is there.
    Planes are read or computed as they are asked for, part by part, so that whole ones
    need never lie in memory.
    """

    made_for: bytes
    exponent: int
    grid: Grid
    shape: tuple[int, int]
    part: PlanesOf
    members: Mapping[bytes, tuple[Share, int]]

    @classmethod
    def empty(cls, sums: Sums, made_for: bytes, inputs: Inputs) -> "Accumulator":
        """Return sums over nothing; the exponent of `inputs` is known."""
        assert inputs.exponent is not None, "a grid without an exponent"
        grid = sums.grid(inputs.exponent, inputs.dtype)
        shape = (sums.rows(grid), inputs.items)
        nothing = _zeros(shape[0])
        return cls(
            made_for, inputs.exponent, grid, shape, nothing, MappingProxyType({})
        )

    @property
    def counts(self) -> Counter[bytes]:
        """How often each member is there."""
        return Counter({key: count for key, (_, count) in self.members.items()})

    @property
    def shares(self) -> list[Share]:
        """The share of every member, as often as it is there."""
        return [s for s, count in self.members.values() for _ in range(count)]

    def fits(self, sums: Sums, inputs: Inputs) -> bool:
        """Tell whether planes and grid are those of such sums."""
        grid = sums.grid(self.exponent, inputs.dtype)
        return grid == self.grid and self.shape == (sums.rows(grid), inputs.items)

    def changed(
        self,
        sums: Sums,
        leave: Sequence[Entry],
        join: Sequence[Entry],
        name: str = "",
    ) -> "Accumulator | None":
        """Return the sums without who leaves and with who joins; `name` is for errors.

        None if the planes cannot be gone on with: the members would have another factor
        in common, so that the coefficients of those who stay change too.

        Raises:
            ContractError: who leaves is no member with this share, a member joins with
                another share, or there would be too many; once planes are asked for, a
                difference is beyond float32.
        """
        after = self._members_after(leave, join)
        stay = {key for key in self.members if key in after}
        common = sums.common(self.shares)
        then = replace(self, members=after)
        if common != sums.common(then.shares):
            if stay:
                return None
            then = replace(then, part=_zeros(self.shape[0]))
            leave, common = (), sums.common(then.shares)
        return _planes_after(then, sums, common, leave, join, name=name)

    def _members_after(
        self, leave: Sequence[Entry], join: Sequence[Entry]
    ) -> Mapping[bytes, tuple[Share, int]]:
        after = dict(self.members)
        for entry in leave:
            share, count = after.get(entry.key, (None, 0))
            if share != entry.share:
                message = "a contribution is taken out of sums that do not hold it so"
                raise ContractError(message)
            after[entry.key] = (entry.share, count - 1)
            if count == 1:
                del after[entry.key]
        for entry in join:
            share, count = after.get(entry.key, (entry.share, 0))
            if share != entry.share:
                message = "a contribution is added again with another share"
                raise ContractError(message)
            after[entry.key] = (entry.share, count + 1)
        if sum(count for _, count in after.values()) > MEMBERS_MAX:
            message = f"a tensor's sums hold at most {MEMBERS_MAX} contributions"
            raise ContractError(message)
        return MappingProxyType(dict(sorted(after.items())))


def _planes_after(
    held: Accumulator,
    sums: Sums,
    common: Fraction,
    leave: Sequence[Entry],
    join: Sequence[Entry],
    *,
    name: str,
) -> Accumulator:
    """Return planes less those of who leaves, plus those of who joins: all exact."""
    less, more = (
        [entry.portion for entry in entries if entry.portion is not None]
        for entries in (leave, join)
    )
    if not less and not more:
        return held
    before = held.part

    def part(items: range) -> Planes:
        now = before(items)
        # SUBTLE: who leaves goes first, so no sum on the way holds more than allowed.
        if less:
            gone = sums.planes(less, common, held.grid, items, name)
            now = np.subtract(now, gone, out=gone)
        if more:
            come = sums.planes(more, common, held.grid, items, name)
            now = np.add(now, come, out=come)
        return now

    return replace(held, part=part)


def _zeros(rows: int) -> PlanesOf:
    return lambda items: np.zeros((rows, len(items)))
