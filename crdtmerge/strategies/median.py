"""median: the middle value of each item, by weight.

Owns `median/1`. Does not own the checks of what takes part (`tensors`).

Formula (coordinate-wise median, Yin et al. 2018, arXiv:1803.01498, on whole weights):
each item is the mean of the lower and the upper weighted median. Sorted by value, the
lower is the first whose cumulated weight reaches half of all, the upper the first whose
cumulated weight exceeds it. With equal weights that is the plain median, for an even
number the mean of the middle two. Exact: the order, and the cumulated weights, which are
integers; an odd number of 16-bit or F32 models gives one of their values. Ours: the
weights. mergekit has no median.
"""

from crdtmerge.numerics import weighted_median
from crdtmerge.strategies.base import Inputs, Memory, Parts, Strategy, part_by_part
from crdtmerge.strategies.tensors import (
    in_parts,
    participants,
    refuse_negative,
    refuse_zero,
    theta_of,
)


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "median", inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    vectors = [theta_of(inputs, term) for term in terms]
    weights = [t.weight for t in terms]
    return in_parts(inputs, lambda output: weighted_median(vectors, weights, output))


MEDIAN = Strategy(
    name="median",
    version=1,
    summary="Take the weighted median of each item",
    paper="Yin et al. 2018, https://arxiv.org/abs/1803.01498",
    needs_base=False,
    memory=Memory(shared=4, each=5),
    held=part_by_part,
    emit=_emit,
)
