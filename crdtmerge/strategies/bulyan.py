"""bulyan: choose contributions by Krum, then of each item the values next to the median.

Owns `bulyan/1`. Does not own Krum's scores (`krum`) nor inner products (`gram`).

Formula (El Mhamdi et al. 2018, arXiv:1802.07927): of n contributions, up to f of them
bad, n >= 4f + 3, Krum chooses one after another, without those chosen before, until there
are theta = n - 2f; then each item is the mean of the beta = theta - 2f of the chosen
values that are closest to their median. Exact: the choices, given the distances. Ours:

* Krum sums the max(1, p - f - 2) smallest squared distances within the p that are left.
  The paper does not say how it goes on below Krum's own bound of 2f + 3, and public codes
  differ (the authors' takes two rounds fewer, each with a mean of several). Where that
  is one neighbour, as in the last rounds if f is 1 or 2, the two nearest always tie; the
  first in canonical order is chosen.
* The median is the plain one, for an even number the mean of the middle two. Of values
  as close the lower counts, then the first in canonical order.
* The mean is by weight; neither the choice nor the median looks at weights. Those of
  weight zero take no part, and do not count in n.
* f = 0 stands for the largest that n allows, floor((n - 3) / 4). For n < 7 that is none,
  and the result is the weighted mean of all.
* The choice is of the whole model or of each tensor (`scope`), by task vectors or,
  without a base, whole weights; the items averaged are whole weights either way.

mergekit has no such method.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from crdtmerge.numerics import Floats, each_item
from crdtmerge.strategies.base import (
    Inputs,
    Memory,
    Parts,
    Strategy,
    Whole,
    part_by_part,
)
from crdtmerge.strategies.gram import SCOPE, Gram, GramMethod, squared_distances
from crdtmerge.strategies.krum import bad_count, f_parameter, fewest_for, ranked
from crdtmerge.strategies.means import weighted_mean, whole_weights
from crdtmerge.strategies.tensors import in_parts, participants, theta_of


def _chosen(gram: Gram) -> Sequence[float]:
    """Return 1 for each that Krum chooses, 0 for the others."""
    count = len(gram.weights)
    bad = bad_count(count, gram.values.count("f"), "bulyan", factor=4)
    distances = squared_distances(gram.matrix)
    pool = list(range(count))
    for _ in range(count - 2 * bad):
        neighbours = max(1, len(pool) - bad - 2)
        pool.remove(ranked(distances, pool, neighbours)[0])
    return [float(place not in pool) for place in range(count)]


def _choice(inputs: Inputs) -> tuple[int, ...]:
    """Return a unit for each that is chosen: of the whole model, or by this tensor."""
    if inputs.coefficients is not None:
        return inputs.coefficients
    own = inputs.own or (inputs.values,) * len(inputs.contributions)
    whole = Whole(inputs.contents, inputs.weights, inputs.values, own)
    return _METHOD.reduce([_METHOD.map(inputs)], whole)


def _emit(inputs: Inputs) -> Parts:
    choice = _choice(inputs)
    _, terms = participants(inputs, inputs.weights)
    chosen = [term for term in terms if choice[term.place]]
    kept = len(chosen) - (len(terms) - len(chosen))
    weights = whole_weights(chosen)

    def formula(values: Floats) -> Floats:
        return _next_to_median(values, weights, kept)

    vectors = [theta_of(inputs, t) for t in chosen]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _next_to_median(values: Floats, weights: Floats, kept: int) -> Floats:
    """Return the mean by weight of the `kept` values of each column next to its median."""
    count = len(values)
    order = np.argsort(values, axis=0, kind="stable")
    ascending = np.take_along_axis(values, order, axis=0)
    median = (ascending[(count - 1) // 2] + ascending[count // 2]) * 0.5
    distances = np.abs(ascending - median)
    nearest = np.argsort(distances, axis=0, kind="stable")[:kept]
    places = np.take_along_axis(order, nearest, axis=0)
    return weighted_mean(
        np.take_along_axis(ascending, nearest, axis=0), weights[places]
    )


_METHOD: Final = GramMethod("bulyan", _chosen, on="either", scoped=True)

BULYAN = Strategy(
    name="bulyan",
    version=1,
    summary="Choose by Krum, then average the values next to each item's median",
    paper="El Mhamdi et al. 2018, Bulyan, https://arxiv.org/abs/1802.07927",
    parameters=(f_parameter("floor((n - 3) / 4)"), SCOPE),
    needs_base=False,
    prefers_base=True,
    memory=Memory(shared=24, each=48),
    held=part_by_part,
    fewest=fewest_for(4),
    emit=_emit,
    map=_METHOD.map,
    reduce=_METHOD.reduce,
    reduces=_METHOD.reduces,
)
