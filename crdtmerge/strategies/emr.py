"""emr: one unified task vector from elected signs and largest magnitudes, rescaled.

Owns `emr/1`, the static form. Does not own sums along the tree (`numerics`).

Formula (EMR-Merging, Huang et al. 2024, arXiv:2405.17461): an item's sign is elected,
gamma = sgn(sum_i w_i tau_i); u = gamma times the largest |tau_i| of those with that sign;
M_i = 1 where tau_i has it; rho_i = sum|tau_i| / sum|M_i u|. The paper keeps one mask and
one rescale for each task, and applies theta_0 + rho_i M_i u to task i. Static, ours: one
model, theta_0 + rho u, with rho the mean of rho_i by weight. It is not what the paper
measures; masks are no output yet. Exact: u, given the signs. Ours too:

* Weights take part in the election and in the mean of rho_i; a negative one is refused.
  Equal weights elect as the paper does. The sum adds products of an item in the order of
  their size, in float64.
* A sum of zero elects nobody, so that the item stays as in the base, as sgn says (the
  authors' code counts zero as minus).
* rho_i is of each tensor, sums of magnitudes along the tree (the authors have one for the
  model, of means of tensors). Where nothing of a contribution agrees, rho_i is 0 (0 / 0 is
  not guarded there).

mergekit has no such method.
"""

import math
from collections.abc import Sequence

import numpy as np

from crdtmerge.numerics import (
    Floats,
    Items,
    Keep,
    Output,
    Tau,
    each_item,
    magnitude_sum,
    sum_over,
)
from crdtmerge.strategies.base import Inputs, Memory, Parts, Strategy, Values
from crdtmerge.strategies.means import whole_weights
from crdtmerge.strategies.tensors import (
    base_of,
    in_parts,
    participants,
    refuse_negative,
    refuse_zero,
    tau_of,
)


def _unified(taus: Sequence[Tau], weights: Floats, output: Output) -> Items:
    """Return u: of each item the largest change of the elected sign."""

    def formula(rows: Floats) -> Floats:
        mass = sum_over(weights * rows)
        up = np.maximum(rows[0], 0.0)
        down = np.minimum(rows[0], 0.0)
        for row in rows[1:]:
            up, down = np.maximum(up, row), np.minimum(down, row)
        return np.where(mass > 0, up, np.where(mass < 0, down, 0.0))

    return Items(each_item(taus, output, formula), "F32")


def _rescale(tau: Tau, unified: Items, output: Output) -> float:
    """Return sum|tau| / sum|u where tau agrees|, 0 if that is empty."""

    def agreeing(rows: Floats) -> Floats:
        return np.where(rows[0] * rows[1] > 0, rows[1], 0.0)

    masked = Items(each_item([tau, unified], output, agreeing), "F32")
    after = magnitude_sum(masked, Keep())
    return magnitude_sum(tau, Keep()) / after if after else 0.0


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "emr", inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    base, taus = base_of(inputs), [tau_of(inputs, term) for term in terms]
    weights = whole_weights(terms)[:, np.newaxis]
    output = Output("F32", range(inputs.items), f"tensor {inputs.tensor!r}")
    unified = _unified(taus, weights, output)
    rescales = [_rescale(tau, unified, output) for tau in taus]
    pairs = zip(terms, rescales, strict=True)
    total = sum(term.weight for term in terms)
    rescale = math.fsum(term.weight * found for term, found in pairs) / total

    def formula(rows: Floats) -> Floats:
        found: Floats = rows[0] + rescale * rows[1]
        return found

    vectors = [base, unified]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _held(_values: Values) -> Memory:
    """Keep what is unified, and what of it agrees with one, each while it is joined."""
    return Memory(shared=16)


EMR = Strategy(
    name="emr",
    version=1,
    summary="Elect signs, take the largest change that agrees, rescale (static form)",
    paper="Huang et al. 2024, EMR-Merging, https://arxiv.org/abs/2405.17461",
    memory=Memory(shared=24, each=16),
    held=_held,
    emit=_emit,
)
