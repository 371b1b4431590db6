"""What kernels read: vectors of items as they are stored, or made of two stored ones.

Owns the types that every backend takes, and their sizes. Does not own any arithmetic: a
vector says what its items are, a backend computes them block by block as it goes, so no
kernel holds a whole tensor in a wider form.
"""

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crdtmerge.errors import ContractError
from crdtmerge.numerics.contract import prefix
from crdtmerge.numerics.reference.dtypes import (
    SIGNIFICAND_BITS,
    TAU_BITS,
    Data,
    item_count,
)

KEEP_ALL_LIMIT: Final = 1 << 32
"""A limit that every random word lies below."""


@dataclass(frozen=True, slots=True)
class Items:
    """Stored items of `dtype`, little-endian: each stands for itself, exactly."""

    data: Data
    dtype: str

    @property
    def count(self) -> int:
        """How many items there are."""
        return item_count(self.data, self.dtype)

    @property
    def significand_bits(self) -> int:
        """The most significant bits that an item has."""
        return SIGNIFICAND_BITS[self.dtype]


@dataclass(frozen=True, slots=True)
class Difference:
    """The task vector theta - base of two stored tensors: rounded once to float32.

    Every zero is +0. `name` names it in an error: a difference may be beyond float32.
    `dtype` is that of theta, and of the base too unless `base_dtype` says another.
    """

    theta: Data
    base: Data
    dtype: str
    name: str = ""
    base_dtype: str = ""

    @property
    def of_base(self) -> str:
        """The dtype of the base's items."""
        return self.base_dtype or self.dtype

    @property
    def count(self) -> int:
        """How many items there are."""
        return item_count(self.theta, self.dtype)

    @property
    def significand_bits(self) -> int:
        """The most significant bits that an item has."""
        return TAU_BITS


@dataclass(frozen=True, slots=True)
class Shifted:
    """The model base + tau, tau in float32: each item one float64 addition."""

    tau: Data
    base: Data
    dtype: str

    @property
    def count(self) -> int:
        """How many items there are."""
        return item_count(self.tau, "F32")


Vector: TypeAlias = Items | Difference | Shifted
Tau: TypeAlias = Items | Difference
"""A task vector: given as float32 items, or as the difference of two tensors."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a merge makes: stored items of `dtype`, those of `part` of the tensor.

    `name` stands in errors. Any part has the bytes that it has in the whole.
    """

    dtype: str
    part: range
    name: str = ""


@dataclass(frozen=True, slots=True)
class Weighed:
    """A term of a sum: a vector and its weight, an integer in units of 10**-9."""

    vector: Tau
    weight: int


@dataclass(frozen=True, slots=True)
class Chances:
    """How likely items are to stay, by the rank of their magnitude in their row.

    Rows are runs of `row` items. The chance of rank j of n, from 0 for the smallest, is
    q = (density - epsilon) + 2 epsilon j / (n - 1), and `density` in a row of one item;
    both in units. All chances are above 0 and at most 1. Of equal magnitudes the lower
    index ranks lower. With `rescaled` what stays is divided by its chance, in float64,
    and rounded once to float32.
    """

    row: int
    density: int
    epsilon: int
    rescaled: bool = False

    @property
    def least(self) -> int:
        """The least chance, in units."""
        return self.density if self.row == 1 else self.density - self.epsilon


@dataclass(frozen=True, slots=True)
class Keep:
    """Which items of a task vector stay: a trim, a draw, both, or (as it is) all.

    An item stays if its magnitude is from `least` to `most` (each an exact float32, or
    infinity), and its random word under `key` (8 bytes) is below `limit`, 0 to 2**32, or
    below what `chances` say of its rank. `mask`, if it is not empty, has the answer for
    every item (`reference.masks`): the rest then only says how it was found.
    """

    least: float = 0.0
    key: bytes = b""
    limit: int = KEEP_ALL_LIMIT
    most: float = math.inf
    chances: Chances | None = None
    mask: bytes = b""

    @property
    def draws(self) -> bool:
        """Tell whether random words are looked at."""
        return self.chances is not None or self.limit < KEEP_ALL_LIMIT

    @property
    def changes(self) -> bool:
        """Tell whether items that stay may not stay what they are."""
        return self.chances is not None and self.chances.rescaled


@dataclass(frozen=True, slots=True)
class Settled:
    """A rule of which each item's answer is known, and the sums of magnitudes.

    `before` is that of all items, `after` that of those that stay, both along the tree.
    """

    keep: Keep
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Voter:
    """A contribution that votes: its task vector, what of it stays, and its weight.

    `coefficient` stands for the weight wherever the task vector is summed; both in units,
    and of one sign, or the coefficient is zero.
    """

    tau: Tau
    keep: Keep
    weight: int
    coefficient: int


Planes: TypeAlias = NDArray[np.float64]
"""Sums as they stand, before anything is divided: one column an item, one row a limb.

A limb's row holds multiples of its step, so planes of any two sets add and subtract
without rounding, and a set has the same planes whatever was added and taken away before.
No zero is -0. Those of votes have the limbs of plus, the limbs of minus, and the sums of
the weights on either side: exact integers.
"""


def check_counts(vectors: "list[Vector]", name: str = "") -> int:
    """Return how many items each of the vectors has.

    Raises:
        ContractError: they differ, or data is not whole items.
    """
    counts = {vector.count for vector in vectors}
    if len(counts) > 1:
        message = f"{prefix(name)}vectors of {sorted(counts)} items do not go together"
        raise ContractError(message)
    return counts.pop() if counts else 0
