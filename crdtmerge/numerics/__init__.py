"""The numeric contract: everything that does arithmetic on weights, and nothing else.

Owns exact upcasts and the one final rounding, sums over contributions on a grid, sums
over elements along a fixed tree, selection on bits, fixed polynomials, products and
factors of matrices, and keyed randomness. Does not own what a strategy computes.

Only exact conversions, single IEEE float64 additions, subtractions, multiplications,
divisions and square roots, scaling by powers of two, rounding to integers, comparisons
and integer operations are used, element by element; and products of integer matrices whose
sums are exact in any order. So the bits do not depend on machine, threads, block size or
library version. docs/adr/0004-numeric-contract.md gives the constants and the reasons.

`reference` says what each kernel means, in readable NumPy; `cpu` and `cuda` are faster
forms with equal bits; `backends` decides which one serves; `kernels` is what to call.
"""

from crdtmerge.numerics.accumulators import (
    finish_sum,
    finish_thinned,
    finish_votes,
    sum_planes,
    thinned_planes,
    vote_planes,
)
from crdtmerge.numerics.backends import (
    BACKENDS,
    BackendWarning,
    choose,
    chosen,
    forced,
)
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
from crdtmerge.numerics.kernels import (
    check_sum,
    consensus,
    inner_products,
    inspect,
    kth_largest,
    magnitude_sum,
    thinned_sum,
    weighted_median,
    weighted_sum,
)
from crdtmerge.numerics.reference.accumulating import sum_rows, vote_rows
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
    draw_limit,
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
from crdtmerge.numerics.vectors import (
    Difference,
    Items,
    Keep,
    Output,
    Planes,
    Shifted,
    Tau,
    Vector,
    Voter,
    Weighed,
)

__all__ = [
    "BACKENDS",
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
    "BackendWarning",
    "Data",
    "Difference",
    "Floats",
    "Grid",
    "GridSum",
    "Items",
    "Keep",
    "Output",
    "Planes",
    "Shifted",
    "Singles",
    "Tau",
    "TensorFacts",
    "Vector",
    "Voter",
    "Weighed",
    "acos",
    "at_least",
    "bernoulli",
    "check_base",
    "check_dtype",
    "check_headroom",
    "check_reach",
    "check_sum",
    "check_weights",
    "choose",
    "chosen",
    "consensus",
    "divide",
    "dot",
    "downcast",
    "draw_limit",
    "finish_sum",
    "finish_thinned",
    "finish_votes",
    "forced",
    "given_task_vector",
    "gram",
    "inner_products",
    "inspect",
    "keep_count",
    "keep_top",
    "kth_largest",
    "kth_magnitude",
    "low_rank",
    "low_rank_factors",
    "magnitude_sum",
    "matmul",
    "philox4x32",
    "philox_key",
    "random_words",
    "sin",
    "sum_of_squares",
    "sum_planes",
    "sum_rows",
    "task_vector",
    "tau_grid",
    "theta_grid",
    "thinned_planes",
    "thinned_sum",
    "threshold",
    "tree_sum",
    "upcast",
    "vote_planes",
    "vote_rows",
    "weighted_median",
    "weighted_sum",
]
