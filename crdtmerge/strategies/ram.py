"""ram and ramplus_tl: average only what several changed, keep whole what one changed.

Owns `ram/1` and `ramplus_tl/1`. Does not own task vectors (`tensors`).

Formula (RAM, Yuan et al. 2026, arXiv:2601.13572; ramplus_tl as in mergekit): z_i = 1
where |tau_i| > epsilon, c = sum_i z_i. Where c = 0 the item is the base's; where c = 1,
theta_0 + lambda_i tau_i; where more changed it, theta_0 + sum(z_i tau_i) / c. In ram
lambda_i = 1; in ramplus_tl it is 1 + r clamp(shared_i / unique_i, 0, alpha), from the
numbers of items of the tensor that i changed with others and alone. Exact: the masks and
the counts, and what one alone changed in ram. Ours:

* Weights: where several changed an item, its mean is by weight, products added in the
  order of their size. What one alone changed is not scaled by its weight, as in the
  disjoint mean of TIES. A negative weight is refused.
* Where i changed nothing alone, lambda_i multiplies nothing (mergekit divides by epsilon,
  to the same end).
* Task vectors are float32 and all else float64 (mergekit: the models' own dtype).

Unsure: r and alpha of the paper; the authors' RAM+ takes its ratio over the whole model,
caps it at 1, and has been run with r from 0.05 to 0.2. ramplus_tl follows mergekit.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, Tau, each_item, singles_of, sum_over
from crdtmerge.strategies.base import (
    Inputs,
    Memory,
    Parameter,
    Parts,
    Strategy,
    Values,
    part_by_part,
)
from crdtmerge.strategies.means import total_of, whole_weights
from crdtmerge.strategies.tensors import (
    Term,
    base_of,
    in_parts,
    participants,
    refuse_negative,
    refuse_zero,
    tau_of,
)


def _checked(inputs: Inputs, strategy: str) -> tuple[Term, ...]:
    refuse_negative(inputs.weights, strategy, inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    return terms


def _merged(inputs: Inputs, terms: Sequence[Term], alone: Floats) -> Parts:
    """Return the output; `alone`, (n, 1), scales what a contribution changed alone."""
    weights = whole_weights(terms)[:, np.newaxis]
    least = inputs.values.real("epsilon")

    def formula(rows: Floats) -> Floats:
        taus = rows[1:]
        changed = np.abs(taus) > least
        count = total_of(np.where(changed, 1.0, 0.0))
        unique = total_of(np.where(changed, alone * taus, 0.0))
        mass = total_of(np.where(changed, weights, 0.0))
        total = sum_over(np.where(changed, weights * taus, 0.0))
        mean = total / np.where(count > 0, mass, 1.0)
        found: Floats = rows[0] + np.where(count == 1, unique, mean)
        return found

    vectors = [base_of(inputs), *(tau_of(inputs, term) for term in terms)]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _emit_ram(inputs: Inputs) -> Parts:
    terms = _checked(inputs, "ram")
    return _merged(inputs, terms, np.ones((len(terms), 1)))


def _emit_plus(inputs: Inputs) -> Parts:
    terms, values = _checked(inputs, "ramplus_tl"), inputs.values
    taus = [tau_of(inputs, term) for term in terms]
    ratios = _ratios(taus, inputs.items, values.real("epsilon"))
    r, cap = values.real("r"), values.real("alpha")
    return _merged(
        inputs, terms, np.array([[1.0 + r * min(ratio, cap)] for ratio in ratios])
    )


def _ratios(taus: Sequence[Tau], items: int, least: float) -> list[float]:
    """Return of each how many items it changed with others, for one changed alone.

    Zero for one that changed nothing alone, whose ratio has no use.
    """
    users = np.zeros(items, dtype=np.uint32)
    for tau in taus:
        users += _changed(tau, least)
    found = []
    for tau in taus:
        of_its_own = users[_changed(tau, least)]
        alone = int(np.count_nonzero(of_its_own == 1))
        found.append((of_its_own.size - alone) / alone if alone else 0.0)
    return found


def _changed(tau: Tau, least: float) -> NDArray[np.bool_]:
    """Tell which items are changed. SUBTLE: compared as float64, as in the sums."""
    found: NDArray[np.bool_] = np.abs(singles_of(tau)) > np.float64(least)
    return found


_EPSILON: Final = Parameter(
    "epsilon",
    "decimal",
    default="0.00001",
    mergekit_default="0.00001",
    help="magnitudes up to this are no change",
    maximum=DECIMAL_UNIT,
)

RAM = Strategy(
    name="ram",
    version=1,
    summary="Average what several changed, keep whole what one alone changed",
    paper="Yuan et al. 2026, RAM, https://arxiv.org/abs/2601.13572",
    parameters=(_EPSILON,),
    memory=Memory(shared=24, each=20),
    held=part_by_part,
    emit=_emit_ram,
)


def _held(_values: Values) -> Memory:
    """Keep how many changed each item, and what one changed."""
    return Memory(shared=24)


RAMPLUS_TL = Strategy(
    name="ramplus_tl",
    version=1,
    summary="As ram, and scale what one alone changed by how much it shares",
    paper="Yuan et al. 2026, RAM, https://arxiv.org/abs/2601.13572",
    parameters=(
        Parameter(
            "alpha",
            "decimal",
            default="0.2",
            mergekit_default="0.2",
            help="most that the ratio of shared to unique items counts",
            maximum=1000 * DECIMAL_UNIT,
        ),
        _EPSILON,
        Parameter(
            "r",
            "decimal",
            default="0.1",
            mergekit_default="0.1",
            help="how much that ratio adds to the scale of unique items",
            maximum=100 * DECIMAL_UNIT,
        ),
    ),
    memory=Memory(shared=24, each=20),
    held=_held,
    emit=_emit_plus,
)
