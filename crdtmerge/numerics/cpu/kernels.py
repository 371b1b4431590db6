"""The kernels of the CPU backend, by the names of the reference's.

Owns the list. `largest` and `largest_magnitude` are not in it: NumPy is as fast.
"""

from crdtmerge.numerics.cpu.accumulating import (
    finish_sum,
    finish_thinned,
    finish_votes,
    sum_planes,
    thinned_planes,
    vote_planes,
)
from crdtmerge.numerics.cpu.assignment import assign
from crdtmerge.numerics.cpu.eigen import symmetric_eigen
from crdtmerge.numerics.cpu.factors import polar_factor, svd
from crdtmerge.numerics.cpu.gemm import low_rank, matmul, row_products
from crdtmerge.numerics.cpu.measuring import (
    inner_products,
    inspect,
    kept_of,
    magnitude_sum,
    settle,
)
from crdtmerge.numerics.cpu.philox import bernoulli, normals, random_words
from crdtmerge.numerics.cpu.polynomials import acos, cos, exp, log, sin, tanh
from crdtmerge.numerics.cpu.reductions import dot, mean, sum_of_squares, variance
from crdtmerge.numerics.cpu.selecting import kth_largest, weighted_median
from crdtmerge.numerics.cpu.selection import (
    keep_n_of_m,
    median,
    quantile,
    rank_in_row,
)
from crdtmerge.numerics.cpu.solve import cholesky, solve_spd
from crdtmerge.numerics.cpu.spectral import low_rank_factors
from crdtmerge.numerics.cpu.sums import consensus, thinned_sum, weighted_sum

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
