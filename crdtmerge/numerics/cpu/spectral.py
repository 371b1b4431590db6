"""The best factors of a rank on compiled parts, the bits of `reference.spectral`.

Owns Jacobi's rotations as a compiled loop, and which parts are used. Does not own the
method, which is the reference's own code.
"""

from typing import Final

import numpy as np

from crdtmerge.numerics.cpu import eigen, gemm
from crdtmerge.numerics.cpu.compiling import compiled
from crdtmerge.numerics.reference import spectral
from crdtmerge.numerics.reference.dtypes import Floats, Singles


def low_rank_factors(
    matrix: Singles, rank: int, key: bytes
) -> tuple[Floats, Floats, Floats]:
    """Return (b, a, sigma) with b @ a the best product of `rank` for (m, n) `matrix`."""
    return spectral.low_rank_factors(matrix, rank, key, TOOLS)


def jacobi(matrix: Floats) -> tuple[Floats, Floats]:
    """Return eigenvalues and, in columns, eigenvectors of a small symmetric matrix."""
    work, vectors = matrix.copy(), np.eye(matrix.shape[0])
    least = float(np.abs(matrix).max(initial=0.0)) * spectral.NEGLIGIBLE
    for _ in range(spectral.SWEEPS):
        _sweep(work, vectors, least)
    return np.diagonal(work).copy(), np.ascontiguousarray(vectors.T)


TOOLS: Final = spectral.Tools(gemm.matmul, gemm.sliced, eigen.row_lengths, jacobi)


@compiled
def _sweep(work: Floats, vectors: Floats, least: float) -> None:
    """Make every entry above the diagonal zero once; `vectors` stand in rows."""
    side = work.shape[0]
    for p in range(side - 1):
        for q in range(p + 1, side):
            off = work[p, q]
            if not abs(off) > least:
                continue
            tau = (work[q, q] - work[p, p]) / (2.0 * off)
            root = np.sqrt(1.0 + tau * tau)
            t = 1.0 / (tau + root) if tau >= 0 else -1.0 / (root - tau)
            c = 1.0 / np.sqrt(1.0 + t * t)
            s = t * c
            for k in range(side):
                first, second = work[k, p], work[k, q]
                work[k, p] = first * c - second * s
                work[k, q] = first * s + second * c
            for k in range(side):
                first, second = work[p, k], work[q, k]
                work[p, k] = first * c - second * s
                work[q, k] = first * s + second * c
            for k in range(side):
                first, second = vectors[p, k], vectors[q, k]
                vectors[p, k] = first * c - second * s
                vectors[q, k] = first * s + second * c
            work[p, q] = work[q, p] = 0.0
