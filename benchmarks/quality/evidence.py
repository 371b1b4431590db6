"""Evidence of fine-tunes: what contributors of the study attach, computed as users would.

Owns which data each fine-tune's evidence is of. Does not own how it is computed
(`nodes.evidence`), how it stands in manifests (`merging`), nor what is made of it.

Gradients and inputs are those of the data that a fine-tune saw, of `SAMPLES` images at
most. Adam's second moments are those of two epochs at a rate of zero, at the finished
model. Scores are accuracies by digit on the validation images, which no fine-tune saw.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch.nn import Module, Parameter

from benchmarks.quality.tasks import CLASSES, Data
from nodes.demo.training import Network, Samples, Schedule, Weights, train
from nodes.evidence import BASE_KINDS, COMPUTED, TASKS, compute

SAMPLES: Final = 128
BATCH: Final = 64
STILL: Final = Schedule(epochs=2, rate=0.0)
KINDS: Final = (*COMPUTED, *BASE_KINDS)


@dataclass(frozen=True, slots=True)
class Attached:
    """Evidence of one model: tensors by kind and name, and numbers by name."""

    tensors: Mapping[str, Weights]
    scalars: Mapping[str, float]


class _Held(Module):
    """A network with its weights, as a module."""

    def __init__(self, weights: Weights, network: Network) -> None:
        super().__init__()
        self._network = network
        self.called = {f"at{place}": name for place, name in enumerate(weights)}
        for at, name in self.called.items():
            self.register_parameter(at, Parameter(weights[name].clone()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        held = {name: getattr(self, at) for at, name in self.called.items()}
        return self._network(held, images)


def attach(
    network: Network,
    base: Weights,
    models: Sequence[Weights],
    seen: Callable[[int], Samples],
    data: Data,
) -> tuple[Attached, ...]:
    """Return the evidence of each model; `seen` tells the data by a model's place."""
    return tuple(
        _evidence(network, base, weights, seen(place), data.validation)
        for place, weights in enumerate(models)
    )


def _evidence(
    network: Network, base: Weights, weights: Weights, seen: Samples, others: Samples
) -> Attached:
    order = torch.randperm(len(seen.labels), generator=torch.Generator().manual_seed(0))
    batches = [
        {"images": seen.images[some], "labels": seen.labels[some]}
        for some in torch.split(order[:SAMPLES], BATCH)
    ]
    model = _Held(weights, network)
    found = compute(
        model,
        batches,
        TASKS["classification"],
        KINDS,
        base=_Held(base, network),
        names=model.called,
    )
    squares: Weights = {}
    train(weights, seen, STILL, 0, network, squares=squares)
    guessed = network(weights, others.images).argmax(dim=1)
    scores = {
        f"score:{digit}": _share(guessed, others.labels, digit)
        for digit in range(CLASSES)
    }
    return Attached({**found.tensors, "adam": squares}, {**found.scalars, **scores})


def _share(guessed: torch.Tensor, labels: torch.Tensor, digit: int) -> float:
    return (guessed[labels == digit] == digit).double().mean().item()
