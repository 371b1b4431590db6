"""The kernels of the CUDA backend, by the names of the reference's.

Owns the list. `assign` is not in it: its steps wait for each other. Importing it is
refused where there is no device to compute on.
"""

from crdtmerge.numerics.cuda.device import current
from crdtmerge.numerics.cuda.gemm import matmul
from crdtmerge.numerics.cuda.measuring import (
    inner_products,
    inspect,
    kept_of,
    magnitude_sum,
    settle,
)
from crdtmerge.numerics.cuda.philox import bernoulli, normals, random_words
from crdtmerge.numerics.cuda.polynomials import acos, cos, exp, log, sin, tanh
from crdtmerge.numerics.cuda.reductions import (
    dot,
    largest,
    largest_magnitude,
    mean,
    sum_of_squares,
    variance,
)
from crdtmerge.numerics.cuda.selecting import kth_largest, weighted_median
from crdtmerge.numerics.cuda.selection import (
    keep_n_of_m,
    median,
    quantile,
    rank_in_row,
)
from crdtmerge.numerics.cuda.sums import consensus, thinned_sum, weighted_sum

__all__ = [
    "acos",
    "bernoulli",
    "consensus",
    "cos",
    "dot",
    "exp",
    "inner_products",
    "inspect",
    "keep_n_of_m",
    "kept_of",
    "kth_largest",
    "largest",
    "largest_magnitude",
    "log",
    "magnitude_sum",
    "matmul",
    "mean",
    "median",
    "normals",
    "quantile",
    "random_words",
    "rank_in_row",
    "settle",
    "sin",
    "sum_of_squares",
    "tanh",
    "thinned_sum",
    "variance",
    "weighted_median",
    "weighted_sum",
]

current()
