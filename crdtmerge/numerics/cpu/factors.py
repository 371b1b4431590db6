"""Polar factor and truncated SVD on the compiled parts, the bits of `reference.factors`.

Owns which parts are used. Does not own the method, which is the reference's own code.
"""

from typing import Final

from crdtmerge.numerics.cpu import eigen, gemm
from crdtmerge.numerics.reference import factors
from crdtmerge.numerics.reference.dtypes import Floats, Singles
from crdtmerge.numerics.reference.factors import Decomposition, Parts

PARTS: Final = Parts(
    gemm.matmul,
    gemm.row_products,
    eigen.spectrum,
    eigen.vectors,
    eigen.row_lengths,
)


def polar_factor(matrix: Singles | Floats) -> Floats:
    """Return U V' for (m, n) `matrix` = U S V', over the directions that count.

    Raises:
        ContractError: the matrix holds NaN or infinity, or is too large.
    """
    return factors.polar_factor(matrix, PARTS)


def svd(matrix: Singles | Floats, rank: int) -> Decomposition:
    """Return the best approximation of `rank`, as singular vectors and values.

    Raises:
        ContractError: the matrix holds NaN or infinity, or is too large, or the rank is
            negative.
    """
    return factors.svd(matrix, rank, PARTS)
