"""Inner products of task vectors, tensor by tensor: distance and direction.

Owns which products are made, in groups that memory holds, and how they are kept. Does not
own the sums (`numerics`), nor what products say (`standing`).
"""

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Final

import numpy as np

from crdtmerge.manifest import TensorEntry
from crdtmerge.numerics import Data, Floats, Items, Tau, inner_products

GROUP_MAX: Final = 16
"""Vectors multiplied at once: the kernel holds a part of each in float64."""


def products_of(entry: TensorEntry, base: Data, taus: Sequence[Tau | None]) -> Floats:
    """Return (n + 1, n + 1) inner products of the base, first, and task vectors.

    None is a task vector of zeros. In float64 along the tree, as norms of a budget are.

    Raises:
        ContractError: a difference is beyond float32.
    """
    size = len(taus) + 1
    found = np.zeros((size, size))
    vectors = {0: Items(base, entry.dtype)} | {
        place: tau for place, tau in enumerate(taus, start=1) if tau is not None
    }
    places = list(vectors)
    groups = [places[i : i + GROUP_MAX] for i in range(0, len(places), GROUP_MAX)]
    for one, other in combinations_with_replacement(range(len(groups)), 2):
        both = groups[one] + (groups[other] if other != one else [])
        made = inner_products(
            [vectors[place] for place in both], entry.items, range(1), 0
        )
        found[np.ix_(both, both)] = made[0]
    return found
