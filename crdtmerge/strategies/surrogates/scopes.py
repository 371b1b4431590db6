"""weight_scope_alignment: models are moved and scaled to a common mean and spread.

Owns `weight_scope_alignment/1`. Does not own means and variances (`numerics`).

Formula (after Weight Scope Alignment, Xu et al. 2024, arXiv:2408.12237, which also trains
with it; this is its alignment at merging, and so a surrogate of the whole): of each tensor
take mean mu_i and standard deviation s_i of every model; their weighted means are mu and s;
out = the weighted mean of (theta_i - mu_i) s / s_i + mu.

Ours: a model whose items are all equal is moved, not scaled. Standard deviations are those
of the given items (divided by n). Negative weights are refused. mergekit has no such
method.
"""

import math

import numpy as np

from crdtmerge.numerics import Floats, each_item, mean, sum_over, values_of, variance
from crdtmerge.strategies.base import Inputs, Memory, Parts, Strategy, never
from crdtmerge.strategies.forms import emit_weighted
from crdtmerge.strategies.tensors import (
    in_parts,
    participants,
    refuse_negative,
    refuse_zero,
    theta_of,
)


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "weight_scope_alignment", inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    if not inputs.items:
        return emit_weighted(inputs, inputs.weights, 0, sum(inputs.weights))
    vectors = [theta_of(inputs, term) for term in terms]
    total = sum(term.weight for term in terms)
    shares = np.array([[term.weight / total] for term in terms])
    found = [_scope(values_of(vector)) for vector in vectors]
    means = np.array([[middle] for middle, _ in found])
    spreads = np.array([[spread] for _, spread in found])
    middle, spread = sum_over(shares * means)[0], sum_over(shares * spreads)[0]
    factors = np.where(spreads > 0, spread / np.where(spreads > 0, spreads, 1.0), 1.0)

    def formula(rows: Floats) -> Floats:
        aligned: Floats = sum_over(shares * ((rows - means) * factors)) + middle
        return aligned

    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _scope(values: Floats) -> tuple[float, float]:
    """Return mean and standard deviation."""
    return mean(values), math.sqrt(variance(values))


WEIGHT_SCOPE_ALIGNMENT = Strategy(
    name="weight_scope_alignment",
    version=1,
    summary="Give all models one mean and spread, then average: a surrogate",
    paper="Xu et al. 2024, Weight Scope Alignment, https://arxiv.org/abs/2408.12237",
    needs_base=False,
    shifts=never,
    memory=Memory(shared=32, each=24),
    emit=_emit,
)
