"""Small matrices for every kernel on matrices, made of nothing but hashes.

Owns the cases of those kernels, for `cases`, which owns what a case is for. Sides cross
the panels, strips and tiles of every backend; among the matrices are those that lack
directions, repeat singular values, span the cutoff, or are nothing at all.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import numpy as np

from crdtmerge.numerics.reference.dtypes import Floats, Singles
from crdtmerge.numerics.reference.gemm import matmul, row_products
from crdtmerge.numerics.reference.philox import random_words

MatrixCase: TypeAlias = tuple[str, str, Callable[[Any], bytes]]
"""A kernel, a title, and what runs it on a backend's module."""

KEY: Final = b"8 bytes!"


def matrix_cases(kernel: str = "") -> Iterator[MatrixCase]:
    """Yield every case, or those of one kernel."""
    for name, make in _MAKERS.items():
        if kernel in {"", name}:
            yield from make()


def drawn(label: int, rows: int, columns: int) -> Floats:
    """Return numbers in (-1, 1), one in 2**32 a zero."""
    words = random_words(label.to_bytes(8, "little"), rows * columns)
    values = (words.astype(np.float64) - 2.0**31) * 2.0**-31
    return values.reshape(rows, columns)


def matrices() -> Iterator[tuple[str, Floats]]:
    """Yield named matrices of every shape and kind that factors are made of."""
    yield "a wide one", drawn(1, 37, 70)
    yield "a tall one", drawn(2, 150, 34)
    yield "one of rank 5", matmul(drawn(3, 40, 5), drawn(4, 5, 40))
    # Rows fall by powers of two: through the second step, and beyond the cutoff.
    yield "a graded one", drawn(5, 36, 40) * _falling(36)[:, np.newaxis]
    yield "the identity", np.eye(33)
    yield "a row", drawn(6, 1, 9) * 1e-300
    yield "one item", np.full((1, 1), -3.0)
    yield "zeros", np.zeros((3, 5))
    yield "nothing", np.zeros((0, 4))


def symmetric() -> Iterator[tuple[str, Floats]]:
    """Yield named symmetric matrices, with values of either sign, repeated and zero."""
    yield "a full one", _even(drawn(1, 133, 133))
    yield "one of rank 7", row_products(drawn(2, 70, 7))
    yield "the identity", np.eye(34)
    falling = _falling(33)
    graded: Floats = _even(drawn(3, 33, 33)) * falling * falling[:, np.newaxis]
    yield "a graded one", graded
    blocks: Floats = np.kron(np.eye(2), _even(drawn(4, 5, 5))).astype(np.float64)
    yield "two blocks", blocks
    yield "one item", np.full((1, 1), -3.0)
    yield "zeros", np.zeros((4, 4))
    yield "nothing", np.zeros((0, 0))


def definite() -> Iterator[tuple[str, Floats]]:
    """Yield named symmetric positive definite matrices."""
    for side in (1, 5, 33, 161):
        yield f"side {side}", row_products(drawn(side, side, side + 3)) + np.eye(side)
    yield "nothing", np.zeros((0, 0))


def _falling(side: int) -> Floats:
    return np.ldexp(np.ones(side), -np.arange(side))


def _even(matrix: Floats) -> Floats:
    return matrix + matrix.T


def _packed(*parts: Floats | Singles) -> bytes:
    """Return arrays as bytes, each with its shape."""
    return b"".join(repr(part.shape).encode() + part.tobytes() for part in parts)


def _matmul() -> Iterator[MatrixCase]:
    def run(left: Floats, right: Floats, slices: int) -> Callable[[Any], bytes]:
        return lambda backend: _packed(backend.matmul(left, right, slices))

    for rows, inner, columns in ((1, 1, 1), (5, 130, 3), (33, 40, 65), (2, 0x8001, 2)):
        left, right = drawn(1, rows, inner), drawn(2, inner, columns)
        scales = 2.0 ** (np.arange(float(rows)) * 9)[:, np.newaxis]
        for slices in (1, 2):
            title = f"matmul {rows} x {inner} x {columns} slices {slices}"
            yield "matmul", title, run(left * scales, right, slices)
    for word, scale in (("huge", 2.0**460), ("tiny", 2.0**-460)):
        made = run(drawn(3, 3, 4) * scale, drawn(4, 4, 5) * scale, 2)
        yield "matmul", f"matmul of {word} items", made
    across = run(drawn(5, 7, 9).T, drawn(6, 8, 7).T, 2)
    yield "matmul", "matmul of turned operands", across


def _row_products() -> Iterator[MatrixCase]:
    def run(rows: Floats) -> Callable[[Any], bytes]:
        return lambda backend: _packed(backend.row_products(rows))

    for title, rows in matrices():
        if rows.size:
            yield "row_products", f"row_products of {title}", run(rows)


def _symmetric_eigen() -> Iterator[MatrixCase]:
    def run(matrix: Floats) -> Callable[[Any], bytes]:
        return lambda backend: _packed(*backend.symmetric_eigen(matrix))

    for title, matrix in symmetric():
        yield "symmetric_eigen", f"symmetric_eigen of {title}", run(matrix)


def _polar_factor() -> Iterator[MatrixCase]:
    def run(matrix: Floats) -> Callable[[Any], bytes]:
        return lambda backend: _packed(backend.polar_factor(matrix))

    for title, matrix in matrices():
        yield "polar_factor", f"polar_factor of {title}", run(matrix)
    single = drawn(9, 12, 35).astype(np.float32)
    yield "polar_factor", "polar_factor of float32", run(single)  # type: ignore[arg-type]


def _svd() -> Iterator[MatrixCase]:
    def run(matrix: Floats, rank: int) -> Callable[[Any], bytes]:
        def made(backend: Any) -> bytes:
            found = backend.svd(matrix, rank)
            beyond = np.full(1, found.beyond)
            return _packed(found.u, found.sigma, found.vt, beyond)

        return made

    for title, matrix in matrices():
        for rank in (4, 50):
            yield "svd", f"svd of {title} rank {rank}", run(matrix, rank)


def _cholesky() -> Iterator[MatrixCase]:
    def run(matrix: Floats) -> Callable[[Any], bytes]:
        return lambda backend: _packed(backend.cholesky(matrix))

    for title, matrix in definite():
        yield "cholesky", f"cholesky of {title}", run(matrix)


def _solve_spd() -> Iterator[MatrixCase]:
    def run(matrix: Floats, rhs: Floats, ridge: float) -> Callable[[Any], bytes]:
        return lambda backend: _packed(backend.solve_spd(matrix, rhs, ridge))

    for title, matrix in definite():
        for columns, ridge in ((1, 0.0), (35, 0.5)):
            rhs = drawn(columns, len(matrix), columns)
            name = f"solve_spd of {title} columns {columns}"
            yield "solve_spd", name, run(matrix, rhs, ridge)


def _low_rank() -> Iterator[MatrixCase]:
    def run(a: Floats, b: Floats, *, transposed: bool) -> Callable[[Any], bytes]:
        return lambda backend: _packed(
            backend.low_rank(a, b, 0.7, transposed=transposed)
        )

    for rank in (1, 8, 33):
        for transposed in (False, True):
            title = f"low_rank {rank} {'transposed' if transposed else 'as stored'}"
            made = run(drawn(1, rank, 40), drawn(2, 50, rank), transposed=transposed)
            yield "low_rank", title, made


def _low_rank_factors() -> Iterator[MatrixCase]:
    def run(matrix: Singles, rank: int) -> Callable[[Any], bytes]:
        return lambda backend: _packed(*backend.low_rank_factors(matrix, rank, KEY))

    for title, matrix in matrices():
        # The kernel takes float32, in which the tiny row would be none.
        if (matrix.size and np.abs(matrix).max() > 1e-30) or title == "zeros":
            single = matrix.astype(np.float32)
            rank = min(4, *matrix.shape)
            made = run(single, rank)
            yield "low_rank_factors", f"low_rank_factors of {title}", made


_MAKERS: Final = {
    "cholesky": _cholesky,
    "low_rank": _low_rank,
    "low_rank_factors": _low_rank_factors,
    "matmul": _matmul,
    "polar_factor": _polar_factor,
    "row_products": _row_products,
    "solve_spd": _solve_spd,
    "svd": _svd,
    "symmetric_eigen": _symmetric_eigen,
}

MATRIX_KERNELS: Final = tuple(_MAKERS)
"""The names of the kernels on matrices."""
