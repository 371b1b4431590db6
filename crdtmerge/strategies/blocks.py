"""Running over the tensors of one task in blocks, after the contract's checks.

Owns the block size (which no output bit depends on), the checks of what takes part, and
what a contribution's tensor is: its items, or its task vector, whichever way it was
given. Does not own any formula.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from crdtmerge.digest import ContentId
from crdtmerge.errors import ContractError
from crdtmerge.numerics import (
    EXPONENT_MIN,
    ITEM_BYTES,
    Data,
    Floats,
    Singles,
    TensorFacts,
    check_base,
    check_dtype,
    check_headroom,
    check_weights,
    downcast,
    inspect,
    task_vector,
    upcast,
)
from crdtmerge.strategies.base import Given, Inputs, Values, Weights

BLOCK_ITEMS: Final = 1 << 15
"""Items worked on at once; their float64 forms stay in a core's cache."""


@dataclass(frozen=True, slots=True)
class Term:
    """One contribution that takes part: its tensor, weight in units, name, parameters."""

    data: Given
    weight: int
    content: ContentId
    label: str
    values: Values

    @property
    def is_tau(self) -> bool:
        """Tell whether it is given as a task vector."""
        return isinstance(self.data, np.ndarray)


def participants(inputs: Inputs, weights: Weights) -> tuple[int, tuple[Term, ...]]:
    """Return the grid's exponent and the contributions whose weight is not zero.

    The exponent is the base's; without a base, the largest of those that take part.

    Raises:
        ContractError: sum|W| leaves the contract, a tensor is not of the stated size, or
            a contribution that takes part breaks the headroom.
    """
    name = f"tensor {inputs.tensor!r}"
    check_weights(weights, name)
    check_dtype(inputs.dtype)
    terms = _terms(inputs, weights)
    facts = [_facts(inputs, term) for term in terms]
    if inputs.exponent is not None:
        base = TensorFacts(finite=True, exponent=inputs.exponent)
    elif inputs.base is None:
        base = _largest(facts)
    else:
        _check_size(inputs, inputs.base, inputs.dtype, f"{name} of the base")
        base = inspect(inputs.base, inputs.dtype)
    check_base(base, name)
    for found, term in zip(facts, terms, strict=True):
        check_headroom(found, base, term.label)
    return base.exponent, terms


def refuse_negative(weights: Weights, strategy: str, tensor: str = "") -> None:
    """Refuse weights below zero, for a strategy whose formula gives them no meaning.

    Raises:
        ContractError: a weight is negative.
    """
    if min(weights, default=0) < 0:
        place = f"tensor {tensor!r}: " if tensor else ""
        message = f"{place}a negative weight has no meaning to {strategy}"
        raise ContractError(message, hint="give weights of zero and above")


def refuse_zero(terms: Sequence[object], tensor: str) -> None:
    """Refuse a merge in which nothing takes part.

    Raises:
        ContractError: all weights are zero.
    """
    if not terms:
        message = f"tensor {tensor!r}: all weights are zero, so none averages"
        raise ContractError(message, hint="give a contribution a weight above zero")


def _terms(inputs: Inputs, weights: Weights) -> tuple[Term, ...]:
    own = inputs.own or (inputs.values,) * len(inputs.contributions)
    label = "contribution {}, tensor {!r}"
    return tuple(
        Term(data, weight, content, label.format(content.hex()[:12], inputs.tensor), v)
        for data, content, weight, v in zip(
            inputs.contributions, inputs.contents, weights, own, strict=True
        )
        if weight
    )


def _facts(inputs: Inputs, term: Term) -> TensorFacts:
    data, dtype = term.data, inputs.dtype
    if isinstance(data, np.ndarray):
        if inputs.base is None:
            message = f"{term.label}: a task vector means nothing without a base"
            raise ContractError(message)
        data, dtype = data.data, "F32"
    _check_size(inputs, data, dtype, term.label)
    return inspect(data, dtype)


def _largest(facts: Sequence[TensorFacts]) -> TensorFacts:
    """Return the facts of a base that would hold the largest value of all."""
    exponents = [found.exponent for found in facts if found.finite]
    return TensorFacts(finite=True, exponent=max(exponents, default=EXPONENT_MIN))


def _check_size(inputs: Inputs, data: Data, dtype: str, label: str) -> None:
    size, expected = memoryview(data).nbytes, inputs.items * ITEM_BYTES[dtype]
    if size != expected:
        message = f"{label}: {size} bytes, not the {expected} of its shape"
        raise ContractError(message)


def base_block(inputs: Inputs, part: range) -> Floats:
    """Return the items of `part` of the base, exactly, as float64.

    Raises:
        ContractError: the models are merged without a base.
    """
    if inputs.base is None:
        message = f"tensor {inputs.tensor!r}: the strategy needs a base"
        raise ContractError(message)
    return _upcast(inputs.base, inputs.dtype, part)


def theta_block(inputs: Inputs, term: Term, part: range) -> Floats:
    """Return the items of `part` of a contribution in float64.

    Exactly, where the tensor is given whole; else base + tau, rounded once to float64.
    """
    if isinstance(term.data, np.ndarray):
        return base_block(inputs, part) + tau_block(inputs, term, None, part)
    return _upcast(term.data, inputs.dtype, part)


def tau_block(inputs: Inputs, term: Term, base: Floats | None, part: range) -> Singles:
    """Return the items of `part` of a contribution's task vector.

    `base` is the same block of the base if the caller has it already.

    Raises:
        ContractError: a difference is beyond float32.
    """
    if isinstance(term.data, np.ndarray):
        return term.data[part.start : part.stop]
    theta = _upcast(term.data, inputs.dtype, part)
    if base is None:
        base = base_block(inputs, part)
    return task_vector(theta, base, term.label)


def _upcast(data: Data, dtype: str, part: range) -> Floats:
    size = ITEM_BYTES[dtype]
    view = memoryview(data).cast("B")
    return upcast(view[part.start * size : part.stop * size], dtype)


def emit_blocks(inputs: Inputs, compute: Callable[[range], Floats]) -> bytes:
    """Return the output tensor, computed block by block and rounded once at the end.

    Raises:
        ContractError: a result is beyond the output dtype.
    """
    dtype = inputs.output_dtype or inputs.dtype
    name = f"tensor {inputs.tensor!r}"
    return b"".join(
        downcast(compute(part), dtype, name) for part in parts_of(inputs.items)
    )


def whole_task_vector(inputs: Inputs, term: Term) -> Singles:
    """Return the task vector of a whole tensor.

    Raises:
        ContractError: a difference is beyond float32.
    """
    if isinstance(term.data, np.ndarray):
        return term.data
    tau = np.empty(inputs.items, dtype=np.float32)
    for part in parts_of(inputs.items):
        tau[part.start : part.stop] = tau_block(inputs, term, None, part)
    return tau


def parts_of(items: int) -> Iterator[range]:
    """Yield the blocks that a tensor is worked on in."""
    for start in range(0, items, BLOCK_ITEMS):
        yield range(start, min(start + BLOCK_ITEMS, items))
