"""consensus: task arithmetic on the items that enough tasks rely on.

Owns `consensus/1`, the consensus merge of TALL-masks. Does not own the election of TIES,
which `numerics.consensus` computes.

Formula (Wang et al. 2024, arXiv:2405.07813): tau_MT = sum_i tau_i; an item counts for
task i where |tau_i| > lambda_t |tau_MT - tau_i|; items that count for k tasks or more
stay: out = theta_0 + alpha tau_MT there, theta_0 elsewhere. Exact: nothing but the count;
all else is one float64 operation after another. Ours:

* Weights: r_i tau_i with r_i = n w_i / sum(w) stands for tau_i in the sum and in the masks,
  so equal weights of any size give the paper's formula, and more weight never makes an
  item count less. Each mask counts once. The sum adds products of an item in the order of
  their size. A negative weight is refused.
* One lambda_t for all (the paper chooses one for each task, on validation data).
* Fewer contributions than k are refused: nothing but the base could come out.

mergekit has no such method.
"""

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats, each_item, sum_over
from crdtmerge.strategies.base import (
    Inputs,
    Memory,
    Parameter,
    Parts,
    Strategy,
    part_by_part,
)
from crdtmerge.strategies.tensors import (
    base_of,
    in_parts,
    participants,
    refuse_negative,
    refuse_zero,
    tau_of,
)


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "consensus", inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    values, count = inputs.values, len(terms)
    least = _least(inputs, count)
    cut, alpha = values.real("lambda_t"), values.real("alpha")
    total = sum(term.weight for term in terms)
    shares = np.array([[count * term.weight / total] for term in terms])

    def formula(rows: Floats) -> Floats:
        taus = shares * rows[1:]
        merged = sum_over(taus)
        users = np.zeros(rows.shape[1])
        for tau in taus:
            users = users + (np.abs(tau) > cut * np.abs(merged - tau))
        found: Floats = rows[0] + np.where(users >= least, alpha * merged, 0.0)
        return found

    vectors = [base_of(inputs), *(tau_of(inputs, term) for term in terms)]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _least(inputs: Inputs, count: int) -> int:
    """Return k.

    Raises:
        ContractError: there are fewer contributions.
    """
    least = inputs.values.count("k")
    if least > count:
        message = (
            f"tensor {inputs.tensor!r}: consensus keeps what {least} contributions rely"
            f" on, and {count} take part"
        )
        raise ContractError(message, hint="lower k, or wait for more contributions")
    return least


CONSENSUS = Strategy(
    name="consensus",
    version=1,
    summary="Add the items of task vectors that enough tasks rely on",
    paper="Wang et al. 2024, TALL-masks, https://arxiv.org/abs/2405.07813",
    parameters=(
        Parameter(
            "alpha",
            "decimal",
            default="0.3",
            mergekit_default=None,
            help="scale of the merged task vector",
            maximum=100 * DECIMAL_UNIT,
        ),
        Parameter(
            "k",
            "integer",
            default="2",
            mergekit_default=None,
            help="how many tasks an item must count for; 0 keeps all",
            maximum=1000 * DECIMAL_UNIT,
        ),
        Parameter(
            "lambda_t",
            "decimal",
            default="0.4",
            mergekit_default=None,
            help="an item counts for a task whose change exceeds this part of the rest",
            maximum=100 * DECIMAL_UNIT,
        ),
    ),
    memory=Memory(shared=16, each=16),
    held=part_by_part,
    fewest=lambda values: max(1, values.count("k")),
    emit=_emit,
)
