"""The kernels of the reference backend, by the names that `numerics.kernels` calls.

Owns the list. Every other backend has some of these names, with equal bits.
"""

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
    "inner_products",
    "inspect",
    "kth_largest",
    "magnitude_sum",
    "thinned_sum",
    "weighted_median",
    "weighted_sum",
]
