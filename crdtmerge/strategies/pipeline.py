"""A recipe as a pipeline: steps on task vectors, the strategy, steps on what it made.

Owns the order of these, and what passes between them. Does not own the steps (`steps`),
nor formulas.

Before the strategy, each contribution that takes part becomes its task vector in float32,
which goes through the steps one by one and is what the strategy is given. After it, the
strategy's output in float64 less the base is rounded once to float32, goes through the
steps, and is added to the base: one float64 addition, one rounding to the output dtype.
Without steps nothing of this happens, and no bit changes.
"""

from collections.abc import Sequence
from dataclasses import replace

from crdtmerge.errors import ContractError
from crdtmerge.numerics import (
    Data,
    Difference,
    Floats,
    Shifted,
    Singles,
    each_item,
    singles_of,
)
from crdtmerge.strategies.base import (
    Given,
    Inputs,
    Made,
    Measures,
    Parts,
    Strategy,
    Values,
    whole_of,
)
from crdtmerge.strategies.steps import STEPS, Work
from crdtmerge.strategies.tensors import (
    Term,
    base_of,
    in_parts,
    output_of,
    participants,
    tau_of,
)


def measure(strategy: Strategy, pre: Sequence[str], inputs: Inputs) -> Measures:
    """Return what the strategy's map step measures of what the steps before leave."""
    assert strategy.map is not None, "planned a map for a strategy that has none"
    return strategy.map(_prepared(strategy, pre, inputs))


def emit(
    strategy: Strategy, pre: Sequence[str], post: Sequence[str], inputs: Inputs
) -> Made:
    """Return the output tensor of the whole pipeline.

    Raises:
        ContractError: there are steps and no base, or whatever strategy and steps raise.
    """
    prepared = _prepared(strategy, pre, inputs)
    if not post:
        return strategy.emit(prepared)
    merged = whole_of(strategy.emit(replace(prepared, output_dtype="F64")))
    return _finished(post, inputs, merged)


def _prepared(strategy: Strategy, pre: Sequence[str], inputs: Inputs) -> Inputs:
    """Return the inputs with task vectors that went through the steps before."""
    if not pre:
        return inputs
    _require_base(inputs)
    given: list[Given] = list(inputs.contributions)
    # SUBTLE: who weighs nothing may have a coefficient: a reduce step gives those.
    reduced = strategy.reduce is not None
    weights = (1,) * len(given) if reduced else inputs.weights
    _, terms = participants(inputs, weights)
    for term in terms:
        tau = singles_of(tau_of(inputs, term))
        given[term.place] = _through(pre, tau, term.values, inputs, term)
    return replace(inputs, contributions=tuple(given))


def _finished(post: Sequence[str], inputs: Inputs, merged: Data) -> Parts:
    """Return base plus what the steps after leave of the merged task vector."""
    _require_base(inputs)
    name = f"tensor {inputs.tensor!r}"
    wide = _wide(inputs)
    tau = singles_of(Difference(merged, wide, "F64", name))
    tau = _through(post, tau, inputs.values, inputs, None)
    shifted = Shifted(tau.data, base_of(inputs).data, inputs.dtype)
    return in_parts(inputs, lambda output: each_item([shifted], output, _first))


def _through(
    names: Sequence[str],
    tau: Singles,
    values: Values,
    inputs: Inputs,
    term: Term | None,
) -> Singles:
    for name in names:
        step = STEPS[name]
        work = Work(tau, values.under(step.name), inputs, term)
        tau = step.apply(work)
    return tau


def _wide(inputs: Inputs) -> Data:
    """Return the base's tensor in float64, exactly."""
    output = replace(output_of(inputs), dtype="F64")
    return each_item([base_of(inputs)], output, _first)


def _first(rows: Floats) -> Floats:
    found: Floats = rows[0]
    return found


def _require_base(inputs: Inputs) -> None:
    if inputs.base is None:
        message = (
            f"tensor {inputs.tensor!r}: steps change task vectors, which need a base"
        )
        raise ContractError(message)
