"""The numeric contract: everything that does arithmetic on weights, and nothing else.

Owns exact upcasts and the one final rounding, sums over contributions on a grid, sums
over elements along a fixed tree, selection on bits, fixed polynomials for angles, and
keyed randomness: the readable reference in NumPy whose bits every faster form must equal.
Does not own what a strategy computes.

Only exact conversions, single IEEE float64 additions, subtractions, multiplications,
divisions and square roots, scaling by powers of two, rounding to integers, comparisons
and integer operations are used, element by element; and products of integer matrices whose
sums are exact in any order. So the bits do not depend on machine, threads, block size or
library version. docs/adr/0004-numeric-contract.md gives the constants and the reasons.
"""

from crdtmerge.numerics.contract import (
    CONTRACT_VERSION,
    EXPONENT_MAX,
    EXPONENT_MIN,
    HEADROOM_BITS,
    LIMB_BITS,
    SUM_BITS,
    TERMS_MAX,
    WEIGHT_BITS,
    check_weights,
)
from crdtmerge.numerics.reference.dtypes import (
    ITEM_BYTES,
    SIGNIFICAND_BITS,
    TAU_BITS,
    Data,
    Floats,
    Singles,
    TensorFacts,
    check_base,
    check_dtype,
    check_headroom,
    check_reach,
    downcast,
    given_task_vector,
    inspect,
    task_vector,
    upcast,
)
from crdtmerge.numerics.reference.gemm import low_rank, matmul
from crdtmerge.numerics.reference.grid import (
    Grid,
    GridSum,
    divide,
    tau_grid,
    theta_grid,
)
from crdtmerge.numerics.reference.philox import (
    bernoulli,
    philox4x32,
    philox_key,
    random_words,
)
from crdtmerge.numerics.reference.polynomials import acos, sin
from crdtmerge.numerics.reference.reductions import dot, gram, sum_of_squares, tree_sum
from crdtmerge.numerics.reference.selection import (
    at_least,
    keep_count,
    keep_top,
    kth_magnitude,
    threshold,
)
from crdtmerge.numerics.reference.spectral import low_rank_factors

__all__ = [
    "CONTRACT_VERSION",
    "EXPONENT_MAX",
    "EXPONENT_MIN",
    "HEADROOM_BITS",
    "ITEM_BYTES",
    "LIMB_BITS",
    "SIGNIFICAND_BITS",
    "SUM_BITS",
    "TAU_BITS",
    "TERMS_MAX",
    "WEIGHT_BITS",
    "Data",
    "Floats",
    "Grid",
    "GridSum",
    "Singles",
    "TensorFacts",
    "acos",
    "at_least",
    "bernoulli",
    "check_base",
    "check_dtype",
    "check_headroom",
    "check_reach",
    "check_weights",
    "divide",
    "dot",
    "downcast",
    "given_task_vector",
    "gram",
    "inspect",
    "keep_count",
    "keep_top",
    "kth_magnitude",
    "low_rank",
    "low_rank_factors",
    "matmul",
    "philox4x32",
    "philox_key",
    "random_words",
    "sin",
    "sum_of_squares",
    "task_vector",
    "tau_grid",
    "theta_grid",
    "threshold",
    "tree_sum",
    "upcast",
]
