"""linear: the weighted average, and the weighted sum that others build on.

Owns `linear/1` and `emit_weighted`. Does not own how coefficients come about.

Formula (model soups, Wortsman et al. 2022, arXiv:2203.05482, the uniform soup with
weights): out = sum(w_k theta_k) / sum(w_k). With `normalize=false` the sum itself.
Exact: the sum on the grid. Ours: weights are whole multiples of 10**-9, and the result
is rounded by the limbs' sum, the division and the dtype, once each.
"""

from collections.abc import Sequence

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
    Term,
    base_block,
    emit_blocks,
    participants,
    refuse_zero,
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
    found = Weighted(inputs, exponent, terms, base_weight, divisor)
    return emit_blocks(inputs, found.block)


class Weighted:
    """A weighted sum over checked terms, to be had block by block.

    Raises:
        ContractError: the sum of |W|, the base's included, leaves the contract.
    """

    def __init__(
        self,
        inputs: Inputs,
        exponent: int,
        terms: Sequence[Term],
        base_weight: int,
        divisor: int,
    ) -> None:
        """Keep what is summed; the base takes the weights of task vectors too."""
        self._inputs = inputs
        self._terms = terms
        self._divisor = divisor
        self._base = base_weight + sum(term.weight for term in terms if term.is_tau)
        weights = (*(term.weight for term in terms), self._base)
        check_weights(weights, f"tensor {inputs.tensor!r}")
        self._grid = theta_grid(exponent, inputs.dtype)
        self._bits = SIGNIFICAND_BITS[inputs.dtype]

    def block(self, part: range) -> Floats:
        """Return the items of `part`: the sum on the grid, divided once."""
        inputs, total = self._inputs, GridSum(self._grid, len(part))
        if self._base:
            total.add(base_block(inputs, part), self._base, self._bits)
        for term in self._terms:
            if term.is_tau:
                tau = tau_block(inputs, term, None, part).astype(np.float64)
                total.add(tau, term.weight, TAU_BITS)
            else:
                total.add(theta_block(inputs, term, part), term.weight, self._bits)
        return divide(total.total(), self._divisor)


def _emit(inputs: Inputs) -> bytes:
    if not inputs.values.flag("normalize"):
        return emit_weighted(inputs, inputs.weights, 0, DECIMAL_UNIT)
    divisor = sum(inputs.weights)
    if divisor == 0:
        refuse_zero([w for w in inputs.weights if w], inputs.tensor)
        message = f"tensor {inputs.tensor!r}: the weights sum to zero: no average"
        raise ContractError(message, hint="change a weight, or set normalize=false")
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
