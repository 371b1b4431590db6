"""The kernels of the CUDA backend, by the names of the reference's.

Owns the list. Importing it is refused where there is no device to compute on.
"""

from crdtmerge.numerics.cuda.device import current
from crdtmerge.numerics.cuda.gemm import matmul
from crdtmerge.numerics.cuda.measuring import inner_products, inspect, magnitude_sum
from crdtmerge.numerics.cuda.philox import bernoulli, normals, random_words
from crdtmerge.numerics.cuda.polynomials import acos, cos, exp, log, sin, tanh
from crdtmerge.numerics.cuda.selecting import kth_largest, weighted_median
from crdtmerge.numerics.cuda.sums import consensus, thinned_sum, weighted_sum

__all__ = [
    "acos",
    "bernoulli",
    "consensus",
    "cos",
    "exp",
    "inner_products",
    "inspect",
    "kth_largest",
    "log",
    "magnitude_sum",
    "matmul",
    "normals",
    "random_words",
    "sin",
    "tanh",
    "thinned_sum",
    "weighted_median",
    "weighted_sum",
]

current()
