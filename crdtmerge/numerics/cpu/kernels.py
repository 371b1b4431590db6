"""The kernels of the CPU backend, by the names of the reference's.

Owns the list.
"""

from crdtmerge.numerics.cpu.accumulating import (
    finish_sum,
    finish_thinned,
    finish_votes,
    sum_planes,
    thinned_planes,
    vote_planes,
)
from crdtmerge.numerics.cpu.measuring import inner_products, inspect, magnitude_sum
from crdtmerge.numerics.cpu.selecting import kth_largest, weighted_median
from crdtmerge.numerics.cpu.sums import consensus, thinned_sum, weighted_sum

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
