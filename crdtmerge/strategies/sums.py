"""Strategies that are sums: what each contribution brings, and what sums end in.

Owns these words and the interface of sums. Does not own the forms that sums have
(`forms`), which weights, masks or thresholds a strategy has, nor arithmetic (`numerics`).

What a contribution brings is found from its own tensor, the base's and the recipe alone.
So are its planes; only the numbers at the end (`Ending`) look at all contributions, and
only at their weights and factors. So sums can be kept, and one contribution added.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar, Final, Protocol

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Data, Grid, Keep, Planes, Tau, Voter
from crdtmerge.strategies.base import Inputs, Parts
from crdtmerge.strategies.tensors import Term

ONE: Final = Fraction(1)
ALL: Final = Keep()


@dataclass(frozen=True, slots=True)
class Thinned:
    """What a sparsifier leaves of a task vector: which items, times which factor."""

    keep: Keep = ALL
    factor: Fraction = ONE


@dataclass(frozen=True, slots=True)
class Share:
    """What a contribution counts, once its items are in the sums.

    `factor` multiplies the weight (in units) where items are summed. `is_tau` tells that
    a tensor was given as a task vector: in a sum of tensors it counts as base + tau.
    """

    weight: int
    factor: Fraction = ONE
    is_tau: bool = False

    def units(self, common: Fraction = ONE) -> int:
        """Return the coefficient that items are summed with, rounded half-even."""
        return round(self.weight * self.factor / common)


@dataclass(frozen=True, slots=True)
class Portion:
    """What one contribution brings to the sums: items, which of them stay, its share."""

    share: Share
    vector: Tau
    keep: Keep = ALL

    def voter(self, common: Fraction = ONE) -> Voter:
        """Return it as one who votes."""
        share = self.share
        return Voter(self.vector, self.keep, share.weight, share.units(common))


@dataclass(frozen=True, slots=True)
class Ending:
    """The numbers that turn a tensor's planes into its items; a form uses some of them.

    `rest` is the base's weight as one more term of the sum, in units.
    """

    divisor: int = DECIMAL_UNIT
    rest: int = 0
    scale: float = 1.0
    normalize: bool = False


class Sums(Protocol):
    """One form of sums with one strategy's numbers.

    The sums of a set: `planes` of any cut of it, added. Its tensor: `finish` of these
    with the `ending` of all shares, which has the bytes of `emit`. `of_task_vectors`
    tells that whoever leaves a tensor as it is in the base brings nothing to the planes.
    """

    of_task_vectors: ClassVar[bool]

    def grid(self, exponent: int, dtype: str) -> Grid:
        """Return the grid on which contributions are summed."""

    def rows(self, grid: Grid) -> int:
        """Return how many planes there are."""

    def portion(self, inputs: Inputs, term: Term) -> Portion:
        """Return what one contribution brings, without a look at any other."""

    def common(self, shares: Iterable[Share]) -> Fraction:
        """Return the factor that is left out of the sums and applied at the end.

        Planes with another common factor do not go together.
        """

    def planes(
        self,
        portions: Sequence[Portion],
        common: Fraction,
        grid: Grid,
        part: range,
        name: str,
    ) -> Planes:
        """Return the planes of some contributions, over the items of `part`.

        `name` stands in errors.
        """

    def ending(self, inputs: Inputs, shares: Sequence[Share]) -> Ending:
        """Return the numbers for all shares, whose weights `inputs` has too.

        Raises:
            ContractError: the sums of such shares leave the contract, or do not divide.
        """

    def reads_base(self, ending: Ending) -> bool:
        """Tell whether `finish` takes the base's tensor."""

    def finish(
        self, inputs: Inputs, planes: Planes, grid: Grid, ending: Ending, part: range
    ) -> Data:
        """Return the bytes of some items of the output; `planes` are those of `part`."""

    def emit(self, inputs: Inputs) -> Parts:
        """Return the output tensor, without planes."""


def unchanged(sums: Sums, inputs: Inputs, term: Term) -> Share:
    """Return the share of a contribution if nothing of it hangs on its values.

    So it is where it leaves the tensor as it is in the base.

    Found on a tensor without items, so it costs no look at any bytes.
    """
    empty = replace(inputs, items=0, base=b"", shape=(0,))
    data = term.data[:0] if isinstance(term.data, np.ndarray) else b""
    return sums.portion(empty, replace(term, data=data)).share
