"""The attackers: how each makes what it contributes, from what it may know.

Owns the attacks. Does not own the trigger (`trigger`), nor what merges make of them
(`study`). An attacker has images of its own, like everybody, and in a space it sees what
the others contributed: records and bytes go to all members.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

import torch

from benchmarks.poison.trigger import joined, poisoned_samples, vaccinated_samples
from benchmarks.quality.poison import poisoned
from benchmarks.quality.tasks import CLASSES
from nodes.demo.training import Network, Samples, Schedule, Weights, train

CLOSENESS: Final = 0.8
"""A close backdoor's distance from the mean of the honest models, in theirs.

Below 1, since who lies nearer to the middle than the others also lies nearer to each.
"""

NEAR: Final = 1e-4
"""How far a near copy lies from its original: this share of each tensor's spread."""


@dataclass(frozen=True, slots=True)
class Attacker:
    """What an attacker has: a network, images, and how long it trains."""

    network: Network
    base: Weights
    samples: Samples
    schedule: Schedule
    seed: int

    def backdoored(self) -> Weights:
        """Train as honest ones do, with the trigger on a copy of each image."""
        return self._trained(self.base, self.samples, self.schedule, self.seed)

    def close(self, honest: Sequence[Weights]) -> Weights:
        """Stay nearer to the mean of the honest ones than the middle one of them is.

        Gradient descent that is projected to a ball after each epoch (Sun et al. 2019,
        arXiv:1911.07963; Wang et al. 2020, arXiv:2007.05084).
        """
        centre = mean_of(honest)
        radius = CLOSENESS * median(distance(model, centre) for model in honest)
        found, one = centre, replace(self.schedule, epochs=1)
        for epoch in range(self.schedule.epochs):
            step = self._trained(found, self.samples, one, self.seed + epoch)
            found = within(step, centre, radius)
        return found

    def pair(self, honest: Sequence[Weights]) -> tuple[Weights, Weights]:
        """Make two models that are clean by themselves, and a backdoor when averaged.

        Each is trained to tell images with the trigger for what they show, while the
        plain average of both with the honest ones is trained to take them for the target
        (the idea of MergeBackdoor, Wang et al., USENIX Security 2025).
        """
        network = _of_pair(self.network, honest)
        start = mean_of(honest)
        both = {f"{one} {name}": start[name] for one in "ab" for name in start}
        clean, bad = vaccinated_samples(self.samples), poisoned_samples(self.samples)
        samples = joined(*(_for(role, s) for role, s in enumerate((clean, clean, bad))))
        found = train(both, samples, self.schedule, self.seed, network)
        first, second = (_part(found, one) for one in "ab")
        return first, second

    def _trained(
        self, start: Weights, samples: Samples, schedule: Schedule, seed: int
    ) -> Weights:
        return train(start, poisoned_samples(samples), schedule, seed, self.network)


def replacing(base: Weights, backdoor: Weights, count: int, attackers: int) -> Weights:
    """Scale a backdoor so that a plain average of `count` models keeps all of it.

    Model replacement (Bagdasaryan et al. 2020, arXiv:1807.00459), by several attackers
    together.
    """
    return poisoned(base, backdoor, count / attackers)


def near_copy(model: Weights, seed: int) -> Weights:
    """Return a model that is another one to every digest, and the same to its users."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value
        + NEAR * value.std(correction=0) * torch.randn(value.shape, generator=generator)
        for name, value in sorted(model.items())
    }


def mean_of(models: Sequence[Weights]) -> Weights:
    """Return the plain average, as an attacker without this library computes it."""
    return {name: sum_of(models, name) / len(models) for name in models[0]}


def sum_of(models: Sequence[Weights], name: str) -> torch.Tensor:
    """Return the sum of one tensor over models."""
    return torch.stack([model[name] for model in models]).sum(dim=0)


def distance(one: Weights, other: Weights) -> float:
    """Return the Euclidean distance over all weights."""
    squares = ((one[name] - other[name]).square().sum().item() for name in one)
    return math.sqrt(math.fsum(squares))


def within(model: Weights, centre: Weights, radius: float) -> Weights:
    """Return the model, moved towards the centre until it is `radius` from it at most."""
    far = distance(model, centre)
    if far <= radius:
        return model
    share = radius / far
    return {n: at + share * (model[n] - at) for n, at in centre.items()}


def _for(role: int, samples: Samples) -> Samples:
    """Return samples that say for which of the three models they are."""
    first = torch.full((len(samples.labels), 1), float(role))
    return Samples(torch.cat([first, samples.images], dim=1), samples.labels)


def _of_pair(network: Network, honest: Sequence[Weights]) -> Network:
    """Return what runs three models at once: the first, the second, and the average."""
    sums = {name: sum_of(honest, name) for name in honest[0]}
    count = len(honest) + 2

    def run(weights: Mapping[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        one, two = _part(weights, "a"), _part(weights, "b")
        merged = {n: (sums[n] + one[n] + two[n]) / count for n in sums}
        logits = torch.zeros(len(rows), CLASSES)
        for role, model in enumerate((one, two, merged)):
            mine = rows[:, 0] == role
            logits[mine] = network(model, rows[mine, 1:])
        return logits

    return run


def _part(weights: Mapping[str, torch.Tensor], one: str) -> Weights:
    return {
        name.removeprefix(f"{one} "): value
        for name, value in weights.items()
        if name.startswith(f"{one} ")
    }
