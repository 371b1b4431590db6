"""linear: the weighted average, and the weighted sum that others build on.

Owns `linear/1` and `emit_weighted`. Does not own how coefficients come about.

Formula (model soups, Wortsman et al. 2022, arXiv:2203.05482, the uniform soup with
weights): out = sum(w_k theta_k) / sum(w_k). With `normalize=false` the sum itself.
Exact: the sum on the grid. Ours: weights are whole multiples of 10**-9, and the result
is rounded by the limbs' sum, the division and the dtype, once each.
"""

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics import (
    SIGNIFICAND_BITS,
    TAU_BITS,
    Floats,
    GridSum,
    check_weights,
    divide,
    theta_grid,
)
from crdtmerge.strategies.base import (
    TRUE,
    Inputs,
    Parameter,
    Strategy,
    Values,
    Weights,
)
from crdtmerge.strategies.blocks import (
    base_block,
    emit_blocks,
    participants,
    tau_block,
    theta_block,
)


def emit_weighted(
    inputs: Inputs, weights: Weights, base_weight: int, divisor: int
) -> bytes:
    """Return (sum of weights * contributions + base_weight * base) / divisor.

    A contribution given as a task vector counts as base + tau: its weight goes to both.

    Raises:
        ContractError: an input breaks the contract, or the divisor is zero.
    """
    exponent, terms = participants(inputs, weights)
    base_weight += sum(term.weight for term in terms if term.is_tau)
    check_weights((*weights, base_weight), f"tensor {inputs.tensor!r}")
    grid, bits = theta_grid(exponent, inputs.dtype), SIGNIFICAND_BITS[inputs.dtype]

    def compute(part: range) -> Floats:
        total = GridSum(grid, len(part))
        if base_weight:
            total.add(base_block(inputs, part), base_weight, bits)
        for term in terms:
            if term.is_tau:
                tau = tau_block(inputs, term, None, part).astype(np.float64)
                total.add(tau, term.weight, TAU_BITS)
            else:
                total.add(theta_block(inputs, term, part), term.weight, bits)
        return divide(total.total(), divisor)

    return emit_blocks(inputs, compute)


def _emit(inputs: Inputs) -> bytes:
    if not inputs.values.flag("normalize"):
        return emit_weighted(inputs, inputs.weights, 0, DECIMAL_UNIT)
    divisor = sum(inputs.weights)
    if divisor == 0:
        message = f"tensor {inputs.tensor!r}: all weights are zero, so none averages"
        raise ContractError(message, hint="give a contribution a weight above zero")
    return emit_weighted(inputs, inputs.weights, 0, divisor)


def _averages(values: Values) -> bool:
    return values.flag("normalize")


LINEAR = Strategy(
    name="linear",
    version=1,
    aliases=("weight_average", "soup"),
    summary="Weighted average of the contributions",
    paper="Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482",
    parameters=(
        Parameter("normalize", "flag", TRUE, TRUE, "divide by the sum of the weights"),
    ),
    needs_base=False,
    shifts=_averages,
    emit=_emit,
)
