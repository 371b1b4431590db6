"""magmax: of each item the largest change.

Owns `magmax/1`. Does not own task vectors
(`tensors`).

Formula (MagMax, Marczak et al. 2024, arXiv:2407.06322): out = theta_0 + scale * tau_i,
where i has the largest magnitude of the item's task vectors. Exact: the choice for equal
weights, and the value chosen. Ours:

* Weights: r_i = w_i / max |w| multiplies tau_i before magnitudes are compared, and in the
  result. Equal weights give the paper's formula; a contribution of half the weight
  counts as half its change, and one of hardly any weight hardly changes a thing.
* A tie goes to the first in canonical order (the authors' code takes the later task).
* The paper merges models fine-tuned one after another; nothing here asks for that.

mergekit has no such method.
"""

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, each_item
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
    tau_of,
)


def _emit(inputs: Inputs) -> Parts:
    _, terms = participants(inputs, inputs.weights)
    scale = inputs.values.real("scale")
    largest = max((abs(term.weight) for term in terms), default=1)
    shares = [term.weight / largest for term in terms]

    def formula(rows: Floats) -> Floats:
        found = np.zeros(rows.shape[1])
        for share, tau in zip(shares, rows[1:], strict=True):
            change = share * tau
            found = np.where(np.abs(change) > np.abs(found), change, found)
        merged: Floats = rows[0] + scale * found
        return merged

    vectors = [base_of(inputs), *(tau_of(inputs, term) for term in terms)]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


MAGMAX = Strategy(
    name="magmax",
    version=1,
    summary="Take the largest change of each item",
    paper="Marczak et al. 2024, MagMax, https://arxiv.org/abs/2407.06322",
    parameters=(
        Parameter(
            "scale",
            "decimal",
            default="0.5",
            mergekit_default=None,
            help="scale of the merged task vector",
            maximum=100 * DECIMAL_UNIT,
        ),
    ),
    memory=Memory(shared=16, each=8),
    held=part_by_part,
    emit=_emit,
)
