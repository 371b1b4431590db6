"""Gram matrices made smaller, and noise on what then is told.

Owns the factor S of a Gram matrix and the noise. Does not own Gram matrices (`watching`).

A Gram matrix tells in which directions the inputs of a layer lie, and how much: something
of the data. A sketch of R rows tells the R strongest of them alone, and noise blurs these.

Neither is differential privacy: the directions are chosen by the data with no noise, and
how far one sample can move them is bounded by nothing.
"""

import torch


def sketch(gram: torch.Tensor, rows: int) -> torch.Tensor:
    """Return S of `rows` rows or fewer: S'S is the best of that rank, positive again.

    Formula (Eckart and Young 1936): square roots of the largest eigenvalues times their
    eigenvectors.
    """
    wide = gram.double()
    values, vectors = torch.linalg.eigh((wide + wide.T) / 2)
    kept = min(rows, len(values))
    scales = values[-kept:].clamp_min(0).sqrt()
    factor: torch.Tensor = (vectors[:, -kept:] * scales).T.flip(0)
    return factor.float().contiguous()


def noisy(
    factor: torch.Tensor, sigma: float, generator: torch.Generator
) -> torch.Tensor:
    """Return S with normal noise on each item; S'S stays positive whatever it is.

    `sigma` is in units of the root mean square of S's items, so that it means the same for
    every layer.
    """
    drawn = torch.randn(factor.shape, generator=generator, dtype=torch.float64)
    size = factor.double().square().mean().sqrt()
    found: torch.Tensor = factor.double() + sigma * size * drawn
    return found.float()
