"""lot: the change that lets features drift least from those of every expert.

Owns `lot/1`. Does not own evidence (`given`), the solve (`systems`), nor the
plain mean (`forms`).

Formula (LOT Merging, Sun et al. 2025, arXiv:2505.23859): of a linear layer, out x in,
with the Gram matrix G_i = X_i' X_i of what goes into expert i's layer, the change T that
has the least sum |X_i (T - tau_i)'|^2 is T = (sum tau_i G_i) (sum G_i)^+, the
pseudo-inverse. Of the scale of a norm, with e_i the sum of squares of each normalised
feature: T = sum(e_i tau_i) / sum(e_i). out = base + T; all other tensors take the mean
change.

Ours: a ridge in place of the pseudo-inverse, `ridge` times the mean of the diagonal of
sum G_i (and of sum e_i): it goes to the pseudo-inverse as the ridge goes to zero, without a
threshold that a rounding can cross. As there, the base stays where no expert's data tell
of a direction; along one of which they tell little, the ridge draws towards the base. So
equal models are themselves on all that they saw, not elsewhere. G_i has a trace of 1 and
e_i a mean of 1, whatever their author gave, so that no author outweighs others by scaling;
each is multiplied by its weight. Who leaves a tensor as it is in the base counts, with its
evidence, for keeping it. The mean change is that by weight. A layer reads `gram` alone, a
tensor of one dimension `energy` alone. mergekit has no lot.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from crdtmerge.numerics import Floats, Items, each_item, mean, sum_over, values_of
from crdtmerge.strategies.base import Inputs, Memory, Parts, Strategy, Values
from crdtmerge.strategies.evidential.given import LACKING, Told, told
from crdtmerge.strategies.evidential.systems import RIDGE, regression, shared
from crdtmerge.strategies.forms import emit_weighted
from crdtmerge.strategies.spectral.matrices import (
    add_to_base,
    base_alone,
    matrix_shape,
)
from crdtmerge.strategies.tensors import (
    base_of,
    in_parts,
    participants,
    refuse_negative,
    tau_of,
    vector_of,
)

NAME: Final = "lot"
GRAM: Final = "gram"
ENERGY: Final = "energy"


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, NAME, inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    base = base_of(inputs)
    if not terms:
        return base_alone(inputs)
    shape = matrix_shape(inputs.shape)
    found = told(inputs, terms, GRAM if shape else ENERGY)
    if not found:  # the base plus the mean change is the mean
        return emit_weighted(inputs, inputs.weights, 0, sum(inputs.weights))
    if shape is None:
        return _scale(inputs, base, found)
    pairs = _pairs(inputs, found, shape)
    change = regression(inputs, pairs, inputs.values.real(RIDGE.name))
    return add_to_base(inputs, change.reshape(-1))


def _pairs(
    inputs: Inputs, found: Sequence[Told], shape: tuple[int, int]
) -> Iterator[tuple[Floats, Floats]]:
    """Yield each expert's task matrix, and its Gram matrix times its share."""
    for one, share in shared(found):
        yield values_of(tau_of(inputs, one.term)).reshape(shape), one.array * share


def _scale(inputs: Inputs, base: Items, found: Sequence[Told]) -> Parts:
    """Return a norm's scale: the base and the mean change by energy, item by item."""
    pairs, count = shared(found), len(found)
    shares = np.array([[share] for _, share in pairs])
    energies = [np.ascontiguousarray(one.array).reshape(-1) for one in found]
    means = [share * mean(e) for (_, share), e in zip(pairs, energies, strict=True)]
    ridge = inputs.values.real(RIDGE.name) * math.fsum(means)

    def formula(rows: Floats) -> Floats:
        weighed = rows[count + 1 :] * shares
        below = sum_over(weighed) + ridge
        above = sum_over(weighed * rows[1 : count + 1])
        scale: Floats = rows[0] + above / np.where(below > 0.0, below, 1.0)
        return scale

    taus = [tau_of(inputs, one.term) for one in found]
    vectors = [base, *taus, *map(vector_of, energies)]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _reads(_values: Values) -> tuple[str, ...]:
    return (GRAM, ENERGY)


LOT = Strategy(
    name=NAME,
    version=1,
    summary="Let the features of all experts drift least, layer by layer",
    paper="Sun et al. 2025, LOT Merging, https://arxiv.org/abs/2505.23859",
    parameters=(LACKING, RIDGE),
    evidence=_reads,
    memory=Memory(shared=80, each=8, columns=50),
    emit=_emit,
)
