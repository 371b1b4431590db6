"""Speed and error of the kernels on matrices against LAPACK.

A part of `python -m benchmarks numerics`.

Speed is compared with LAPACK in float32, error with LAPACK in float64, both cut at 2**-16.
Kernels and LAPACK alternate in one run, with two threads each: quote ratios of medians.
Matrices are like the difference of a fine-tune: some strong directions that fall, and
noise of full rank that decays over the columns.
"""

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.numerics import THREADS, Row, alternately
from crdtmerge.numerics import Floats, Singles, backends
from crdtmerge.numerics.cpu import factors, gemm, solve
from crdtmerge.numerics.reference import gemm as reference

RANK = 32
SHAPES = {(512, 512): 3, (1024, 1024): 3, (1024, 4096): 3, (2048, 2048): 4}
"""Each shape with how many times LAPACK's time is the goal."""


def task_like(rows: int, columns: int, noise: float = 0.05) -> Singles:
    """Return a low-rank matrix with noise, about as large as fine-tunes move weights."""
    generator = np.random.default_rng([rows, columns])
    left = generator.standard_normal((rows, RANK)) * 0.9 ** np.arange(RANK)
    strong = left @ generator.standard_normal((RANK, columns))
    weak = (
        generator.standard_normal((rows, columns)) * (np.arange(columns) + 1.0) ** -0.3
    )
    return (1e-3 * (strong + noise * weak)).astype(np.float32)


def lapack_polar(matrix: Singles) -> Singles:
    """Return LAPACK's polar factor in float32."""
    u, _, vt = np.linalg.svd(matrix, full_matrices=False)
    product: Singles = u @ vt
    return product


def lapack_truncated(matrix: Singles) -> Singles:
    """Return LAPACK's best product of rank `RANK` in float32."""
    u, sigma, vt = np.linalg.svd(matrix, full_matrices=False)
    product: Singles = (u[:, :RANK] * sigma[:RANK]) @ vt[:RANK]
    return product


def relative(found: Floats, expected: Floats) -> float:
    """Return the relative error in the Frobenius norm."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def spectral(shape: tuple[int, int], goal: int, rounds: int) -> list[Row]:
    """Measure the polar factor and the truncated SVD of one shape."""
    matrix = task_like(*shape)
    u, sigma, vt = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    counts = sigma >= sigma[0] * 2.0**-16
    truncated = (u[:, :RANK] * sigma[:RANK]) @ vt[:RANK]
    polar, lapack, cut, lapack_cut = alternately(
        rounds,
        lambda: factors.polar_factor(matrix),
        lambda: lapack_polar(matrix),
        lambda: factors.svd(matrix, RANK),
        lambda: lapack_truncated(matrix),
    )
    found = factors.svd(matrix, RANK)
    errors = (
        relative(factors.polar_factor(matrix), u[:, counts] @ vt[counts]),
        relative((found.u * found.sigma) @ found.vt, truncated),
    )
    sizes = f"{shape[0]} x {shape[1]}"
    names = f"polar factor {sizes}", f"SVD of rank {RANK}, {sizes}"
    times = (polar, lapack), (cut, lapack_cut)
    return [
        {
            "figure": name,
            "goal": f"within {goal}x of LAPACK float32, error at most 1e-7",
            "reached": round(took / theirs, 2),
            "seconds": took,
            "lapack_seconds": theirs,
            "error": error,
        }
        for name, (took, theirs), error in zip(names, times, errors, strict=True)
    ]


def compared(
    figure: str, rounds: int, ours: Callable[[], object], theirs: Callable[[], object]
) -> Row:
    """Measure one kernel that has no goal against what else could be called."""
    took, other = alternately(rounds, ours, theirs)
    return {
        "figure": figure,
        "reached": round(took / other, 2),
        "seconds": took,
        "other_seconds": other,
    }


def products(side: int, rounds: int) -> list[Row]:
    """Measure exact products, and a system, against the library's float64."""
    left = task_like(side, side).astype(np.float64)
    right = np.ascontiguousarray(left[::-1])
    definite = gemm.row_products(left) + np.eye(side)
    return [
        compared(
            f"exact product of {slices} slices, {side}: times dgemm",
            rounds,
            lambda slices=slices: gemm.matmul(left, right, slices),  # type: ignore[misc]
            lambda: left @ right,
        )
        for slices in (1, 2)
    ] + [
        compared(
            f"products of rows, {side}: times the reference's",
            rounds,
            lambda: gemm.row_products(left),
            lambda: reference.row_products(left),
        ),
        compared(
            f"positive definite system, {side} right sides of {side}: times LAPACK",
            rounds,
            lambda: solve.solve_spd(definite, right),
            lambda: np.linalg.solve(definite, right),
        ),
    ]


def rows(rounds: int = 5) -> Iterator[Row]:
    """Measure every row, the large shapes in at most three rounds."""
    with backends.forced("cpu", threads=THREADS):
        for shape, goal in SHAPES.items():
            yield from spectral(shape, goal, rounds if max(shape) < 2048 else 3)
        yield from products(1024, rounds)
