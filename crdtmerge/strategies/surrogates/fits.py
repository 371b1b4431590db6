"""ada_merging, dam, representation_surgery: fits to Gram matrices and mean inputs.

Owns `ada_merging/1`, `dam/1` and `representation_surgery/1`. Does not own
evidence (`given`), decompositions, products and solves (`numerics`).

Surrogates, all three: the papers train on data, which no pure function of a set can do.
What stands for the data is evidence: with Gram matrices G_k of the inputs of contribution
k, the merged tau does to all inputs what each model does to its own if it lessens Q(tau) =
sum_k tr((tau - tau_k) G_k (tau - tau_k)').

* `ada_merging` (AdaMerging, Yang et al. 2024, arXiv:2310.02575: coefficients by entropy of
  test data): tau = sum lambda_i tau_i, lambda the lowest point of Q: M lambda = b, M_ij =
  sum_k tr(tau_i G_k tau_j'), b_i = sum_k tr(tau_i G_k tau_k'). Without Gram matrices each
  lambda_i is `fallback` times the weight over the mean weight (0.3, where the authors
  begin).
* `dam` (Differentiable Adaptive Merging, Gauthier-Caron et al. 2024, arXiv:2410.08371: one
  coefficient a model and input channel, trained on divergences): W = sum_i W_i diag(c_i)
  with the c of the lowest Q, G_k cut to its diagonal. Derived: a column's target is the
  mean of the models' columns by the diagonals, which is one of the columns that
  coefficients can make; so c_ij = g_ij / sum_k g_kj solves it. `floor` is added to every g,
  whose mean is 1.
* `representation_surgery` (Yang et al. 2024, arXiv:2402.02705: a module trained to remove
  the bias of merged representations): with mean inputs x_k and W the weighted mean, W + d
  x' / (|x|^2 + `ridge` columns), d = sum_k w_k (W_k - W) x_k, x = sum_k w_k x_k: at the
  mean input the merged layer gives the mean of what each model gives at its own, up to the
  ridge. The bias is the mean too, so that is the mean of the evidence `outputs`, which need
  not be read. It is a change of the weight, as a task sees one tensor, and cannot see a
  bias beside it.

Weights over the mean weight multiply Gram matrices, and are the w_k. Where nobody attaches
the kind, and for tensors that are no matrices, it is the weighted mean but for
`ada_merging`. mergekit has a method of its own called dam, which trains; none of these.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    Floats,
    dot,
    each_item,
    matmul,
    mean,
    row_sums,
    solve_spd,
    sum_over,
    values_of,
)
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Parts, Strategy, Values
from crdtmerge.strategies.evidential.given import LACKING, Told, told
from crdtmerge.strategies.evidential.systems import (
    RIDGE,
    away_of,
    mean_of,
    moved,
    shared,
)
from crdtmerge.strategies.forms import emit_weighted
from crdtmerge.strategies.means import whole_weights
from crdtmerge.strategies.spectral.matrices import (
    add_to_base,
    base_alone,
    matrix_shape,
    shares_of,
)
from crdtmerge.strategies.tensors import (
    Term,
    in_parts,
    participants,
    refuse_negative,
    refuse_zero,
    tau_of,
    theta_of,
    vector_of,
)

GRAM: Final = "gram"
INPUTS: Final = "inputs"


# --- ada_merging -------------------------------------------------------------------------


def _emit_ada(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "ada_merging", inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    if not terms:
        return base_alone(inputs)
    shape = matrix_shape(inputs.shape)
    found = told(inputs, terms, GRAM) if shape else ()
    if shape is None or not found:
        scale = inputs.values.real("fallback")
        return add_to_base(inputs, _summed(inputs, terms, shares_of(terms)), scale)
    taus = [values_of(tau_of(inputs, one.term)).reshape(shape) for one in found]
    lambdas = _coefficients(inputs, taus, found)
    chosen = [one.term for one in found]
    return add_to_base(inputs, _summed(inputs, chosen, lambdas.tolist()))


def _summed(inputs: Inputs, terms: Sequence[Term], factors: Sequence[float]) -> Floats:
    total = np.zeros(inputs.items)
    for term, factor in zip(terms, factors, strict=True):
        total += values_of(tau_of(inputs, term)) * factor
    return total


def _coefficients(
    inputs: Inputs, taus: Sequence[Floats], found: Sequence[Told]
) -> Floats:
    """Return lambda, (n,): the lowest point of Q with a ridge; zeros where all is zero."""
    count = len(taus)
    system, sides = np.zeros((count, count)), np.zeros(count)
    total = total_of(found)
    for place, (tau, (one, share)) in enumerate(zip(taus, shared(found), strict=True)):
        seen = matmul(tau, total).reshape(-1)
        for other in range(place + 1):
            product = dot(seen, taus[other].reshape(-1))
            system[place, other] = system[other, place] = product
        own = (matmul(tau, one.array) * share).reshape(-1)
        for other in range(count):
            sides[other] += dot(own, taus[other].reshape(-1))
    if not system.any():
        return np.zeros(count)
    diagonal = np.ascontiguousarray(np.diagonal(system))
    return solve_spd(system, sides, inputs.values.real(RIDGE.name) * mean(diagonal))


def total_of(found: Sequence[Told]) -> Floats:
    """Return the sum of Gram matrices, each times its share."""
    total = np.zeros(found[0].array.shape)
    for one, share in shared(found):
        total += one.array * share
    return total


# --- dam ---------------------------------------------------------------------------------


def _emit_dam(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "dam", inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    shape = matrix_shape(inputs.shape)
    found = told(inputs, terms, GRAM) if shape else ()
    if shape is None or not found:
        return emit_weighted(inputs, inputs.weights, 0, sum(inputs.weights))
    rows, columns = shape
    floor = inputs.values.real("floor")
    weights = whole_weights([one.term for one in found])
    busy = np.stack([np.diagonal(one.array) * columns + floor for one in found])
    busy *= weights[:, np.newaxis]
    parts = busy / sum_over(busy)
    count = len(found)
    vectors = [
        *(theta_of(inputs, one.term) for one in found),
        *(vector_of(np.ascontiguousarray(np.tile(part, rows))) for part in parts),
    ]

    def formula(items: Floats) -> Floats:
        return sum_over(items[count:] * items[:count])

    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


# --- representation_surgery --------------------------------------------------------------


def _emit_surgery(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "representation_surgery", inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    shape = matrix_shape(inputs.shape)
    found = told(inputs, terms, INPUTS) if shape else ()
    if shape is None or not found:
        return emit_weighted(inputs, inputs.weights, 0, sum(inputs.weights))
    chosen = [one.term for one in found]
    middle = mean_of(inputs, chosen)
    weights = [share / len(found) for share in shares_of(tuple(chosen))]
    drift, seen = np.zeros(shape[0]), np.zeros(shape[1])
    for one, weight in zip(found, weights, strict=True):
        away = away_of(inputs, one.term, middle).reshape(shape)
        drift += row_sums(away * one.array) * weight
        seen += one.array * weight
    size = dot(seen, seen) + inputs.values.real(RIDGE.name) * shape[1]
    change = drift[:, np.newaxis] * (seen / size)
    return moved(inputs, middle, change.reshape(-1))


def _reads_gram(_values: Values) -> tuple[str, ...]:
    return (GRAM,)


def _reads_inputs(_values: Values) -> tuple[str, ...]:
    return (INPUTS,)


ADA_MERGING = Strategy(
    name="ada_merging",
    version=1,
    summary="Fit each change's coefficient to all models' inputs: a surrogate",
    paper="Yang et al. 2024, AdaMerging, https://arxiv.org/abs/2310.02575",
    parameters=(
        Parameter(
            "fallback",
            "decimal",
            default="0.3",
            mergekit_default=None,
            help="the coefficient where nobody attaches Gram matrices",
            maximum=100 * DECIMAL_UNIT,
        ),
        LACKING,
        RIDGE,
    ),
    evidence=_reads_gram,
    memory=Memory(shared=64, each=16, columns=50),
    emit=_emit_ada,
)

DAM = Strategy(
    name="dam",
    version=1,
    summary="Weigh each input channel by how much each model uses it: a surrogate",
    paper="Gauthier-Caron et al. 2024, DAM, https://arxiv.org/abs/2410.08371",
    parameters=(
        Parameter(
            "floor",
            "decimal",
            default="0.000001",
            mergekit_default=None,
            help="added to the diagonals of the Gram matrices, whose mean is 1",
            minimum=1,
            maximum=DECIMAL_UNIT,
        ),
        LACKING,
    ),
    needs_base=False,
    evidence=_reads_gram,
    memory=Memory(shared=32, each=40),
    emit=_emit_dam,
)

REPRESENTATION_SURGERY = Strategy(
    name="representation_surgery",
    version=1,
    summary="Average, then mend what comes out at mean inputs: a surrogate",
    paper="Yang et al. 2024, Representation Surgery, https://arxiv.org/abs/2402.02705",
    parameters=(
        LACKING,
        replace(
            RIDGE,
            default="0.01",
            help="added to the mean squared input where it is divided by",
        ),
    ),
    needs_base=False,
    evidence=_reads_inputs,
    memory=Memory(shared=80, each=8),
    emit=_emit_surgery,
)
