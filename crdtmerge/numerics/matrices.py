"""Kernels on matrices: products, eigenvectors, factors, positive definite systems.

Owns handing each to the backend that serves matrices of its size. Does not own what they
compute: signatures, checks and docstrings are those of the reference.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from crdtmerge.numerics.backends import serving
from crdtmerge.numerics.reference import eigen, factors, gemm, solve, spectral

Given = ParamSpec("Given")
Result = TypeVar("Result")

PASSES: int = 16
"""A decomposition touches each item often: what is worth a fast backend begins earlier."""


def _served(
    kernel: Callable[Given, Result], items: Callable[..., int]
) -> Callable[Given, Result]:
    """Return a kernel that a backend computes; `items` tells how much it is given."""
    name = kernel.__name__

    @wraps(kernel)
    def call(*given: Given.args, **named: Given.kwargs) -> Result:
        module = serving(name, items(*given))
        found: Result = getattr(module, name)(*given, **named)
        return found

    return call


def _once(matrix: Any, *_: Any) -> int:
    return int(matrix.size)


def _often(matrix: Any, *_: Any) -> int:
    return int(matrix.size) * PASSES


def _operands(left: Any, right: Any, *_: Any) -> int:
    table = left.high if isinstance(left, gemm.Sliced) else left
    return int(max(table.size, right.size, len(table) * right.shape[1]))


def _task_vector(a: Any, b: Any, *_: Any) -> int:
    return int(a.shape[1] * b.shape[0])


matmul = _served(gemm.matmul, _operands)
row_products = _served(gemm.row_products, _once)
low_rank = _served(gemm.low_rank, _task_vector)
low_rank_factors = _served(spectral.low_rank_factors, _once)

symmetric_eigen = _served(eigen.symmetric_eigen, _often)
polar_factor = _served(factors.polar_factor, _often)
svd = _served(factors.svd, _often)

cholesky = _served(solve.cholesky, _often)
solve_spd = _served(solve.solve_spd, _often)
