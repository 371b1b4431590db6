"""passthrough: one contribution's tensor as it is, times a scale.

Owns `passthrough/1`. Does not own how a tensor is read and rounded (`averages`).

Formula (mergekit, no paper): out = scale * theta_k. mergekit takes one model, and more
only by slices; here exactly one contribution that weighs anything takes part in each
tensor: the only one there is, or the one with `select`, which per-model parameters and
rules set. Its own `scale` counts.

Exact: with scale 1 (the default) every item, where the dtype stays; -0 becomes +0. Else
one float64 product and the output's rounding. Ours: a weight only says who is there
(zero: nobody), for there is nothing to weigh one against; a contribution that is not
selected is not read. As a scaled model is no task vector added to the base, task vectors
alone are not passed through.
"""

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.strategies.averages import JOINING, copy_of
from crdtmerge.strategies.base import (
    FALSE,
    Inputs,
    Parameter,
    Parts,
    Strategy,
    Weights,
    never,
    part_by_part,
)
from crdtmerge.strategies.tensors import (
    FOR_ONE,
    participants,
    refuse_negative,
    refuse_zero,
    theta_of,
)


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "passthrough", inputs.tensor)
    refuse_zero([weight for weight in inputs.weights if weight], inputs.tensor)
    _, (term,) = participants(inputs, _only(inputs))
    return copy_of(inputs, theta_of(inputs, term), term.values.real("scale"))


def _only(inputs: Inputs) -> Weights:
    """Return the weights with all but one at zero.

    Raises:
        ContractError: none or several are selected.
    """
    own = inputs.own or (inputs.values,) * len(inputs.weights)
    there = [place for place, weight in enumerate(inputs.weights) if weight]
    chosen = [place for place in there if own[place].flag("select")]
    if not chosen and len(there) == 1:
        chosen = there
    if len(chosen) != 1:
        message = (
            f"tensor {inputs.tensor!r}: passthrough takes one contribution, and"
            f" {len(chosen)} of {len(there)} are selected"
        )
        hint = f"set select=true for exactly one, {FOR_ONE}"
        raise ContractError(message, hint=hint)
    return [w if i == chosen[0] else 0 for i, w in enumerate(inputs.weights)]


PASSTHROUGH = Strategy(
    name="passthrough",
    version=1,
    summary="One contribution as it is, times a scale",
    paper="mergekit, https://github.com/arcee-ai/mergekit",
    parameters=(
        Parameter(
            "scale",
            "decimal",
            "1",
            "1",
            "what the selected tensor is multiplied by",
            minimum=-100 * DECIMAL_UNIT,
            maximum=100 * DECIMAL_UNIT,
            per_model=True,
        ),
        Parameter(
            "select",
            "flag",
            FALSE,
            None,
            "this contribution gives the tensor; needed where there are several",
            per_model=True,
        ),
    ),
    needs_base=False,
    shifts=never,
    memory=JOINING,
    held=part_by_part,
    emit=_emit,
)
