"""Gradients of single samples: their squares, and what they say of each item.

Owns the loop over samples. Does not own losses (`losses`), nor the model's state, which
`computing` keeps.

Formula: Fisher, E[g^2] with g the gradient of one sample's loss. With the labels of the
data this is the *empirical* Fisher; only labels drawn from the model make it the Fisher
matrix's diagonal (Kunstner et al. 2019, https://arxiv.org/abs/1905.12558). Importance,
E|theta g| (SNIP, Lee et al. 2019, https://arxiv.org/abs/1810.02340, has |theta E[g]|).
Ours: the mean stands outside, so that samples that pull apart do not cancel.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import Module, Parameter

from .losses import Batch, Loss


@dataclass
class Slopes:
    """Sums over samples, in float64, by the name of a tensor."""

    parameters: Mapping[str, Parameter]
    kinds: frozenset[str]
    squares: dict[str, torch.Tensor] = field(default_factory=dict)
    pulls: dict[str, torch.Tensor] = field(default_factory=dict)
    loss: float = 0.0
    samples: int = 0

    def add(self, model: Module, batch: Batch, loss: Loss) -> None:
        """Add every sample of a batch, one by one."""
        wants = not self.kinds.isdisjoint({"fisher", "snip"})
        for sample in samples_of(batch):
            with torch.set_grad_enabled(wants):
                value = loss(model, sample)
            self.loss += float(value.detach())
            self.samples += 1
            if wants:
                self._add_slopes(value)

    def _add_slopes(self, value: torch.Tensor) -> None:
        held = list(self.parameters.values())
        found: Sequence[Any] = torch.autograd.grad(value, held, allow_unused=True)
        for (name, parameter), slope in zip(
            self.parameters.items(), found, strict=True
        ):
            if slope is None:
                continue
            wide = slope.double()
            if "fisher" in self.kinds:
                _add(self.squares, name, wide * wide)
            if "snip" in self.kinds:
                _add(self.pulls, name, (parameter.detach().double() * wide).abs())


def _add(sums: dict[str, torch.Tensor], name: str, value: torch.Tensor) -> None:
    sums[name] = sums[name].add_(value) if name in sums else value


def samples_of(batch: Batch) -> Iterator[dict[str, torch.Tensor]]:
    """Yield each sample of a batch as a batch of one."""
    for place in range(size_of(batch)):
        yield {name: value[place : place + 1] for name, value in batch.items()}


def size_of(batch: Batch) -> int:
    """Return how many samples a batch has."""
    return min((len(value) for value in batch.values()), default=0)
