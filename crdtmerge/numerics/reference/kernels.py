"""The kernels of the reference backend, by the names that `numerics.kernels` calls.

Owns the list. Every other backend has some of these names, with equal bits.
"""

from crdtmerge.numerics.reference.accumulating import (
    finish_sum,
    finish_thinned,
    finish_votes,
    sum_planes,
    thinned_planes,
    vote_planes,
)
from crdtmerge.numerics.reference.dtypes import inspect
from crdtmerge.numerics.reference.measuring import (
    inner_products,
    kth_largest,
    magnitude_sum,
)
from crdtmerge.numerics.reference.merging import (
    consensus,
    thinned_sum,
    weighted_median,
    weighted_sum,
)

__all__ = [
    "consensus",
    "finish_sum",
    "finish_thinned",
    "finish_votes",
    "inner_products",
    "inspect",
    "kth_largest",
    "magnitude_sum",
    "sum_planes",
    "thinned_planes",
    "thinned_sum",
    "vote_planes",
    "weighted_median",
    "weighted_sum",
]
