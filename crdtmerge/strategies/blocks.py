"""Running over the tensors of one task in blocks, after the contract's checks.

Owns the block size (which no output bit depends on), the checks of what takes part, and
task vectors of whole tensors. Does not own any formula.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from crdtmerge.digest import ContentId
from crdtmerge.errors import ContractError
from crdtmerge.numerics import (
    ITEM_BYTES,
    Data,
    Floats,
    Singles,
    check_base,
    check_dtype,
    check_headroom,
    check_weights,
    downcast,
    inspect,
    task_vector,
    upcast,
)
from crdtmerge.strategies.base import Inputs, Weights

BLOCK_ITEMS: Final = 1 << 15
"""Items worked on at once; their float64 forms stay in a core's cache."""


@dataclass(frozen=True, slots=True)
class Term:
    """One contribution that takes part: its bytes, its weight in units, its name."""

    data: Data
    weight: int
    content: ContentId
    label: str


def participants(inputs: Inputs, weights: Weights) -> tuple[int, tuple[Term, ...]]:
    """Return the base's exponent and the contributions whose weight is not zero.

    Raises:
        ContractError: a weight is negative, sum|W| leaves the contract, a tensor is not
            of the stated size, or a contribution that takes part breaks the headroom.
    """
    name = f"tensor {inputs.tensor!r}"
    check_weights(weights, name)
    check_dtype(inputs.dtype)
    _check_size(inputs, inputs.base, f"{name} of the base")
    base = inspect(inputs.base, inputs.dtype)
    check_base(base, name)
    terms = []
    for data, content, weight in zip(
        inputs.contributions, inputs.contents, weights, strict=True
    ):
        label = f"contribution {content.hex()[:12]}, {name}"
        if weight < 0:
            message = f"{label}: its weight is negative"
            raise ContractError(message)
        if weight:
            _check_size(inputs, data, label)
            check_headroom(inspect(data, inputs.dtype), base, label)
            terms.append(Term(data, weight, content, label))
    return base.exponent, tuple(terms)


def _check_size(inputs: Inputs, data: Data, label: str) -> None:
    size, expected = memoryview(data).nbytes, inputs.items * ITEM_BYTES[inputs.dtype]
    if size != expected:
        message = f"{label}: {size} bytes, not the {expected} of its shape"
        raise ContractError(message)


def block(inputs: Inputs, data: Data, part: range) -> Floats:
    """Return the items of `part`, exactly, as float64."""
    size = ITEM_BYTES[inputs.dtype]
    view = memoryview(data).cast("B")
    return upcast(view[part.start * size : part.stop * size], inputs.dtype)


def emit_blocks(inputs: Inputs, compute: Callable[[range], Floats]) -> bytes:
    """Return the output tensor, computed block by block and rounded once at the end.

    Raises:
        ContractError: a result is beyond the output dtype.
    """
    dtype = inputs.output_dtype or inputs.dtype
    name = f"tensor {inputs.tensor!r}"
    return b"".join(
        downcast(compute(part), dtype, name) for part in _parts(inputs.items)
    )


def whole_task_vector(inputs: Inputs, term: Term) -> Singles:
    """Return the task vector of a whole tensor.

    Raises:
        ContractError: a difference is beyond float32.
    """
    tau = np.empty(inputs.items, dtype=np.float32)
    for part in _parts(inputs.items):
        theta = block(inputs, term.data, part)
        base = block(inputs, inputs.base, part)
        tau[part.start : part.stop] = task_vector(theta, base, term.label)
    return tau


def _parts(items: int) -> Iterator[range]:
    for start in range(0, items, BLOCK_ITEMS):
        yield range(start, min(start + BLOCK_ITEMS, items))
