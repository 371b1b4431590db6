"""layer_swap: outer layers from one expert, inner layers from another.

Owns `layer_swap/1`. Does not own which layer a tensor is of (`Inputs.layer`), nor the
mean (`averages`).

Formula (Layer Swapping, Bandarkar et al. 2024, arXiv:2410.01335): of L layers the first
`bottom` and the last `top` are those of the language expert (part `outer`), the others
those of the task expert (part `inner`); at each border `transition` layers are the mean
of both. The paper sets numbers by model (secondary sources tell of 5, 2 and 1 of 32).

Ours: transition layers lie on the inner side of a border, so `bottom` and `top` count
layers that are the outer part's alone; where `bottom` or `top` is 0 there is no such
border. Tensors outside the numbered layers (embeddings, last norm, head) are the outer
part's; the paper tried both. Of several contributions in a part it is their weighted
mean, and weights do not tell the parts against each other: a transition layer is half and
half. A tensor whose part has nobody is refused, and so is a model without inner layers.

Exact: every mean, on the grid, with integers in the proportions of the weights (beyond
the contract's sum|W| rounded to 9 places). Who gives nothing to a tensor is not read.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.strategies.averages import JOINING, mean_in
from crdtmerge.strategies.base import Inputs, Parameter, Parts, Strategy, part_by_part
from crdtmerge.strategies.tensors import (
    FOR_ONE,
    participants,
    refuse_negative,
    refuse_zero,
)

OUTER: Final = "outer"
INNER: Final = "inner"
LAYERS_MAX: Final = 10_000


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "layer_swap", inputs.tensor)
    refuse_zero([weight for weight in inputs.weights if weight], inputs.tensor)
    own = inputs.own or (inputs.values,) * len(inputs.weights)
    pairs = list(zip(own, inputs.weights, strict=True))
    totals = {
        part: sum(w for values, w in pairs if values.choice("part") == part)
        for part in _parts(inputs)
    }
    _refuse_empty(inputs, totals)
    taken = [w if values.choice("part") in totals else 0 for values, w in pairs]
    exponent, terms = participants(inputs, taken)
    ratios = [Fraction(t.weight, totals[t.values.choice("part")]) for t in terms]
    if len(totals) == 1:
        ratios = [Fraction(term.weight) for term in terms]
    return mean_in(inputs, exponent, terms, ratios)


def _parts(inputs: Inputs) -> tuple[str, ...]:
    """Return the part that gives the tensor, or both.

    Raises:
        ContractError: there are no inner layers.
    """
    if inputs.layer is None:
        return (OUTER,)
    number, count = inputs.layer
    bottom, top = inputs.values.count("bottom"), inputs.values.count("top")
    if bottom + top >= count:
        message = (
            f"tensor {inputs.tensor!r}: layer_swap with bottom={bottom} and top={top}"
            f" leaves no inner layers of {count}"
        )
        raise ContractError(message, hint="make bottom or top smaller")
    below, above = number - bottom, count - top - 1 - number
    if below < 0 or above < 0:
        return (OUTER,)
    nearest = min(
        distance
        for distance, side in ((below, bottom), (above, top), (count, 1))
        if side
    )
    crossing = nearest < inputs.values.count("transition")
    return (OUTER, INNER) if crossing else (INNER,)


def _refuse_empty(inputs: Inputs, totals: Mapping[str, int]) -> None:
    for part, total in totals.items():
        if not total:
            message = (
                f"tensor {inputs.tensor!r}: layer_swap takes it from the {part} part,"
                " in which no contribution weighs anything"
            )
            hint = f"set part={part} for at least one contribution, {FOR_ONE}"
            raise ContractError(message, hint=hint)


def _layers(name: str, default: str, text: str) -> Parameter:
    highest = LAYERS_MAX * DECIMAL_UNIT
    return Parameter(name, "integer", default, None, text, maximum=highest)


LAYER_SWAP = Strategy(
    name="layer_swap",
    version=1,
    summary="Outer layers from one part of the contributions, inner layers from the other",
    paper="Bandarkar et al. 2024, Layer Swapping, https://arxiv.org/abs/2410.01335",
    parameters=(
        _layers("bottom", "4", "how many of the first layers are the outer part's"),
        _layers("top", "2", "how many of the last layers are the outer part's"),
        _layers("transition", "1", "how many layers at a border are the mean of both"),
        Parameter(
            "part",
            "choice",
            INNER,
            None,
            "which layers this contribution gives",
            per_model=True,
            choices=(OUTER, INNER),
        ),
    ),
    needs_base=False,
    by_layer=True,
    memory=JOINING,
    held=part_by_part,
    emit=_emit,
)
