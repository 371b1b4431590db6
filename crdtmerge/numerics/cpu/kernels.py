"""The kernels of the CPU backend, by the names of the reference's.

Owns the list.
"""

from crdtmerge.numerics.cpu.measuring import inner_products, inspect, magnitude_sum
from crdtmerge.numerics.cpu.selecting import kth_largest, weighted_median
from crdtmerge.numerics.cpu.sums import consensus, thinned_sum, weighted_sum

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
