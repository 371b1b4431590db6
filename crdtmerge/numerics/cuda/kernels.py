"""The kernels of the CUDA backend, by the names of the reference's.

Owns the list. Importing it is refused where there is no device to compute on.
"""

from crdtmerge.numerics.cuda.device import current
from crdtmerge.numerics.cuda.measuring import inner_products, inspect, magnitude_sum
from crdtmerge.numerics.cuda.selecting import kth_largest, weighted_median
from crdtmerge.numerics.cuda.sums import consensus, thinned_sum, weighted_sum

__all__ = [
    "consensus",
    "inner_products",
    "inspect",
    "kth_largest",
    "magnitude_sum",
    "thinned_sum",
    "weighted_median",
    "weighted_sum",
]

current()
