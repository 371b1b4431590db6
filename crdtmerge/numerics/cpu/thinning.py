"""Task vectors and what of them stays, as loops over items take them.

Owns the tables of a loop's task vectors and rules, and ranking whole rows ahead of a loop
where a rule goes by rank. Does not own rules on single items (`drawing`) or on rows
(`ranking`).

Loops know no ranks: they would all have to be compiled with them. Where a rule goes by
rank, the rows are ranked a window at a time, and the loop finds what stays of them in the
place of the task vector.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics.cpu.compiling import compiled
from crdtmerge.numerics.cpu.drawing import keep_items, keep_table
from crdtmerge.numerics.cpu.formats import F32, ITEMS, Table, addresses_of, load_tau
from crdtmerge.numerics.cpu.ranking import Ranked
from crdtmerge.numerics.vectors import Items, Keep, Tau

WINDOW: Final = 1 << 15
"""Items that are ranked ahead: they stay in the second cache."""

_ITEM_BYTES: Final = 4

Loop: TypeAlias = Callable[[Table, int, int], Any]
"""Does its work on a table of vectors, from item to item; tells of something wrong."""


@dataclass(frozen=True, slots=True)
class Thinning:
    """Vectors, what stays of some of them, and what must live as long as both."""

    table: Table
    rules: NDArray[np.uint64]
    ranked: tuple[tuple[int, Ranked], ...]
    held: list[Any]

    def run(self, loop: Loop, start: int, stop: int, unit: int = 1) -> bool:
        """Run a loop over items; windows begin at multiples of `unit` from the start on.

        Return whether something is wrong.
        """
        if not self.ranked:
            return bool(loop(self.table, start, stop))
        bad, begin, row = False, start, self.ranked[0][1].row
        while begin < stop:
            end = begin + -(-max(WINDOW, row) // unit) * unit
            end = min(stop, end if unit > 1 else end // row * row)
            table, held = self.table.copy(), []
            for place, rule in self.ranked:
                items, first, wrong = rule.rows(self.table[place], range(begin, end))
                address = items.ctypes.data - _ITEM_BYTES * first
                table[place] = ITEMS, F32, address, 0, F32
                held.append(items)
                bad |= wrong
            bad |= bool(loop(table, begin, end))
            begin = end
        return bad


def thinning(
    taus: Sequence[Tau], keeps: Sequence[Keep], base: Items | None = None
) -> Thinning:
    """Return the tables of task vectors and their rules; a base comes before them."""
    first = [] if base is None else [base]
    table, held = addresses_of([*first, *taus])
    rules, more = keep_table(keeps)
    ranked = tuple(
        (len(first) + place, Ranked.of(keep, keep.chances))
        for place, keep in enumerate(keeps)
        if keep.chances is not None and not keep.mask
    )
    return Thinning(table, rules, ranked, [held, more])


@compiled
def load_kept(
    row: Any,
    rule: Any,
    first: int,
    tau: NDArray[np.float32],
    x: NDArray[np.float64],
    other: NDArray[np.float64],
    words: NDArray[np.uint32],
) -> bool:
    """Fill `tau` with the items of a task vector from item `first` on; +0 what goes.

    `x` and `other` are room for as many, `words` for as many and eight more. Return
    whether a difference was beyond float32.
    """
    bad = load_tau(row, first, tau, x, other)
    keep_items(rule, first, tau, words)
    return bad
