"""weight_scope_alignment: models whose tensors have one mean and one spread, averaged.

Owns `weight_scope_alignment/1`. Does not own sums over elements (`numerics`), nor the mean
over contributions (`means`).

Formula: of each tensor W_k of contribution k let mu_k and s_k be the mean and the standard
deviation of its items, mu and s their means by weight over contributions. Then
W_k' = (W_k - mu_k) s / s_k + mu, and the output is the mean of all W_k' by weight.

A surrogate of Weight Scope Alignment (Xu et al. 2024, arXiv:2408.12237), which pulls the
means and deviations of models towards a common target while they are trained. Here the
models are trained already: their weights are moved and stretched to a common target, once,
without any data. What training would have made of it is not known.

Ours: the target is the mean of the contributions' own numbers; a deviation of less than
2**-40 of its tensor's mean counts as none: such a tensor is constant, and all its items
become mu. So does a tensor of one item: it is the weighted mean. One contribution alone
comes back as it is. Tensors of any shape are taken alike; the base is not read. The result
does not move with the base, so task vectors alone are not merged. mergekit has no such
method.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from crdtmerge.numerics import Floats, each_item, mean, values_of, variance
from crdtmerge.strategies.base import Inputs, Memory, Parts, Strategy, never
from crdtmerge.strategies.forms import emit_weighted
from crdtmerge.strategies.means import weighted_mean, whole_weights
from crdtmerge.strategies.tensors import (
    Term,
    in_parts,
    participants,
    refuse_negative,
    refuse_zero,
    theta_of,
)

NAME: Final = "weight_scope_alignment"

CONSTANT: Final = 2.0**-40
"""A deviation below this share of the mean is what rounding leaves of none."""


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, NAME, inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    if len(terms) == 1 or not inputs.items:
        return emit_weighted(inputs, inputs.weights, 0, sum(inputs.weights))
    weights = whole_weights(terms)[:, np.newaxis]
    means, spreads = _scopes(inputs, terms)
    middle, spread = weighted_mean(means, weights), weighted_mean(spreads, weights)
    constant = spreads <= CONSTANT * np.abs(means)
    divisors = np.where(constant, 1.0, spreads)

    def formula(rows: Floats) -> Floats:
        # Divided first: beside its deviation no item is large, so nothing overflows.
        even = np.where(constant, 0.0, (rows - means) / divisors)
        return weighted_mean(even * spread + middle, weights)

    vectors = [theta_of(inputs, term) for term in terms]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _scopes(inputs: Inputs, terms: Sequence[Term]) -> tuple[Floats, Floats]:
    """Return the mean and the deviation of each contribution's items, (n, 1) each."""
    means, spreads = [], []
    for term in terms:
        values = values_of(theta_of(inputs, term))
        means.append([mean(values)])
        spreads.append([math.sqrt(variance(values))])
    return np.array(means), np.array(spreads)


WEIGHT_SCOPE_ALIGNMENT = Strategy(
    name=NAME,
    version=1,
    summary="Average tensors brought to one mean and spread (surrogate: no training)",
    paper="Xu et al. 2024, Weight scope alignment, https://arxiv.org/abs/2408.12237",
    needs_base=False,
    shifts=never,
    memory=Memory(shared=40, each=8),
    emit=_emit,
)
