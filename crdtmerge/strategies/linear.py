"""linear: the weighted average, and the weighted sum that others build on.

Owns `linear/1` and `emit_weighted`. Does not own how coefficients come about.

Formula (model soups, Wortsman et al. 2022, arXiv:2203.05482, the uniform soup with
weights): out = sum(w_k theta_k) / sum(w_k). With `normalize=false` the sum itself.
Exact: the sum on the grid. Ours: weights are whole multiples of 10**-9, and the result
is rounded by the limbs' sum, the division and the dtype, once each.
"""

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics import (
    SIGNIFICAND_BITS,
    Floats,
    GridSum,
    check_weights,
    divide,
    theta_grid,
)
from crdtmerge.strategies.base import TRUE, Inputs, Parameter, Strategy, Weights
from crdtmerge.strategies.blocks import block, emit_blocks, participants


def emit_weighted(
    inputs: Inputs, weights: Weights, base_weight: int, divisor: int
) -> bytes:
    """Return (sum of weights * contributions + base_weight * base) / divisor.

    Raises:
        ContractError: an input breaks the contract, or the divisor is zero.
    """
    check_weights((*weights, base_weight), f"tensor {inputs.tensor!r}")
    exponent, terms = participants(inputs, weights)
    grid, bits = theta_grid(exponent, inputs.dtype), SIGNIFICAND_BITS[inputs.dtype]
    summands = [(term.data, term.weight) for term in terms]
    if base_weight:
        summands.append((inputs.base, base_weight))

    def compute(part: range) -> Floats:
        total = GridSum(grid, len(part))
        for data, weight in summands:
            total.add(block(inputs, data, part), weight, bits)
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
    emit=_emit,
)
