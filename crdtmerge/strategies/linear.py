"""linear: the weighted average.

Owns `linear/1` and its divisor. Does not own the weighted sum (`forms`).

Formula (model soups, Wortsman et al. 2022, arXiv:2203.05482, the uniform soup with
weights): out = sum(w_k theta_k) / sum(w_k). With `normalize=false` the sum itself.
Exact: the sum on the grid. Ours: weights are whole multiples of 10**-9, and the result
is rounded by the limbs' sum, the division and the dtype, once each.
"""

from typing import Final

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.strategies.base import (
    TRUE,
    Inputs,
    Memory,
    Parameter,
    Strategy,
    Values,
    part_by_part,
)
from crdtmerge.strategies.forms import TensorSum
from crdtmerge.strategies.tensors import refuse_zero


def _divisor(inputs: Inputs) -> int:
    if not inputs.values.flag("normalize"):
        return DECIMAL_UNIT
    divisor = sum(inputs.weights)
    if divisor == 0:
        refuse_zero([w for w in inputs.weights if w], inputs.tensor)
        message = f"tensor {inputs.tensor!r}: the weights sum to zero: no average"
        raise ContractError(message, hint="change a weight, or set normalize=false")
    return divisor


def _averages(values: Values) -> bool:
    return values.flag("normalize")


SUMS: Final = TensorSum(_divisor)

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
    memory=Memory(shared=8),
    held=part_by_part,
    nameless=True,
    emit=SUMS.emit,
)
