"""The tensors of one task as vectors that kernels read, after the contract's checks.

Owns the checks of what takes part, and what a contribution's tensor is: its items, or its
task vector, whichever way it was given. Does not own any formula.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import ContentId, Domain, digest_value
from crdtmerge.errors import ContractError
from crdtmerge.numerics import (
    EXPONENT_MIN,
    HEADROOM_BITS,
    ITEM_BYTES,
    Data,
    Difference,
    Floats,
    Items,
    Keep,
    Output,
    Shifted,
    Singles,
    Tau,
    TensorFacts,
    check_base,
    check_dtype,
    check_headroom,
    check_weights,
    inspect,
    kept_of,
)
from crdtmerge.recipe import Parameters
from crdtmerge.strategies.base import Given, Inputs, Parts, Values, Weights

_LOOKED_AT: Final = 1 << 18
"""Items that are looked at together, one by one."""

FOR_ONE: Final = "by a rule with its content, author or tag"
"""How a user gives one contribution a parameter of its own, for hints."""


@dataclass(frozen=True, slots=True)
class Term:
    """One contribution that takes part: its tensor, weight in units, name, parameters.

    `place` is where it stands in the inputs.
    """

    data: Given
    weight: int
    content: ContentId
    label: str
    values: Values
    place: int = 0

    @property
    def is_tau(self) -> bool:
        """Tell whether it is given as a task vector."""
        return isinstance(self.data, np.ndarray)


def participants(inputs: Inputs, weights: Weights) -> tuple[int, tuple[Term, ...]]:
    """Return the grid's exponent and the contributions whose weight is not zero.

    The exponent is the base's; without a base, the largest of those that take part. The
    contributions come in canonical order, whatever that of the inputs.

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


def check_tau_headroom(inputs: Inputs, tau: Tau, keep: Keep, label: str) -> None:
    """Refuse what is left of a task vector, rescaled, that the grid cannot hold.

    As they are given they are within it, because the tensors are (`participants`). Most
    are so far from its end that the least chance alone tells; of the others each item is
    looked at.

    Raises:
        ContractError: a magnitude is 2**(E + `HEADROOM_BITS` + 1) or above.
    """
    assert keep.chances is not None, "only chances rescale"
    items = base_of(inputs)
    base = inspect(items.data, items.dtype).exponent
    exponent = base if inputs.exponent is None else inputs.exponent
    limit = exponent + HEADROOM_BITS + 1
    if isinstance(tau, Items):
        largest = inspect(tau.data, tau.dtype).exponent
    else:
        largest = max(base, inspect(tau.theta, tau.dtype).exponent) + 1
    more, less = max(largest - limit, 0), max(limit - largest, 0)
    if DECIMAL_UNIT << more <= keep.chances.least << less:
        return
    step = -(-_LOOKED_AT // keep.chances.row) * keep.chances.row
    for start in range(0, tau.count, step):
        part = range(start, min(start + step, tau.count))
        if inspect(_kept_of(tau, keep, part, label).data, "F32").exponent > limit:
            message = f"{label}: rescaled, its change to the base is 2^{limit} or more"
            hint = (
                "keep more of it: a larger density, or a smaller chance to be dropped"
            )
            raise ContractError(message, hint=hint)


def _kept_of(tau: Tau, keep: Keep, part: range, label: str) -> Singles:
    """Return items that stay; an error says whose they are."""
    try:
        return kept_of(tau, keep, part)
    except ContractError as e:
        message = f"{label}: rescaled, its change to the base is beyond float32"
        raise ContractError(message) from e


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
    label, tensor = "contribution {}, tensor {!r}", inputs.tensor
    found = [
        Term(data, weight, content, label.format(content.hex()[:12], tensor), v, place)
        for place, (data, content, weight, v) in enumerate(
            zip(inputs.contributions, inputs.contents, weights, own, strict=True)
        )
        if weight
    ]
    return tuple(sorted(found, key=canonical))


def canonical(term: Term) -> tuple[bytes, int, Parameters]:
    """Order by content; without a space one model may stand there twice."""
    return term.content, term.weight, term.values.parameters


def in_drawn_order(inputs: Inputs, terms: Sequence[Term]) -> tuple[Term, ...]:
    """Return the terms in the order of digest(tensor's seed, content id).

    No author can choose a place in it. Contributions of one content go by weight.
    """

    def key(term: Term) -> tuple[bytes, int]:
        return digest_value(Domain.ORDER, [inputs.seed, term.content]), term.weight

    return tuple(sorted(terms, key=key))


def _facts(inputs: Inputs, term: Term) -> TensorFacts:
    if term.is_tau and inputs.base is None:
        message = f"{term.label}: a task vector means nothing without a base"
        raise ContractError(message)
    given = given_of(inputs, term)
    _check_size(inputs, given.data, given.dtype, term.label)
    return inspect(given.data, given.dtype)


def _largest(facts: Sequence[TensorFacts]) -> TensorFacts:
    """Return the facts of a base that would hold the largest value of all."""
    exponents = [found.exponent for found in facts if found.finite]
    return TensorFacts(finite=True, exponent=max(exponents, default=EXPONENT_MIN))


def _check_size(inputs: Inputs, data: Data, dtype: str, label: str) -> None:
    size, expected = memoryview(data).nbytes, inputs.items * ITEM_BYTES[dtype]
    if size != expected:
        message = f"{label}: {size} bytes, not the {expected} of its shape"
        raise ContractError(message)


def base_of(inputs: Inputs) -> Items:
    """Return the base's tensor.

    Raises:
        ContractError: the models are merged without a base.
    """
    if inputs.base is None:
        message = f"tensor {inputs.tensor!r}: the strategy needs a base"
        raise ContractError(message)
    return Items(inputs.base, inputs.dtype)


def given_of(inputs: Inputs, term: Term) -> Items:
    """Return what a contribution gives: its tensor, or its task vector in float32."""
    if isinstance(term.data, np.ndarray):
        return vector_of(term.data)
    if isinstance(term.data, Items):
        return term.data
    return Items(term.data, inputs.dtype)


def theta_of(inputs: Inputs, term: Term) -> Items | Shifted:
    """Return a contribution's tensor: as given, or the base and its task vector."""
    given = given_of(inputs, term)
    if term.is_tau:
        return Shifted(given.data, base_of(inputs).data, inputs.dtype)
    return given


def tau_of(inputs: Inputs, term: Term) -> Tau:
    """Return a contribution's task vector: as given, or the difference to the base."""
    given = given_of(inputs, term)
    if term.is_tau:
        return given
    base = base_of(inputs)
    return Difference(given.data, base.data, given.dtype, term.label, base.dtype)


def row_length(inputs: Inputs) -> int:
    """Return how many items a row has: those along the last dimension, or all."""
    return inputs.shape[-1] if inputs.shape else inputs.items


def vector_of(values: Singles | Floats) -> Items:
    """Return computed items, float32 or float64, as a vector that kernels read."""
    return Items(values.data, "F32" if values.dtype == np.float32 else "F64")


def in_parts(inputs: Inputs, make: Callable[[Output], Data]) -> Parts:
    """Return a task's output as something that `make` makes, range by range."""
    return Parts(inputs.items, lambda items: make(output_of(inputs, items)))


def output_of(inputs: Inputs, items: range | None = None) -> Output:
    """Return what a task makes: the whole tensor, or some of its items."""
    dtype = inputs.output_dtype or inputs.dtype
    part = range(inputs.items) if items is None else items
    return Output(dtype, part, f"tensor {inputs.tensor!r}")
