"""linear: the weighted average, and the weighted sum that others build on.

Owns `linear/1` and `emit_weighted`. Does not own how coefficients come about.

Formula (model soups, Wortsman et al. 2022, arXiv:2203.05482, the uniform soup with
weights): out = sum(w_k theta_k) / sum(w_k). With `normalize=false` the sum itself.
Exact: the sum on the grid. Ours: weights are whole multiples of 10**-9, and the result
is rounded by the limbs' sum, the division and the dtype, once each.
"""

from collections.abc import Sequence

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Data, Weighed, theta_grid, weighted_sum
from crdtmerge.strategies.base import (
    TRUE,
    Inputs,
    Parameter,
    Strategy,
    Values,
    Weights,
)
from crdtmerge.strategies.tensors import (
    Term,
    base_of,
    given_of,
    output_of,
    participants,
    refuse_zero,
)


def emit_weighted(
    inputs: Inputs, weights: Weights, base_weight: int, divisor: int
) -> Data:
    """Return (sum of weights * contributions + base_weight * base) / divisor.

    A contribution given as a task vector counts as base + tau: its weight goes to both.

    Raises:
        ContractError: an input breaks the contract, or the divisor is zero.
    """
    exponent, terms = participants(inputs, weights)
    grid = theta_grid(exponent, inputs.dtype)
    weighed = terms_of(inputs, terms, base_weight)
    return weighted_sum(weighed, divisor, grid, output_of(inputs))


def terms_of(inputs: Inputs, terms: Sequence[Term], base_weight: int) -> list[Weighed]:
    """Return what is summed; the base takes the weights of task vectors too."""
    rest = base_weight + sum(term.weight for term in terms if term.is_tau)
    weighed = [Weighed(given_of(inputs, term), term.weight) for term in terms]
    return [*weighed, Weighed(base_of(inputs), rest)] if rest else weighed


def _emit(inputs: Inputs) -> Data:
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
