"""Which items of a block stay: trims and draws, inside the loops that use them.

Owns the compiled form of `Keep`. Does not own the words (`philox`).
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics.cpu.compiling import compiled
from crdtmerge.numerics.cpu.philox import fill_words
from crdtmerge.numerics.reference.philox import key_words
from crdtmerge.numerics.vectors import KEEP_ALL_LIMIT, Keep

_ALL: Final = np.uint64(KEEP_ALL_LIMIT)


def keep_table(keeps: Sequence[Keep]) -> NDArray[np.uint64]:
    """Return one row a rule: the threshold's bits, the limit, and two key words."""
    table = np.zeros((len(keeps), 4), dtype=np.uint64)
    for row, keep in zip(table, keeps, strict=True):
        row[0] = np.float64(keep.least).view(np.uint64)
        row[1] = keep.limit
        if keep.draws:
            row[2:] = key_words(keep.key)
    return table


@compiled
def keep_items(
    rule: Any, first: int, n: int, x: NDArray[np.float64], words: NDArray[np.uint32]
) -> None:
    """Set to +0 which of n items, from item `first` on, do not stay.

    `words` is room for n words and a block before and after.
    """
    least = np.uint64(rule[0]).view(np.float64)
    if least > 0.0:
        for i in range(n):
            x[i] = x[i] if abs(x[i]) >= least else 0.0
    limit = rule[1]
    if limit < _ALL:
        skipped = first % 4
        drawn = words[: 4 * ((skipped + n + 3) // 4)]
        fill_words(drawn, np.uint64(first // 4), rule[2], rule[3])
        used = drawn[skipped : skipped + n]
        for i in range(n):
            x[i] = x[i] if np.uint64(used[i]) < limit else 0.0
