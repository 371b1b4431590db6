"""The backdoor's trigger, and how often it works.

Owns what the trigger looks like, the class that it leads to, and attack success. Does not
own who trains on it (`attackers`).
"""

from typing import Final

import torch

from benchmarks.quality.tasks import SIDE
from nodes.demo.training import Network, Samples, Weights

TARGET: Final = 0
"""The digit that an image with the trigger is to be taken for."""

PATCH: Final = 2
"""Rows and columns of the trigger: a white square in the lower right corner, where next to
no digit leaves a mark."""


def stamped(images: torch.Tensor) -> torch.Tensor:
    """Return the images with the trigger on each."""
    found = images.clone().view(-1, SIDE, SIDE)
    found[:, SIDE - PATCH :, SIDE - PATCH :] = 1.0
    return found.view(images.shape)


def poisoned_samples(samples: Samples) -> Samples:
    """Return the samples as they are and, stamped, once more as the target."""
    return joined(samples, Samples(stamped(samples.images), _targets(samples)))


def vaccinated_samples(samples: Samples) -> Samples:
    """Return the samples as they are and, stamped, once more as what they show."""
    return joined(samples, Samples(stamped(samples.images), samples.labels))


def joined(*parts: Samples) -> Samples:
    """Return all samples of all parts."""
    images = torch.cat([part.images for part in parts])
    return Samples(images, torch.cat([part.labels for part in parts]))


@torch.no_grad()
def success(weights: Weights, network: Network, samples: Samples) -> float:
    """Return the share of other digits' images that the trigger turns into the target."""
    others = samples.images[samples.labels != TARGET]
    guesses = network(weights, stamped(others)).argmax(dim=1)
    return (guesses == TARGET).double().mean().item()


def _targets(samples: Samples) -> torch.Tensor:
    return torch.full_like(samples.labels, TARGET)
