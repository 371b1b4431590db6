"""median: the middle value of each item, by weight.

Owns `median/1`. Does not own the checks of what takes part (`blocks`).

Formula (coordinate-wise median, Yin et al. 2018, arXiv:1803.01498, on whole weights):
each item is the mean of the lower and the upper weighted median. Sorted by value, the
lower is the first whose cumulated weight reaches half of all, the upper the first whose
cumulated weight exceeds it. With equal weights that is the plain median, for an even
number the mean of the middle two. Exact: the order, and the cumulated weights, which are
integers; an odd number of 16-bit or F32 models gives one of their values. Ours: the
weights. mergekit has no median.
"""

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics import Floats
from crdtmerge.strategies.base import Inputs, Strategy
from crdtmerge.strategies.blocks import (
    emit_blocks,
    participants,
    refuse_negative,
    refuse_zero,
    theta_block,
)


def _emit(inputs: Inputs) -> bytes:
    refuse_negative(inputs.weights, "median", inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    weights = np.array([term.weight for term in terms], dtype=np.int64)

    def compute(part: range) -> Floats:
        return _median(
            np.stack([theta_block(inputs, term, part) for term in terms]), weights
        )

    return emit_blocks(inputs, compute)


def _median(thetas: Floats, weights: NDArray[np.int64]) -> Floats:
    """Return the weighted median of each column.

    SUBTLE: which of two equal values comes first depends on the algorithm that sorts, but
    neither median does: both look at where the cumulated weight passes a value.
    """
    order = np.argsort(thetas, axis=0, kind="stable")
    values = np.take_along_axis(thetas, order, axis=0)
    doubled = 2 * np.cumsum(weights[order], axis=0)
    total = int(weights.sum())
    lower = np.argmax(doubled >= total, axis=0)[np.newaxis]
    upper = np.argmax(doubled > total, axis=0)[np.newaxis]
    least, most = (np.take_along_axis(values, at, axis=0)[0] for at in (lower, upper))
    middle: Floats = (least + most) * 0.5
    return middle


MEDIAN = Strategy(
    name="median",
    version=1,
    summary="Take the weighted median of each item",
    paper="Yin et al. 2018, https://arxiv.org/abs/1803.01498",
    needs_base=False,
    emit=_emit,
)
