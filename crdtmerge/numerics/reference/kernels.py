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
from crdtmerge.numerics.reference.assignment import assign
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
from crdtmerge.numerics.reference.philox import bernoulli, normals, random_words
from crdtmerge.numerics.reference.polynomials import acos, cos, exp, log, sin, tanh
from crdtmerge.numerics.reference.reductions import (
    dot,
    largest,
    largest_magnitude,
    mean,
    sum_of_squares,
    variance,
)
from crdtmerge.numerics.reference.selection import (
    keep_n_of_m,
    median,
    quantile,
    rank_in_row,
)

__all__ = [
    "acos",
    "assign",
    "bernoulli",
    "consensus",
    "cos",
    "dot",
    "exp",
    "finish_sum",
    "finish_thinned",
    "finish_votes",
    "inner_products",
    "inspect",
    "keep_n_of_m",
    "kth_largest",
    "largest",
    "largest_magnitude",
    "log",
    "magnitude_sum",
    "mean",
    "median",
    "normals",
    "quantile",
    "random_words",
    "rank_in_row",
    "sin",
    "sum_of_squares",
    "sum_planes",
    "tanh",
    "thinned_planes",
    "thinned_sum",
    "variance",
    "vote_planes",
    "weighted_median",
    "weighted_sum",
]
