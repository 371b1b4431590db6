"""`iso_c` and `tsv_m` as one would write them on torch: LAPACK's SVD in float32.

    python -m benchmarks.spectral.plain METHOD BASE MODEL... OUT

Owns the formulas (STRATEGIES.md, section 5) on plain torch, as FusionBench's authors have
them: one SVD a matrix, everything in float32, whole models held in memory. Shares no code
with the library. Prints the seconds that are spent in `torch.linalg.svd`.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Svd = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


class Timed:
    """LAPACK's SVD, and how long all calls took."""

    def __init__(self) -> None:
        """Begin with no second spent."""
        self.seconds = 0.0

    def __call__(
        self, matrix: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return U, sigma, V' of a matrix."""
        start = time.perf_counter()
        u, sigma, vt = torch.linalg.svd(matrix, full_matrices=False)
        self.seconds += time.perf_counter() - start
        return u, sigma, vt


def iso_c(taus: Sequence[torch.Tensor], svd: Svd) -> torch.Tensor:
    """Return mean(sigma) times the polar factor of the sum."""
    u, sigma, vt = svd(torch.stack(list(taus)).sum(0))
    return sigma.mean() * (u @ vt)


def tsv_m(taus: Sequence[torch.Tensor], svd: Svd) -> torch.Tensor:
    """Return the orthogonalised top singular vectors of all tasks, with their values."""
    rank = max(1, min(taus[0].shape) // len(taus))
    found = [svd(tau) for tau in taus]
    left = torch.cat([u[:, :rank] for u, _, _ in found], 1)
    sigma = torch.cat([s[:rank] for _, s, _ in found])
    right = torch.cat([vt[:rank] for _, _, vt in found], 0)
    polar = []
    for matrix in (left, right):
        u, _, vt = svd(matrix)
        polar.append(u @ vt)
    return (polar[0] * sigma) @ polar[1]


METHODS = {"iso_c": iso_c, "tsv_m": tsv_m}


def main(method: str, base: Path, models: Sequence[Path], out: Path) -> None:
    """Merge one file of safetensors; other tensors than matrices take the mean."""
    formula, svd, merged = METHODS[method], Timed(), {}
    first, *others = (load_file(path / "model.safetensors") for path in (base, *models))
    for name, theta in first.items():
        start = theta.float()
        taus = [other[name].float() - start for other in others]
        matrix = start.ndim >= 2
        tau = formula(taus, svd) if matrix else torch.stack(taus).mean(0)
        merged[name] = (start + tau).to(theta.dtype)
    out.mkdir()
    save_file(merged, out / "model.safetensors")
    print(f"{svd.seconds:.3f}")


if __name__ == "__main__":
    torch.set_num_threads(2)
    chosen, start, *rest, last = sys.argv[1:]
    main(chosen, Path(start), [Path(path) for path in rest], Path(last))
