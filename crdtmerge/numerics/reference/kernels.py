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
from crdtmerge.numerics.reference.eigen import symmetric_eigen
from crdtmerge.numerics.reference.factors import polar_factor, svd
from crdtmerge.numerics.reference.gemm import low_rank, matmul, row_products
from crdtmerge.numerics.reference.measuring import (
    inner_products,
    kept_of,
    kth_largest,
    magnitude_sum,
    settle,
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
from crdtmerge.numerics.reference.solve import cholesky, solve_spd
from crdtmerge.numerics.reference.spectral import low_rank_factors

__all__ = [
    "acos",
    "assign",
    "bernoulli",
    "cholesky",
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
    "kept_of",
    "kth_largest",
    "largest",
    "largest_magnitude",
    "log",
    "low_rank",
    "low_rank_factors",
    "magnitude_sum",
    "matmul",
    "mean",
    "median",
    "normals",
    "polar_factor",
    "quantile",
    "random_words",
    "rank_in_row",
    "row_products",
    "settle",
    "sin",
    "solve_spd",
    "sum_of_squares",
    "sum_planes",
    "svd",
    "symmetric_eigen",
    "tanh",
    "thinned_planes",
    "thinned_sum",
    "variance",
    "vote_planes",
    "weighted_median",
    "weighted_sum",
]
