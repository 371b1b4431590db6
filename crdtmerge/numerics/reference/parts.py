"""The facts of a tensor from those of its parts, as they come out of one pass.

Owns the join, which is exact: any cut of a tensor gives the facts of the whole. Does not
own the facts themselves (`dtypes`).

The reference serves here, whatever the backend: its few NumPy passes over a block that is
in the cache outrun hashing the same block, while loading a fast backend takes longer, and
more memory, than all the blocks in flight.
"""

from collections.abc import Iterable
from dataclasses import replace

from crdtmerge.numerics.contract import EXPONENT_MIN
from crdtmerge.numerics.reference.dtypes import (
    Data,
    TensorFacts,
    fault_of,
    inspect,
    item_count,
)


def inspect_part(data: Data, dtype: str, first: int) -> TensorFacts:
    """Return the facts of a part of a tensor, whose first item is the tensor's `first`.

    Raises:
        ContractError: `dtype` has no arithmetic, or `data` is not whole items.
    """
    item_count(data, dtype)
    found = inspect(data, dtype)
    if found.finite:
        return found
    return replace(found, fault=fault_of(data, dtype, first))


def join_facts(parts: Iterable[TensorFacts]) -> TensorFacts:
    """Return the facts of a tensor whose parts, in order, have these."""
    exponent = EXPONENT_MIN
    for part in parts:
        if not part.finite:
            return part
        exponent = max(exponent, part.exponent)
    return TensorFacts(finite=True, exponent=exponent)
