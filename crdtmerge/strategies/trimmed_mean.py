"""trimmed_mean: each item's mean of what is left when the extremes are dropped.

Owns `trimmed_mean/1`. Does not own the checks of what takes part (`tensors`).

Formula (Yin et al. 2018, arXiv:1803.01498, on whole weights): of the n values of an item
drop the floor(beta n) largest and as many smallest, and average the rest. Exact: n, which
counts contributions of weight above zero; the floor, by integers; the order of values,
where equal ones stand in canonical order, which tells whose weights are dropped. Ours:
the rest is averaged by weight (how many are dropped hangs on no weight), with products
w x added in the order of their size and divided once, in float64; the floor, as the paper
takes beta n for whole. By default fewer than five contributions lose nothing. mergekit
has no such method.
"""

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, each_item, sorted_over
from crdtmerge.strategies.base import (
    Inputs,
    Memory,
    Parameter,
    Parts,
    Strategy,
    part_by_part,
)
from crdtmerge.strategies.means import weighted_mean, whole_weights
from crdtmerge.strategies.tensors import (
    in_parts,
    participants,
    refuse_negative,
    refuse_zero,
    theta_of,
)


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "trimmed_mean", inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    count = len(terms)
    drop = count * inputs.values.units("beta") // DECIMAL_UNIT
    weights = whole_weights(terms)

    def alike(values: Floats) -> Floats:
        kept = np.stack(sorted_over(values)[drop : count - drop])
        return weighted_mean(kept, weights[drop : count - drop, np.newaxis])

    def formula(values: Floats) -> Floats:
        order = np.argsort(values, axis=0, kind="stable")[drop : count - drop]
        kept = np.take_along_axis(values, order, axis=0)
        return weighted_mean(kept, weights[order])

    vectors = [theta_of(inputs, term) for term in terms]
    # Of equal weights it does not matter whose value is dropped: the same bytes, sooner.
    same = weights.min() == weights.max()
    chosen = alike if same else formula
    return in_parts(inputs, lambda output: each_item(vectors, output, chosen))


TRIMMED_MEAN = Strategy(
    name="trimmed_mean",
    version=1,
    summary="Drop the extremes of each item, average the rest",
    paper="Yin et al. 2018, https://arxiv.org/abs/1803.01498",
    parameters=(
        Parameter(
            "beta",
            "decimal",
            default="0.2",
            mergekit_default=None,
            help="share of contributions dropped at each end of an item, below a half",
            maximum=DECIMAL_UNIT // 2 - 1,
        ),
    ),
    needs_base=False,
    memory=Memory(shared=24, each=24),
    held=part_by_part,
    emit=_emit,
)
